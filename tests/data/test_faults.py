"""What train.py says of pictures that cannot be trained on: one line, whichever loader would read them."""

import pytest

from data import sources
from data.loaders import make_loader
from msnlan_jax.errors import InputError
from tests.samples import experiment, save_noise


@pytest.fixture
def folder(tmp_path):
    """A data set of three pairs."""
    save_noise(tmp_path / "set/HR", {f"{name}.png": (24, 32, 3) for name in "abc"})
    save_noise(tmp_path / "set/LR_bicubic/X2", {f"{name}x2.png": (12, 16, 3) for name in "abc"})
    return tmp_path / "set"


def truncate(folder):
    path = folder / "HR/b.png"
    path.write_bytes(path.read_bytes()[:-200])


def truncate_lr(folder):
    path = folder / "LR_bicubic/X2/bx2.png"
    path.write_bytes(path.read_bytes()[:100])


def remove_lr(folder):
    (folder / "LR_bicubic/X2/bx2.png").unlink()


def other_scale(folder):
    save_noise(folder / "LR_bicubic/X2", {"bx2.png": (8, 11, 3)})


def shrink(folder):
    save_noise(folder / "HR", {"b.png": (14, 32, 3)})
    save_noise(folder / "LR_bicubic/X2", {"bx2.png": (7, 16, 3)})


@pytest.mark.parametrize("loader", ["tfdata", "memory"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, r"^[^\n]*HR/b\.png: broken or unreadable picture: [^\n]+$"),
        (truncate_lr, r"^[^\n]*X2/bx2\.png: broken or unreadable picture: [^\n]+$"),
        (remove_lr, r"^[^\n]*X2/bx2\.png: no such file, expected the LR of [^\n]*HR/b\.png$"),
        (other_scale, r"^[^\n]*HR/b\.png: found 24×32 pixels, expected 16×22 \(the size of [^\n]*bx2\.png ×2\), "),
        (shrink, r"^[^\n]*HR/b\.png: found 7×16 LR pixels, expected at least config\.patch_size = 8 on each side$"),
    ],
)
def test_one_bad_picture_among_good_ones(folder, loader, spoil, message):
    if loader == "tfdata":
        pytest.importorskip("tensorflow")
    config = experiment(data={"source": "folder", "dir": str(folder), "loader": loader})
    assert len(sources.open_pictures(config)) == 3
    spoil(folder)
    with pytest.raises((InputError, FileNotFoundError), match=message):
        make_loader(config)
