"""Everything that holds parameters: files, checkpoints, workdirs, and the weights that come with the package."""

from msnlan_jax.weights import bundled, conversion, inspection
from msnlan_jax.weights.checkpoints import (
    Checkpoints,
)
from msnlan_jax.weights.conversion import (
    convert,
)
from msnlan_jax.weights.loading import (
    WEIGHTS_HELP,
    load_model,
    read_weights,
)
from msnlan_jax.weights.safetensors_files import (
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
    "conversion",
    "convert",
    "inspection",
    "load_model",
    "read_start",
    "read_weights",
    "write_safetensors",
]
