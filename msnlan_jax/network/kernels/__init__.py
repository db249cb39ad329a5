"""What a chip runs in place of plain layers: Pallas kernels for TPUs, their gradients written by hand.

`trunk` is for residual groups, `attention` for the patch attention; each is compared with the plain form in its tests.
"""

from msnlan_jax.network.kernels import attention
from msnlan_jax.network.kernels.trunk import GroupWeights, Packed, can_pack

__all__ = ["GroupWeights", "Packed", "attention", "can_pack"]
