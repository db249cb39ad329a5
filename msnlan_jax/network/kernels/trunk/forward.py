"""The forward kernel of a residual group: grid over tiles of pictures and blocks."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from msnlan_jax.network.kernels import chip
from msnlan_jax.network.kernels.chip import LANES, SUBLANES
from msnlan_jax.network.kernels.trunk.activation import gelu
from msnlan_jax.network.kernels.trunk.forms import ForwardForms, gate_of
from msnlan_jax.network.kernels.trunk.packing import Packing
from msnlan_jax.network.kernels.trunk.products import gather_rows
from msnlan_jax.network.kernels.trunk.rows import Copies, Rows, clear_borders, dot, interior, start, wait


class Kept(NamedTuple):
    """What the gradient needs of the forward pass, of every tile of pictures t and block n.

    Attributes:
        inputs: of the blocks, and of the convolution after them.
        scales: x₁, x₂ and x₃.
        sums: what GELU was taken of.
        fused: f, what the gate was taken of.
        statistics: f's mean and variance, of each picture in all its columns and strips.
    """

    inputs: Any
    scales: Any
    sums: Any
    fused: Any
    statistics: Any


class _Scratch(NamedTuple):
    """A block's maps in fast memory: x, the four that convolutions read, with borders, and what else is kept."""

    x: Any
    maps: tuple[Any, Any, Any, Any]
    sums: tuple[Any, Any, Any]
    fused: Any
    semaphores: Any


def forward(
    packing: Packing, x: Array, forms: ForwardForms, *, keeps: bool, interpret: bool
) -> tuple[Float[Array, "t h w s l"], Kept | None]:
    """Return a group's output, and what its gradient needs where `keeps` says so.

    Args:
        packing: of the features.
        x: packed features, of any dtype.
        forms: of the group's parameters; their dtype is that of the products' operands.
        keeps: whether a gradient will be wanted.
        interpret: run without a TPU.
    """
    n_blocks, dtype, products_dtype = forms.convs.shape[0], x.dtype, forms.convs.dtype
    tiles, *shape = packing.shape
    padded = (packing.rows + 2, packing.pairs + 2, SUBLANES, LANES)
    out = jax.ShapeDtypeStruct(packing.shape, dtype)
    kept = Kept(
        jax.ShapeDtypeStruct((tiles, n_blocks + 1, *shape), products_dtype),
        jax.ShapeDtypeStruct((tiles, n_blocks, 3, *shape), products_dtype),
        jax.ShapeDtypeStruct((tiles, n_blocks, 3, *shape), dtype),
        jax.ShapeDtypeStruct((tiles, n_blocks, *shape), dtype),
        jax.ShapeDtypeStruct((tiles, n_blocks, 2, SUBLANES, LANES), jnp.float32),
    )
    in_hbm = pl.BlockSpec(memory_space=pl.ANY)
    kept_specs = Kept(
        in_hbm, in_hbm, in_hbm, in_hbm, pl.BlockSpec((None, None, 2, SUBLANES, LANES), lambda t, n: (t, n, 0, 0, 0))
    )
    scratch = _Scratch(
        pltpu.VMEM(tuple(shape), dtype),
        (pltpu.VMEM(padded, products_dtype),) * 4,
        (pltpu.VMEM(tuple(shape), dtype),) * 3,
        pltpu.VMEM(tuple(shape), dtype),
        pltpu.SemaphoreType.DMA((8,)),
    )

    def kernel(x: Any, forms: ForwardForms, out: Any, *rest: Any) -> None:
        _run(packing, x, forms, out, rest[0] if keeps else None, rest[-1])

    outputs = pl.pallas_call(
        kernel,
        grid=(tiles, n_blocks),
        in_specs=[in_hbm, block_specs(forms, lambda n: n)],
        out_shape=(out, kept) if keeps else (out,),
        out_specs=(in_hbm, kept_specs) if keeps else (in_hbm,),
        scratch_shapes=[scratch],
        interpret=interpret,
        compiler_params=chip.compiler_params(chip.fast_memory()),
        name="residual_group_forward",
    )(x, forms)
    return (outputs[0], outputs[1]) if keeps else (outputs[0], None)


def block_specs(forms: Any, block_of: Any) -> Any:
    """Return how a grid's steps see stacked parameters: each its block's, all what there is one of."""

    def spec(x: Array) -> pl.BlockSpec:
        one, *rest = x.shape
        zeros = (0,) * len(rest)
        if one == 1:
            return pl.BlockSpec((None, *rest), lambda t, n: (0, *zeros))
        return pl.BlockSpec((None, *rest), lambda t, n: (block_of(n), *zeros))

    return jax.tree.map(spec, forms)


