"""Convolutions of one picture, as XLA for TPUs likes them: of a batch of strips.

Of a batch of one it leaves seven of eight sublanes empty, and takes minutes to compile.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from msnlan_jax.network.kernels.chip import SUBLANES


def count(x: Float[Array, "b h w c"]) -> int:
    """Return how many strips, equally high, fill the sublanes best with a single picture.

    1, for none, with more pictures: whole, these take fewer cycles than their strips.
    """
    return math.gcd(x.shape[1], SUBLANES) if x.shape[0] == 1 else 1


def convolve(
    x: Float[Array, "b h w c_in"], kernel: Float[Array, "3 3 c_in c_out"], n_strips: int, precision: str
) -> Float[Array, "b h w c_out"]:
    """Return a 3×3 convolution with zero padding, computed as that of a batch of horizontal strips.

    A strip's border rows are its neighbours'.
    """
    b, h, w, _ = x.shape
    rows = h // n_strips
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    shifted = (padded[:, row : row + h].reshape(b * n_strips, rows, w, -1) for row in range(3))
    above, inner, below = shifted
    y: Array = jax.lax.conv_general_dilated(
        jnp.concatenate([above[:, :1], inner, below[:, -1:]], axis=1),
        kernel,
        (1, 1),
        ((0, 0), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )
    return y.reshape(b, h, w, -1)
