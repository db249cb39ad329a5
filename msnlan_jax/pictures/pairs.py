"""Pairs of low- and high-resolution pictures, read and checked."""

import dataclasses
from collections.abc import Callable

import numpy as np
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.pictures.images import RGBPicture, read_rgb
from msnlan_jax.pictures.resize import imresize


@dataclasses.dataclass(frozen=True)
class Pair:
    """A picture's files.

    Attributes:
        name: what the picture is called in results.
        hr: the high-resolution file.
        lr: the low-resolution file; None when it is to be made from `hr` by MATLAB's bicubic.
    """

    name: str
    hr: epath.Path
    lr: epath.Path | None = None


def read_pair(
    pair: Pair, scale: int, read: Callable[[epath.Path], RGBPicture] = read_rgb
) -> tuple[RGBPicture, RGBPicture]:
    """Read a pair as RGB; the HR picture is cropped at the bottom and right to the LR size × scale.

    Args:
        pair: the files.
        scale: up-scaling factor.
        read: what reads a file.

    Returns:
        LR `[H,W,3]` and HR `[sH,sW,3]`, uint8 0..255.

    Raises:
        FileNotFoundError: when a file is missing.
        InputError: when a picture is broken, or the sizes are not one picture's at this scale.

    Source: SPEC.md §6.
    """
    hr = read(pair.hr)
    if pair.lr is None:
        h, w = (size // scale * scale for size in hr.shape[:2])
        if 0 in (h, w):
            raise InputError(f"{pair.hr}: found {hr.shape[0]}×{hr.shape[1]} pixels, expected at least {scale}×{scale}")
        return imresize(hr[:h, :w], 1 / scale), hr[:h, :w]
    lr = read(pair.lr)
    return lr, crop_to(hr, (lr.shape[0] * scale, lr.shape[1] * scale), scale, f"{pair.lr} ×{scale}", str(pair.hr))


def crop_to(hr: RGBPicture, size: tuple[int, int], scale: int, what: str, source: str) -> RGBPicture:
    """Crop an HR picture at the bottom and right to `size`, if that is its size modulo the scale or modulo 12.

    Modulo 12 is the custom of sets prepared for ×2, ×3 and ×4 at once.

    Args:
        hr: the picture.
        size: height and width wanted.
        scale: up-scaling factor.
        what: what has `size`, for messages.
        source: the HR file, for messages.

    Raises:
        InputError: when the sizes do not belong together.
    """
    h, w = hr.shape[:2]
    if not any(np.array_equal(size, (h - h % multiple, w - w % multiple)) for multiple in (1, scale, 12)):
        raise InputError(
            f"{source}: found {h}×{w} pixels, expected {size[0]}×{size[1]} (the size of {what}), "
            f"with at most a remainder by {scale} or by 12 more"
        )
    return hr[: size[0], : size[1]]
