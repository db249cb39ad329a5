"""PSNR and SSIM as super-resolution papers report them (SPEC.md §6)."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from skimage.metrics import structural_similarity

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import RGBPicture

CHANNELS = ("y", "rgb")
# Rounded to uint8 as papers do, or not rounded.
SRPicture = RGBPicture | Float[np.ndarray, "_h _w 3"]

_LUMA = np.array([65.738, 129.057, 25.064]) / 256
_Y_SSIM = np.array([65.481, 128.553, 24.966]) / 255
_SSIM_WINDOW = 11


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of one picture: PSNR in dB (infinite for equal pictures), SSIM (NaN where no window fits), maybe LPIPS."""

    psnr: float
    ssim: float
    lpips: float | None = None


def psnr(sr: SRPicture, hr: RGBPicture, border: int, channel: str = "y") -> float:
    """Peak signal-to-noise ratio in dB of the luma difference, (65.738·R + 129.057·G + 25.064·B)/256, peak 255.

    Args:
        sr: reconstructed picture, 0..255.
        hr: true picture, the same shape.
        border: pixels cropped from every side first, by custom the scale.
        channel: "y", or "rgb" for the mean squared error of all three channels, the custom on DIV2K.

    Raises:
        InputError: when shapes differ or are not RGB, or nothing is left inside the border.

    Source: SPEC.md §6, as the released model and its relatives compute it.
    """
    sr, hr = _crop(sr, hr, border)
    difference = sr.astype(np.float64) - hr.astype(np.float64)
    error = float(np.mean(np.square(difference if _is_rgb(channel) else difference @ _LUMA)))
    if error == 0:
        return math.inf
    return 10 * math.log10(255**2 / error) if error < math.inf else -error  # NaN for a picture that has some


def ssim(sr: SRPicture, hr: RGBPicture, border: int, channel: str = "y") -> float:
    """Structural similarity on Y = 16 + (65.481·R + 128.553·G + 24.966·B)/255, valid windows only.

    11×11 Gaussian windows of σ 1.5, K = (0.01, 0.03), L = 255, population statistics: the field's standard.

    Args:
        sr: reconstructed picture, 0..255.
        hr: true picture, the same shape.
        border: pixels cropped from every side first, by custom the scale.
        channel: "y", or "rgb" for the mean of the three channels' similarities.

    Returns:
        The mean over all windows; NaN when not even one fits inside the border.

    Raises:
        InputError: when shapes differ or nothing is left inside the border.

    Source: SPEC.md §6; computed by scikit-image.
    """
    sr, hr = _crop(sr, hr, border)
    if min(sr.shape[:2]) < _SSIM_WINDOW:
        return math.nan
    if _is_rgb(channel):
        pairs = [(sr[:, :, c].astype(np.float64), hr[:, :, c].astype(np.float64)) for c in range(3)]
    else:
        pairs = [(16 + sr.astype(np.float64) @ _Y_SSIM, 16 + hr.astype(np.float64) @ _Y_SSIM)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    similarities = [structural_similarity(ours, true, **options) for ours, true in pairs]
    return float(np.mean(similarities))


def score(sr: SRPicture, hr: RGBPicture, border: int, channel: str = "y") -> Scores:
    """Return PSNR and SSIM of one picture; arguments and errors as `psnr` and `ssim`."""
    return Scores(psnr(sr, hr, border, channel), ssim(sr, hr, border, channel))


def _is_rgb(channel: str) -> bool:
    if channel not in CHANNELS:
        raise InputError(f"channel: found {channel!r}, expected one of {', '.join(CHANNELS)}")
    return channel == "rgb"


def _crop(sr: SRPicture, hr: RGBPicture, border: int) -> tuple[np.ndarray, np.ndarray]:
    if sr.shape != hr.shape:
        raise InputError(f"scores: found sizes {sr.shape[:2]} and {hr.shape[:2]}, expected equal sizes")
    if sr.ndim != 3 or sr.shape[2] != 3:
        raise InputError(f"scores: found shape {sr.shape}, expected [H,W,3]; `msnlan_jax.pictures.to_rgb` repeats gray")
    h, w = sr.shape[:2]
    if min(h, w) <= 2 * border:
        raise InputError(f"scores: found {h}×{w} pixels, expected more than the border of {border} on every side")
    inside = (slice(border, h - border), slice(border, w - border))
    return sr[inside], hr[inside]
