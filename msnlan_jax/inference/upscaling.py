"""Running a network on pictures: whole, by the released chop, or by regular overlapping tiles; self-ensemble.

Everything here takes and gives NumPy arrays of one picture. `upscale` is the public function; `predict` is the same
without rounding.
"""

import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from flax import nnx

from msnlan_jax.errors import InputError
from msnlan_jax.inference import capacity, programs, tiling
from msnlan_jax.inference.programs import CHOP_ARRAYS, make_forward
from msnlan_jax.inference.tiling import Image, Part, Pixels
from msnlan_jax.network import MSNLAN
from msnlan_jax.pictures import Picture, imresize, to_rgb

INFERENCE_MODES = ("whole", "chop", "tile")
TILE_SIZE = 64
TILE_OVERLAP = 16
_LOG = logging.getLogger(__name__)
# Pixels clipped and rounded at a time, because each step makes a copy in float32.
_ROUNDED_PIXELS = 2**18
_GRAY = np.array([0.299, 0.587, 0.114])

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
        progress: called with how many parts are done, and of how many: tiles, or one whole picture.
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
    parts = _run(
        model,
        to_rgb(image),
        inference=inference,
        self_ensemble=self_ensemble,
        tile_size=tile_size,
        tile_overlap=tile_overlap,
        memory_limit=memory_limit,
        progress=progress,
        on_note=on_note,
    )
    (h, w), scale = image.shape[:2], _scale(model)
    result = np.empty((h * scale, w * scale, *image.shape[2:]), np.uint8)
    channels = result.reshape(h * scale, w * scale, -1)
    for rows, columns, part in parts:
        _round_into(channels[rows, columns, : 3 if channels.shape[2] >= 3 else 1], part)
    if channels.shape[2] in (2, 4):
        channels[:, :, -1] = imresize(image[:, :, -1], scale)
    return result


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
    parts = _run(
        model,
        lr,
        inference=inference,
        self_ensemble=self_ensemble,
        tile_size=tile_size,
        tile_overlap=tile_overlap,
        memory_limit=memory_limit,
        progress=progress,
        on_note=on_note,
        float_result=True,
    )
    (h, w), scale = lr.shape[:2], _scale(model)
    result = np.empty((h * scale, w * scale, 3), np.float32)
    for rows, columns, part in parts:
        result[rows, columns] = part
    return result


def _run(
    model: nnx.Module,
    lr: Pixels,
    *,
    inference: str,
    self_ensemble: bool,
    tile_size: int,
    tile_overlap: int,
    memory_limit: float | None,
    progress: Progress | None,
    on_note: Callable[[str], None] | None,
    float_result: bool = False,
) -> Iterator[Part]:
    """Plan at once, and run as the finished parts are asked for; see `upscale`."""
    check_options(inference, tile_size, tile_overlap, memory_limit)
    turns = [*itertools.product((False, True), repeat=3)] if self_ensemble else [(False, False, False)]
    h, w = lr.shape[:2]
    plan = capacity.plan(
        model,
        h,
        w,
        inference=inference,
        tile_size=tile_size,
        memory_limit=memory_limit,
        runs=len(turns),
        float_result=float_result or self_ensemble,
    )
    if plan.note:
        (on_note or _warn_once)(plan.note)
    scale = _scale(model)
    if isinstance(model, MSNLAN):
        model = programs.reconfigured(model, score_bytes=plan.score_bytes)
    forward = make_forward(model, CHOP_ARRAYS.get(scale, ()) if plan.inference == "chop" else ())
    run: Callable[..., Iterator[Part]]
    count_parts: Callable[[int, int], int]
    if plan.inference == "whole":
        run, count_parts = tiling.whole, lambda h, w: 1
    elif plan.inference == "chop":
        run, count_parts = tiling.chop, functools.partial(tiling.count_chop, scale=scale)
    else:
        run = functools.partial(tiling.tile, size=tile_size, overlap=tile_overlap)
        count_parts = functools.partial(tiling.count_tiles, size=tile_size, overlap=tile_overlap)
    total = sum(count_parts(*((w, h) if transpose else (h, w))) for transpose, _, _ in turns)
    run = functools.partial(run, forward, scale=scale, count=_Counter(progress, total))
    return _average(run, lr, scale, turns) if self_ensemble else run(lr)


def _average(
    run: Callable[[Pixels], Iterator[Part]], lr: Pixels, scale: int, turns: Sequence[tuple[bool, ...]]
) -> Iterator[Part]:
    """Yield the mean over turned pictures, as one part."""
    h, w = lr.shape[:2]
    total = np.zeros((h * scale, w * scale, 3), np.float32)
    for turn in turns:
        turned_total = _turned(total, *turn)
        for rows, columns, part in run(np.ascontiguousarray(_turned(lr, *turn))):
            turned_total[rows, columns] += part
    total /= np.float32(len(turns))
    yield slice(0, h * scale), slice(0, w * scale), total


def _turned(image: Pixels, transpose: bool, flip_rows: bool, flip_columns: bool) -> Pixels:
    """Return a view of a picture, turned."""
    turned = image.transpose(1, 0, 2) if transpose else image
    return turned[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _round_into(target: Picture, sr: Image) -> None:
    """Clip and round a part of the output, 0..255, to three channels or to one of gray."""
    rows = max(1, _ROUNDED_PIXELS // max(1, sr.shape[1]))
    for first in range(0, len(sr), rows):
        strip = sr[first : first + rows]
        colours = strip if target.shape[2] == 3 else (strip @ _GRAY)[:, :, None]
        target[first : first + rows] = np.round(np.clip(colours, 0, 255))


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
        raise InputError(f"inference: found {inference!r}, expected one of auto, {', '.join(INFERENCE_MODES)}")
    if tile_size < 1:
        raise InputError(f"tile_size: found {tile_size}, expected at least 1")
    if not 0 <= tile_overlap <= tile_size // 2:
        raise InputError(
            f"tile_overlap: found {tile_overlap} with a tile_size of {tile_size}, expected 0 to {tile_size // 2}"
        )


def _scale(model: nnx.Module) -> int:
    return model.scale  # type: ignore[attr-defined]
