import numpy as np
import pytest

from msnlan_jax.errors import InputError
from msnlan_jax.report.showcase import Crop, Showcase, check_crops, most_different, parse_crops
from tests.samples import noise


def spoiled(hr, top, left, side, by):
    sr = hr.copy()
    sr[top : top + side, left : left + side] ^= np.uint8(by)
    return sr


@pytest.mark.parametrize(("top", "left"), [(0, 0), (37, 90), (52, 104)])
def test_the_window_where_methods_differ_most(top, left):
    hr = noise(0, 100, 152, 3)
    both = spoiled(hr, 10, 10, 20, 255)  # wrong by both: no difference
    other = np.where(spoiled(hr, top, left, 48, 128) != hr, spoiled(hr, top, left, 48, 128), both)
    crop, spread = most_different(hr, [both, other], side=48)
    assert (crop, spread > 0) == (Crop(left, top, 48), True)
    assert most_different(hr, [spoiled(hr, top, left, 48, 128)], side=48)[0] == Crop(left, top, 48)
    assert most_different(hr[:9, :20], [hr[:9, :20]], side=48) == (Crop(0, 0, 48), 0.0)


def test_the_most_telling_pictures_are_kept_in_order():
    showcase = Showcase(2, {"e": Crop(1, 2, 8)})
    for name, by in (("a", 1), ("b", 64), ("c", 16), ("d", 2), ("e", 1)):
        hr = noise(0, 20, 20, 3)
        showcase.add("set", name, hr, {"x": hr, "y": spoiled(hr, 0, 0, 20, by)}, {})
    assert [sample.name for sample in showcase.samples] == ["b", "e"]  # asked for by name, "e" stays
    assert showcase.samples[1].crop == Crop(1, 2, 8)
    with pytest.raises(InputError, match=r"^--crop: found 30,0, expected inside a, 20×20$"):
        check_crops({"": Crop(30, 0, 8)}, {"a": (20, 20)})
    check_crops({"e": Crop(30, 0, 8)}, {"a": (20, 20)})  # not one that a part was asked of


def test_crop_flags():
    assert parse_crops(["1,2,30", "a:4,5,60"], {"a"}) == {"": Crop(1, 2, 30), "a": Crop(4, 5, 60)}
    for value, message in (
        ("1,2", "found 1,2, expected x,y,size or NAME:x,y,size"),
        ("a:1,2,x", "found a:1,2,x, expected x,y,size or NAME:x,y,size"),
        ("-1,2,30", "found -1,2,30, expected x and y of at least 0"),
        ("1,2,0", "found 1,2,0, expected x and y of at least 0 and a size of at least 8"),
        ("b:1,2,30", "found b, expected one of a$"),
    ):
        with pytest.raises(InputError, match=f"^--crop: {message}"):
            parse_crops([value], {"a"})
