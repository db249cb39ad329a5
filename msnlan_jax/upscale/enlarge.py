"""Enlarging one picture to any size: by the network, and resizing to the exact scale."""

import dataclasses
import math

from flax import nnx

from msnlan_jax.inference import TILE_OVERLAP, TILE_SIZE, Progress, capacity, upscale
from msnlan_jax.pictures import Bicubic, Picture, imresize
from msnlan_jax.runtime import machine
from msnlan_jax.weights import bundled, load_model


@dataclasses.dataclass(frozen=True)
class Options:
    """How pictures are run.

    Attributes:
        inference: "whole", "chop", "tile", or "auto": whole where memory and time allow, else tiles.
        self_ensemble: average over the 8 flips and transposes.
        tile_size: LR pixels.
        tile_overlap: LR pixels.
        memory_limit: GB that may be taken; None for most of what is free.
    """

    inference: str = "auto"
    self_ensemble: bool = False
    tile_size: int = TILE_SIZE
    tile_overlap: int = TILE_OVERLAP
    memory_limit: float | None = None


def load_for_scale(weights: str | None, scale: float | None) -> tuple[nnx.Module, str]:
    """Load the network that serves a scale best, and return it with its name.

    Args:
        weights: as `--weights`; None for the bundled ones.
        scale: any positive number; None for the network's own.

    Raises:
        FileNotFoundError, InputError: as `load_model`.
    """
    name = bundled.default_weights() if weights is None else weights
    if name == bundled.FALLBACK:
        return load_model(name, scale=4 if scale is None else max(1, math.ceil(scale))), name
    if scale is not None and (scales := bundled.find(name) if name in bundled.NAMES else {}):
        return load_model(name, scale=bundled.nearest_scale(scale, scales)), name
    return load_model(name), name


def final_size(model: nnx.Module, image: Picture, scale: float | None) -> tuple[int, int]:
    """Return how high and wide `enlarge` makes a picture."""
    factor: float = model.scale if scale is None else scale  # type: ignore[attr-defined]
    # Rounded first: 3 · 1.1 is a little more than 3.3.
    h, w = (max(1, math.ceil(round(side * factor, 6))) for side in image.shape[:2])
    return h, w


def check_memory(model: nnx.Module, image: Picture, scale: float | None, options: Options, suffix: str) -> None:
    """Refuse a picture that cannot be resized and written within the memory, before any work is done; what the network
    takes is for `upscale` to know.

    Args:
        model: from `load_for_scale`.
        image: uint8, any of the kinds `upscale` takes.
        scale: any positive number; None for the network's own.
        options: how it is to be run.
        suffix: of the file to write, as some formats take more memory.

    Raises:
        InputError: saying what would be needed.
    """
    own = 1 if isinstance(model, Bicubic) else model.scale  # type: ignore[attr-defined]
    h, w = final_size(model, image, scale)
    before = math.prod(image.shape[:2]) * own**2
    capacity.check_resizing(before, h * w, machine.limit_bytes(options.memory_limit), h, w, suffix)


def enlarge(
    model: nnx.Module, image: Picture, scale: float | None, options: Options, progress: Progress | None = None
) -> tuple[Picture, tuple[str, ...]]:
    """Enlarge a picture `scale` times, by the network's own scale and from there by MATLAB's bicubic.

    Args:
        model: from `load_for_scale`.
        image: uint8, any of the kinds `upscale` takes.
        scale: any positive number; None for the network's own.
        options: how to run it.
        progress: as in `upscale`.

    Returns:
        The picture, ⌈size · scale⌉ pixels high and wide, and notes to the user on how it was made.

    Raises:
        InputError: as `upscale`.
    """
    size = final_size(model, image, scale)
    own: int = model.scale  # type: ignore[attr-defined]
    if isinstance(model, Bicubic):
        return imresize(image, output_shape=size), ()
    notes: list[str] = []
    result = upscale(model, image, **dataclasses.asdict(options), progress=progress, on_note=notes.append)
    if result.shape[:2] != size:
        notes.append(f"×{own} by the network, then to {size[1]}×{size[0]} bicubically")
        result = imresize(result, output_shape=size)
    return result, tuple(notes)
