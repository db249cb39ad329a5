"""Training losses on 0..255 values, each the mean over everything, in float32."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Pictures = Float[Array, "b h w 3"]
# LapSRN's ε of 1e-3 for values in 0..1.
_CHARBONNIER_EPSILON = 1e-3 * 255


def l1(prediction: Pictures, target: Pictures) -> Float[Array, ""]:
    """Mean absolute difference, the released model's loss (SPEC.md §4)."""
    return jnp.mean(jnp.abs(_difference(prediction, target)))


def charbonnier(prediction: Pictures, target: Pictures) -> Float[Array, ""]:
    """Mean of √(d² + ε²): L1, smooth at zero (Lai et al., LapSRN)."""
    return jnp.mean(jnp.sqrt(jnp.square(_difference(prediction, target)) + _CHARBONNIER_EPSILON**2))


def mse(prediction: Pictures, target: Pictures) -> Float[Array, ""]:
    """Mean squared difference, whose minimum is the highest PSNR."""
    return jnp.mean(jnp.square(_difference(prediction, target)))


LOSSES = {"l1": l1, "charbonnier": charbonnier, "mse": mse}


def _difference(prediction: Pictures, target: Pictures) -> Pictures:
    return prediction.astype(jnp.float32) - target.astype(jnp.float32)
