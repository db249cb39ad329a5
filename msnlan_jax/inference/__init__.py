"""A network on a picture: whole, by the released chop, or in tiles, within the memory and the time there are."""

from msnlan_jax.inference import capacity, programs
from msnlan_jax.inference.upscaling import (
    INFERENCE_MODES,
    TILE_OVERLAP,
    TILE_SIZE,
    Progress,
    check_options,
    predict,
    upscale,
)

__all__ = [
    "INFERENCE_MODES",
    "TILE_OVERLAP",
    "TILE_SIZE",
    "Progress",
    "capacity",
    "check_options",
    "predict",
    "programs",
    "upscale",
]
