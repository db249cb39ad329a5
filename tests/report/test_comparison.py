import json

import numpy as np
import pytest
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.pictures.images import write_image
from msnlan_jax.report.comparison import check_output, check_pictures, method_name, read_compared
from tests.samples import noise


def test_results_to_compare_with(tmp_path):
    good = {"scale": 2, "datasets": {"s": {"psnr": None, "ssim": 1.0, "images": {"a": {"psnr": 3.5, "ssim": None}}}}}
    (tmp_path / "results.json").write_text(json.dumps(good))
    write_image(tmp_path / "images" / "s" / "ax2.png", noise(0, 6, 8, 3))
    (found,) = read_compared([f"x={tmp_path}"], 2)
    assert (found.name, found.folder) == ("x", epath.Path(tmp_path))
    np.testing.assert_array_equal(found.picture("s", "a", (6, 8, 3)), noise(0, 6, 8, 3))
    assert found.picture("s", "a", (6, 9, 3)) is None
    assert found.picture("s", "b", (6, 8, 3)) is None
    with pytest.raises(InputError, match=r"results\.json for ×2, expected ×3$"):
        read_compared([f"x={tmp_path}"], 3)
    for values in (["x"], ["=a"], ["x="], [f"x={tmp_path}", f"x={tmp_path}"]):
        with pytest.raises(InputError, match=r"^--compare: found .*, expected NAME=results\.json, each name once$"):
            read_compared(values, 2)


def test_a_broken_picture_of_another_method_is_found_before_any_work(tmp_path):
    good = {"scale": 2, "datasets": {"s": {"psnr": 1.0, "ssim": 1.0, "images": {"a": {"psnr": 1.0, "ssim": 1.0}}}}}
    (tmp_path / "results.json").write_text(json.dumps(good))
    write_image(tmp_path / "images" / "s" / "ax2.png", noise(0, 6, 8, 3))
    found = read_compared([f"x={tmp_path}"], 2)
    check_pictures(found, {"s": {"a": (6, 8), "b": (6, 8)}})
    (tmp_path / "images" / "s" / "ax2.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"ax2\.png: broken or unreadable picture"):
        check_pictures(found, {"s": {"a": (6, 8)}})


def test_pictures_made_elsewhere_are_called_as_their_folder_and_never_as_what_is_shown_anyway():
    assert [method_name(f"a/{name}") for name in ("b", "HR", "bicubic")] == ["b", "a/HR", "a/bicubic"]
    assert method_name("a/HR", "theirs") == "theirs"
    with pytest.raises(InputError, match=r"^--name: found the name HR, expected another than bicubic, HR$"):
        method_name("a/b", "HR")


def test_results_are_not_written_over_by_what_compares_with_them(tmp_path):
    good = {"scale": 2, "datasets": {"s": {"psnr": 1.0, "ssim": 1.0, "images": {"a": {"psnr": 1.0, "ssim": 1.0}}}}}
    (tmp_path / "old").mkdir()
    (tmp_path / "old/results.json").write_text(json.dumps(good))
    (tmp_path / "link").symlink_to("old")
    compared = read_compared([f"Old={tmp_path / 'old/results.json'}"], 2)
    for output in (tmp_path / "old", tmp_path / "link"):
        with pytest.raises(InputError, match=r"^--output: found .*, which holds the results of Old that --compare nam"):
            check_output(compared, output)
    check_output(compared, tmp_path / "new")
