"""Residual groups for GPUs, as the fewest kernels that XLA makes of them."""

from msnlan_jax.network.kernels.gpu.group import residual_group

__all__ = ["residual_group"]
