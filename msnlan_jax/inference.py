"""Running a network on pictures: whole, by the released chop, or by regular overlapping tiles; self-ensemble.

Everything here takes and gives NumPy arrays of one picture. `upscale` is the public function; `predict` is the same
without rounding.
"""

import contextlib
import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Callable

import numpy as np
from flax import nnx
from jaxtyping import Float

from msnlan_jax import capacity, parameters, programs, streaming
from msnlan_jax.errors import InputError
from msnlan_jax.images import Picture, to_rgb
from msnlan_jax.model import KERNEL_SIZES, MSNLAN
from msnlan_jax.patch_attention import count_bands
from msnlan_jax.programs import CHOP_ARRAYS, CHOP_LIMITS, Forward, chop_tile, make_forward
from msnlan_jax.resize import imresize

INFERENCE_MODES = ("whole", "chop", "tile")
TILE_SIZE = 64
TILE_OVERLAP = 16
# Bands are reported of pictures that take longer than so many seconds: JAX does not cache programs that report.
_REPORTED_SECONDS = 30.0
_LOG = logging.getLogger(__name__)
_GRAY = np.array([0.299, 0.587, 0.114])

Image = Float[np.ndarray, "_h _w 3"]
Progress = Callable[[int, int], None]


def upscale(
    model: nnx.Module,
    image: Picture,
    *,
    inference: str = "whole",
    self_ensemble: bool = False,
    tile_size: int = TILE_SIZE,
    tile_overlap: int = TILE_OVERLAP,
    memory_limit: float | None = None,
    progress: Progress | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Picture:
    """Enlarge a picture of any size from 1×1 up.

    Args:
        model: from `load_model`, or any module with `scale` that maps `[B,H,W,3]` to `[B,sH,sW,3]`, 0..255.
        image: uint8 0..255: `[H,W]` or `[H,W,1]` gray, `[H,W,2]` gray + alpha, `[H,W,3]` RGB, `[H,W,4]` RGB + alpha.
        inference: "whole", or tiled: "chop" (the released geometry) or "tile" (regular, blended). Attention sees only
            its tile, so tiling changes the numbers. "auto" is whole, but in tiles where that would take hours.
        self_ensemble: average over the 8 flips and transposes.
        tile_size: side of a tile in LR pixels, for "tile".
        tile_overlap: LR pixels that neighbouring tiles share, for "tile".
        memory_limit: GB that may be taken, by estimate; None for most of what is free. A whole picture that cannot be
            run in so little is run in tiles.
        progress: called with how many parts are done, and of how many: tiles, or bands of a whole picture that takes
            half a minute or more.
        on_note: called with what is not as asked for, in a line; by default a warning is logged.

    Returns:
        uint8 0..255, s times as high and wide, the same kind of channels. Alpha is enlarged bicubically.

    Raises:
        InputError: on an array that is no such picture, an unknown mode or tile geometry, or too little memory.

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
        memory_limit=memory_limit,
        progress=progress,
        on_note=on_note,
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
    memory_limit: float | None = None,
    progress: Progress | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Image:
    """Enlarge an RGB picture, float 0..255 in and out, neither clipped nor rounded; see `upscale`."""
    check_options(inference, tile_size, tile_overlap, memory_limit)
    turns = list(itertools.product((False, True), repeat=3)) if self_ensemble else [(False, False, False)]
    h, w = lr.shape[:2]
    plan = capacity.plan(
        model, h, w, inference=inference, tile_size=tile_size, memory_limit=memory_limit, runs=len(turns)
    )
    if plan.note:
        (on_note or _warn_once)(plan.note)
    scale, reports = _scale(model), False
    if isinstance(model, MSNLAN):
        seconds = len(turns) * capacity.estimate_seconds(model.config, h, w)
        reports = progress is not None and plan.inference == "whole" and seconds >= _REPORTED_SECONDS
        model = programs.reconfigured(model, score_bytes=plan.score_bytes, report_bands=reports)
        reports = reports and _bands(model, h, w) > 0
    forward = make_forward(model, CHOP_ARRAYS.get(scale, ()) if plan.inference == "chop" else ())
    run: Callable[..., Image]
    parts: Callable[[int, int], int]
    if plan.inference == "whole":
        run, parts = functools.partial(_whole, forward), functools.partial(_bands, model) if reports else lambda h, w: 1
    elif plan.inference == "chop":
        run, parts = functools.partial(_chop, forward, scale=scale), functools.partial(_chop_parts, scale=scale)
    else:
        run = functools.partial(_tile, forward, scale=scale, size=tile_size, overlap=tile_overlap)
        parts = functools.partial(_tile_parts, size=tile_size, overlap=tile_overlap)
    total = sum(parts(*((w, h) if transpose else (h, w))) for transpose, _, _ in turns)
    count = _Counter(progress, total)
    with streaming.listening(count) if reports else contextlib.nullcontext():
        run = functools.partial(run, count=_Counter(None, 0) if reports else count)
        if not self_ensemble:
            return run(lr)
        result = np.zeros((h * scale, w * scale, 3), np.float32)
        for transpose, flip_rows, flip_columns in turns:
            turned = lr.transpose(1, 0, 2) if transpose else lr
            turned = np.ascontiguousarray(turned[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])
            output = run(turned)[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
            result += output.transpose(1, 0, 2) if transpose else output
    return result / np.float32(len(turns))


@dataclasses.dataclass
class _Counter:
    """Counts parts as they are done, and tells of it."""

    progress: Progress | None
    total: int
    done: int = 0

    def __call__(self, parts: int = 1) -> None:
        self.done += parts
        if self.progress is not None:
            self.progress(self.done, self.total)


@functools.cache
def _warn_once(note: str) -> None:
    _LOG.warning(note)


def check_options(
    inference: str,
    tile_size: int = TILE_SIZE,
    tile_overlap: int = TILE_OVERLAP,
    memory_limit: float | None = None,
) -> None:
    """Refuse an unknown mode, or an impossible tile geometry or memory limit.

    Raises:
        InputError: saying what was found and what was expected.
    """
    capacity.check_memory_limit(memory_limit)
    if inference not in ("auto", *INFERENCE_MODES):
        raise InputError(f"inference: found {inference!r}, expected one of {', '.join(INFERENCE_MODES)}")
    if tile_size < 1 or not 0 <= tile_overlap <= tile_size // 2:
        raise InputError(
            f"tiles: found size {tile_size} and overlap {tile_overlap}, expected an overlap of at most half"
        )


def _scale(model: nnx.Module) -> int:
    return model.scale  # type: ignore[attr-defined]


def _whole(forward: Forward, lr: Image, count: Callable[[int], None]) -> Image:
    result = forward(lr[None])[0]
    count(1)
    return result


def _bands(model: nnx.Module, h: int, w: int) -> int:
    """In how many bands the attention of a whole picture is streamed."""
    assert isinstance(model, MSNLAN)
    config, array = model.config, programs.padded_size(parameters.split(model)[0], 1, h, w)
    return sum(count_bands(*array, k, form=config.attention, score_bytes=config.score_bytes) for k in KERNEL_SIZES)


def _chop_parts(h: int, w: int, scale: int) -> int:
    """Return in how many tiles h×w pixels are run."""
    if (tile := chop_tile(h, w, scale)) is None:
        return 1
    return 4 if math.prod(tile) < CHOP_LIMITS[scale] else 4 * _chop_parts(*tile, scale)


def _chop(forward: Forward, lr: Image, scale: int, count: Callable[[int], None]) -> Image:
    """Cut into four overlapping corners, and those again until they are small; stitch at the halves (SPEC.md §5)."""
    h, w = lr.shape[:2]
    if (tile := chop_tile(h, w, scale)) is None:
        return _whole(forward, lr, count)
    tile_h, tile_w = tile
    top, bottom, left, right = slice(0, tile_h), slice(h - tile_h, h), slice(0, tile_w), slice(w - tile_w, w)
    corners = [lr[rows, columns] for rows in (top, bottom) for columns in (left, right)]
    if tile_h * tile_w < CHOP_LIMITS[scale]:
        tiles = list(forward(np.stack(corners)))
        count(4)
    else:
        tiles = [_chop(forward, corner, scale, count) for corner in corners]
    out_h, out_w = h // 2 * scale, w // 2 * scale
    rows = [tiles[i][:out_h] if i < 2 else tiles[i][tile_h * scale - (h * scale - out_h) :] for i in range(4)]
    halves = [
        row[:, :out_w] if i % 2 == 0 else row[:, tile_w * scale - (w * scale - out_w) :] for i, row in enumerate(rows)
    ]
    return np.concatenate([np.concatenate(halves[:2], axis=1), np.concatenate(halves[2:], axis=1)])


def _tile_parts(h: int, w: int, size: int, overlap: int) -> int:
    return len(_starts(h, min(size, h), overlap)) * len(_starts(w, min(size, w), overlap))


def _tile(forward: Forward, lr: Image, scale: int, size: int, overlap: int, count: Callable[[int], None]) -> Image:
    """Cover with equal tiles (one compilation), blended linearly where they overlap."""
    h, w = lr.shape[:2]
    tile_h, tile_w = min(size, h), min(size, w)
    corners = list(itertools.product(_starts(h, tile_h, overlap), _starts(w, tile_w, overlap)))
    total = np.zeros((h * scale, w * scale, 3), np.float32)
    weight = np.zeros((h * scale, w * scale, 1), np.float32)
    ramp_h, ramp_w = (_ramp(side * scale, overlap * scale) for side in (tile_h, tile_w))
    blend = (ramp_h[:, None] * ramp_w)[:, :, None]
    batch_size = min(capacity.TILE_BATCH, len(corners))
    for first in range(0, len(corners), batch_size):
        chunk = corners[first : first + batch_size]
        padded = chunk + [chunk[-1]] * (batch_size - len(chunk))
        outputs = forward(np.stack([lr[y : y + tile_h, x : x + tile_w] for y, x in padded]))
        for (y, x), output in zip(chunk, outputs, strict=False):
            where = (slice(y * scale, (y + tile_h) * scale), slice(x * scale, (x + tile_w) * scale))
            total[where] += blend * output
            weight[where] += blend
        count(len(chunk))
    return total / weight


def _starts(length: int, size: int, overlap: int) -> list[int]:
    """Where tiles begin: evenly stepped, the last one flush with the end."""
    return sorted({min(start, length - size) for start in range(0, max(1, length - overlap), max(1, size - overlap))})


def _ramp(size: int, overlap: int) -> Float[np.ndarray, " size"]:
    """Weights across a tile: 1 inside, falling linearly towards both ends over the overlap, never 0."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    return np.minimum(1.0, distance / max(overlap, 0.5)).astype(np.float32)
