"""GELU and its derivative within kernels: by a polynomial for bfloat16, exact for float32."""

import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

# tanh(z·p(z²)) ≈ erf(z), the odd polynomial fitted so that GELU is 2.4e-5 from the exact one at most.
_ERF_BY_TANH = (1.12828824, 0.103369556, -0.00109998884, -0.000154863212)


def gelu(x: Float[Array, "*shape"], dtype: DTypeLike) -> Float[Array, "*shape"]:
    """Return GELU of a float32 `x`, as exact as a `dtype` deserves."""
    return x * _normal_cdf(x, dtype)[0]


def gelu_slope(x: Float[Array, "*shape"], dtype: DTypeLike) -> Float[Array, "*shape"]:
    """Return the derivative of `gelu`, of a float32 `x`."""
    cdf, density = _normal_cdf(x, dtype)
    return cdf + x * density


def _normal_cdf(x: Float[Array, "*shape"], dtype: DTypeLike) -> tuple[Array, Array]:
    """Return Φ(x), and its derivative."""
    if dtype == jnp.float32:
        return 0.5 + 0.5 * jax.lax.erf(x * math.sqrt(0.5)), math.sqrt(0.5 / math.pi) * jnp.exp(-0.5 * x * x)
    z = jnp.clip(x * math.sqrt(0.5), -4.0, 4.0)
    z2 = z * z
    a, b, c, d = _ERF_BY_TANH
    t = jnp.tanh(z * (a + z2 * (b + z2 * (c + z2 * d))))
    slope = math.sqrt(0.5) * (a + z2 * (3 * b + z2 * (5 * c + z2 * 7 * d)))
    return 0.5 + 0.5 * t, 0.5 * (1 - t * t) * slope
