"""Contrast-aware channel attention with its gradient, in few kernels.

For every product of matrices XLA for GPUs starts a kernel of its own; sums it fuses into what is around them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class GateWeights(NamedTuple):
    """A block's gate, and the bias of the features that it scales; R is the gate's inner width."""

    bias: Float[Array, " c"]
    squeeze: Float[Array, "c r"]
    squeeze_bias: Float[Array, " r"]
    excite: Float[Array, "r c"]
    excite_bias: Float[Array, " c"]


class Moments(NamedTuple):
    """What mean and deviation of features without their bias follow from, float32; of one block, or of N.

    Attributes:
        first: the features at a picture's first position.
        mean: over positions, of the features less those.
        square: over positions, the mean square of the same.
    """

    first: Float[Array, "*n b c"]
    mean: Float[Array, "*n b c"]
    square: Float[Array, "*n b c"]

    @property
    def deviation(self) -> Float[Array, "*n b c"]:
        """The standard deviation over positions, 0 where all are equal."""
        return jnp.sqrt(jnp.maximum(self.square - self.mean * self.mean, 0.0))

    def statistic(self, bias: Float[Array, "*n c"]) -> Float[Array, "*n b c"]:
        """Return what gates are made of: the deviation, and the mean of the features with their bias."""
        return self.deviation + self.mean + self.first + bias[..., None, :]


class Gate(NamedTuple):
    """Gates, and the values between their two matrices; of one block, or of N."""

    inner: Float[Array, "*n b r"]
    gate: Float[Array, "*n b c"]

    @property
    def slope(self) -> Float[Array, "*n b c"]:
        """The derivative of the sigmoid."""
        return self.gate * (1 - self.gate)


class GateGradients(NamedTuple):
    """What a gate sends back: to its inner values, and to mean and variance of the features."""

    to_inner: Float[Array, "b r"]
    to_mean: Float[Array, "b c"]
    to_variance: Float[Array, "b c"]


def take_moments(x: Float[Array, "b h w c"]) -> Moments:
    """Take the moments of features in one pass.

    Less one of its own values, a channel's mean is about as large as its deviation, and so is not lost in the square
    of a larger one.
    """
    first = x[:, 0, 0].astype(jnp.float32)
    difference = x.astype(jnp.float32) - over_positions(first)

    def add(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        return a[0] + b[0], a[1] + b[1]

    zero, positions = jnp.float32(0), x.shape[1] * x.shape[2]
    # One reduction, which reads the features once.
    total, square = jax.lax.reduce((difference, jnp.square(difference)), (zero, zero), add, (1, 2))
    return Moments(first, total / positions, square / positions)


def make_gate(moments: Moments, weights: GateWeights) -> Gate:
    """Return the gates of features that have these moments."""
    squeezed = jnp.sum(moments.statistic(weights.bias)[:, :, None] * weights.squeeze, axis=1)
    inner = jax.nn.relu(squeezed + weights.squeeze_bias)
    return Gate(inner, jax.nn.sigmoid(_multiply(inner, weights.excite) + weights.excite_bias))


def gate_gradients(to_gate: Float[Array, "b c h"], moments: Moments, gate: Gate, weights: GateWeights) -> GateGradients:
    """Return what a gate sends back.

    Args:
        to_gate: its own gradient, still of every row.
        moments: of the features.
        gate: as `make_gate` returns it.
        weights: of the block.
    """
    # Over channels and rows at once: one kernel.
    squeezed = jnp.sum((to_gate * gate.slope[..., None])[..., None] * weights.excite.T[:, None], axis=(1, 2))
    to_inner = jnp.where(gate.inner > 0, squeezed, 0.0)
    to_statistic = _multiply(to_inner, weights.squeeze.T)
    deviation = moments.deviation
    positive = deviation > 0
    to_variance = jnp.where(positive, 0.5 * to_statistic / jnp.where(positive, deviation, 1.0), 0.0)
    return GateGradients(to_inner, to_statistic, to_variance)


def over_positions(x: Float[Array, "b c"]) -> Float[Array, "b 1 1 c"]:
    """Have a picture's values stand beside all of its positions."""
    return x[:, None, None]


def _multiply(x: Float[Array, "b r"], matrix: Float[Array, "r c"]) -> Float[Array, "b c"]:
    """Return a product with a matrix of few rows, term by term: what has no reduction is fused into what takes it."""
    return functools.reduce(jnp.add, (x[:, r, None] * matrix[r] for r in range(matrix.shape[0])))
