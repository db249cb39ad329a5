"""The gradient's kernel of a residual group: grid over tiles of pictures and blocks, the last block first."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from msnlan_jax.network.kernels import chip
from msnlan_jax.network.kernels.chip import LANES, SUBLANES
from msnlan_jax.network.kernels.trunk.activation import gelu_slope
from msnlan_jax.network.kernels.trunk.forms import BackwardForms, exact_dot, gate_of
from msnlan_jax.network.kernels.trunk.forward import Kept, block_specs
from msnlan_jax.network.kernels.trunk.packing import CHANNELS, Packing
from msnlan_jax.network.kernels.trunk.products import OPERAND, gather_rows
from msnlan_jax.network.kernels.trunk.rows import (
    Copies,
    Rows,
    clear_borders,
    dot,
    dot_positions,
    interior,
    start,
    wait,
)


class Gradients(NamedTuple):
    """Gradients of every tile t and block n: of matrices as `forms` lays them out but transposed, in float32.

    Attributes:
        convs: of the three convolutions' matrices, `[t, n, 3, lanes, operand]`.
        conv_biases: of their biases, not yet summed over pictures and columns, `[t, n, 3, sublanes, lanes]`.
        fusion: of the fusion's matrix, `[t, n, lanes, 3·lanes]`.
        fusion_bias: of its bias, not yet summed, `[t, n, sublanes, lanes]`.
        gate: of what channel attention's two matrices put out, as the statistics are laid out,
            `[t, n, 2, sublanes, lanes]`.
        closing: of the matrix of the convolution after the blocks, `[t, lanes, operand]`.
        closing_bias: of its bias, not yet summed, `[t, sublanes, lanes]`.
    """

    convs: Any
    conv_biases: Any
    fusion: Any
    fusion_bias: Any
    gate: Any
    closing: Any
    closing_bias: Any


class _Scratch(NamedTuple):
    """A block's maps in fast memory; those that convolutions and their transposes read have borders.

    Attributes:
        gradient: of the block's output, and in the end of its input.
        fused: f; then the gradient of x₂ by the fusion.
        sums: what GELU was taken of; then, in the place of the third, the gradient of x₁ by the fusion.
        inputs: of the three convolutions.
        cotangents: of the sums, one convolution's and the next's; x₃ in the place of the second before.
    """

    gradient: Any
    fused: Any
    sums: tuple[Any, Any, Any]
    inputs: tuple[Any, Any, Any]
    cotangents: tuple[Any, Any]
    semaphores: Any = None


def backward(
    packing: Packing, cotangent: Array, kept: Kept, forms: BackwardForms, *, interpret: bool
) -> tuple[Float[Array, "t h w s l"], Gradients]:
    """Return the gradient with respect to a group's packed input, and to its parameters.

    Args:
        packing: of the features.
        cotangent: of the group's output, packed; zero in the padding.
        kept: by the forward kernel.
        forms: of the group's parameters.
        interpret: run without a TPU.
    """
    n_blocks, dtype, products_dtype = forms.convs.shape[0], cotangent.dtype, forms.convs.dtype
    tiles = packing.tiles

    def block_of(n: Any) -> Any:
        return n_blocks - 1 - n

    outputs = _outputs(packing, n_blocks, block_of)
    in_hbm = pl.BlockSpec(memory_space=pl.ANY)
    statistics = pl.BlockSpec((None, None, 2, SUBLANES, LANES), lambda t, n: (t, block_of(n), 0, 0, 0))
    maps = _working_maps(packing, dtype, products_dtype)
    scratch = jax.tree.map(lambda a: pltpu.VMEM(a.shape, a.dtype), maps)._replace(
        semaphores=pltpu.SemaphoreType.DMA((8,))
    )
    result: tuple[Array, Gradients] = pl.pallas_call(
        functools.partial(_run, packing),
        grid=(tiles, n_blocks),
        in_specs=[in_hbm, Kept(in_hbm, in_hbm, in_hbm, in_hbm, statistics), block_specs(forms, block_of)],
        out_shape=(
            jax.ShapeDtypeStruct(packing.shape, dtype),
            Gradients(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape, _ in outputs)),
        ),
        out_specs=(in_hbm, Gradients(*(spec for _, spec in outputs))),
        scratch_shapes=[scratch],
        interpret=interpret,
        compiler_params=chip.compiler_params(chip.fast_memory()),
        name="residual_group_gradient",
    )(cotangent, kept, forms)
    return result


def _outputs(packing: Packing, n_blocks: int, block_of: Callable[[Any], Any]) -> list[tuple[Any, pl.BlockSpec]]:
    """Return the shape of each of `Gradients`, and how the grid's steps see it."""

    def of_block(*shape: int) -> tuple[Any, pl.BlockSpec]:
        zeros = (0,) * len(shape)
        return (packing.tiles, n_blocks, *shape), pl.BlockSpec(
            (None, None, *shape), lambda t, n: (t, block_of(n), *zeros)
        )

    def of_group(*shape: int) -> tuple[Any, pl.BlockSpec]:
        return (packing.tiles, *shape), pl.BlockSpec((None, *shape), lambda t, n: (t, 0, 0))

    return [
        of_block(3, LANES, OPERAND),
        of_block(3, SUBLANES, LANES),
        of_block(LANES, 3 * LANES),
        of_block(SUBLANES, LANES),
        of_block(2, SUBLANES, LANES),
        of_group(LANES, OPERAND),
        of_group(SUBLANES, LANES),
    ]


