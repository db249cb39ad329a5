import math

import numpy as np
import pytest
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.inference.upscaling import upscale
from msnlan_jax.pictures.bicubic import Bicubic
from msnlan_jax.pictures.images import write_image
from msnlan_jax.pictures.pairs import Pair
from msnlan_jax.scoring.evaluation import beside_bicubic, evaluate
from msnlan_jax.scoring.folder import check_matches, match_folders, score_matches
from msnlan_jax.scoring.protocol import Protocol
from tests.samples import noise, save_noise


def scores_of(sr_dir, hr_dir, scale, **protocol):
    """Picture name → scores of a folder, all read once before any is scored."""
    matches = match_folders(sr_dir, hr_dir, scale)
    check_matches(matches, scale, protocol.get("border"))
    return {picture.name: picture.sr.scores for picture in score_matches(matches, Protocol(scale, **protocol))}


def test_a_folder_scores_what_its_pictures_score(tmp_path):
    save_noise(tmp_path / "HR", {"a.png": (12, 30, 3), "b.png": (31, 33, 3), "c.png": (20, 24, 3)})
    pairs = [Pair(name, epath.Path(tmp_path / "HR" / f"{name}.png")) for name in "abc"]
    model, names, expected = Bicubic(2), {"a": "a.png", "b": "b_swin.png", "c": "cx2.tif"}, {}
    for picture in evaluate(lambda lr: upscale(model, lr), pairs, Protocol(2)):
        write_image(tmp_path / "SR" / names[picture.name], picture.sr.image)
        expected[picture.name] = picture.sr.scores
    np.testing.assert_equal(scores_of(tmp_path / "SR", tmp_path / "HR", 2), expected)
    assert scores_of(tmp_path / "SR", tmp_path / "HR", 2, border=0) != expected


def test_bicubic_stands_beside_where_the_true_size_is_a_multiple_of_the_scale(tmp_path):
    for folder in ("HR", "SR"):
        save_noise(tmp_path / folder, {"a.png": (12, 30, 3), "b.png": (31, 33, 3)})
    pictures = score_matches(match_folders(tmp_path / "SR", tmp_path / "HR", 2), Protocol(2))
    a, b = beside_bicubic(pictures, Protocol(2))
    assert a.bicubic.image.shape == (12, 30, 3)
    assert b.bicubic is None


def folders(tmp_path, hr_names, sr_names):
    save_noise(tmp_path / "HR", dict.fromkeys(hr_names, (16, 16, 3)))
    save_noise(tmp_path / "SR", dict.fromkeys(sr_names, (16, 16, 3)))
    return tmp_path / "SR", tmp_path / "HR", 4


@pytest.mark.parametrize(
    "sr_names",
    [
        ["0801.png"],
        ["0801x4.png"],
        ["0801.bmp"],
        ["0801_MSNLAN.png"],
        ["0801x4_SwinIR.png"],
        ["0801.png", "0801x4.png"],  # the plain name wins
        ["0801.png", "0801_b.png", "0802.png"],
    ],
    ids=str,
)
def test_matching_names(tmp_path, sr_names):
    scores = scores_of(*folders(tmp_path, ["0801.png"], sr_names))
    save_noise(tmp_path / "one", {sr_names[0]: (16, 16, 3)})
    assert scores == scores_of(tmp_path / "one", tmp_path / "HR", 4)


def test_a_longer_name_owns_its_files(tmp_path):
    sr, hr, scale = folders(tmp_path, ["img.png", "img_b.png"], ["img_x.png", "img_b_x.png"])
    for name, source in (("img_x", "img"), ("img_b_x", "img_b")):
        (sr / f"{name}.png").write_bytes((hr / f"{source}.png").read_bytes())
    assert [scores.psnr for scores in scores_of(sr, hr, scale).values()] == [math.inf, math.inf]


@pytest.mark.parametrize(
    ("sr_names", "error", "message"),
    [
        (
            ["0802.png"],
            FileNotFoundError,
            r"SR: found no picture 0801\.\* or 0801x4\.\*, expected one as for .*0801\.png",
        ),
        (["0801x2.png"], FileNotFoundError, r"SR: found no picture 0801\.\*"),
        (["08011.png"], FileNotFoundError, r"SR: found no picture 0801\.\*"),
        (["0801x4.png", "0801_b.png"], InputError, r"SR: found 0801_b\.png, 0801x4\.png, expected one picture for "),
        (["0801.png", "0801.bmp"], InputError, r"SR: found 0801\.bmp, 0801\.png, expected one picture for "),
    ],
)
def test_missing_and_ambiguous_pictures_are_refused(tmp_path, sr_names, error, message):
    with pytest.raises(error, match=message):
        match_folders(*folders(tmp_path, ["0801.png"], sr_names))


@pytest.mark.parametrize(
    ("hr_size", "sr_size"), [((16, 16), (4, 4)), ((16, 16), (12, 16)), ((16, 16), (20, 16)), ((19, 31), (16, 16))]
)
def test_sr_of_another_size_is_refused(tmp_path, hr_size, sr_size):
    save_noise(tmp_path / "HR", {"a.png": (*hr_size, 3)})
    save_noise(tmp_path / "SR", {"ax4.png": (*sr_size, 3)})
    found, expected = (f"{h}×{w}" for h, w in (hr_size, sr_size))
    with pytest.raises(InputError, match=rf"a\.png: found {found} pixels, expected {expected} .*ax4\.png"):
        scores_of(tmp_path / "SR", tmp_path / "HR", 4)


def test_hr_is_cropped_to_sr(tmp_path):
    hr = noise(0, 19, 29, 3)
    write_image(tmp_path / "HR" / "a.png", hr)
    for size in ((16, 28), (12, 24), (19, 29)):
        write_image(tmp_path / "SR" / "a.png", hr[: size[0], : size[1]])
        assert scores_of(tmp_path / "SR", tmp_path / "HR", 4)["a"].psnr == math.inf


def test_missing_empty_and_broken_folders_are_named(tmp_path):
    save_noise(tmp_path / "HR", {"a.png": (8, 8, 3)})
    (tmp_path / "empty").mkdir()
    save_noise(tmp_path / "SR", {"a.png": (8, 8, 3)})
    (tmp_path / "SR" / "a.png").write_bytes(b"broken")
    for sr, hr, error, message in (
        ("none", "HR", FileNotFoundError, "none: no such folder"),
        ("HR", "none", FileNotFoundError, "none: no such folder"),
        ("empty", "HR", InputError, "empty: found no pictures, expected at least one"),
        ("HR", "empty", InputError, "empty: found no pictures, expected at least one"),
        ("SR", "HR", InputError, r"SR/a\.png: broken or unreadable picture"),
    ):
        with pytest.raises(error, match=message):
            scores_of(tmp_path / sr, tmp_path / hr, 2)
