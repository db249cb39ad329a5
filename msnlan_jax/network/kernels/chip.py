"""The chip that kernels run on."""

import jax
from jax.experimental.pallas import tpu as pltpu

# Of a v5e; what kernels are held to where there is no TPU.
_FAST_MEMORY = 128 * 2**20
# What the compiler needs besides the kernels' own buffers.
_RESERVE = 8 * 2**20


def fast_memory() -> int:
    """Return the bytes of vmem of a core."""
    if jax.devices()[0].platform != "tpu":
        return _FAST_MEMORY
    return int(pltpu.get_tpu_info().vmem_capacity_bytes)


def cores() -> int:
    """Return how many cores share a device's work."""
    device = jax.devices()[0]
    return int(device.num_cores) if device.platform == "tpu" else 1


def usable_bytes() -> int:
    """Return how many bytes of vmem the trunk's buffers may take."""
    return fast_memory() - _RESERVE


def interprets() -> bool:
    """Whether kernels are run without a TPU."""
    return jax.default_backend() != "tpu"
