"""This process and its machine: files, the command line, compiled programs, processes of a job, memory and cores.

`config_flags` reads the configurations of training, and imports ml_collections, which nothing else here needs.
"""

from msnlan_jax.runtime import command, distributed, files, lock, machine, recognition, relay
from msnlan_jax.runtime.compilation import (
    compiler_options,
)
from msnlan_jax.runtime.distributed import (
    StopSignal,
)
from msnlan_jax.runtime.files import (
    absolute,
    prepare_output_dir,
)
from msnlan_jax.runtime.machine import (
    GB,
    count_cores,
    limit_bytes,
)

__all__ = [
    "GB",
    "StopSignal",
    "absolute",
    "command",
    "compiler_options",
    "count_cores",
    "distributed",
    "files",
    "limit_bytes",
    "lock",
    "machine",
    "prepare_output_dir",
    "recognition",
    "relay",
]
