import numpy as np
import pytest
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.pictures.images import to_rgb, write_image
from msnlan_jax.pictures.pairs import Pair, crop_to, read_pair
from msnlan_jax.pictures.resize import imresize
from tests.samples import noise


def save_pair(folder, hr, lr=None):
    write_image(folder / "hr.png", hr)
    if lr is not None:
        write_image(folder / "lr.png", lr)
    return Pair("a", epath.Path(folder / "hr.png"), None if lr is None else epath.Path(folder / "lr.png"))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(4, 4), (13, 11), (24, 5)], ids=str)
def test_lr_is_made_from_the_cropped_hr(tmp_path, size, scale):
    hr = noise(0, *size, 3)
    lr, cropped = read_pair(save_pair(tmp_path, hr), scale)
    h, w = (side - side % scale for side in size)
    np.testing.assert_array_equal(cropped, hr[:h, :w])
    np.testing.assert_array_equal(lr, imresize(hr[:h, :w], 1 / scale))


@pytest.mark.parametrize(
    ("hr_size", "lr_size", "scale"),
    [
        ((48, 36), (12, 9), 4),  # exact
        ((51, 38), (12, 9), 4),  # a remainder by the scale
        ((50, 41), (16, 13), 3),
        ((59, 47), (12, 9), 4),  # a remainder by 12
        ((59, 47), (24, 18), 2),
    ],
)
def test_hr_is_cropped_to_the_size_of_lr(tmp_path, hr_size, lr_size, scale):
    hr, stored = noise(0, *hr_size, 3), noise(1, *lr_size, 3)
    lr, cropped = read_pair(save_pair(tmp_path, hr, stored), scale)
    np.testing.assert_array_equal(lr, stored)
    np.testing.assert_array_equal(cropped, hr[: lr_size[0] * scale, : lr_size[1] * scale])


@pytest.mark.parametrize(
    ("hr_size", "lr_size", "scale"),
    [
        ((48, 36), (12, 9), 2),  # another scale
        ((48, 36), (11, 9), 4),
        ((48, 36), (12, 8), 4),
        ((48, 36), (9, 12), 4),  # on its side
        ((47, 36), (12, 9), 4),  # rounded up
        ((48, 36), (48, 36), 4),  # the HR picture itself
    ],
)
def test_other_sizes_are_refused(tmp_path, hr_size, lr_size, scale):
    pair = save_pair(tmp_path, noise(0, *hr_size, 3), noise(1, *lr_size, 3))
    found, expected = (f"{h}×{w}" for h, w in (hr_size, (lr_size[0] * scale, lr_size[1] * scale)))
    with pytest.raises(InputError, match=rf"hr\.png: found {found} pixels, expected {expected} .*lr\.png ×{scale}"):
        read_pair(pair, scale)


@pytest.mark.parametrize("size", [(3, 20), (20, 3), (1, 1)], ids=str)
def test_hr_smaller_than_the_scale_is_refused(tmp_path, size):
    message = rf"hr\.png: found {size[0]}×{size[1]} pixels, expected at least 4×4"
    with pytest.raises(InputError, match=message):
        read_pair(save_pair(tmp_path, noise(0, *size, 3)), 4)


def test_gray_is_repeated(tmp_path):
    hr, lr = noise(0, 8, 6), noise(1, 4, 3)
    for found, expected in zip(read_pair(save_pair(tmp_path, hr, lr), 2), (lr, hr), strict=True):
        np.testing.assert_array_equal(found, to_rgb(expected), strict=True)


@pytest.mark.parametrize("name", ["hr", "lr"])
def test_broken_and_missing_files_are_named(tmp_path, name):
    pair = save_pair(tmp_path, noise(0, 8, 6, 3), noise(1, 4, 3, 3))
    (tmp_path / f"{name}.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=rf"{name}\.png: broken or unreadable picture"):
        read_pair(pair, 2)
    (tmp_path / f"{name}.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}\.png: no such file"):
        read_pair(pair, 2)


def test_crop_to_says_what_has_the_size():
    with pytest.raises(InputError, match=r"^b\.png: found 9×9 pixels, expected 4×4 \(the size of a\.png\)"):
        crop_to(noise(0, 9, 9, 3), (4, 4), 2, "a.png", "b.png")
