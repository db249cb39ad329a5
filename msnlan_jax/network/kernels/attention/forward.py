"""The attention's forward kernel."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from msnlan_jax.network.kernels import chip
from msnlan_jax.network.kernels.attention import calls, moves
from msnlan_jax.network.kernels.attention.blocks import (
    clear,
    clear_rows,
    dot,
    fill_halo,
    filter_pair,
    filter_tile,
    multiply_block,
    pairs,
    slot,
)
from msnlan_jax.network.kernels.attention.calls import Manner, memory
from msnlan_jax.network.kernels.attention.layout import Layout
from msnlan_jax.network.kernels.attention.moves import Index, Ref
from msnlan_jax.network.kernels.chip import LANES


class _Memory(NamedTuple):
    """What a step leaves to the next ones, and its own.

    Attributes:
        keys: unfolded.
        values: unfolded.
        products: ring of rows, filtered along columns.
        exponentials: ring of rows.
        shares: of every query's exponentials that is its weight, in a ring of rows.
        queries: unfolded, of the block ahead.
        scores: of two rows.
        pasted: output of the block behind, unfolded.
        filtered: weights of the block behind, two tiles in turn.
    """

    keys: Ref
    values: Ref
    products: Ref
    exponentials: Ref
    shares: Ref
    queries: Ref
    scores: Ref
    pasted: Ref
    filtered: tuple[Ref, Ref]


def _kernel(
    at: Layout,
    manner: Manner,
    queries: Ref,
    keys: Ref,
    values: Ref,
    gain: Ref,
    bias: Ref,
    presence: Ref,
    output: Ref,
    largest: Ref,
    shares: Ref,
    *scratch: Ref,
) -> None:
    parts: list[Any] = [*scratch[:8], scratch[8:]]
    kept = _Memory(*parts)
    s = pl.program_id(1)
    # The first row whose scores can be had: products of the rows below are there.
    first = s * at.rows - at.lag

    @pl.when(s == 0)
    def _() -> None:
        moves.unfold_keys(kept.keys, keys.at[0], at)
        moves.unfold_keys(kept.values, values.at[0], at)
        for ring in (kept.products, kept.exponentials, kept.shares):
            clear_rows(ring, -at.reach, at.reach)
        if at.bands == 1:
            clear(kept.exponentials)

    @pl.when(s < at.blocks)
    def _() -> None:
        moves.unfold_queries(kept.queries, queries.at[0], at)
        multiply_block(kept.products, s * at.rows, kept.queries, kept.keys, at, manner)

    @pl.when(s == at.blocks)
    def _() -> None:
        for ring in (kept.products, kept.exponentials, kept.shares):
            clear_rows(ring, at.height, at.reach)

    def score_pair(n: Index, _: None) -> None:
        y = first + 2 * n

        def score(row: int, t: Index, products: Array, most: Array) -> Array:
            scores = products * gain[0, t] + bias[0, t]
            kept.scores[row, t] = scores
            return jnp.maximum(most, scores)

        def score_one(row: int, t: Index, most: tuple[Array, Array]) -> tuple[Array, Array]:
            found = score(row, t, filter_tile(kept.products, y + row, t, at), most[row])
            return (most[0], found) if row else (found, most[1])

        def score_both(t: Index, most: tuple[Array, Array]) -> tuple[Array, Array]:
            upper, lower = filter_pair(kept.products, y, t, at)
            return score(0, t, upper, most[0]), score(1, t + at.parts, lower, most[1])

        nothing = jnp.full((at.width, LANES), -jnp.inf)
        most = pairs(at, manner, score_one, score_both, (nothing, nothing))
        for row in range(2):
            weigh(row, y + row, jnp.max(most[row], axis=1, keepdims=True))

    def weigh(row: int, y: Index, most: Array) -> None:
        here = slot(kept.exponentials, y)

        def weigh_tile(t: Index, total: Array) -> Array:
            exponentials = jnp.exp(kept.scores[row, t] - most)
            kept.exponentials[here, at.halo + t] = exponentials
            return total + exponentials

        total = manner.loop(at.tiles, weigh_tile, jnp.zeros((at.width, LANES)))
        share = presence[0, y] / jnp.sum(total, axis=1, keepdims=True)
        fill_halo(kept.exponentials, y, at)
        kept.shares[here] = jnp.broadcast_to(share, (at.width, LANES))
        largest[0, y], shares[0, y] = most, share

    skipped = jnp.where(s > 0, 0, at.lag // 2)
    lax.fori_loop(skipped, jnp.where(s < at.blocks, at.rows // 2, at.lag // 2), score_pair, None)

    @pl.when(s > 0)
    def _() -> None:
        def filter_weights(t: Index, turn: int) -> None:
            def filter_row(i: Index) -> None:
                near = [slot(kept.exponentials, (s - 1) * at.rows + i + j - at.reach) for j in range(at.k)]
                parts = [kept.exponentials[n, t + j * at.parts] * kept.shares[n] for j, n in enumerate(near)]
                kept.filtered[turn][i] = functools.reduce(jnp.add, parts).astype(kept.values.dtype)

            manner.each(at.rows, filter_row)

        def paste(t: Index, turn: int) -> None:
            weights = kept.filtered[turn][...].reshape(at.queries, LANES)
            pasted = dot(weights, kept.values[at.halo + t], manner.precision, (1, 1))
            kept.pasted[...] += pasted.reshape(kept.pasted.shape)

        clear(kept.pasted)
        manner.alternate(at.tiles, filter_weights, paste)
        moves.fold_queries(output.at[0], kept.pasted, at)


def run(
    at: Layout,
    manner: Manner,
    queries: Float[Array, "b height width d"],
    keys: Float[Array, "b n2 d 128"],
    values: Float[Array, "b n2 c 128"],
    gain: Float[Array, "b n3 1 128"],
    bias: Float[Array, "b n3 1 128"],
    presence: Float[Array, "b height width 1"],
) -> tuple[Float[Array, "b height width c"], Float[Array, "b height width 1"], Float[Array, "b height width 1"]]:
    """Return the output, and of every query the largest score and the share of an exponential that is its weight."""
    b, f32 = queries.shape[0], jnp.float32
    rows = jax.ShapeDtypeStruct((b, at.height, at.width, 1), f32)
    output, largest, shares = pl.pallas_call(
        functools.partial(_kernel, at, manner),
        grid=(b, calls.steps(at)),
        in_specs=[
            calls.ahead(at, at.rows, at.width, at.d),
            calls.image(at.all_tiles, at.d, LANES),
            calls.image(at.all_tiles, at.c, LANES),
            calls.image(at.tiles, 1, LANES),
            calls.image(at.tiles, 1, LANES),
            calls.image(at.height, at.width, 1),
        ],
        out_specs=[
            calls.behind(at.rows, at.width, at.c),
            calls.image(at.height, at.width, 1),
            calls.image(at.height, at.width, 1),
        ],
        out_shape=[jax.ShapeDtypeStruct((b, at.height, at.width, at.c), f32), rows, rows],
        scratch_shapes=_scratch(at, queries.dtype),
        interpret=manner.interpret,
        compiler_params=chip.compiler_params(needed_bytes(at, queries.dtype)),
        name=f"attention_forward_{at.k}",
    )(queries, keys, values, gain, bias, presence)
    return output, largest, shares


def needed_bytes(at: Layout, dtype: DTypeLike) -> int:
    """Return the bytes of fast memory that the kernel takes."""
    f32 = jnp.float32
    windows = [
        memory(f32, at.rows, at.width, at.d + at.c),
        memory(dtype, at.all_tiles, at.d + at.c, LANES),
        *[memory(f32, at.tiles, 1, LANES)] * 2,
        *[memory(f32, at.height, at.width, 1)] * 3,
    ]
    return calls.needed_bytes(_scratch(at, dtype), windows)


def _scratch(at: Layout, dtype: DTypeLike) -> list[Any]:
    """Memory of the parts of `_Memory`, in its order."""
    f32, kd, kc = jnp.float32, at.k * at.d, at.k * at.c
    return [
        memory(dtype, at.all_tiles, kd, LANES),
        memory(dtype, at.all_tiles, kc, LANES),
        calls.ring(2 * at.rows, at),
        calls.ring(2 * at.rows, at),
        memory(f32, 2 * at.rows, at.width, LANES),
        memory(dtype, at.rows, at.width, kd),
        memory(f32, 2, at.tiles, at.width, LANES),
        memory(f32, at.rows, at.width, kc),
        *[memory(dtype, at.rows, at.width, LANES)] * 2,
    ]
