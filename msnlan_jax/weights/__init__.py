"""Everything that holds parameters: files, checkpoints, workdirs, and the weights that come with the package."""

from msnlan_jax.weights import bundled, inspection
from msnlan_jax.weights.checkpoints import (
    Checkpoints,
)
from msnlan_jax.weights.loading import (
    WEIGHTS_HELP,
    convert,
    load_model,
    read_weights,
    write_safetensors,
)
from msnlan_jax.weights.warm_start import (
    read_start,
)
from msnlan_jax.weights.workdir import (
    claim_workdir,
)

__all__ = [
    "WEIGHTS_HELP",
    "Checkpoints",
    "bundled",
    "claim_workdir",
    "convert",
    "inspection",
    "load_model",
    "read_start",
    "read_weights",
    "write_safetensors",
]
