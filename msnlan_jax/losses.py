"""Training losses on 0..255 values."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def l1(prediction: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"]) -> Float[Array, ""]:
    """Mean absolute difference, in float32 (SPEC.md §4)."""
    return jnp.mean(jnp.abs(prediction.astype(jnp.float32) - target.astype(jnp.float32)))
