"""Patch attention as Pallas TPU kernels: scores never leave the chip's fast memory, neither do their gradients."""

from msnlan_jax.network.kernels.attention.operator import attend, fits

__all__ = ["attend", "fits"]
