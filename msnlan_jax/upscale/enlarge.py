"""Enlarging one picture to any size: how it is run, what memory that takes, and resizing to the exact scale."""

import dataclasses
import math
import os

import jax
from flax import nnx

from msnlan_jax import bundled
from msnlan_jax.bicubic import Bicubic
from msnlan_jax.errors import InputError
from msnlan_jax.images import Picture
from msnlan_jax.inference import TILE_OVERLAP, TILE_SIZE, upscale
from msnlan_jax.model import KERNEL_SIZES, MSNLAN
from msnlan_jax.patch_attention import working_bytes
from msnlan_jax.resize import imresize
from msnlan_jax.weights import load_model

# Of all the memory there is, so much may be asked for.
_SHARE = 0.8
# Whole, a picture takes time with the square of its pixels: about a minute at this size on a few cores.
_WHOLE_PIXELS = {"cpu": 192 * 192}
_WHOLE_PIXELS_ACCELERATOR = 768 * 768
# Bytes an output pixel: blended sum and weight, their quotient, clipped, rounded, uint8, and a temporary.
_OUTPUT_BYTES = 64
# float32 feature maps of C channels alive at once, at LR size and at full size.
_FEATURE_MAPS, _TAIL_MAPS = 16, 6


@dataclasses.dataclass(frozen=True)
class Options:
    """How pictures are run.

    Attributes:
        inference: "whole", "chop", "tile", or "auto": whole where memory and time allow, else tiles.
        self_ensemble: average over the 8 flips and transposes.
        tile_size: LR pixels.
        tile_overlap: LR pixels.
        memory: bytes that may be used; None for most of what the device has.
    """

    inference: str = "auto"
    self_ensemble: bool = False
    tile_size: int = TILE_SIZE
    tile_overlap: int = TILE_OVERLAP
    memory: int | None = None


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


def enlarge(
    model: nnx.Module, image: Picture, scale: float | None, options: Options
) -> tuple[Picture, tuple[str, ...]]:
    """Enlarge a picture `scale` times, by the network's own scale and from there by MATLAB's bicubic.

    Args:
        model: from `load_for_scale`.
        image: uint8, any of the kinds `upscale` takes.
        scale: any positive number; None for the network's own.
        options: how to run it.

    Returns:
        The picture, ⌈size · scale⌉ pixels high and wide, and notes to the user on how it was made.

    Raises:
        InputError: when the memory does not suffice, or as `upscale`.
    """
    own: int = model.scale  # type: ignore[attr-defined]
    h, w = image.shape[:2]
    # Rounded first: 3 · 1.1 is a little more than 3.3.
    size = tuple(math.ceil(round(side * (own if scale is None else scale), 6)) for side in (h, w))
    if isinstance(model, Bicubic):
        _check_memory(_OUTPUT_BYTES * max(size[0] * size[1], h * w), options, size)
        return imresize(image, output_shape=(size[0], size[1])), ()
    inference, notes = choose_inference(model, h, w, options)
    result = upscale(
        model,
        image,
        inference=inference,
        self_ensemble=options.self_ensemble,
        tile_size=options.tile_size,
        tile_overlap=options.tile_overlap,
    )
    if result.shape[:2] != size:
        notes += (f"×{own} by the network, then to {size[1]}×{size[0]} bicubically",)
        result = imresize(result, output_shape=(size[0], size[1]))
    return result, notes


def choose_inference(model: nnx.Module, h: int, w: int, options: Options) -> tuple[str, tuple[str, ...]]:
    """Return how to run a picture of h×w pixels, and why, where it is not as one would expect.

    Raises:
        InputError: when not even tiles would fit into the memory.
    """
    tile = min(options.tile_size, h), min(options.tile_size, w)
    needed = estimate_bytes(model, h, w, tile)
    if options.inference != "auto":
        if options.inference == "tile":
            _check_memory(needed, options, (h, w))
        return options.inference, ()
    whole, limit = estimate_bytes(model, h, w, (h, w)), available_bytes(options)
    if whole > limit:
        _check_memory(needed, options, (h, w))
        reason = f"whole it would need about {_gib(whole)} of {_gib(limit)} GiB"
    elif isinstance(model, MSNLAN) and h * w > _whole_pixels():
        reason = "whole it would take long: --inference whole insists"
    else:
        return "whole", ()
    return "tile", (f"in tiles of {tile[1]}×{tile[0]} pixels, as {reason}",)


def estimate_bytes(model: nnx.Module, h: int, w: int, tile: tuple[int, int]) -> int:
    """Estimate the memory of up-scaling h×w pixels in tiles, four at a time: attention, feature maps, the result."""
    scale: int = model.scale  # type: ignore[attr-defined]
    result = _OUTPUT_BYTES * scale**2 * h * w
    if not isinstance(model, MSNLAN):
        return result
    batch = 1 if tile == (h, w) else 4
    features = 4 * model.config.n_feats * tile[0] * tile[1] * (_FEATURE_MAPS + _TAIL_MAPS * scale**2)
    return result + working_bytes(*tile, max(KERNEL_SIZES)) + batch * features


def available_bytes(options: Options) -> int:
    """Return how many bytes may be used: what `options` says, else most of the device's or the machine's memory."""
    if options.memory is not None:
        return options.memory
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(_SHARE * (stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))


def _check_memory(needed: int, options: Options, size: tuple[int, ...]) -> None:
    limit = available_bytes(options)
    if needed > limit:
        raise InputError(
            f"memory: a picture of {size[1]}×{size[0]} pixels needs about {_gib(needed)} GiB even in tiles, "
            f"found {_gib(limit)} GiB; expected a smaller picture or --scale"
        )


def _whole_pixels() -> int:
    return _WHOLE_PIXELS.get(jax.default_backend(), _WHOLE_PIXELS_ACCELERATOR)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f}"
