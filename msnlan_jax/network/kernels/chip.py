"""The chip that kernels run on."""

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu
from jax.typing import DTypeLike

LANES = 128
# Rows of a bf16 tile.
SUBLANES = 16
# Of a v5e; what kernels are held to where there is no TPU.
_FAST_MEMORY = 128 * 2**20
# What the compiler needs besides a kernel's own buffers.
RESERVE = 8 * 2**20


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
    return fast_memory() - RESERVE


def compiler_params(fast_memory: int) -> pltpu.CompilerParams:
    """Return how a kernel is compiled whose grid's first dimension any core may take, and the second goes in order.

    Args:
        fast_memory: bytes of vmem that it may use.
    """
    return pltpu.CompilerParams(vmem_limit_bytes=fast_memory, dimension_semantics=("parallel", "arbitrary"))


def interprets() -> bool:
    """Whether kernels are run without a TPU."""
    return jax.default_backend() != "tpu"


def products_dtype(dtype: DTypeLike) -> str:
    """Return what products of `dtype` are computed in at default precision: on TPUs, bfloat16."""
    return jnp.dtype(dtype).name if interprets() else "bfloat16"