def _run(packing: Packing, x: Any, forms: ForwardForms, out: Any, kept: Kept | None, scratch: _Scratch) -> None:
    """Compute a block, and after the last one the group's convolution; a step of the grid."""
    tile, block, n_blocks = pl.program_id(0), pl.program_id(1), pl.num_programs(1)
    rows, features, dtype = Rows(packing), scratch.x, out.dtype
    block_input, *scales = scratch.maps
    saves = _Saves.of(kept, scratch, tile, block)

    def take(row: Any, value: Array) -> None:
        """Store rows of a block's input, as they are and for convolutions."""
        rows.write(features, row, value)
        rows.write_inner(block_input, row, rows.mask(value, row))

    def convolve(row: Any, i: int) -> None:
        operand = gather_rows(scratch.maps[i], row, rows.step)
        sums = rows.unflat(dot(operand, forms.convs[i]) + forms.conv_biases[i])
        rows.write(scratch.sums[i], row, sums)
        rows.write_inner(scales[i], row, rows.mask(gelu(sums, dtype), row))

    def fuse(row: Any, total: Array) -> Array:
        operand = jnp.concatenate([rows.read_inner(a, row) for a in scales], -1)
        fused = rows.mask(rows.unflat(dot(operand, forms.fusion[...]) + forms.fusion_bias[...]), row)
        rows.write(scratch.fused, row, fused)
        return total + fused.sum((0, 1))

    def deviate(row: Any, total: Array, mean: Array) -> Array:
        difference = rows.mask(rows.read(scratch.fused, row) - mean, row)
        return total + (difference * difference).sum((0, 1))

    def close(row: Any, group_input: Any, result: Any) -> None:
        sums = dot(gather_rows(block_input, row, rows.step), forms.closing[...]) + forms.closing_bias[...]
        rows.write(result, row, rows.read(group_input, row) + rows.unflat(sums))

    @pl.when(block == 0)
    def _() -> None:
        for padded in scratch.maps:
            clear_borders(padded)

    @pl.when(block == 0)
    def _() -> None:
        pltpu.sync_copy(x.at[tile], features)
        rows.each(lambda row: take(row, rows.read(features, row)))
        rows.fill_borders(block_input)

    start(saves.block_input)
    for i in range(3):
        pl.when(block > 0)(functools.partial(wait, saves.convs[i]))
        rows.each(functools.partial(convolve, i=i))
        rows.fill_borders(scales[i])
        start(saves.convs[i])
    pl.when(block > 0)(functools.partial(wait, saves.fused))
    zero = jnp.zeros((SUBLANES, LANES), jnp.float32)
    mean = rows.sum_pictures(rows.sum(fuse, zero)) / packing.positions
    start(saves.fused)
    variance = rows.sum_pictures(rows.sum(functools.partial(deviate, mean=mean), zero)) / packing.positions
    gate = gate_of(mean, variance, forms.gate).gate
    if kept is not None:
        kept.statistics[0], kept.statistics[1] = mean, variance
    wait(saves.block_input)
    rows.each(lambda row: take(row, rows.read(features, row) + rows.read(scratch.fused, row) * gate))
    rows.fill_borders(block_input)

    @pl.when(block == n_blocks - 1)
    def _() -> None:
        start(saves.closing_input)
        for copies in (*saves.convs, saves.fused):
            wait(copies)
        group_input, result = scratch.sums[0], scratch.fused
        pltpu.sync_copy(x.at[tile], group_input)
        rows.each(functools.partial(close, group_input=group_input, result=result))
        pltpu.sync_copy(result, out.at[tile])
        wait(saves.closing_input)


class _Saves(NamedTuple):
    """Copies of what is kept, each under way while the next convolution is computed; none where nothing is kept."""

    block_input: Copies
    convs: tuple[Copies, Copies, Copies]
    fused: Copies
    closing_input: Copies

    @classmethod
    def of(cls, kept: Kept | None, scratch: _Scratch, tile: Any, block: Any) -> "_Saves":
        """Return the copies of a block."""
        if kept is None:
            return cls((), ((), (), ()), (), ())
        block_input, *scales = (interior(padded) for padded in scratch.maps)

        def save(source: Any, target: Any, semaphore: int) -> Any:
            return pltpu.make_async_copy(source, target, scratch.semaphores.at[semaphore])

        convs = [
            (
                save(scratch.sums[i], kept.sums.at[tile, block, i], 1 + i),
                save(scales[i], kept.scales.at[tile, block, i], 4 + i),
            )
            for i in range(3)
        ]
        return cls(
            (save(block_input, kept.inputs.at[tile, block], 0),),
            (convs[0], convs[1], convs[2]),
            (save(scratch.fused, kept.fused.at[tile, block], 7),),
            (save(block_input, kept.inputs.at[tile, block + 1], 0),),
        )
