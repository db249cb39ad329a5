"""MSNLAN, the multi-scale non-local attention network for image super-resolution, in JAX and Flax NNX."""

from msnlan_jax.errors import InputError
from msnlan_jax.network import MSNLAN, MSNLANConfig, count_parameters
from msnlan_jax.upscale import upscale
from msnlan_jax.version import __version__
from msnlan_jax.weights import load_model

__all__ = ["MSNLAN", "InputError", "MSNLANConfig", "__version__", "count_parameters", "load_model", "upscale"]
