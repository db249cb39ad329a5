"""Patch attention for whole pictures: a band of query rows against a block of key rows at a time.

The k rows of every patch are unfolded into features, so that what is left of D_k is its half along columns, which takes
no row from another. A band of rows then needs none of the rows around it, nor does a block, and the memory is that of
one band's scores against one block, whatever the picture's size.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from msnlan_jax.network.attention.filters import Matrix, filter_columns, unfused
from msnlan_jax.network.attention.operands import NOWHERE, Operands

# On CPU a band's scores are to stay in its caches: at 80×120 pixels and 32 channels that is 1.6 to 2 times as fast as
# bands of hundreds of MB, and as exact. On accelerators so small a band would not fill the chip.
_CACHED_BYTES = 8 * 2**20


def split_rows(h: int, w: int, hk: int, wk: int, score_bytes: int) -> tuple[int, int]:
    """Return how many rows of queries make a band, and how many rows of keys a block: as many keys as `score_bytes`
    hold against one row of queries, then as many queries, on CPU no more than caches hold."""
    row_bytes = 4 * w * wk
    block_rows = min(hk, max(1, score_bytes // row_bytes))
    band_bytes = min(score_bytes, _CACHED_BYTES) if jax.default_backend() == "cpu" else score_bytes
    return min(h, max(1, band_bytes // (row_bytes * block_rows))), block_rows


def attend(operands: Operands, kernel_size: int, precision: str, *, score_bytes: int) -> Float[Array, "b h w c"]:
    """Attend without ever holding a whole score matrix, one image at a time.

    Args:
        operands: of a batch.
        kernel_size: patch side k.
        precision: of matrix products.
        score_bytes: about how large a band's scores against a block may be; on CPU bands are smaller.
    """
    query, key, value = (_unfold_rows(x, kernel_size) for x in operands[:3])
    unfolded = operands._replace(query=query, key=key, value=value)
    with jax.default_matmul_precision(precision):
        pasted = jax.lax.map(functools.partial(_attend, k=kernel_size, score_bytes=score_bytes), unfolded)
    return _fold_rows(pasted, kernel_size)


class _Band(NamedTuple):
    """Some rows of an image's queries, as in `Operands`."""

    query: Float[Array, "rows w d"]
    presence: Float[Array, "rows w"]


class _Block(NamedTuple):
    """Some rows of an image's keys and values, as in `Operands`; or all of them, block after block."""

    key: Float[Array, "*n rows wk d"]
    value: Float[Array, "*n rows wk c"]
    gain: Float[Array, "*n rows wk"]
    bias: Float[Array, "*n rows wk"]


def _attend(image: Operands, k: int, score_bytes: int) -> Float[Array, "h w c"]:
    """Attend within one image, whose rows have been unfolded; rows of the result are not yet folded."""
    query, key, value, gain, bias, presence = image
    (h, w), (hk, wk) = query.shape[:2], key.shape[:2]
    band_rows, block_rows = split_rows(h, w, hk, wk, score_bytes)
    split = functools.partial(_split, rows=block_rows)
    # Rows that only fill up the last block are nowhere.
    blocks = _Block(split(key), split(value), split(gain), split(bias, fill=NOWHERE))
    bands = _Band(_split(query, band_rows), _split(presence, band_rows))
    attend_band = _attend_at_once if block_rows == hk else _attend_in_blocks
    pasted: Array = jax.lax.map(jax.checkpoint(lambda band: attend_band(band, blocks, k)), bands)
    return pasted.reshape(-1, w, value.shape[-1])[:h]


def _attend_at_once(band: _Band, blocks: _Block, k: int) -> Float[Array, "rows w c"]:
    """Attend from a band to a single block, that of all keys."""
    block = _Block(*(x[0] for x in blocks))
    scores = _scores(band, block, k)
    exponentials = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=(2, 3), keepdims=True)))
    share = band.presence / jnp.sum(exponentials, axis=(2, 3))
    return _paste(exponentials * share[:, :, None, None], band, block, k)


def _attend_in_blocks(band: _Band, blocks: _Block, k: int) -> Float[Array, "rows w c"]:
    """Attend from a band to several blocks, in two passes: the softmax over all keys needs its total first."""

    def add_up(state: tuple[Array, Array], block: _Block) -> tuple[tuple[Array, Array], None]:
        largest, total = state
        scores = _scores(band, block, k)
        above = jnp.maximum(largest, jnp.max(scores, axis=(2, 3)))
        more = jnp.sum(jnp.exp(scores - above[:, :, None, None]), axis=(2, 3))
        return (above, total * jnp.exp(largest - above) + more), None

    def paste(output: Array, block: _Block) -> tuple[Array, None]:
        # The logarithm of the total is not taken off the scores instead: next to a large score it would be rounded.
        weights = jnp.exp(_scores(band, block, k) - largest[:, :, None, None]) * share[:, :, None, None]
        return output + _paste(weights, band, block, k), None

    nothing = (jnp.full(band.presence.shape, -np.finfo(np.float32).max), jnp.zeros(band.presence.shape))
    (largest, total), _ = jax.lax.scan(add_up, nothing, blocks)
    share = band.presence / total
    output, _ = jax.lax.scan(paste, jnp.zeros((*band.presence.shape, blocks.value.shape[-1])), blocks)
    return output


def _scores(band: _Band, block: _Block, k: int) -> Matrix:
    products = jnp.einsum("hwd,xyd->hwxy", band.query, block.key, preferred_element_type=jnp.float32)
    return unfused(lambda y: filter_columns(y, k) * block.gain + block.bias, products, band.query)


def _paste(weights: Matrix, band: _Band, block: _Block, k: int) -> Float[Array, "rows w c"]:
    filtered = unfused(lambda y: filter_columns(y, k), weights, band.query).astype(block.value.dtype)
    return jnp.einsum("hwxy,xyc->hwc", filtered, block.value, preferred_element_type=jnp.float32)


def _split(x: Float[Array, "h ..."], rows: int, fill: float = 0.0) -> Float[Array, "n rows ..."]:
    """Cut into parts of equally many rows, the last one filled up."""
    n_parts = math.ceil(x.shape[0] / rows)
    padding = [(0, n_parts * rows - x.shape[0])] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, padding, constant_values=fill).reshape(n_parts, rows, *x.shape[1:])


def _unfold_rows(x: Float[Array, "b h w c"], k: int) -> Float[Array, "b h w kc"]:
    """Put beside each position's features those of the k positions around it in its column, zero beyond the grid."""
    r, h = k // 2, x.shape[1]
    padded = jnp.pad(x, ((0, 0), (r, r), (0, 0), (0, 0)))
    return jnp.concatenate([padded[:, o : o + h] for o in range(k)], axis=-1)


def _fold_rows(x: Float[Array, "b h w kc"], k: int) -> Float[Array, "b h w c"]:
    """Add what each position holds for the k positions around it: the transpose of `_unfold_rows`."""
    r, h = k // 2, x.shape[1]
    parts = [jnp.pad(part, ((0, 0), (o, k - 1 - o), (0, 0), (0, 0))) for o, part in enumerate(jnp.split(x, k, axis=-1))]
    return functools.reduce(jnp.add, parts)[:, r : r + h]
