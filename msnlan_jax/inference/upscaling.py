"""Running a network on pictures: whole, by the released chop, or by regular overlapping tiles; self-ensemble.

Everything here takes and gives NumPy arrays of one picture. `upscale` is the public function, `upscale_in_parts` the
same for one who wants to know how far it is, and `predict` the same without rounding.
"""

import collections
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterator

import numpy as np
from flax import nnx

from msnlan_jax.errors import InputError
from msnlan_jax.inference import tiling
from msnlan_jax.inference.options import TILE_OVERLAP, TILE_SIZE, Options
from msnlan_jax.inference.planning import Plan, plan_picture, scale_of
from msnlan_jax.inference.programs import Programs
from msnlan_jax.inference.tiling import CHOP_ARRAYS, Image, Part, Pixels
from msnlan_jax.network import MSNLAN, parameters
from msnlan_jax.pictures import Picture, imresize, to_rgb

_LOG = logging.getLogger(__name__)
# Pixels clipped and rounded at a time, because each step makes a copy in float32.
_ROUNDED_PIXELS = 2**18
_GRAY = np.array([0.299, 0.587, 0.114])


def upscale(
    model: nnx.Module,
    image: Picture,
    *,
    inference: str = "whole",
    self_ensemble: bool = False,
    tile_size: int = TILE_SIZE,
    tile_overlap: int = TILE_OVERLAP,
    memory_limit: float | None = None,
    options: Options | None = None,
    programs: Programs | None = None,
) -> Picture:
    """Enlarge a picture of any size from 1×1 up.

    Args:
        model: from `load_model`, or any module with `scale` that maps `[B,H,W,3]` to `[B,sH,sW,3]`, 0..255.
        image: uint8 0..255: `[H,W]` or `[H,W,1]` gray, `[H,W,2]` gray + alpha, `[H,W,3]` RGB, `[H,W,4]` RGB + alpha.
        inference: "whole", or tiled: "chop" (the released geometry) or "tile" (regular, blended). Attention sees only
            its tile, so tiling changes the numbers. "auto" is whole where that takes no longer than about a minute,
            else in tiles.
        self_ensemble: average over the 8 flips and transposes.
        tile_size: side of a tile in LR pixels, for "tile".
        tile_overlap: LR pixels that neighbouring tiles share, for "tile".
        memory_limit: GB that may be taken, by estimate; None for most of what is free. A whole picture that cannot be
            run in so little is run in tiles.
        options: the five above as one value, in their place.
        programs: those to share with other pictures; by default only pictures of nearly equal sizes share one.

    Returns:
        uint8 0..255, s times as high and wide, the same kind of channels. Alpha is enlarged bicubically. What is not as
        asked for is logged as a warning, once.

    Raises:
        InputError: on an array that is no such picture, an unknown mode or tile geometry, or too little memory.

    Source: SPEC.md §5.
    """
    single = Options(inference, tile_size, tile_overlap, self_ensemble, memory_limit)
    if options is not None and single != Options():
        raise InputError("options: found other keywords besides, expected either")
    image = _checked(image)
    plan = plan_picture(model, image.shape, options or single, programs=programs)
    log_notes(plan)
    return upscale_as_planned(model, image, plan, programs=programs)


def upscale_as_planned(model: nnx.Module, image: Picture, plan: Plan, *, programs: Programs | None = None) -> Picture:
    """Enlarge a picture as planned, all at once; arguments and errors as `upscale_in_parts`."""
    (result,) = collections.deque(upscale_in_parts(model, image, plan, programs=programs), maxlen=1)
    return result


def upscale_in_parts(
    model: nnx.Module, image: Picture, plan: Plan, *, programs: Programs | None = None
) -> Iterator[Picture]:
    """Enlarge a picture as planned, and yield after each of the plan's parts the picture, finished with the last.

    It is one array all the time, in which pixels that are not finished are undefined.

    Args:
        model: as in `upscale`.
        image: likewise.
        plan: from `plan_picture`, for this network and size.
        programs: those of the plan.

    Raises:
        InputError: as `upscale`.
    """
    image = _checked(image)
    (h, w), scale = image.shape[:2], scale_of(model)
    result = np.empty((h * scale, w * scale, *image.shape[2:]), np.uint8)
    channels = result.reshape(h * scale, w * scale, -1)
    if channels.shape[2] in (2, 4):
        channels[:, :, -1] = imresize(image[:, :, -1], scale)
    for part in _run_plan(model, to_rgb(image), plan, programs):
        _round_into(channels[part.rows, part.columns, : 3 if channels.shape[2] >= 3 else 1], part.pixels)
        yield result


