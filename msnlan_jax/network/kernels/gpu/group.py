"""A residual group for GPUs whose gradient is written by hand, so that XLA makes few kernels of it: some 27 a block.

A training step of this network is bound by how many kernels it starts. So blocks run one after the other, since a loop
slices, casts and copies for each of them; parameters are cast at once; biases are added where activations are computed,
in float32; and what kernels have added up for biases and gates is added up further once for all blocks.
"""

import math
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from msnlan_jax.network.kernels.gpu.gate import (
    Gate,
    GateWeights,
    Moments,
    gate_gradients,
    make_gate,
    over_positions,
    take_moments,
)
from msnlan_jax.network.kernels.trunk import GroupWeights

Maps = Float[Array, "b h w c"]
Kernel = Float[Array, "3 3 c c"]


class _Operands(NamedTuple):
    """What products multiply with, in the dtype of features."""

    convs: Float[Array, "n 3 3 3 c c"]
    fusion: Float[Array, "n c_thrice c"]
    closing: Kernel


class _Kept(NamedTuple):
    """What the gradient needs of a block.

    Attributes:
        x: its input.
        sums: its three convolutions without their biases.
        scales: their activations, side by side.
        fused: the fusion of those without its bias.
        moments: of that.
        gate: what follows from them.
    """

    x: Maps
    sums: tuple[Maps, ...]
    scales: Float[Array, "b h w c_thrice"]
    fused: Maps
    moments: Moments
    gate: Gate


class _Found(NamedTuple):
    """What a block's gradient finds for its parameters, most of it not yet added up over all positions.

    Attributes:
        convs: gradients of the kernels.
        conv_biases: of their biases, of every row of every picture.
        fusion: of the fusion's kernel, of every picture.
        fusion_bias: of its bias, of every row of every picture.
        to_gate: of the gates, of every row.
        to_inner: of the values between the gate's matrices.
    """

    convs: list[Kernel]
    conv_biases: list[Float[Array, "bh c"]]
    fusion: Float[Array, "b c_thrice c"]
    fusion_bias: Float[Array, "bh c"]
    to_gate: Float[Array, "b c h"]
    to_inner: Float[Array, "b r"]


@jax.custom_vjp
def residual_group(x: Maps, weights: GroupWeights) -> Maps:
    """Run a residual group (SPEC.md §1) at default precision, in the dtype of `x`."""
    return _forward(x, weights)[0]


def _forward(x: Maps, weights: GroupWeights) -> tuple[Maps, tuple[list[_Kept], Maps, GroupWeights]]:
    operands, blocks, features = _cast(weights, x.dtype), [], x
    for n in range(len(operands.convs)):
        features, kept = _run_block(features, weights, operands, n)
        blocks.append(kept)
    out = _wide(x) + _wide(_conv(features, operands.closing)) + weights.closing_bias
    return out.astype(x.dtype), (blocks, features, weights)


def _run_block(x: Maps, weights: GroupWeights, operands: _Operands, n: int) -> tuple[Maps, _Kept]:
    """Return the output of block `n`, and what its gradient needs."""
    biases, sums, scale = weights.conv_biases[n], [], x
    for i in range(3):
        sums.append(_conv(scale, operands.convs[n, i]))
        scale = _activate(sums[i], biases[i])
    # Anew for all three, as part of the kernel that puts them side by side.
    scales = _activate(jnp.concatenate(sums, axis=-1), biases.ravel())
    fused = jnp.dot(scales, operands.fusion[n])
    moments, gate_weights = take_moments(fused), _gate_weights(weights, n)
    gate = make_gate(moments, gate_weights)
    out = _wide(x) + (_wide(fused) + gate_weights.bias) * over_positions(gate.gate)
    return _settle(out.astype(x.dtype)), _Kept(x, tuple(sums), scales, fused, moments, gate)


def _backward(residuals: tuple[list[_Kept], Maps, GroupWeights], cotangent: Maps) -> tuple[Maps, GroupWeights]:
    blocks, features, weights = residuals
    operands, found = _cast(weights, cotangent.dtype), list[_Found]()
    given = _wide(_to_input(cotangent, operands.closing, features))
    for n in reversed(range(len(blocks))):
        given, of_block = _go_back(given, blocks[n], weights, operands, n)
        found.insert(0, of_block)
    to_closing = _to_kernel(features, cotangent, operands.closing), _add_columns(cotangent)
    return (given + _wide(cotangent)).astype(cotangent.dtype), _add_up(found, to_closing, blocks, weights)


