"""The gradient's kernel of a residual group: grid over tiles of pictures and blocks, the last block first."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from msnlan_jax.network.kernels.activation import gelu_slope
from msnlan_jax.network.kernels.forms import BackwardForms, exact_dot, gate_of
from msnlan_jax.network.kernels.forward import Kept, block_specs, compiler_params
from msnlan_jax.network.kernels.packing import CHANNELS, LANES, SUBLANES, Packing
from msnlan_jax.network.kernels.products import OPERAND, gather_rows
from msnlan_jax.network.kernels.rows import (
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
        convs: of the three convolutions' matrices.
        conv_biases: of their biases, not yet summed over pictures and columns.
        fusion: of the fusion's matrix.
        fusion_bias: of its bias, not yet summed.
        gate: of what channel attention's two matrices put out, for every picture, as the statistics are laid out.
        closing: of the matrix of the convolution after the blocks.
        closing_bias: of its bias, not yet summed.
    """

    convs: Float[Array, "t n 3 lanes operand"]
    conv_biases: Float[Array, "t n 3 sublanes lanes"]
    fusion: Float[Array, "t n lanes lanes_thrice"]
    fusion_bias: Float[Array, "t n sublanes lanes"]
    gate: Float[Array, "t n 2 sublanes lanes"]
    closing: Float[Array, "t lanes operand"]
    closing_bias: Float[Array, "t sublanes lanes"]


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
    semaphores: Any


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
    tiles, *rest = packing.shape
    shape, padded = tuple(rest), (packing.rows + 2, packing.pairs + 2, SUBLANES, LANES)

    def block_of(n: Any) -> Any:
        return n_blocks - 1 - n

    of_block = Gradients(
        (3, LANES, OPERAND), (3, SUBLANES, LANES), (LANES, 3 * LANES), (SUBLANES, LANES), (2, SUBLANES, LANES), (), ()
    )
    of_tile = {"closing": (LANES, OPERAND), "closing_bias": (SUBLANES, LANES)}
    shapes = Gradients(*((tiles, n_blocks, *one) for one in of_block))._replace(
        **{name: (tiles, *one) for name, one in of_tile.items()}
    )
    specs = Gradients(
        *(
            pl.BlockSpec((None, None, *one), lambda t, n, zeros=(0,) * len(one): (t, block_of(n), *zeros))
            for one in of_block
        )
    )._replace(**{name: pl.BlockSpec((None, *one), lambda t, n: (t, 0, 0)) for name, one in of_tile.items()})
    in_hbm = pl.BlockSpec(memory_space=pl.ANY)
    statistics = pl.BlockSpec((None, None, 2, SUBLANES, LANES), lambda t, n: (t, block_of(n), 0, 0, 0))
    scratch = _Scratch(
        pltpu.VMEM(shape, dtype),
        pltpu.VMEM(shape, dtype),
        (pltpu.VMEM(shape, dtype),) * 3,
        (pltpu.VMEM(padded, products_dtype),) * 3,
        (pltpu.VMEM(padded, products_dtype),) * 2,
        pltpu.SemaphoreType.DMA((8,)),
    )
    result: tuple[Array, Gradients] = pl.pallas_call(
        functools.partial(_run, packing),
        grid=(tiles, n_blocks),
        in_specs=[in_hbm, Kept(in_hbm, in_hbm, in_hbm, in_hbm, statistics), block_specs(forms, block_of)],
        out_shape=(
            jax.ShapeDtypeStruct(packing.shape, dtype),
            jax.tree.map(
                lambda s: jax.ShapeDtypeStruct(s, jnp.float32), shapes, is_leaf=lambda s: type(s) is tuple
            ),
        ),
        out_specs=(in_hbm, specs),
        scratch_shapes=[scratch],
        interpret=interpret,
        compiler_params=compiler_params(),
        name="residual_group_gradient",
    )(cotangent, kept, forms)
    return result


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

    @pl.when((tile == 0) & (step == 0))
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
    gate, deviation, _, inner = gate_of(mean, variance, forms.gate)
    to_excite = rows.sum_pictures(rows.sum(correlate, zero)) * gate * (1 - gate)
    # Both halves of the lanes hold the same: a product over them counts everything twice.
    to_inner = 0.5 * exact_dot(to_excite, forms.gate.excite[...], transpose=True)
    to_squeeze = jnp.where(inner > 0, to_inner, 0.0)
    gradients.gate[0], gradients.gate[1] = to_squeeze, to_excite
    to_statistic = exact_dot(to_squeeze, forms.gate.squeeze[...], transpose=True) / packing.positions
    to_statistic += pltpu.roll(to_statistic, CHANNELS, 1)
    slope = jnp.where(variance > 0, to_statistic / jnp.where(variance > 0, deviation, 1.0), 0.0)
    offset = to_statistic - slope * mean

    spread_out = functools.partial(spread, scale=gate, slope=slope, offset=offset)
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
