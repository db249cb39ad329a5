"""Inside a kernel: rows of the L×L' matrix in rings, and the box filter's half along rows, tile by tile.

A ring holds so many rows as are needed at a time, each `[all_tiles, width, 128]`, a row's place being its number modulo
the ring's length.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array

from msnlan_jax.network.kernels.attention.calls import Manner
from msnlan_jax.network.kernels.attention.layout import Layout
from msnlan_jax.network.kernels.attention.moves import Index, Ref
from msnlan_jax.network.kernels.chip import LANES


def dot(a: Array, b: Array, precision: Any, contract: tuple[int, int] = (1, 0)) -> Array:
    """Return a product in float32."""
    axes = (((contract[0],), (contract[1],)), ((), ()))
    product: Array = lax.dot_general(a, b, axes, preferred_element_type=jnp.float32, precision=precision)
    return product


def clear(memory: Ref) -> None:
    """Put zeros, one after the other along the first dimension."""

    def clear_one(i: Array, _: None) -> None:
        memory[i] = jnp.zeros(memory.shape[1:], memory.dtype)

    lax.fori_loop(0, memory.shape[0], clear_one, None)


def slot(ring: Ref, y: Index) -> Array:
    """The place of row y, which may be some rows before the first."""
    place: Array = lax.rem(jnp.int32(y) + ring.shape[0], ring.shape[0])
    return place


def clear_rows(ring: Ref, first: Index, n: int) -> None:
    """Put zeros into n rows."""

    def clear(i: Array, _: None) -> None:
        ring[slot(ring, first + i)] = jnp.zeros(ring.shape[1:], ring.dtype)

    lax.fori_loop(0, n, clear, None)


def pairs(
    at: Layout, manner: Manner, one: Callable[[int, Index, Any], Any], both: Callable[[Index, Any], Any], carry: Any
) -> Any:
    """Go through the tiles of two rows: of the first, and of the second a group further, at once.

    Args:
        at: layout.
        manner: how.
        one: of row 0 or 1, a tile and what is carried: what is done with a tile whose companion is beyond the ends.
        both: of the first row's tile and what is carried.
        carry: what is carried.
    """
    for t in range(at.parts):
        carry = one(1, t, carry)
    carry = manner.loop(at.tiles - at.parts, both, carry)
    for t in range(at.tiles - at.parts, at.tiles):
        carry = one(0, t, carry)
    return carry


def filter_tile(ring: Ref, y: Index, t: Index, at: Layout) -> Array:
    """Tile t of row y of D_k's half along rows, of what the ring holds."""
    rows = (ring[slot(ring, y + j - at.reach), t + j * at.parts] for j in range(at.k))
    total: Array = functools.reduce(jnp.add, rows)
    return total


def filter_pair(ring: Ref, y: Index, t: Index, at: Layout) -> tuple[Array, Array]:
    """`filter_tile` of row y, and of the next row a group further: all but one of what they add up is the same."""
    first, *shared, last = (ring[slot(ring, y + j - at.reach), t + j * at.parts] for j in range(at.k + 1))
    if not shared:
        return first, last
    common = functools.reduce(jnp.add, shared)
    return first + common, common + last


def multiply_block(ring: Ref, y: Index, left: Ref, right: Ref, at: Layout, manner: Manner) -> None:
    """Put products of unfolded features, `[rows, width, kf]` and `[all_tiles, kf, 128]`, into rows of a ring."""

    def multiply(t: Array, _: None) -> None:
        features = left[...].reshape(at.queries, left.shape[2])
        products = dot(features, right[t], manner.precision).reshape(at.rows, at.width, LANES)

        def store(i: Index) -> None:
            ring[slot(ring, y + i), t] = products[i]

        manner.each(at.rows, store)

    lax.fori_loop(0, at.all_tiles, multiply, None)


def fill_halo(ring: Ref, y: Index, at: Layout) -> None:
    """Copy to either side of a row what the other half of its tiles holds: what is beyond both halves stays zero."""
    if at.bands == 1:
        return
    here, half = slot(ring, y), LANES // 2
    second = lax.broadcasted_iota(jnp.int32, (at.width, LANES), 1) >= half
    for j in range(1, at.reach + 1):
        before = pltpu.roll(ring[here, at.halo + at.tiles - j], half, 1)
        ring[here, at.halo - j] = jnp.where(second, before, 0.0)
        after = pltpu.roll(ring[here, at.halo + j - 1], half, 1)
        ring[here, at.halo + at.tiles + j - 1] = jnp.where(second, 0.0, after)
