import math

import numpy as np
import pytest
from scipy.signal import correlate2d

from data.folders import find_pairs
from msnlan_jax.errors import InputError
from msnlan_jax.inference.upscaling import upscale
from msnlan_jax.pictures.bicubic import Bicubic
from msnlan_jax.pictures.images import to_rgb
from msnlan_jax.pictures.pairs import read_pair
from msnlan_jax.scoring import metrics
from tests.samples import noise

PUBLISHED_BICUBIC = {
    ("Set5", 2): 33.66,
    ("Set5", 3): 30.39,
    ("Set5", 4): 28.42,
    ("B100", 2): 29.56,
    ("B100", 3): 27.21,
    ("B100", 4): 25.96,
}


def alike(h, w):
    """Two pictures that resemble each other."""
    hr = noise(0, h, w, 3)
    return (hr // 2 + noise(1, h, w, 3) // 2), hr


def psnr_by_hand(sr, hr, border):
    total = count = 0
    for y in range(border, sr.shape[0] - border):
        for x in range(border, sr.shape[1] - border):
            r, g, b = (int(sr[y, x, i]) - int(hr[y, x, i]) for i in range(3))
            total += ((65.738 * r + 129.057 * g + 25.064 * b) / 256) ** 2
            count += 1
    return 10 * math.log10(255 * 255 * count / total)


@pytest.mark.parametrize(("size", "border"), [((1, 1), 0), ((5, 9), 2), ((13, 12), 4)], ids=str)
def test_psnr_by_hand(size, border):
    sr, hr = alike(*size)
    assert metrics.psnr(sr, hr, border) == pytest.approx(psnr_by_hand(sr, hr, border), rel=1e-12)


def ssim_by_hand(sr, hr, border):
    """The formula of Wang et al. 2004 with explicit windows."""
    h, w = sr.shape[:2]
    x, y = (
        16 + (65.481 * p[..., 0] + 128.553 * p[..., 1] + 24.966 * p[..., 2]) / 255
        for p in (image[border : h - border, border : w - border].astype(np.float64) for image in (sr, hr))
    )
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(values):
        return correlate2d(values, window, mode="valid")

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return np.mean((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))


@pytest.mark.parametrize(("size", "border"), [((11, 11), 0), ((17, 20), 3), ((30, 19), 4)], ids=str)
def test_ssim_by_hand(size, border):
    sr, hr = alike(*size)
    assert metrics.ssim(sr, hr, border) == pytest.approx(ssim_by_hand(sr, hr, border), rel=1e-9)


@pytest.mark.parametrize("border", [0, 2, 4])
def test_the_border_does_not_count(border):
    sr, hr = alike(24, 25)
    inside = (slice(border, 24 - border), slice(border, 25 - border))
    expected = metrics.score(sr[inside], hr[inside], 0)
    framed = noise(2, 24, 25, 3)
    framed[inside] = sr[inside]
    assert metrics.score(framed, hr, border) == expected


def test_equal_pictures():
    picture = noise(0, 15, 15, 3)
    assert metrics.score(picture, picture, 2) == metrics.Scores(math.inf, 1.0)


def test_gray_pictures_weigh_as_much_as_their_luma():
    """The luma weights sum to 219.859/256, so that a gray difference counts 1.32 dB less than its size."""
    sr, hr = (to_rgb(noise(seed, 12, 12)) for seed in (0, 1))
    error = np.mean((sr[..., 0].astype(float) - hr[..., 0]) ** 2)
    expected = 10 * math.log10(255**2 / error) - 20 * math.log10(219.859 / 256)
    assert metrics.psnr(sr, hr, 0) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [(10, 30), (30, 10), (1, 1)], ids=str)
def test_ssim_is_nan_where_no_window_fits(size):
    sr, hr = alike(*size)
    assert math.isnan(metrics.ssim(sr, hr, 0))
    padded = [np.pad(image, ((2, 2), (2, 2), (0, 0))) for image in (sr, hr)]
    assert math.isnan(metrics.score(*padded, 2).ssim)
    assert math.isfinite(metrics.score(*padded, 2).psnr)


@pytest.mark.parametrize("score", [metrics.psnr, metrics.ssim, metrics.score])
def test_errors(score):
    with pytest.raises(InputError, match=r"^scores: found sizes \(12, 12\) and \(12, 13\), expected equal sizes"):
        score(noise(0, 12, 12, 3), noise(0, 12, 13, 3), 2)
    with pytest.raises(InputError, match=r"^scores: found 8×20 pixels, expected more than the border of 4"):
        score(noise(0, 8, 20, 3), noise(0, 8, 20, 3), 4)


def test_rgb_scores_of_every_channel():
    hr, sr = noise(0, 30, 30, 3), noise(1, 30, 30, 3)
    error = np.mean(np.square(sr[2:-2, 2:-2].astype(float) - hr[2:-2, 2:-2]))
    assert metrics.psnr(sr, hr, 2, "rgb") == pytest.approx(10 * np.log10(255**2 / error), rel=1e-12)
    gray = [np.repeat(image[:, :, :1], 3, axis=2) for image in (sr, hr)]
    planes = [np.repeat(sr[:, :, c : c + 1], 3, axis=2) for c in range(3)]
    trues = [np.repeat(hr[:, :, c : c + 1], 3, axis=2) for c in range(3)]
    each = [metrics.ssim(plane, true, 2, "rgb") for plane, true in zip(planes, trues, strict=True)]
    assert metrics.ssim(sr, hr, 2, "rgb") == pytest.approx(np.mean(each), rel=1e-12)
    assert metrics.ssim(*gray, 2, "rgb") == pytest.approx(each[0], rel=1e-12)
    with pytest.raises(InputError, match=r"^channel: found 'lab', expected one of y, rgb$"):
        metrics.score(sr, hr, 2, "lab")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), PUBLISHED_BICUBIC)
def test_published_bicubic_scores(shared_images, name, scale):
    bicubic = Bicubic(scale)
    pictures = [read_pair(pair, scale) for pair in find_pairs(shared_images / name, scale)]
    assert len(pictures) == {"Set5": 5, "B100": 100}[name]
    scores = [metrics.psnr(upscale(bicubic, lr), hr, scale) for lr, hr in pictures]
    assert np.mean(scores) == pytest.approx(PUBLISHED_BICUBIC[name, scale], abs=0.02)


@pytest.mark.parametrize("shape", [(20, 20), (20, 20, 1), (20, 20, 4)], ids=str)
@pytest.mark.usefixtures("unchecked")
def test_other_arrays_are_refused(shape):
    for function in (metrics.psnr, metrics.ssim):
        with pytest.raises(InputError, match=r"^scores: found shape .*, expected \[H,W,3\]"):
            function(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8), 2)


def test_psnr_of_what_is_no_number():
    hr = noise(0, 20, 20, 3)
    sr = hr.astype(np.float32)
    sr[10, 10] = np.nan
    assert math.isnan(metrics.psnr(sr, hr, 2))
    sr[10, 10] = np.inf
    assert metrics.psnr(sr, hr, 2) == -math.inf
