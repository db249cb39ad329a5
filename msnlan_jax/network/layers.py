"""Building blocks shared by the network's parts: PyTorch-initialised convolution, channel attention, shuffle."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from msnlan_jax.network.attention import inside
from msnlan_jax.network.compute import Compute


@dataclasses.dataclass(frozen=True)
class UniformInit:
    """PyTorch's default initialiser: U(−bound, bound). A value, so that equal models share a compilation."""

    bound: float

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        """Draw an array."""
        return jax.random.uniform(key, shape, dtype, -self.bound, self.bound)


def conv(features_in: int, features_out: int, kernel: int, *, compute: Compute, rngs: nnx.Rngs) -> nnx.Conv:
    """Stride-1 convolution with bias, zero padding `kernel // 2`, PyTorch-default initialisation.

    Args:
        features_in: input channels.
        features_out: output channels.
        kernel: side of the square kernel.
        compute: dtype and precision.
        rngs: parameter random stream.
    """
    init = UniformInit(1.0 / math.sqrt(features_in * kernel * kernel))
    return nnx.Conv(
        features_in,
        features_out,
        (kernel, kernel),
        padding=((kernel // 2, kernel // 2),) * 2,
        dtype=jnp.dtype(compute.dtype),
        precision=compute.precision,
        kernel_init=init,
        bias_init=init,
        rngs=rngs,
    )


def pixel_shuffle(x: Float[Array, "b h w c_in"], factor: int) -> Float[Array, "b h_out w_out c_out"]:
    """Rearrange channels into space, `[B,H,W,C·r²] → [B,rH,rW,C]`, in PyTorch's order: c·r² + dy·r + dx."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, c // factor**2, factor, factor)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(b, h * factor, w * factor, c // factor**2)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["size"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Extent:
    """Which part of each picture of a batch is true, so that one compiled program serves pictures of many sizes.

    A picture in the top left of a larger array gets the result that it would get alone, if everything beyond it is
    zero before every convolution, and left out of every mean. Without a size, whole arrays are true.

    Attributes:
        size: height and width of each picture, in positions of the network's input grid.
    """

    size: Int[Array, "b 2"] | None = None

    def mask(self, x: Float[Array, "b h w c"], *, factor: int = 1, margin: int = 0) -> Float[Array, "b h w c"]:
        """Return `x` with zeros beyond the true part, on a grid `factor` times as fine or `margin` larger."""
        if self.size is None:
            return x
        there = inside(x.shape, self.size * factor + margin)[..., None]
        return jnp.where(there, x, jnp.zeros((), x.dtype))

    def mean(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 1 1 c"]:
        """Mean over the true positions of an `x` that is zero beyond them."""
        if self.size is None:
            return jnp.mean(x, axis=(1, 2), keepdims=True)
        return jnp.sum(x, axis=(1, 2), keepdims=True) / jnp.prod(self.size, axis=1)[:, None, None, None]


WHOLE = Extent()


def population_std(
    x: Float[Array, "b h w c"], mean: Float[Array, "b 1 1 c"], extent: Extent = WHOLE
) -> Float[Array, "b 1 1 c"]:
    """Standard deviation over H and W (÷HW, no epsilon), with a zero gradient where the variance is zero.

    The plain square root has an infinite derivative there; on a constant picture it would turn every gradient
    into NaN (SPEC.md §1). The value is the same.
    """
    variance = extent.mean(extent.mask(jnp.square(x - mean)))
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)


class ChannelAttention(nnx.Module):
    """Channel attention: scales each channel by a gate computed from that channel's statistics (SPEC.md §1).

    With `contrast` it is the contrast-aware form (CCA), whose statistic is standard deviation + mean over H and W;
    without, the statistic is the mean (CA). Statistics and gate are float32.

    Args:
        n_feats: channels C.
        contrast: whether the statistic holds the standard deviation.
        compute: dtype and precision.
        rngs: parameter random stream.
    """

    def __init__(self, n_feats: int, *, contrast: bool, compute: Compute, rngs: nnx.Rngs):
        hidden = max(1, n_feats // 16)
        gate_compute = dataclasses.replace(compute, dtype="float32")
        self.contrast = contrast
        self.squeeze = conv(n_feats, hidden, 1, compute=gate_compute, rngs=rngs)
        self.excite = conv(hidden, n_feats, 1, compute=gate_compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], extent: Extent = WHOLE) -> Float[Array, "b h w c"]:
        """Return `x · gate`, the shape and dtype of `x`, which is zero beyond its extent."""
        x32 = x.astype(jnp.float32)
        statistic = extent.mean(x32)
        if self.contrast:
            statistic = population_std(x32, statistic, extent) + statistic
        gate = jax.nn.sigmoid(self.excite(jax.nn.relu(self.squeeze(statistic))))
        return x * gate.astype(x.dtype)
