"""Patch attention with a gradient, as Pallas TPU kernels."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from msnlan_jax.network.kernels import chip
from msnlan_jax.network.kernels.attention import backward, forward
from msnlan_jax.network.kernels.attention.calls import Manner
from msnlan_jax.network.kernels.attention.layout import (
    Layout,
    from_tiles,
    pad_queries,
    to_tiles,
    transpose_blocks,
)
from msnlan_jax.network.kernels.chip import SUBLANES

# Score of what is no key at all, below that of absent ones.
_NOWHERE = -2e30
# Rows of queries in a block: with 48 columns three multiplier tiles of queries; fewer where memory is short.
_BLOCK_ROWS = (8, 4)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def attend(
    query: Float[Array, "b h w d"],
    key: Float[Array, "b hk wk d"],
    value: Float[Array, "b hk wk c"],
    gain: Float[Array, "b hk wk"],
    bias: Float[Array, "b hk wk"],
    presence: Float[Array, "b h w"],
    kernel_size: int,
    precision: str,
) -> Float[Array, "b h w c"]:
    """Return D_k(softmax(D_k(q rᵀ) · gain + bias) · presence) · v in float32, as the attention's forms do.

    Off a TPU the kernels are interpreted. On one, float32 at `default` precision means products of bf16, as everywhere.

    Args:
        query: on the output's grid.
        key: on a grid of its own.
        value: on the key's grid.
        gain: of scores, of every key.
        bias: of scores, of every key; 0 or as good as minus infinity, and without a gradient.
        presence: of every query, 0 or 1, and without a gradient.
        kernel_size: patch side k.
        precision: JAX matmul precision.

    Source: SPEC.md §1, Branch k.
    """
    return _forward(query, key, value, gain, bias, presence, kernel_size, precision)[0]


def fits(query: Float[Array, "b h w d"], value: Float[Array, "b hk wk c"], kernel_size: int, precision: str) -> bool:
    """Whether the kernels can serve such arrays, in the chip's fast memory; arguments as of `attend`."""
    at, dtype = _layout(query, value, kernel_size, precision), _products_dtype(query, precision)
    # Features of neighbours are stacked in whole tiles of 16 rows.
    return at.d % SUBLANES == 0 and at.c % SUBLANES == 0 and _needed_bytes(at, dtype) <= chip.fast_memory()


Operands = tuple[Array, Array, Array, Array, Array, Array]


def _forward(
    query: Array, key: Array, value: Array, gain: Array, bias: Array, presence: Array, k: int, precision: str
) -> tuple[Array, tuple[Operands, Array, Array]]:
    at = _layout(query, value, k, precision)
    dtype, manner = _manner(query, precision)
    output, largest, shares = forward.run(
        at,
        manner,
        pad_queries(query, at).astype(dtype),
        *_keys(key, value, gain, bias, at, dtype),
        pad_queries(presence[..., None], at),
    )
    return output[:, : at.h, : at.w], ((query, key, value, gain, bias, presence), largest, shares)


def _backward(k: int, precision: str, kept: tuple[Operands, Array, Array], cotangent: Array) -> Operands:
    (query, key, value, gain, bias, presence), largest, shares = kept
    at = _layout(query, value, k, precision)
    dtype, manner = _manner(query, precision)
    queries, given = (pad_queries(x, at).astype(dtype) for x in (query, cotangent))
    d_queries, d_keys, d_values, d_gain = backward.run(
        at,
        manner,
        queries,
        given,
        transpose_blocks(queries, at),
        transpose_blocks(given, at),
        *_keys(key, value, gain, bias, at, dtype),
        largest,
        shares,
    )
    return (
        d_queries[:, : at.h, : at.w].astype(query.dtype),
        from_tiles(d_keys, at).astype(key.dtype),
        from_tiles(d_values, at).astype(value.dtype),
        from_tiles(d_gain, at)[..., 0],
        jnp.zeros_like(bias),
        jnp.zeros_like(presence),
    )


attend.defvjp(_forward, _backward)


def _layout(query: Array, value: Array, k: int, precision: str) -> Layout:
    """Return the layout of the largest blocks that fit, or, if none do, of the smallest."""
    _, h, w, d = query.shape
    _, hk, wk, c = value.shape
    layouts = [Layout(k, h, w, hk, wk, d, c, block_rows) for block_rows in _BLOCK_ROWS]
    dtype = _products_dtype(query, precision)
    return next((at for at in layouts if _needed_bytes(at, dtype) <= chip.fast_memory()), layouts[-1])


def _needed_bytes(at: Layout, dtype: jnp.dtype) -> int:
    return max(forward.needed_bytes(at, dtype), backward.needed_bytes(at, dtype))


def _products_dtype(query: Array, precision: str) -> jnp.dtype:
    """Return the dtype of products' operands."""
    return jnp.dtype(chip.products_dtype(query.dtype) if precision == "default" else query.dtype)


def _manner(query: Array, precision: str) -> tuple[jnp.dtype, Manner]:
    """Return the dtype of products' operands, and how the kernels are run."""
    dtype = _products_dtype(query, precision)
    return dtype, Manner("highest" if dtype == jnp.float32 else "default", chip.interprets())


def _keys(
    key: Array, value: Array, gain: Array, bias: Array, at: Layout, dtype: jnp.dtype
) -> tuple[Array, Array, Array, Array]:
    return (
        to_tiles(key.astype(dtype), at, halo=True),
        to_tiles(value.astype(dtype), at, halo=True),
        to_tiles(gain[..., None], at, halo=False),
        to_tiles(bias[..., None], at, halo=False, fill=_NOWHERE),
    )
