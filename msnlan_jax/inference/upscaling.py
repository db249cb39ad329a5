"""Running a network on pictures: whole, by the released chop, or by regular overlapping tiles; self-ensemble.

Everything here takes and gives NumPy arrays of one picture. `upscale` is the public function, `upscale_in_parts` the
same for one who wants to know how far it is, and `predict` the same without rounding.
"""

import collections
import functools
import logging
from collections.abc import Iterator

import numpy as np
from flax import nnx

from msnlan_jax.errors import InputError
from msnlan_jax.inference.options import TILE_OVERLAP, TILE_SIZE, Options
from msnlan_jax.inference.planning import Plan, plan_picture
from msnlan_jax.inference.programs import Programs
from msnlan_jax.inference.running import Request, upscale_each
from msnlan_jax.inference.tiling import Image
from msnlan_jax.pictures import AnyPicture

_LOG = logging.getLogger(__name__)


def upscale(
    model: nnx.Module,
    image: AnyPicture,
    *,
    inference: str = "whole",
    self_ensemble: bool = False,
    tile_size: int = TILE_SIZE,
    tile_overlap: int = TILE_OVERLAP,
    memory_limit: float | None = None,
    options: Options | None = None,
    programs: Programs | None = None,
) -> AnyPicture:
    """Enlarge a picture of any size from 1×1 up.

    Args:
        model: from `load_model`, or any module with `scale` that maps `[B,H,W,3]` to `[B,sH,sW,3]`, 0..255.
        image: uint8 0..255 or uint16 0..65535: `[H,W]` or `[H,W,1]` gray, `[H,W,2]` gray + alpha, `[H,W,3]` RGB,
            `[H,W,4]` RGB + alpha.
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
        As `image`, s times as high and wide. Alpha is enlarged bicubically. What is not as
        asked for is logged as a warning, once.

    Raises:
        InputError: on an array that is no such picture, an unknown mode or tile geometry, or too little memory.

    Source: SPEC.md §5.
    """
    single = Options(inference, tile_size, tile_overlap, self_ensemble, memory_limit)
    if options is not None and single != Options():
        raise InputError("options: found other keywords besides, expected either")
    image = _checked(image)
    plan = plan_picture(model, image.shape, options or single, programs=programs, sample_bytes=image.itemsize)
    log_notes(plan)
    return upscale_as_planned(model, image, plan, programs=programs)


def upscale_as_planned(
    model: nnx.Module, image: AnyPicture, plan: Plan, *, programs: Programs | None = None
) -> AnyPicture:
    """Enlarge a picture as planned, all at once; arguments and errors as `upscale_in_parts`."""
    (result,) = collections.deque(upscale_in_parts(model, image, plan, programs=programs), maxlen=1)
    return result


def upscale_in_parts(
    model: nnx.Module, image: AnyPicture, plan: Plan, *, programs: Programs | None = None
) -> Iterator[AnyPicture]:
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
    request = Request(_checked(image), plan)
    for picture in upscale_each(model, [request], programs=programs, memory_limit=plan.options.memory_limit):
        yield from picture.parts()


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
    (picture,) = upscale_each(model, [Request(lr, plan)], programs=programs, memory_limit=plan.options.memory_limit)
    return picture.finish()


def _checked(image: AnyPicture) -> AnyPicture:
    image = np.asarray(image)
    is_picture = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 2, 3, 4))
    if image.dtype not in (np.uint8, np.uint16) or not is_picture:
        raise InputError(f"image: found {image.dtype} {image.shape}, expected uint8 or uint16 [H,W] or [H,W,1..4]")
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