def _working_maps(packing: Packing, dtype: DTypeLike, products_dtype: DTypeLike) -> _Scratch:
    """Return shapes and dtypes of a block's maps."""
    plain = jax.ShapeDtypeStruct(packing.shape[1:], dtype)
    padded = jax.ShapeDtypeStruct((packing.rows + 2, packing.pairs + 2, SUBLANES, LANES), products_dtype)
    return _Scratch(plain, plain, (plain,) * 3, (padded,) * 3, (padded,) * 2)


def working_bytes(packing: Packing, dtype: DTypeLike, products_dtype: DTypeLike) -> int:
    """Return the fast memory that a group's gradient takes; its forward pass takes less.

    Args:
        packing: of the features.
        dtype: of the features.
        products_dtype: of products' operands.
    """
    maps: list[Any] = jax.tree.leaves(_working_maps(packing, dtype, products_dtype))
    # Matrices and their gradients, of one block and the next.
    of_convs, of_fusion, of_gate = 4 * LANES * OPERAND, 3 * LANES * LANES, 2 * LANES * LANES
    itemsize: int = jnp.dtype(products_dtype).itemsize
    matrices = 2 * ((4 + itemsize) * (of_convs + of_fusion) + 4 * of_gate)
    # Values of the rows that are taken together: an operand, and three maps' products and what becomes of them.
    values = Rows(packing).step * packing.pairs * SUBLANES * (OPERAND * itemsize + 3 * LANES * (4 + itemsize))
    return matrices + values + sum(int(a.size) * int(jnp.dtype(a.dtype).itemsize) for a in maps)


