"""The attention's backward kernel: weights are computed anew from what the forward one says of every query."""

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


class _Given(NamedTuple):
    """Blocks ahead, with features last; blocks behind, transposed; and an image's keys, values and rows."""

    queries: Ref
    cotangent: Ref
    queries_behind: Ref
    cotangent_behind: Ref
    keys: Ref
    values: Ref
    gain: Ref
    bias: Ref
    largest: Ref
    shares: Ref


class _Gradients(NamedTuple):
    queries: Ref
    keys: Ref
    values: Ref
    gain: Ref


class _Memory(NamedTuple):
    """What a step leaves to the next ones, and its own; gradients, of what has their names, in those with `d_`.

    Attributes:
        keys: unfolded.
        values: unfolded.
        products: ring of rows, filtered along columns.
        d_filtered: ring of rows, of the weights after D_k's half along rows, filtered along columns.
        weights: ring of rows.
        d_products: ring of rows, before D_k's half along rows.
        d_keys: unfolded, summed over blocks.
        d_values: unfolded, summed over blocks.
        queries: unfolded, of the block ahead.
        cotangent: unfolded, of the block ahead.
        patches: products of patches, of two rows.
        d_weights: of two rows.
        queries_behind: unfolded and transposed, of the block behind.
        cotangent_behind: unfolded and transposed, of the block behind.
        d_queries: unfolded, of the block behind.
        filtered: weights of the block behind, two tiles in turn.
        d_patches: gradients of products in the block behind, two tiles in turn.
    """

    keys: Ref
    values: Ref
    products: Ref
    d_filtered: Ref
    weights: Ref
    d_products: Ref
    d_keys: Ref
    d_values: Ref
    queries: Ref
    cotangent: Ref
    patches: Ref
    d_weights: Ref
    queries_behind: Ref
    cotangent_behind: Ref
    d_queries: Ref
    filtered: tuple[Ref, Ref]
    d_patches: tuple[Ref, Ref]


