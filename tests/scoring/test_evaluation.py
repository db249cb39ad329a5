import math
import time

import numpy as np
import pytest
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.inference.options import Options
from msnlan_jax.pictures.images import write_image
from msnlan_jax.pictures.pairs import Pair, read_pair
from msnlan_jax.pictures.resize import imresize
from msnlan_jax.scoring import metrics
from msnlan_jax.scoring.evaluation import beside_bicubic, check_pairs, evaluate, score_network
from msnlan_jax.scoring.metrics import Scores
from msnlan_jax.scoring.protocol import Protocol
from msnlan_jax.scoring.scored import mean_scores
from tests.samples import Nearest, noise, save_noise


def nearest(lr):
    return lr.repeat(2, axis=0).repeat(2, axis=1)


@pytest.fixture
def pairs(tmp_path):
    """One picture too small for SSIM, one with a remainder, one usual."""
    save_noise(tmp_path / "HR", {"a.png": (12, 30, 3), "b.png": (31, 33, 3), "c.png": (20, 24, 3)})
    return [Pair(name, epath.Path(tmp_path / "HR" / f"{name}.png")) for name in "abc"]


def test_a_data_set_scores_the_mean_of_its_pictures(pairs):
    expected = {}
    found = list(evaluate(nearest, pairs, Protocol(2), dataset="set"))
    for pair, picture in zip(pairs, found, strict=True):
        lr, hr = read_pair(pair, 2)
        np.testing.assert_array_equal(picture.lr, lr)
        np.testing.assert_array_equal(picture.hr, hr)
        np.testing.assert_array_equal(picture.sr.image, nearest(lr))
        expected[picture.name] = metrics.score(nearest(lr), hr, 2)
        assert (picture.dataset, picture.number, picture.n_pictures) == ("set", len(expected), 3)
        assert picture.sr.seconds > 0
    assert list(expected) == ["a", "b", "c"]
    assert math.isnan(found[0].sr.scores.ssim)
    assert [picture.sr.scores.psnr for picture in found] == [scores.psnr for scores in expected.values()]
    mean = mean_scores(picture.sr.scores for picture in found)
    assert mean.psnr == pytest.approx(np.mean([scores.psnr for scores in expected.values()]), rel=1e-14)
    assert mean.ssim == pytest.approx((expected["b"].ssim + expected["c"].ssim) / 2, rel=1e-14)


def test_pictures_come_one_by_one(pairs):
    """The next is made when it is asked for, so that who takes them can stop in between."""
    made = []

    def upscale(lr):
        made.append(lr.shape)
        return nearest(lr)

    for picture in evaluate(upscale, pairs, Protocol(2)):
        if picture.name == "b":
            break
    assert len(made) == 2


def test_the_mean_leaves_out_what_there_is_not():
    mean = mean_scores([Scores(30.0, math.nan), Scores(32.0, 0.5, 0.25), Scores(34.0, 0.75, 0.75)])
    assert mean == Scores(32.0, 0.625, 0.5)
    assert mean_scores([Scores(30.0, 0.5), Scores(math.inf, 0.5)]) == Scores(math.inf, 0.5)
    assert math.isnan(mean_scores([]).psnr)


def test_the_border_is_the_scale_unless_given(pairs):
    read = [read_pair(pair, 2) for pair in pairs]
    for border, used in ((None, 2), (0, 0), (5, 5)):
        found = evaluate(nearest, pairs, Protocol(2, border=border))
        expected = [metrics.psnr(nearest(lr), hr, used) for lr, hr in read]
        assert [picture.sr.scores.psnr for picture in found] == expected


def test_equal_pictures_score_infinity(tmp_path):
    write_image(tmp_path / "a.png", nearest(noise(0, 8, 8, 3)))
    write_image(tmp_path / "lr.png", noise(0, 8, 8, 3))
    pair = Pair("a", epath.Path(tmp_path / "a.png"), epath.Path(tmp_path / "lr.png"))
    (picture,) = evaluate(nearest, [pair], Protocol(2))
    assert picture.sr.scores == Scores(math.inf, 1.0)


def test_a_picture_within_the_border_is_named(tmp_path):
    save_noise(tmp_path, {"a.png": (4, 20, 3)})
    pair = Pair("a", epath.Path(tmp_path / "a.png"))
    with pytest.raises(InputError, match=r"a\.png: scores: found 4×20 pixels, expected more than the border"):
        next(evaluate(nearest, [pair], Protocol(2)))
    with pytest.raises(InputError, match=r"a\.png: found 4×20 pixels, expected more than the border of 2"):
        check_pairs([pair], 2)


def test_every_picture_is_checked(pairs, tmp_path):
    assert check_pairs(pairs, 2) == {"a": (12, 30), "b": (30, 32), "c": (20, 24)}
    (tmp_path / "HR" / "c.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"c\.png: broken or unreadable picture"):
        check_pairs(pairs, 2)


def test_bicubic_stands_beside(pairs):
    datasets, protocol = {"one": pairs[:1], "two": pairs[1:]}, Protocol(2)
    found = list(beside_bicubic(score_network(Nearest(2), datasets, protocol, Options()), protocol))
    assert [(picture.dataset, picture.name) for picture in found] == [("one", "a"), ("two", "b"), ("two", "c")]
    for picture in found:
        np.testing.assert_array_equal(picture.sr.image, nearest(picture.lr))
        np.testing.assert_array_equal(picture.bicubic.image, imresize(picture.lr, 2.0))
        assert picture.bicubic.scores == protocol.score(picture.bicubic.image, picture.hr)


def test_scores_without_rounding_are_of_the_clipped_output(pairs):
    class Half(Nearest):
        def __call__(self, x):
            return super().__call__(x) + 0.4

    found = {}
    for rounding in ("uint8", "none"):
        protocol = Protocol(2, channel="rgb", rounding=rounding)
        found[rounding] = next(score_network(Half(2), {"s": pairs[2:]}, protocol, Options())).sr
    assert found["uint8"].scores != found["none"].scores
    assert abs(found["uint8"].scores.psnr - found["none"].scores.psnr) < 0.1
    assert found["none"].image.max() <= 255
    np.testing.assert_array_equal(found["uint8"].rounded, found["none"].rounded)


def test_seconds_are_without_compiling(pairs, monkeypatch):
    clock = [0.0]

    class Slow(Nearest):
        """Takes 100 seconds to be traced, which is done once for each size."""

        def __call__(self, x):
            clock[0] += 100
            return super().__call__(x)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    found = score_network(Slow(2), {"s": pairs}, Protocol(2), Options())
    assert [picture.sr.seconds for picture in found] == [0.0, 0.0, 0.0]
    assert clock == [300.0]
