"""A residual group's parameters, and how its kernels hold them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from msnlan_jax.network.kernels.chip import LANES
from msnlan_jax.network.kernels.trunk.products import flip, to_both, to_diagonal, to_tiles


class GroupWeights(NamedTuple):
    """A group's parameters, those of its N blocks stacked; R is the gate's inner width.

    Attributes:
        convs: 3×3 kernels of each block's three convolutions.
        conv_biases: theirs.
        fusion: 1×1 kernel of the three scales.
        fusion_bias: its.
        squeeze: the gate's first matrix.
        squeeze_bias: its.
        excite: the gate's second matrix.
        excite_bias: its.
        closing: 3×3 kernel of the convolution after the blocks.
        closing_bias: its.
    """

    convs: Float[Array, "n 3 3 3 c c"]
    conv_biases: Float[Array, "n 3 c"]
    fusion: Float[Array, "n c_thrice c"]
    fusion_bias: Float[Array, "n c"]
    squeeze: Float[Array, "n c r"]
    squeeze_bias: Float[Array, "n r"]
    excite: Float[Array, "n r c"]
    excite_bias: Float[Array, "n c"]
    closing: Float[Array, "3 3 c c"]
    closing_bias: Float[Array, " c"]


class GateForms(NamedTuple):
    """Channel attention's two matrices and biases, float32, zero where they are wider than the parameters.

    The statistics stand in both halves of the lanes: the first matrix reads one, the second writes both.
    """

    squeeze: Float[Array, "n lanes lanes"]
    squeeze_bias: Float[Array, "n 1 lanes"]
    excite: Float[Array, "n lanes lanes"]
    excite_bias: Float[Array, "n 1 lanes"]


class ForwardForms(NamedTuple):
    """What the forward kernel multiplies with, for each block and for the convolution after them."""

    convs: Float[Array, "n 3 operand lanes"]
    conv_biases: Float[Array, "n 3 1 lanes"]
    fusion: Float[Array, "n lanes_thrice lanes"]
    fusion_bias: Float[Array, "n 1 lanes"]
    gate: GateForms
    closing: Float[Array, "1 operand lanes"]
    closing_bias: Float[Array, "1 1 lanes"]


class BackwardForms(NamedTuple):
    """What the gradient's kernel multiplies with: the transposes."""

    convs: Float[Array, "n 3 operand lanes"]
    fusion: Float[Array, "n lanes lanes_thrice"]
    gate: GateForms
    closing: Float[Array, "1 operand lanes"]


def forward_forms(weights: GroupWeights, dtype: DTypeLike) -> ForwardForms:
    """Lay out parameters for the forward kernel; products' operands in `dtype`. Linear."""
    return ForwardForms(
        to_tiles(weights.convs.astype(dtype)),
        to_both(weights.conv_biases),
        to_diagonal(weights.fusion.astype(dtype)),
        to_both(weights.fusion_bias),
        _gate_forms(weights),
        to_tiles(weights.closing.astype(dtype))[None],
        to_both(weights.closing_bias)[None],
    )


def backward_forms(weights: GroupWeights, dtype: DTypeLike) -> BackwardForms:
    """Lay out parameters for the gradient's kernel; products' operands in `dtype`."""
    return BackwardForms(
        to_tiles(flip(weights.convs.astype(dtype))),
        to_diagonal(weights.fusion.astype(dtype)).swapaxes(-1, -2),
        _gate_forms(weights),
        to_tiles(flip(weights.closing.astype(dtype)))[None],
    )


def _gate_forms(weights: GroupWeights) -> GateForms:
    excite = jnp.concatenate([weights.excite, weights.excite], -1)
    return GateForms(
        _fill(weights.squeeze, LANES, LANES),
        _fill(weights.squeeze_bias[:, None], 1, LANES),
        _fill(excite, LANES, LANES),
        to_both(weights.excite_bias),
    )


def _fill(x: Float[Array, "n a b"], rows: int, columns: int) -> Float[Array, "n rows columns"]:
    return jnp.pad(x, ((0, 0), (0, rows - x.shape[1]), (0, columns - x.shape[2])))


class Gate(NamedTuple):
    """A gate, and on the way to it the standard deviation, the statistic and the values between the two matrices."""

    gate: Float[Array, "sublanes lanes"]
    deviation: Float[Array, "sublanes lanes"]
    statistic: Float[Array, "sublanes lanes"]
    inner: Float[Array, "sublanes lanes"]


def gate_of(mean: Float[Array, "sublanes lanes"], variance: Float[Array, "sublanes lanes"], forms: GateForms) -> Gate:
    """Return a picture's gate in a block from its statistics, as `ChannelAttention` does; for use within a kernel."""
    positive = variance > 0
    deviation = jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)
    statistic = deviation + mean
    inner = jnp.maximum(exact_dot(statistic, forms.squeeze[...]) + forms.squeeze_bias[...], 0.0)
    gate = jax.nn.sigmoid(exact_dot(inner, forms.excite[...]) + forms.excite_bias[...])
    return Gate(gate, deviation, statistic, inner)


def exact_dot(a: Float[Array, "m k"], b: Float[Array, "k n"], *, transpose: bool = False) -> Float[Array, "m n"]:
    """Return a small product in float32, with `b` or its transpose."""
    dimensions = (((1,), (1 if transpose else 0,)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, precision="highest", preferred_element_type=jnp.float32)
