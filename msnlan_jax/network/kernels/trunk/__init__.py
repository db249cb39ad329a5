"""Residual groups as Pallas TPU kernels: features stay in the kernels' own layout, `Packed`, from group to group."""

from msnlan_jax.network.kernels.trunk.forms import GroupWeights
from msnlan_jax.network.kernels.trunk.packed import Packed, can_pack

__all__ = ["GroupWeights", "Packed", "can_pack"]
