"""A convolution of packed features as one matrix product a row, and how its kernel is laid out for that.

Of each of three rows the product takes the pair itself, and one tile more that joins the first column of the next pair
with the second of the one before: six 128×128 tiles make two columns, and three quarters of the multiplications count.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from msnlan_jax.network.kernels.chip import LANES, SUBLANES
from msnlan_jax.network.kernels.trunk.packing import CHANNELS

OPERAND = 6 * LANES


def to_tiles(kernel: Float[Array, "*n 3 3 c c"]) -> Float[Array, "*n operand lanes"]:
    """Return 3×3 kernels as the matrices that `gather_rows` is multiplied with. Linear."""
    zero = jnp.zeros_like(kernel[..., 0, 0, :, :])

    def tile(*rows: tuple[Array, Array]) -> Array:
        return jnp.concatenate([jnp.concatenate(row, -1) for row in rows], -2)

    tiles = []
    for dy in range(3):
        left, middle, right = (kernel[..., dy, dx, :, :] for dx in range(3))
        tiles += [tile((middle, left), (right, middle)), tile((zero, right), (left, zero))]
    return jnp.concatenate(tiles, -2)


def flip(kernel: Float[Array, "*n 3 3 c c"]) -> Float[Array, "*n 3 3 c c"]:
    """Return the kernels of a convolution's transpose."""
    return kernel[..., ::-1, ::-1, :, :].swapaxes(-1, -2)


def to_diagonal(kernel: Float[Array, "*n c_in c"]) -> Float[Array, "*n c_in_twice lanes"]:
    """Return 1×1 kernels, of one or several inputs of 64 channels, as matrices for both columns of a pair. Linear."""
    parts = jnp.split(kernel, kernel.shape[-2] // CHANNELS, axis=-2)
    zero = jnp.zeros_like(parts[0])
    pairs = [jnp.concatenate([jnp.concatenate(row, -1) for row in ((k, zero), (zero, k))], -2) for k in parts]
    return jnp.concatenate(pairs, -2)


def to_both(bias: Float[Array, "*n c"]) -> Float[Array, "*n 1 lanes"]:
    """Return biases for both columns of a pair. Linear."""
    return jnp.concatenate([bias, bias], -1)[..., None, :]


def gather_rows(padded: Any, row: jax.Array, n_rows: int) -> Float[Array, "positions operand"]:
    """Return the operand of a convolution's rows, of a reference `[rows + 2, pairs + 2, sublanes, lanes]`."""
    pairs = padded.shape[1] - 2
    positions = n_rows * pairs * SUBLANES
    first = jax.lax.broadcasted_iota(jnp.int32, (positions, LANES), 1) < CHANNELS
    parts = []
    for dy in range(3):
        around = [padded[pl.ds(row + dy, n_rows), dx : dx + pairs].reshape(positions, LANES) for dx in range(3)]
        parts += [around[1], jnp.where(first, around[2], around[0])]
    return jnp.concatenate(parts, -1)
