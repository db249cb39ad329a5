import math

import numpy as np
import pytest
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.inference.upscaling import upscale
from msnlan_jax.pictures.bicubic import Bicubic
from msnlan_jax.pictures.images import write_image
from msnlan_jax.pictures.pairs import Pair, read_pair
from msnlan_jax.scoring import metrics
from msnlan_jax.scoring.evaluation import check_pairs, evaluate, score_folder
from msnlan_jax.scoring.metrics import Scores
from tests.samples import noise, save_noise


def nearest(lr):
    return lr.repeat(2, axis=0).repeat(2, axis=1)


@pytest.fixture
def pairs(tmp_path):
    """One picture too small for SSIM, one with a remainder, one usual."""
    save_noise(tmp_path / "HR", {"a.png": (12, 30, 3), "b.png": (31, 33, 3), "c.png": (20, 24, 3)})
    return [Pair(name, epath.Path(tmp_path / "HR" / f"{name}.png")) for name in "abc"]


def test_a_data_set_scores_the_mean_of_its_pictures(pairs):
    seen = []
    found = evaluate(nearest, pairs, 2, on_picture=lambda *args: seen.append(args))
    expected = {}
    for pair, (name, lr, hr, sr, scores) in zip(pairs, seen, strict=True):
        read = read_pair(pair, 2)
        np.testing.assert_array_equal(lr, read[0])
        np.testing.assert_array_equal(hr, read[1])
        np.testing.assert_array_equal(sr, nearest(lr))
        expected[name] = metrics.score(sr, hr, 2)
        assert scores is found.images[name]
    assert list(expected) == ["a", "b", "c"]
    assert math.isnan(found.images["a"].ssim)
    assert [scores.psnr for scores in found.images.values()] == [scores.psnr for scores in expected.values()]
    assert found.psnr == pytest.approx(np.mean([scores.psnr for scores in expected.values()]), rel=1e-14)
    assert found.ssim == pytest.approx((expected["b"].ssim + expected["c"].ssim) / 2, rel=1e-14)
    assert found.seconds > 0


def test_the_border_is_the_scale_unless_given(pairs):
    read = [read_pair(pair, 2) for pair in pairs]
    for border, used in ((None, 2), (0, 0), (5, 5)):
        found = evaluate(nearest, pairs, 2, border=border)
        expected = [metrics.psnr(nearest(lr), hr, used) for lr, hr in read]
        assert [scores.psnr for scores in found.images.values()] == expected


def test_equal_pictures_score_infinity(tmp_path):
    write_image(tmp_path / "a.png", nearest(noise(0, 8, 8, 3)))
    write_image(tmp_path / "lr.png", noise(0, 8, 8, 3))
    found = evaluate(nearest, [Pair("a", epath.Path(tmp_path / "a.png"), epath.Path(tmp_path / "lr.png"))], 2)
    assert found.images == {"a": Scores(math.inf, 1.0)}
    assert found.psnr == math.inf


def test_a_picture_within_the_border_is_named(tmp_path):
    save_noise(tmp_path, {"a.png": (4, 20, 3)})
    with pytest.raises(InputError, match=r"a\.png: scores: found 4×20 pixels, expected more than the border"):
        evaluate(nearest, [Pair("a", epath.Path(tmp_path / "a.png"))], 2)


def test_every_picture_is_checked(pairs, tmp_path):
    check_pairs(pairs, 2)
    (tmp_path / "HR" / "c.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"c\.png: broken or unreadable picture"):
        check_pairs(pairs, 2)


def test_a_folder_scores_what_its_pictures_score(pairs, tmp_path):
    model, names = Bicubic(2), {"a": "a.png", "b": "b_swin.png", "c": "cx2.tif"}

    def save(name, lr, hr, sr, scores):
        write_image(tmp_path / "SR" / names[name], sr)

    expected = evaluate(lambda lr: upscale(model, lr), pairs, 2, on_picture=save)
    found = score_folder(tmp_path / "SR", tmp_path / "HR", 2)
    np.testing.assert_equal(found.images, expected.images)
    assert score_folder(tmp_path / "SR", tmp_path / "HR", 2, border=0).psnr != found.psnr


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
    scores = score_folder(*folders(tmp_path, ["0801.png"], sr_names))
    save_noise(tmp_path / "one", {sr_names[0]: (16, 16, 3)})
    assert scores.images == score_folder(tmp_path / "one", tmp_path / "HR", 4).images


def test_a_longer_name_owns_its_files(tmp_path):
    sr, hr, scale = folders(tmp_path, ["img.png", "img_b.png"], ["img_x.png", "img_b_x.png"])
    for name, source in (("img_x", "img"), ("img_b_x", "img_b")):
        (sr / f"{name}.png").write_bytes((hr / f"{source}.png").read_bytes())
    assert [scores.psnr for scores in score_folder(sr, hr, scale).images.values()] == [math.inf, math.inf]


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
        score_folder(*folders(tmp_path, ["0801.png"], sr_names))


@pytest.mark.parametrize(
    ("hr_size", "sr_size"), [((16, 16), (4, 4)), ((16, 16), (12, 16)), ((16, 16), (20, 16)), ((19, 31), (16, 16))]
)
def test_sr_of_another_size_is_refused(tmp_path, hr_size, sr_size):
    save_noise(tmp_path / "HR", {"a.png": (*hr_size, 3)})
    save_noise(tmp_path / "SR", {"ax4.png": (*sr_size, 3)})
    found, expected = (f"{h}×{w}" for h, w in (hr_size, sr_size))
    with pytest.raises(InputError, match=rf"a\.png: found {found} pixels, expected {expected} .*ax4\.png"):
        score_folder(tmp_path / "SR", tmp_path / "HR", 4)


def test_hr_is_cropped_to_sr(tmp_path):
    hr = noise(0, 19, 29, 3)
    write_image(tmp_path / "HR" / "a.png", hr)
    for size in ((16, 28), (12, 24), (19, 29)):
        write_image(tmp_path / "SR" / "a.png", hr[: size[0], : size[1]])
        assert score_folder(tmp_path / "SR", tmp_path / "HR", 4).psnr == math.inf


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
            score_folder(tmp_path / sr, tmp_path / hr, 2)
