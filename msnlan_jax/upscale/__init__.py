"""`msnlan_jax.upscale(model, image)` as a function, and `python -m msnlan_jax.upscale` as a command."""

from msnlan_jax.inference import upscale

__all__ = ["upscale"]