def _kernel(at: Layout, manner: Manner, *refs: Ref) -> None:
    given, gradients, scratch = _Given(*refs[:10]), _Gradients(*refs[10:14]), refs[14:]
    parts: list[Any] = [*scratch[:15], scratch[15:17], scratch[17:]]
    kept = _Memory(*parts)
    s = pl.program_id(1)
    # The first row whose weights can be had: products of the rows below are there.
    first = s * at.rows - at.lag

    @pl.when(s == 0)
    def _() -> None:
        moves.unfold_keys(kept.keys, given.keys.at[0], at)
        moves.unfold_keys(kept.values, given.values.at[0], at)
        for ring in (kept.products, kept.d_filtered, kept.weights, kept.d_products):
            clear_rows(ring, -at.reach, at.reach)
        if at.bands == 1:
            clear(kept.weights)
            clear(kept.d_products)
        for total in (kept.d_keys, kept.d_values, gradients.gain.at[0]):
            clear(total)

    @pl.when(s < at.blocks)
    def _() -> None:
        moves.unfold_queries(kept.queries, given.queries.at[0], at)
        moves.unfold_queries(kept.cotangent, given.cotangent.at[0], at)
        multiply_block(kept.products, s * at.rows, kept.queries, kept.keys, at, manner)
        multiply_block(kept.d_filtered, s * at.rows, kept.cotangent, kept.values, at, manner)

    @pl.when(s == at.blocks)
    def _() -> None:
        for ring in (kept.products, kept.d_filtered, kept.weights, kept.d_products):
            clear_rows(ring, at.height, at.reach)

    def weigh_pair(n: Index, _: None) -> None:
        y = first + 2 * n
        most, share = (
            [jnp.broadcast_to(rows[0, y + row], (at.width, LANES)) for row in range(2)]
            for rows in (given.largest, given.shares)
        )

        def weigh(row: int, t: Index, product: Array, d_weight: Array, mean: Array) -> Array:
            scores = product * given.gain[0, t] + given.bias[0, t]
            weight = jnp.exp(scores - most[row]) * share[row]
            kept.patches[row, t], kept.d_weights[row, t] = product, d_weight
            kept.weights[slot(kept.weights, y + row), at.halo + t] = weight
            return mean + weight * d_weight

        def weigh_one(row: int, t: Index, mean: tuple[Array, Array]) -> tuple[Array, Array]:
            product, d_weight = (filter_tile(ring, y + row, t, at) for ring in (kept.products, kept.d_filtered))
            found = weigh(row, t, product, d_weight, mean[row])
            return (mean[0], found) if row else (found, mean[1])

        def weigh_both(t: Index, mean: tuple[Array, Array]) -> tuple[Array, Array]:
            products, d_weights = (filter_pair(ring, y, t, at) for ring in (kept.products, kept.d_filtered))
            return (
                weigh(0, t, products[0], d_weights[0], mean[0]),
                weigh(1, t + at.parts, products[1], d_weights[1], mean[1]),
            )

        nothing = jnp.zeros((at.width, LANES))
        mean = pairs(at, manner, weigh_one, weigh_both, (nothing, nothing))
        for row in range(2):
            differentiate(row, y + row, jnp.sum(mean[row], axis=1, keepdims=True))

    def differentiate(row: int, y: Index, mean: Array) -> None:
        here = slot(kept.weights, y)

        def differentiate_tile(t: Index, _: None) -> None:
            d_scores = kept.weights[here, at.halo + t] * (kept.d_weights[row, t] - mean)
            kept.d_products[here, at.halo + t] = d_scores * given.gain[0, t]
            gradients.gain[0, t] += jnp.sum(d_scores * kept.patches[row, t], axis=0, keepdims=True)

        manner.loop(at.tiles, differentiate_tile, None)
        fill_halo(kept.weights, y, at)
        fill_halo(kept.d_products, y, at)

    skipped = jnp.where(s > 0, 0, at.lag // 2)
    lax.fori_loop(skipped, jnp.where(s < at.blocks, at.rows // 2, at.lag // 2), weigh_pair, None)

    @pl.when(s > 0)
    def _() -> None:
        moves.unfold_transposed(kept.queries_behind, given.queries_behind.at[0, 0], at)
        moves.unfold_transposed(kept.cotangent_behind, given.cotangent_behind.at[0, 0], at)

        def filter_both(t: Index, turn: int) -> None:
            def filter_row(i: Index) -> None:
                for filtered, ring in ((kept.filtered, kept.weights), (kept.d_patches, kept.d_products)):
                    rows = filter_tile(ring, (s - 1) * at.rows + i, t, at)
                    filtered[turn][i] = rows.astype(kept.keys.dtype)

            manner.each(at.rows, filter_row)

        def paste(t: Index, turn: int) -> None:
            weights, d_patches = (x[turn][...].reshape(at.queries, LANES) for x in (kept.filtered, kept.d_patches))
            d_queries = dot(d_patches, kept.keys[at.halo + t], manner.precision, (1, 1))
            kept.d_queries[...] += d_queries.reshape(kept.d_queries.shape)
            kept.d_keys[t] += dot(kept.queries_behind[...], d_patches, manner.precision)
            kept.d_values[t] += dot(kept.cotangent_behind[...], weights, manner.precision)

        clear(kept.d_queries)
        manner.alternate(at.tiles, filter_both, paste)
        moves.fold_queries(gradients.queries.at[0], kept.d_queries, at)

    @pl.when(s == at.blocks)
    def _() -> None:
        moves.fold_keys(gradients.keys.at[0], kept.d_keys, at)
        moves.fold_keys(gradients.values.at[0], kept.d_values, at)


def run(
    at: Layout,
    manner: Manner,
    queries: Float[Array, "b height width d"],
    cotangent: Float[Array, "b height width c"],
    queries_transposed: Float[Array, "b blocks d queries"],
    cotangent_transposed: Float[Array, "b blocks c queries"],
    keys: Float[Array, "b n2 d 128"],
    values: Float[Array, "b n2 c 128"],
    gain: Float[Array, "b n3 1 128"],
    bias: Float[Array, "b n3 1 128"],
    largest: Float[Array, "b height width 1"],
    shares: Float[Array, "b height width 1"],
) -> tuple[
    Float[Array, "b height width d"], Float[Array, "b n3 d 128"], Float[Array, "b n3 c 128"], Float[Array, "b n3 1 128"]
]:
    """Return the gradients of queries, keys, values and gain."""
    b, f32 = queries.shape[0], jnp.float32
    d_queries, d_keys, d_values, d_gain = pl.pallas_call(
        functools.partial(_kernel, at, manner),
        grid=(b, calls.steps(at)),
        in_specs=[
            calls.ahead(at, at.rows, at.width, at.d),
            calls.ahead(at, at.rows, at.width, at.c),
            calls.behind(1, at.d, at.queries),
            calls.behind(1, at.c, at.queries),
            calls.image(at.all_tiles, at.d, LANES),
            calls.image(at.all_tiles, at.c, LANES),
            calls.image(at.tiles, 1, LANES),
            calls.image(at.tiles, 1, LANES),
            calls.image(at.height, at.width, 1),
            calls.image(at.height, at.width, 1),
        ],
        out_specs=[
            calls.behind(at.rows, at.width, at.d),
            calls.image(at.tiles, at.d, LANES),
            calls.image(at.tiles, at.c, LANES),
            calls.image(at.tiles, 1, LANES),
        ],
        out_shape=[
            jax.ShapeDtypeStruct((b, at.height, at.width, at.d), f32),
            jax.ShapeDtypeStruct((b, at.tiles, at.d, LANES), f32),
            jax.ShapeDtypeStruct((b, at.tiles, at.c, LANES), f32),
            jax.ShapeDtypeStruct((b, at.tiles, 1, LANES), f32),
        ],
        scratch_shapes=_scratch(at, queries.dtype),
        interpret=manner.interpret,
        compiler_params=chip.compiler_params(needed_bytes(at, queries.dtype)),
        name=f"attention_backward_{at.k}",
    )(
        queries,
        cotangent,
        queries_transposed,
        cotangent_transposed,
        keys,
        values,
        gain,
        bias,
        largest,
        shares,
    )
    return d_queries, d_keys, d_values, d_gain


def needed_bytes(at: Layout, dtype: DTypeLike) -> int:
    """Return the bytes of fast memory that the kernel takes."""
    f32 = jnp.float32
    windows = [
        *[memory(dtype, at.rows, at.width, f) for f in (at.d, at.c)],
        *[memory(dtype, f, at.queries) for f in (at.d, at.c)],
        memory(dtype, at.all_tiles, at.d + at.c, LANES),
        memory(f32, at.rows, at.width, at.d),
        memory(f32, at.tiles, at.d + at.c, LANES),
        *[memory(f32, at.tiles, 1, LANES)] * 3,
        *[memory(f32, at.height, at.width, 1)] * 2,
    ]
    return calls.needed_bytes(_scratch(at, dtype), windows)


def _scratch(at: Layout, dtype: DTypeLike) -> list[Any]:
    """Memory of the parts of `_Memory`, in its order."""
    f32, kd, kc = jnp.float32, at.k * at.d, at.k * at.c
    return [
        memory(dtype, at.all_tiles, kd, LANES),
        memory(dtype, at.all_tiles, kc, LANES),
        *[calls.ring(2 * at.rows, at)] * 4,
        memory(f32, at.tiles, kd, LANES),
        memory(f32, at.tiles, kc, LANES),
        memory(dtype, at.rows, at.width, kd),
        memory(dtype, at.rows, at.width, kc),
        *[memory(f32, 2, at.tiles, at.width, LANES)] * 2,
        memory(dtype, kd, at.queries),
        memory(dtype, kc, at.queries),
        memory(f32, at.rows, at.width, kd),
        *[memory(dtype, at.rows, at.width, LANES)] * 4,
    ]
