"""What a chip runs in place of plain layers, gradients written by hand.

For TPUs these are Pallas kernels: `trunk` for residual groups, `attention` for the patch attention; and `strips`, for
the convolutions of a single picture. `gpu` is the form of residual groups of which XLA for GPUs makes few kernels. Each
is compared with the plain form in its tests.
"""

from msnlan_jax.network.kernels import attention, gpu, strips
from msnlan_jax.network.kernels.trunk import GroupWeights, Packed, can_pack

__all__ = ["GroupWeights", "Packed", "attention", "can_pack", "gpu", "strips"]
