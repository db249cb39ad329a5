"""Running a network on pictures: whole, by the released chop, or by regular overlapping tiles; self-ensemble.

Everything here takes and gives NumPy arrays of one picture. `upscale` is the public function; `predict` is the same
without rounding.
"""

import functools
import itertools
import logging
import math
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from msnlan_jax import parameters
from msnlan_jax.errors import InputError
from msnlan_jax.images import Picture, to_rgb
from msnlan_jax.model import KERNEL_SIZES, MSNLAN
from msnlan_jax.patch_attention import working_bytes
from msnlan_jax.resize import imresize

INFERENCE_MODES = ("whole", "chop", "tile")
CHOP_SHAVE = 10
TILE_SIZE = 64
TILE_OVERLAP = 16
_TILE_BATCH = 4
# Arrays in which the chop's tiles are run, by scale, smallest first. Pictures of the common sizes, 481×321 or 512×512,
# are cut into tiles that fill the first two almost or the third; the last holds any tile below the chop's limit that is
# not very long. Larger steps would waste attention, which costs with the square of the area.
CHOP_ARRAYS = {
    2: ((40, 56), (56, 40), (56, 56), (72, 72)),
    3: ((48, 64), (64, 48), (64, 64), (72, 72)),
    4: ((40, 48), (48, 40), (56, 56), (72, 72)),
}
# An array of the chop's this many times as large as need be is taken rather than another.
_REUSE_CHOP = 2.0
# A program for an array this many times as large is taken rather than compiling another.
_REUSE = 1.35
# Array sizes for which there are programs, by network and batch size.
_ARRAYS: dict[tuple[nnx.GraphDef, int], list[tuple[int, int]]] = {}
_SLOW_PIXELS = 256 * 256
_LOG = logging.getLogger(__name__)
_GRAY = np.array([0.299, 0.587, 0.114])

Image = Float[np.ndarray, "_h _w 3"]
Batch = Float[np.ndarray, "_b _h _w 3"]
Forward = Callable[[Batch], Batch]
ArraySize = tuple[int, int]


