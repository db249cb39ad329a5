"""MATLAB's `imresize`, bicubic and antialiased, bit for bit on pictures of whole numbers."""

import functools
import math

import numpy as np
from jaxtyping import Float

from msnlan_jax.errors import InputError

# Values resized at a time: in float64 with their weights a few caches' worth, where a whole picture's would be GBs.
_STRIP = 2**20
# What is rounded.
_WHOLE = (np.uint8, np.uint16)


def imresize(
    image: np.ndarray, scale: float | None = None, *, output_shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Resize as MATLAB's `imresize(image, scale)` does by default.

    Keys' cubic (a = −0.5), widened for antialiasing when shrinking, mirrored edges, the axis with the smaller scale
    first (rows on a tie). uint8 and uint16 pictures are rounded and clipped between the two passes and at the end, as
    MATLAB does.

    Args:
        image: `[H,W]` or `[H,W,C]`, uint8 0..255, uint16 0..65535 or float in any unit; a NumPy or JAX array.
        scale: factor for both axes; the output has ⌈size · scale⌉ pixels.
        output_shape: height and width instead of `scale`.

    Returns:
        The resized picture, a NumPy array: uint8 or uint16 as the input, else float64, neither clipped nor rounded.

    Raises:
        InputError: unless exactly one of `scale` and `output_shape` is given, and positive, and there are pixels.

    Source: SPEC.md §6; checked against true MATLAB output.
    """
    if (scale is None) == (output_shape is None):
        raise InputError("imresize: expected either scale or output_shape")
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise InputError(f"imresize: found a picture of shape {image.shape}, expected [H,W] or [H,W,C]")
    if scale is not None:
        if not (scale > 0 and math.isfinite(scale)):
            raise InputError(f"imresize: found scale {scale}, expected a positive number")
        sizes = tuple(math.ceil(size * scale) for size in image.shape[:2])
        scales = (float(scale), float(scale))
    else:
        assert output_shape is not None
        if min(output_shape) < 1:
            raise InputError(f"imresize: found output_shape {output_shape}, expected positive sizes")
        sizes = output_shape
        scales = (sizes[0] / image.shape[0], sizes[1] / image.shape[1])
    result = image if image.dtype in _WHOLE else image.astype(np.float64)
    for axis in sorted((0, 1), key=lambda axis: scales[axis]):
        result = _resize_axis(result, axis, *contributions(image.shape[axis], sizes[axis], scales[axis]))
    return result


def contributions(size_in: int, size_out: int, scale: float) -> tuple[Float[np.ndarray, "size_out taps"], np.ndarray]:
    """Return the weights and the input indices (mirrored at the edges) that make each output sample.

    Args:
        size_in: input length.
        size_out: output length.
        scale: ratio; below 1 the kernel is widened against aliasing.
    """
    shrink = min(scale, 1.0)
    width = 4.0 / shrink
    # MATLAB's sample centres, in its 1-based coordinates.
    centres = np.arange(1, size_out + 1) / scale + 0.5 * (1 - 1 / scale)
    first = np.floor(centres - width / 2)
    indices = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = shrink * keys_cubic(shrink * (centres[:, None] - indices))
    weights /= weights.sum(axis=1, keepdims=True)
    mirror = np.concatenate([np.arange(size_in), np.arange(size_in - 1, -1, -1)])
    used = np.any(weights != 0, axis=0)
    return weights[:, used], mirror[(indices[:, used].astype(int) - 1) % (2 * size_in)]


def keys_cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = −0.5, zero beyond |x| = 2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _resize_axis(image: np.ndarray, axis: int, weights: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Resize one axis, in the type there is, in strips of output rows, so that of a large picture of whole numbers only
    a strip is held in float64."""
    result = np.empty((*image.shape[:axis], len(weights), *image.shape[axis + 1 :]), image.dtype)
    most = np.iinfo(image.dtype).max if image.dtype in _WHOLE else None
    rows = max(1, _STRIP // max(1, math.prod(result.shape[1:])))
    for first in range(0, len(result), rows):
        strip = slice(first, first + rows)
        source, w, i = (image, weights[strip], indices[strip]) if axis == 0 else (image[strip], weights, indices)
        shape = (-1, *[1] * (image.ndim - axis - 1))
        taps = (w[:, tap].reshape(shape) * np.take(source, i[:, tap], axis) for tap in range(w.shape[1]))
        total = functools.reduce(np.add, taps)
        result[strip] = total if most is None else np.clip(np.floor(total + 0.5), 0, most)
    return result