def _go_back(
    given: Float[Array, "b h w c"], block: _Kept, weights: GroupWeights, operands: _Operands, n: int
) -> tuple[Float[Array, "b h w c"], _Found]:
    """Return the gradient by the input of block `n` from that by its output, both float32, and those of parameters."""
    batch, height, width, c = given.shape
    gate_weights, dtype = _gate_weights(weights, n), block.x.dtype
    fused = _wide(block.fused)
    products = _add_columns(given * (fused + gate_weights.bias))
    to_gate = products.reshape(batch, height, c).swapaxes(1, 2)  # as XLA lays them out: else it would copy them
    cotangent = _settle(given.astype(dtype))
    back = gate_gradients(to_gate, block.moments, block.gate, gate_weights)
    deviations = fused - over_positions(block.moments.first + block.moments.mean)
    from_statistic = over_positions(back.to_mean) + 2 * deviations * over_positions(back.to_variance)
    to_fused = _wide(cotangent) * over_positions(block.gate.gate) + from_statistic / (height * width)
    to_fused = to_fused.astype(dtype)
    to_fusion = jnp.einsum("bhwi,bhwo->bio", block.scales, to_fused, preferred_element_type=jnp.float32)
    to_scales = jnp.dot(to_fused, operands.fusion[n].T)
    # What went into the convolutions is computed anew beside the gradients of activations, for less memory.
    biases, sums = weights.conv_biases[n], jax.lax.optimization_barrier(block.sums)
    to_kernels, to_biases, to_scale = list[Array](), list[Array](), jnp.zeros((), jnp.float32)
    for i in (2, 1, 0):
        to_scale += _wide(to_scales[..., i * c : (i + 1) * c])
        to_sums = (to_scale * _gelu_slope(_wide(sums[i]) + biases[i])).astype(dtype)
        taken = block.x if i == 0 else _activate(sums[i - 1], biases[i - 1])
        to_kernels.insert(0, _to_kernel(taken, to_sums, operands.convs[n, i]))
        to_biases.insert(0, _add_columns(to_sums))
        to_scale = _wide(_to_input(to_sums, operands.convs[n, i], taken))
    found = _Found(to_kernels, to_biases, to_fusion, _add_columns(to_fused), to_gate, back.to_inner)
    return _wide(cotangent) + to_scale, found


residual_group.defvjp(_forward, _backward)


def _add_up(
    found: list[_Found], to_closing: tuple[Array, Array], blocks: list[_Kept], weights: GroupWeights
) -> GroupWeights:
    """Return the gradients of all parameters."""
    kernels = jnp.stack([kernel for of_block in found for kernel in of_block.convs])
    biases = jnp.stack([bias for of_block in found for bias in of_block.conv_biases])
    moments, gate = (
        jax.tree.map(lambda *of_blocks: jnp.stack(of_blocks), *trees)
        for trees in ([block.moments for block in blocks], [block.gate for block in blocks])
    )
    to_excited = jnp.sum(jnp.stack([of_block.to_gate for of_block in found]), axis=3) * gate.slope
    to_inner = jnp.stack([of_block.to_inner for of_block in found])
    statistic = moments.statistic(weights.fusion_bias)
    return GroupWeights(
        _wide(kernels).reshape(weights.convs.shape),
        jnp.sum(biases, axis=1).reshape(weights.conv_biases.shape),
        jnp.sum(jnp.stack([of_block.fusion for of_block in found]), axis=1),
        jnp.sum(jnp.stack([of_block.fusion_bias for of_block in found]), axis=1),
        jnp.sum(statistic[..., None] * to_inner[:, :, None], axis=1),
        jnp.sum(to_inner, axis=1),
        jnp.sum(gate.inner[..., None] * to_excited[:, :, None], axis=1),
        jnp.sum(to_excited, axis=1),
        _wide(to_closing[0]),
        jnp.sum(to_closing[1], axis=0),
    )


def _cast(weights: GroupWeights, dtype: DTypeLike) -> _Operands:
    return _Operands(*(x.astype(dtype) for x in (weights.convs, weights.fusion, weights.closing)))


def _gate_weights(weights: GroupWeights, n: int) -> GateWeights:
    parts = weights.fusion_bias, weights.squeeze, weights.squeeze_bias, weights.excite, weights.excite_bias
    return GateWeights(*(part[n] for part in parts))


def _wide(x: Array) -> Array:
    return x.astype(jnp.float32)


def _settle(x: Maps) -> Maps:
    """Have features stand in memory as they are: XLA would keep wider ones, or add up those of several blocks again."""
    return cast(Array, jax.lax.optimization_barrier(x))


def _add_columns(x: Maps) -> Float[Array, "bh c"]:
    """Add up every row of a picture in float32: the part of a sum that the kernel can do that computes `x`."""
    return jnp.sum(_wide(x).reshape(-1, *x.shape[2:]), axis=1)


def _activate(sums: Float[Array, "b h w n"], bias: Float[Array, " n"]) -> Float[Array, "b h w n"]:
    """Return the exact GELU of convolutions with their bias."""
    u = _wide(sums) + bias
    return (0.5 * u * (1 + jax.lax.erf(u * 0.5**0.5))).astype(sums.dtype)


def _gelu_slope(u: Maps) -> Maps:
    density = jnp.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + jax.lax.erf(u * 0.5**0.5)) + u * density


def _conv(x: Maps, kernel: Kernel) -> Maps:
    layouts = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layouts)


def _to_kernel(x: Maps, cotangent: Maps, kernel: Kernel) -> Kernel:
    """Return the gradient of a convolution by its kernel."""
    (gradient,) = jax.linear_transpose(lambda kernel: _conv(x, kernel), kernel)(cotangent)
    return cast(Array, gradient)


def _to_input(cotangent: Maps, kernel: Kernel, x: Maps) -> Maps:
    """Return the gradient of a convolution by its input."""
    (gradient,) = jax.linear_transpose(lambda x: _conv(x, kernel), x)(cotangent)
    return cast(Array, gradient)