def _run(
    packing: Packing,
    cotangent: Any,
    kept: Kept,
    forms: BackwardForms,
    out: Any,
    gradients: Gradients,
    scratch: _Scratch,
) -> None:
    """Compute a block's gradient, and before the last one's that of the group's convolution; a step of the grid."""
    tile, step, n_blocks = pl.program_id(0), pl.program_id(1), pl.num_programs(1)
    block = n_blocks - 1 - step
    rows, gradient, dtype = Rows(packing), scratch.gradient, out.dtype
    here, there = scratch.cotangents
    loads = _Loads.of(kept, scratch, tile, block)
    following = _Loads.of(kept, scratch, tile, block - 1)
    zero = jnp.zeros((SUBLANES, LANES), jnp.float32)

    def take(row: Any, total: Array) -> Array:
        """Make the group's cotangent the operand of the last convolution's transpose."""
        value = rows.mask(rows.read(gradient, row), row)
        rows.write_inner(here, row, value)
        return total + value.sum((0, 1))

    def close(row: Any) -> None:
        gradients.closing[...] += dot_positions(
            rows.read_inner(here, row), gather_rows(scratch.inputs[0], row, rows.step)
        )
        value = dot(gather_rows(here, row, rows.step), forms.closing[...])
        rows.write(gradient, row, rows.mask(rows.unflat(value), row))

    def correlate(row: Any, total: Array) -> Array:
        return total + (rows.read(gradient, row) * rows.read(scratch.fused, row)).sum((0, 1))

    def spread(row: Any, total: tuple[Array, Array], scale: Array, slope: Array, offset: Array) -> tuple[Array, Array]:
        """Pass the gradient through gate and fusion, and through the last GELU."""
        f = rows.read(scratch.fused, row)
        value = rows.mask(rows.read(gradient, row) * scale + f * slope + offset, row)
        operand = rows.flat(value).astype(here.dtype)
        scales = [rows.read_inner(a, row) for a in (*scratch.inputs[1:], there)]
        gradients.fusion[...] += dot_positions(operand, jnp.concatenate(scales, -1))
        to_scales = dot(operand, forms.fusion[...])
        first, second, third = (to_scales[:, i * LANES : (i + 1) * LANES] for i in range(3))
        sums = rows.unflat(third) * gelu_slope(rows.read(scratch.sums[2], row), dtype)
        rows.write(scratch.fused, row, second)
        rows.write(scratch.sums[2], row, first)
        rows.write_inner(here, row, sums)
        return total[0] + value.sum((0, 1)), total[1] + sums.sum((0, 1))

    def transpose(row: Any, i: int, source: Any) -> Array:
        """Return the gradient of a convolution's input, and add to its kernel's."""
        gradients.convs[i] += dot_positions(
            rows.read_inner(source, row), gather_rows(scratch.inputs[i], row, rows.step)
        )
        return rows.unflat(dot(gather_rows(source, row, rows.step), forms.convs[i]))

    def go_back(row: Any, total: Array, i: int, source: Any, target: Any, besides: Any) -> Array:
        """Pass the gradient through convolution i and the GELU before it."""
        to_scale = transpose(row, i, source) + rows.read(besides, row)
        sums = rows.mask(to_scale * gelu_slope(rows.read(scratch.sums[i - 1], row), dtype), row)
        rows.write_inner(target, row, sums)
        return total + sums.sum((0, 1))

    def finish(row: Any, source: Any) -> None:
        rows.write(gradient, row, rows.mask(rows.read(gradient, row) + transpose(row, 0, source), row))

    def add_skip(row: Any) -> None:
        rows.write(gradient, row, rows.read(gradient, row) + rows.read(scratch.fused, row))

    @pl.when(step == 0)
    def _() -> None:
        for padded in (*scratch.inputs, *scratch.cotangents):
            clear_borders(padded)

    @pl.when(step == 0)
    def _() -> None:
        start(loads.second)
        start(loads.others)
        pltpu.sync_copy(cotangent.at[tile], gradient)
        pltpu.sync_copy(kept.inputs.at[tile, n_blocks], interior(scratch.inputs[0]))
        rows.fill_borders(scratch.inputs[0])
        gradients.closing_bias[...] = rows.sum(take, zero)
        rows.fill_borders(here)
        gradients.closing[...] = jnp.zeros(gradients.closing.shape, jnp.float32)
        rows.each(close)
        start(loads.block_input)

    def fetch(copies: Copies) -> None:
        """Have what the next step needs come, where there is one."""
        pl.when(step < n_blocks - 1)(functools.partial(start, copies))

    gradients.convs[...] = jnp.zeros(gradients.convs.shape, jnp.float32)
    gradients.fusion[...] = jnp.zeros(gradients.fusion.shape, jnp.float32)
    wait(loads.second)
    wait(loads.others)
    mean, variance = kept.statistics[0], kept.statistics[1]
    gate = gate_of(mean, variance, forms.gate)
    to_excite = rows.sum_pictures(rows.sum(correlate, zero)) * gate.gate * (1 - gate.gate)
    # Both halves of the lanes hold the same: a product over them counts everything twice.
    to_inner = 0.5 * exact_dot(to_excite, forms.gate.excite[...], transpose=True)
    to_squeeze = jnp.where(gate.inner > 0, to_inner, 0.0)
    gradients.gate[0], gradients.gate[1] = to_squeeze, to_excite
    to_statistic = exact_dot(to_squeeze, forms.gate.squeeze[...], transpose=True) / packing.positions
    to_statistic = to_statistic + pltpu.roll(to_statistic, CHANNELS, 1)
    slope = jnp.where(variance > 0, to_statistic / jnp.where(variance > 0, gate.deviation, 1.0), 0.0)
    offset = to_statistic - slope * mean

    spread_out = functools.partial(spread, scale=gate.gate, slope=slope, offset=offset)
    gradients.fusion_bias[...], gradients.conv_biases[2] = rows.sum(spread_out, (zero, zero))
    rows.fill_borders(here)
    rows.fill_borders(scratch.inputs[2])
    backwards = functools.partial(go_back, i=2, source=here, target=there, besides=scratch.fused)
    gradients.conv_biases[1] = rows.sum(backwards, zero)
    rows.fill_borders(there)
    fetch(following.second)
    rows.fill_borders(scratch.inputs[1])
    backwards = functools.partial(go_back, i=1, source=there, target=here, besides=scratch.sums[2])
    gradients.conv_biases[0] = rows.sum(backwards, zero)
    rows.fill_borders(here)
    fetch(following.others)
    wait(loads.block_input)
    rows.fill_borders(scratch.inputs[0])
    rows.each(functools.partial(finish, source=here))
    fetch(following.block_input)

    @pl.when(step == n_blocks - 1)
    def _() -> None:
        pltpu.sync_copy(cotangent.at[tile], scratch.fused)
        rows.each(add_skip)
        pltpu.sync_copy(gradient, out.at[tile])


class _Loads(NamedTuple):
    """Copies of what was kept, by the part of a block's gradient after which their places in fast memory are free.

    Attributes:
        second: what is not read any more when it has passed the third convolution and the second GELU.
        others: when it has passed the second convolution and the first GELU.
        block_input: when it has passed the first convolution.
    """

    second: Copies
    others: Copies
    block_input: Copies

    @classmethod
    def of(cls, kept: Kept, scratch: _Scratch, tile: Any, block: Any) -> "_Loads":
        """Return the copies of a block."""

        def load(source: Any, target: Any, semaphore: int) -> Any:
            return pltpu.make_async_copy(source, target, scratch.semaphores.at[semaphore])

        def scale(i: int, padded: Any) -> Any:
            return load(kept.scales.at[tile, block, i], interior(padded), i)

        def sums(i: int) -> Any:
            return load(kept.sums.at[tile, block, i], scratch.sums[i], 3 + i)

        return cls(
            (sums(1), scale(1, scratch.inputs[2]), load(kept.fused.at[tile, block], scratch.fused, 6)),
            (sums(0), scale(0, scratch.inputs[1]), sums(2), scale(2, scratch.cotangents[1])),
            (load(kept.inputs.at[tile, block], interior(scratch.inputs[0]), 7),),
        )