def predict(model: nnx.Module, lr: Image, options: Options | None = None, *, programs: Programs | None = None) -> Image:
    """Enlarge an RGB picture, float 0..255 in and out, neither clipped nor rounded.

    Args:
        model: as in `upscale`.
        lr: `[H,W,3]`.
        options: how to run it; whole by default.
        programs: as in `upscale`.

    Returns:
        `[sH,sW,3]`.

    Raises:
        InputError: as `upscale`.
    """
    plan = plan_picture(model, lr.shape, options or Options(), programs=programs, float_result=True)
    log_notes(plan)
    return predict_as_planned(model, lr, plan, programs=programs)


def predict_as_planned(model: nnx.Module, lr: Image, plan: Plan, *, programs: Programs | None = None) -> Image:
    """Enlarge a picture as `predict` does, by a plan for a float result."""
    (h, w), scale = lr.shape[:2], scale_of(model)
    result = np.empty((h * scale, w * scale, 3), np.float32)
    for part in _run_plan(model, lr, plan, programs):
        result[part.rows, part.columns] = part.pixels
    return result


def _run_plan(model: nnx.Module, lr: Pixels, plan: Plan, programs: Programs | None) -> Iterator[Part]:
    """Yield the parts of the output as they are finished, as many as planned."""
    scale, options = scale_of(model), plan.options
    programs = programs or Programs()
    if isinstance(model, MSNLAN):
        model = _with_score_bytes(model, plan.score_bytes)
    forward = programs.forward(model, CHOP_ARRAYS.get(scale, ()) if plan.mode == "chop" else ())
    run: Callable[[Pixels], Iterator[Part]]
    if plan.mode == "whole":
        run = functools.partial(tiling.whole, forward, scale=scale)
    elif plan.mode == "chop":
        run = functools.partial(tiling.chop, forward, scale=scale)
    else:
        size, overlap = options.tile_size, options.tile_overlap
        run = functools.partial(tiling.tile, forward, scale=scale, size=size, overlap=overlap)
    yield from _average(run, lr, scale, plan.parts) if options.self_ensemble else run(lr)


def _average(run: Callable[[Pixels], Iterator[Part]], lr: Pixels, scale: int, n_parts: int) -> Iterator[Part]:
    """Yield the mean over the picture turned in eight ways: all of it with the last part, and nothing before."""
    h, w = lr.shape[:2]
    total, done = np.zeros((h * scale, w * scale, 3), np.float32), 0
    for turn in itertools.product((False, True), repeat=3):
        turned_total = _turned(total, *turn)
        for part in run(np.ascontiguousarray(_turned(lr, *turn))):
            turned_total[part.rows, part.columns] += part.pixels
            done += 1
            if done < n_parts:
                yield Part(slice(0), slice(0), total[:0, :0])
    total /= np.float32(8)
    yield Part(slice(0, h * scale), slice(0, w * scale), total)


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


def _checked(image: Picture) -> Picture:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 2, 3, 4)):
        raise InputError(f"image: found {image.dtype} {image.shape}, expected uint8 [H,W] or [H,W,1..4]")
    if 0 in image.shape:
        raise InputError(f"image: found {image.shape}, expected at least one pixel")
    return image


def log_notes(plan: Plan) -> None:
    """Log what the user should know of a plan as warnings, each once."""
    for note in plan.notes:
        _warn_once(note)


@functools.cache
def _warn_once(note: str) -> None:
    _LOG.warning(note)


def _with_score_bytes(model: MSNLAN, score_bytes: int | None) -> MSNLAN:
    """Return a network of the same parameters that holds so many bytes of scores, itself where that is as it is."""
    if score_bytes == model.compute.score_bytes:
        return model
    compute = dataclasses.replace(model.compute, score_bytes=score_bytes)
    return parameters.to_model(model.config, parameters.split(model)[1], compute)
