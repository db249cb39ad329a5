"""Bicubic up-sampling with a network's interface, so that the baseline row comes from the same program."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from msnlan_jax.errors import InputError
from msnlan_jax.pictures.resize import contributions


class Bicubic(nnx.Module):
    """MATLAB's bicubic `imresize` by a whole factor, rounded to 0..255 between the passes and at the end.

    Args:
        scale: up-scaling factor, a whole number of at least 1.

    Raises:
        InputError: on another scale.
    """

    def __init__(self, scale: int):
        if not isinstance(scale, int) or scale < 1:
            raise InputError(f"scale: found {scale!r}, expected a whole number of at least 1")
        self.scale = scale

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h_out w_out c"]:
        """Up-scale a batch of pictures, 0..255."""
        for axis, subscripts in ((1, "oi,bihc->bohc"), (2, "oi,bhic->bhoc")):
            weights = _matrix(x.shape[axis], self.scale)
            x = jnp.einsum(subscripts, weights, x, precision=jax.lax.Precision.HIGHEST)
            x = jnp.clip(jnp.floor(x + 0.5), 0, 255)
        return x


def _matrix(size: int, scale: int) -> Float[np.ndarray, "size_out size"]:
    weights, indices = contributions(size, size * scale, scale)
    matrix = np.zeros((size * scale, size), np.float32)
    np.add.at(matrix, (np.arange(size * scale)[:, None], indices), weights)
    return matrix
