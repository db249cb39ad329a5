"""Pictures that lie there large and small, under names that no table knows, are refused; others are not."""

import pytest

from data.folders import Choice, find_datasets, find_pairs
from msnlan_jax.errors import InputError
from tests.layouts import SCALE
from tests.samples import save_noise

UNKNOWN = """x1/a x4/a|train_128/a train_32/a|one/a other/a|a small_ones/a|a_gt a_input|a_high a_low|a a_small
a a_bicubic|a a_down4|a_x1 a_x4|a_128 a_32|a thumb-a"""


@pytest.mark.parametrize("layout", UNKNOWN.replace("\n", "|").split("|"))
def test_pictures_that_lie_there_twice_are_refused(tmp_path, layout):
    names, shapes = layout.split(), {}
    for name, side in zip(names, (16, 4), strict=True):
        folder, _, stem = name.rpartition("/")
        for picture in ("1b", "2b", "horse"):
            own = stem.replace("a", picture, 1) if not stem.endswith("-a") else stem.replace("-a", f"-{picture}")
            shapes[f"{folder}/{own}.png".lstrip("/")] = (side, side + side // 4, 3)
    save_noise(tmp_path / "S", shapes)
    with pytest.raises(InputError, match=r"4 times as large .* config\.data\.hr_dir .* config\.data\.lr_dir"):
        find_pairs(tmp_path / "S", SCALE, split="train", choice=Choice(flag="config.data."))
    if "/" in names[0]:
        with pytest.raises(InputError, match="4 times as large"):
            find_datasets(tmp_path / "S", [], SCALE)


def test_photos_are_not_taken_for_each_other(tmp_path):
    """Numbered, of several cameras, with what `upscale` made of one, and of the same names in several folders."""
    shapes = {f"trip/IMG_{i}.png": (16 * (1 + i % 2), 16, 3) for i in range(1, 5)}
    shapes |= {f"2023/IMG_{i}.png": (16, 16, 3) for i in range(1, 5)} | {"2023/more/1.png": (32, 32, 3)}
    shapes |= {f"2024/IMG_{i}.png": (32, 32, 3) for i in range(1, 5)}
    save_noise(tmp_path, shapes | {"up/a.png": (16, 16, 3), "up/a_x2.png": (32, 32, 3)})
    assert len(find_pairs(tmp_path, 2, split="train")) == len(shapes) + 2
