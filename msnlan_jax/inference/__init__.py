"""A network on a picture: whole, by the released chop, or in tiles, within the memory and the time there are.

`Options` say how pictures are to be run, `plan_picture` how one of them will be, and `Programs` keep what is compiled
for them and shared.
"""

from msnlan_jax.inference.options import (
    INFERENCE_MODES,
    TILE_OVERLAP,
    TILE_SIZE,
    Options,
    add_flags,
    read_flags,
)
from msnlan_jax.inference.planning import (
    Plan,
    check_resizing,
    plan_picture,
    scale_of,
)
from msnlan_jax.inference.programs import (
    Programs,
)
from msnlan_jax.inference.running import (
    Elsewhere,
    Request,
    Running,
    upscale_each,
)
from msnlan_jax.inference.upscaling import (
    log_notes,
    predict,
    upscale,
    upscale_as_planned,
    upscale_in_parts,
)

__all__ = [
    "INFERENCE_MODES",
    "TILE_OVERLAP",
    "TILE_SIZE",
    "Elsewhere",
    "Options",
    "Plan",
    "Programs",
    "Request",
    "Running",
    "add_flags",
    "check_resizing",
    "log_notes",
    "plan_picture",
    "predict",
    "read_flags",
    "scale_of",
    "upscale",
    "upscale_as_planned",
    "upscale_each",
    "upscale_in_parts",
]
