"""Patch attention for whole pictures: a band of query rows against a block of key rows at a time.

The k rows of a patch are unfolded into the features, so that rows of queries and rows of keys are independent of each
other; only the filter along columns is left. A band needs no rows around it, and a block of keys none either, so memory
is that of one band's scores against one block, whatever the picture's size.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from msnlan_jax.network.attention.score_matrix import NOWHERE, apart, fold_axis, impossible, shift_columns, unfold_axis

# On CPU bands are no larger than fits into its caches, if a row of queries is not: at 80×120 pixels and 32 channels
# 1.6 to 2 times as fast as bands of hundreds of MB, and as exact. Elsewhere small programs would not fill the chip.
_CACHED_BYTES = 8 * 2**20


def split_rows(h: int, w: int, hk: int, wk: int, score_bytes: int) -> tuple[int, int]:
    """Return how many rows of queries make a band, and how many rows of keys a block: as many keys as `score_bytes`
    hold against one row of queries, then as many queries, on CPU no more than caches hold."""
    row_bytes = 4 * w * wk
    block_rows = min(hk, max(1, score_bytes // row_bytes))
    band_bytes = min(score_bytes, _CACHED_BYTES) if jax.default_backend() == "cpu" else score_bytes
    return min(h, max(1, band_bytes // (row_bytes * block_rows))), block_rows


def streamed(
    query: Array,
    key: Array,
    value: Array,
    gain: Array,
    bias: Array,
    presence: Array,
    k: int,
    precision: str,
    *,
    score_bytes: int,
) -> Float[Array, "b h w c"]:
    """Attend without ever holding a whole score matrix; arguments as in `patch_attention`.

    Args:
        query: `[B,H,W,d]`, on the output's grid.
        key: `[B,H',W',d]`.
        value: `[B,H',W',C]`.
        gain: `[B,H',W']`, what a key's scores are multiplied by.
        bias: `[B,H',W']`, what is added to them.
        presence: `[B,H,W]`, 0 for queries that are not there.
        k: patch side.
        precision: of matrix products.
        score_bytes: about how large a band's scores against a block may be; on CPU bands are smaller.
    """
    unfolded = [unfold_axis(x, k, axis=1) for x in (query, key, value)]
    attend = functools.partial(_attend, k=k, score_bytes=score_bytes)
    with jax.default_matmul_precision(precision):
        pasted = jax.lax.map(lambda image: attend(*image), (*unfolded, gain, bias, presence))
    return fold_axis(pasted, k, axis=1)


def _attend(
    query: Float[Array, "h w d"],
    key: Float[Array, "hk wk d"],
    value: Float[Array, "hk wk c"],
    gain: Float[Array, "hk wk"],
    bias: Float[Array, "hk wk"],
    presence: Float[Array, "h w"],
    k: int,
    score_bytes: int,
) -> Float[Array, "h w c"]:
    """Attend from bands of rows of one image; the softmax over several blocks of keys takes two passes."""
    (h, w), (hk, wk) = query.shape[:2], key.shape[:2]
    band_rows, block_rows = split_rows(h, w, hk, wk, score_bytes)
    blocks = tuple(_split(x, block_rows) for x in (key, value, gain))
    # Rows that only fill up the last block are nowhere.
    blocks += (_split(bias, block_rows, fill=NOWHERE),)

    @jax.checkpoint
    def attend(band: tuple[Array, Array]) -> Array:
        query, presence = band
        never = impossible(query)

        def scores(key: Array, gain: Array, bias: Array) -> Array:
            products = jnp.einsum("hwd,xyd->hwxy", query, key, preferred_element_type=jnp.float32)
            return apart(lambda y: shift_columns(y, k) * gain + bias, products, never)

        def spread(weights: Array, value: Array) -> Array:
            shifted = apart(lambda y: shift_columns(y, k), weights, never).astype(value.dtype)
            return jnp.einsum("hwxy,xyc->hwc", shifted, value, preferred_element_type=jnp.float32)

        def add_up(state: tuple[Array, Array], block: tuple[Array, ...]) -> tuple[tuple[Array, Array], None]:
            largest, total = state
            key, _, gain, bias = block
            found = scores(key, gain, bias)
            above = jnp.maximum(largest, jnp.max(found, axis=(2, 3)))
            more = jnp.sum(jnp.exp(found - above[:, :, None, None]), axis=(2, 3))
            return (above, total * jnp.exp(largest - above) + more), None

        def paste(output: Array, block: tuple[Array, ...]) -> tuple[Array, None]:
            key, value, gain, bias = block
            # Not exp(scores − log of the total): added to large scores, the logarithm would lose its digits.
            weights = jnp.exp(scores(key, gain, bias) - largest[:, :, None, None]) * share[:, :, None, None]
            return output + spread(weights, value), None

        if blocks[0].shape[0] == 1:
            keys, values, gains, biases = (x[0] for x in blocks)
            found = scores(keys, gains, biases)
            exponentials = jnp.exp(found - jax.lax.stop_gradient(jnp.max(found, axis=(2, 3), keepdims=True)))
            share = presence / jnp.sum(exponentials, axis=(2, 3))
            return spread(exponentials * share[:, :, None, None], values)
        start = (jnp.full(presence.shape, -jnp.finfo(jnp.float32).max), jnp.zeros(presence.shape))
        (largest, total), _ = jax.lax.scan(add_up, start, blocks)
        share = presence / total
        return jax.lax.scan(paste, jnp.zeros((*presence.shape, value.shape[-1])), blocks)[0]

    bands = jax.lax.map(attend, (_split(query, band_rows), _split(presence, band_rows)))
    return bands.reshape(-1, w, value.shape[-1])[:h]


def _split(x: Float[Array, "h ..."], rows: int, fill: float = 0.0) -> Float[Array, "n rows ..."]:
    """Cut into parts of equally many rows, the last one filled up."""
    n_parts = math.ceil(x.shape[0] / rows)
    padding = [(0, n_parts * rows - x.shape[0])] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, padding, constant_values=fill).reshape(n_parts, rows, *x.shape[1:])
