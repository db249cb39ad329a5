"""What a chip runs in place of plain layers: Pallas kernels for TPUs, their gradients written by hand.

Features of the trunk stay in the kernels' own layout, `Packed`, from its first residual group to its last.
"""

from msnlan_jax.network.kernels.forms import GroupWeights
from msnlan_jax.network.kernels.packed import Packed, can_pack

__all__ = ["GroupWeights", "Packed", "can_pack"]
