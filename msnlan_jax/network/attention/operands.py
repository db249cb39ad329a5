"""What every form of the attention is given."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

TEMPERATURE = 10.0
NORM_FLOOR = 1e-4
# Score of a key that is not there. Finite, so that a softmax over nothing else is no NaN.
NOWHERE = -1e30


class Operands(NamedTuple):
    """Features on their grids, and what makes weights of their products; of a batch, or of one image without `b`.

    The weights of a query's patch are the softmax over all keys of `product · gain + bias`, times its `presence`.

    Attributes:
        query: on the output's grid.
        key: on a grid of its own.
        value: on the key's grid.
        gain: the temperature λ over the norm of every key's patch.
        bias: 0 for keys that are there, else `NOWHERE`.
        presence: 1 for queries that are there, else 0.
    """

    query: Float[Array, "*b h w d"]
    key: Float[Array, "*b hk wk d"]
    value: Float[Array, "*b hk wk c"]
    gain: Float[Array, "*b hk wk"]
    bias: Float[Array, "*b hk wk"]
    presence: Float[Array, "*b h w"]


def make_operands(
    query: Float[Array, "b h w d"],
    key: Float[Array, "b hk wk d"],
    value: Float[Array, "b hk wk c"],
    kernel_size: int,
    size: Int[Array, "b 2"] | None = None,
) -> Operands:
    """Return the operands; arguments as in `patch_attention`."""
    squares = jnp.sum(jnp.square(key.astype(jnp.float32)), axis=-1)
    window = (1, kernel_size, kernel_size)
    sums = jax.lax.reduce_window(squares, 0.0, jax.lax.add, window, (1, 1, 1), "SAME")
    gain = TEMPERATURE / jnp.sqrt(jnp.maximum(sums, NORM_FLOOR**2))
    if size is None:
        return Operands(query, key, value, gain, jnp.zeros_like(gain), jnp.ones(query.shape[:3], jnp.float32))
    margin = jnp.array([key.shape[axis] - query.shape[axis] for axis in (1, 2)])
    bias = jnp.where(inside(key.shape, size + margin), 0.0, NOWHERE)
    return Operands(query, key, value, gain, bias, inside(query.shape, size).astype(jnp.float32))


def inside(shape: tuple[int, ...], size: Int[Array, "b 2"]) -> Array:
    """Return which positions of a `[B,H,W,…]` grid lie within each image's height and width, `[B,H,W]` booleans."""
    rows, columns = jnp.arange(shape[1])[:, None], jnp.arange(shape[2])
    return (rows < size[:, :1, None]) & (columns < size[:, 1:, None])