def upscale(
    model: nnx.Module,
    image: Picture,
    *,
    inference: str = "whole",
    self_ensemble: bool = False,
    tile_size: int = TILE_SIZE,
    tile_overlap: int = TILE_OVERLAP,
) -> Picture:
    """Enlarge a picture of any size from 1×1 up.

    Args:
        model: from `load_model`, or any module with `scale` that maps `[B,H,W,3]` to `[B,sH,sW,3]`, 0..255.
        image: uint8 0..255: `[H,W]` or `[H,W,1]` gray, `[H,W,2]` gray + alpha, `[H,W,3]` RGB, `[H,W,4]` RGB + alpha.
        inference: "whole", or tiled: "chop" (the released geometry) or "tile" (regular, blended). Attention sees only
            its tile, so tiling changes the numbers.
        self_ensemble: average over the 8 flips and transposes.
        tile_size: side of a tile in LR pixels, for "tile".
        tile_overlap: LR pixels that neighbouring tiles share, for "tile".

    Returns:
        uint8 0..255, s times as high and wide, the same kind of channels. Alpha is enlarged bicubically.

    Raises:
        InputError: on an array that is no such picture, or an unknown mode or tile geometry.

    Source: SPEC.md §5.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 2, 3, 4)):
        raise InputError(f"image: found {image.dtype} {image.shape}, expected uint8 [H,W] or [H,W,1..4]")
    if 0 in image.shape:
        raise InputError(f"image: found {image.shape}, expected at least one pixel")
    sr = predict(
        model,
        to_rgb(image).astype(np.float32),
        inference=inference,
        self_ensemble=self_ensemble,
        tile_size=tile_size,
        tile_overlap=tile_overlap,
    )
    channels = 0 if image.ndim == 2 else image.shape[2]
    colours = sr if channels >= 3 else (sr @ _GRAY)[:, :, None]
    result = np.round(np.clip(colours, 0, 255)).astype(np.uint8)
    if channels in (2, 4):
        result = np.concatenate([result, imresize(image[:, :, -1:], _scale(model))], axis=2)
    return result if channels else result[:, :, 0]


def predict(
    model: nnx.Module,
    lr: Image,
    *,
    inference: str = "whole",
    self_ensemble: bool = False,
    tile_size: int = TILE_SIZE,
    tile_overlap: int = TILE_OVERLAP,
) -> Image:
    """Enlarge an RGB picture, float 0..255 in and out, neither clipped nor rounded; see `upscale`."""
    check_options(inference, tile_size, tile_overlap)
    scale = _scale(model)
    forward = make_forward(model, CHOP_ARRAYS.get(scale, ()) if inference == "chop" else ())
    if inference == "whole":
        _check_size(model, *lr.shape[:2])
        run: Callable[[Image], Image] = functools.partial(_whole, forward)
    elif inference == "chop":
        run = functools.partial(_chop, forward, scale=scale)
    else:
        run = functools.partial(_tile, forward, scale=scale, size=tile_size, overlap=tile_overlap)
    if not self_ensemble:
        return run(lr)
    outputs = []
    for transpose, flip_rows, flip_columns in itertools.product((False, True), repeat=3):
        turned = lr.transpose(1, 0, 2) if transpose else lr
        turned = np.ascontiguousarray(turned[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])
        output = run(turned)[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
        outputs.append(output.transpose(1, 0, 2) if transpose else output)
    return np.mean(outputs, axis=0)


def check_options(inference: str, tile_size: int = TILE_SIZE, tile_overlap: int = TILE_OVERLAP) -> None:
    """Refuse an unknown mode or an impossible tile geometry.

    Raises:
        InputError: saying what was found and what was expected.
    """
    if inference not in INFERENCE_MODES:
        raise InputError(f"inference: found {inference!r}, expected one of {', '.join(INFERENCE_MODES)}")
    if tile_size < 1 or not 0 <= tile_overlap <= tile_size // 2:
        raise InputError(
            f"tiles: found size {tile_size} and overlap {tile_overlap}, expected an overlap of at most half"
        )


def make_forward(model: nnx.Module, arrays: Sequence[ArraySize] = ()) -> Forward:
    """Return a model as a compiled function of NumPy batches; equal models and shapes share a compilation.

    MSNLAN runs pictures of similar sizes in one program: they are padded to the next of a few sizes, without changing
    the result.

    Args:
        model: the network.
        arrays: sizes to pad to before others, smallest first.
    """
    graph, values = parameters.split(model)

    def forward(batch: Batch) -> Batch:
        if not isinstance(model, MSNLAN):
            return np.asarray(_apply(graph, values, batch))
        n, h, w = batch.shape[:3]
        array_h, array_w = _array_size(arrays, _ARRAYS.setdefault((graph, n), []), h, w)
        padded = np.pad(batch, ((0, 0), (0, array_h - h), (0, array_w - w), (0, 0)))
        sizes = np.broadcast_to(np.array([h, w], np.int32), (n, 2))
        return np.asarray(_apply(graph, values, padded, sizes))[:, : h * model.scale, : w * model.scale]

    return forward


def _array_size(ready: Sequence[ArraySize], made: list[ArraySize], h: int, w: int) -> ArraySize:
    """Return the size of the array in which to run h×w pixels: one of those `ready`, else of those `made`, if it is not
    much too large; else the next bucket, which is then `made` too."""
    own = bucket(h), bucket(w)

    def fitting(sizes: Sequence[ArraySize], reuse: float) -> list[ArraySize]:
        return [size for size in sizes if size[0] >= h and size[1] >= w and math.prod(size) <= reuse * math.prod(own)]

    if not (sizes := fitting(ready, _REUSE_CHOP) or fitting(made, _REUSE)):
        made.append(own)
    return min(sizes, key=math.prod, default=own)


def bucket(size: int) -> int:
    """Return the side to which a picture's side is padded: a multiple of 16, above 256 at most an eighth more."""
    step = max(16, 2 ** ((size - 1).bit_length() - 4))
    return -(-size // step) * step


def compilations() -> int:
    """How many programs this process has compiled for pictures so far."""
    return _apply._cache_size()  # type: ignore[attr-defined]


@functools.partial(jax.jit, static_argnums=0)
def _apply(graph: nnx.GraphDef, values: parameters.Parameters, *arguments: Array) -> Array:
    return parameters.merge(graph, values)(*arguments)  # type: ignore[operator]


def _check_size(model: nnx.Module, h: int, w: int) -> None:
    """Refuse a picture whose attention cannot fit, and warn of one that takes long, before time is spent on it."""
    if not isinstance(model, MSNLAN):
        return
    needed = working_bytes(h, w, max(KERNEL_SIZES))
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    available = stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > 0.9 * available:
        raise InputError(
            f"inference: a whole picture of {h}×{w} pixels needs about {needed / 2**30:.0f} GiB, found "
            f"{available / 2**30:.0f} GiB; expected inference 'tile' or 'chop' for one so large"
        )
    if h * w > _SLOW_PIXELS:
        _LOG.warning(
            "a whole picture of %d×%d pixels compares each with every other; inference 'tile' is about %d times faster",
            h,
            w,
            round(h * w / TILE_SIZE**2),
        )


def _scale(model: nnx.Module) -> int:
    return model.scale  # type: ignore[attr-defined]


def _whole(forward: Forward, lr: Image) -> Image:
    return forward(lr[None])[0]


def _chop(forward: Forward, lr: Image, scale: int) -> Image:
    """Cut into four overlapping corners, and those again until they are small; stitch at the halves (SPEC.md §5)."""
    h, w = lr.shape[:2]
    limit = 3600 if scale == 4 else 4000
    half_h, half_w = h // 2, w // 2
    # The geometry, quirks included: a size already divisible by the scale still grows by the scale.
    tile_h, tile_w = (half + CHOP_SHAVE for half in (half_h, half_w))
    tile_h, tile_w = (size + scale - size % scale for size in (tile_h, tile_w))
    if tile_h > h or tile_w > w:
        # The released code breaks here.
        return _whole(forward, lr)
    top, bottom, left, right = slice(0, tile_h), slice(h - tile_h, h), slice(0, tile_w), slice(w - tile_w, w)
    corners = [lr[rows, columns] for rows in (top, bottom) for columns in (left, right)]
    if tile_h * tile_w < limit:
        tiles = list(forward(np.stack(corners)))
    else:
        tiles = [_chop(forward, corner, scale) for corner in corners]
    out_h, out_w = half_h * scale, half_w * scale
    rows = [tiles[i][:out_h] if i < 2 else tiles[i][tile_h * scale - (h * scale - out_h) :] for i in range(4)]
    halves = [
        tile[:, :out_w] if i % 2 == 0 else tile[:, tile_w * scale - (w * scale - out_w) :]
        for i, tile in enumerate(rows)
    ]
    return np.concatenate([np.concatenate(halves[:2], axis=1), np.concatenate(halves[2:], axis=1)])


def _tile(forward: Forward, lr: Image, scale: int, size: int, overlap: int) -> Image:
    """Cover with equal tiles (one compilation), blended linearly where they overlap."""
    h, w = lr.shape[:2]
    tile_h, tile_w = min(size, h), min(size, w)
    corners = list(itertools.product(_starts(h, tile_h, overlap), _starts(w, tile_w, overlap)))
    total = np.zeros((h * scale, w * scale, 3), np.float32)
    weight = np.zeros((h * scale, w * scale, 1), np.float32)
    ramp_h, ramp_w = (_ramp(side * scale, overlap * scale) for side in (tile_h, tile_w))
    blend = (ramp_h[:, None] * ramp_w)[:, :, None]
    batch_size = min(_TILE_BATCH, len(corners))
    for first in range(0, len(corners), batch_size):
        chunk = corners[first : first + batch_size]
        padded = chunk + [chunk[-1]] * (batch_size - len(chunk))
        outputs = forward(np.stack([lr[y : y + tile_h, x : x + tile_w] for y, x in padded]))
        for (y, x), output in zip(chunk, outputs, strict=False):
            where = (slice(y * scale, (y + tile_h) * scale), slice(x * scale, (x + tile_w) * scale))
            total[where] += blend * output
            weight[where] += blend
    return total / weight


def _starts(length: int, size: int, overlap: int) -> list[int]:
    """Where tiles begin: evenly stepped, the last one flush with the end."""
    return sorted({min(start, length - size) for start in range(0, max(1, length - overlap), max(1, size - overlap))})


def _ramp(size: int, overlap: int) -> Float[np.ndarray, " size"]:
    """Weights across a tile: 1 inside, falling linearly towards both ends over the overlap, never 0."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    return np.minimum(1.0, distance / max(overlap, 0.5)).astype(np.float32)
