"""What the network's equations are written in: layers, each of which keeps what is beyond a padded picture at zero.

A layer is called with its input, and with the extent of the pictures on the grid of its output.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, Num

from msnlan_jax.network.attention import inside
from msnlan_jax.network.compute import Compute
from msnlan_jax.network.kernels import Packed, can_pack, strips

# Not DIV2K's usual mean. The product is rounded to float32 as the released checkpoint's own biases are.
RGB_MEAN = np.float32(255) * np.array([0.4025, 0.4482, 0.4264], np.float32)


@dataclasses.dataclass(frozen=True)
class UniformInit:
    """PyTorch's default initialiser: U(−bound, bound). A value, so that equal models share a compilation."""

    bound: float

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        """Draw an array."""
        return jax.random.uniform(key, shape, dtype, -self.bound, self.bound)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["size"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Extent:
    """Which part of each picture of a batch is true, so that one compiled program serves pictures of many sizes.

    A picture in the top left of a larger array gets the result that it would get alone, if everything beyond it is
    zero before every convolution, and left out of every mean. Without a size, whole arrays are true.

    Attributes:
        size: height and width of each picture, in positions of the grid that a layer's output lies on.
    """

    size: Int[Array, "b 2"] | None = None

    def grown(self, margin: int) -> "Extent":
        """The extent on a grid that is `margin` higher and wider."""
        return self if self.size is None else Extent(self.size + margin)

    def finer(self, factor: int) -> "Extent":
        """The extent on a grid `factor` times as fine."""
        return self if self.size is None else Extent(self.size * factor)

    def mask(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return `x` with zeros beyond the true part."""
        if self.size is None:
            return x
        return jnp.where(inside(x.shape, self.size)[..., None], x, jnp.zeros((), x.dtype))

    def mean(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 1 1 c"]:
        """Mean over the true positions of an `x` that is zero beyond them."""
        if self.size is None:
            return jnp.mean(x, axis=(1, 2), keepdims=True)
        return jnp.sum(x, axis=(1, 2), keepdims=True) / jnp.prod(self.size, axis=1)[:, None, None, None]


WHOLE = Extent()


def subtract_mean(x: Num[ArrayLike, "b h w 3"], extent: Extent = WHOLE) -> Float[Array, "b h w 3"]:
    """Return pictures less the mean colour, in float32."""
    return extent.mask(jnp.asarray(x, jnp.float32) - RGB_MEAN)


def add_mean(x: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Return pictures with the mean colour, in float32."""
    return x.astype(jnp.float32) + RGB_MEAN


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact (erf) form; 0 at 0."""
    return jax.nn.gelu(x, approximate=False)


# Feature maps: an array `[B,H,W,C]`, or `Packed` for kernels.
Features = Any


def pack(x: Float[Array, "b h w c"], extent: Extent, compute: Compute) -> Features:
    """Return features as residual groups take them: laid out for kernels, where there are some for them."""
    is_packed = compute.uses_tpu_form and compute.remat is not True and extent.size is None and can_pack(x)
    return Packed.pack(x) if is_packed else x


def unpack(x: Features) -> Float[Array, "b h w c"]:
    """Undo `pack`."""
    return x.unpack() if isinstance(x, Packed) else x


def concat(parts: Sequence[Features]) -> Features:
    """Put the channels of feature maps behind one another."""
    return Packed.concat(parts) if isinstance(parts[0], Packed) else jnp.concatenate(parts, axis=-1)


class Conv(nnx.Conv):
    """Stride-1 convolution with bias, zero padding `kernel // 2`, PyTorch-default initialisation.

    Args:
        features_in: input channels.
        features_out: output channels.
        kernel: side of the square kernel.
        margin: how much higher and wider than the input the output is, by more padding; even.
        compute: dtype and precision.
        rngs: parameter random stream.
    """

    def __init__(
        self, features_in: int, features_out: int, kernel: int, *, margin: int = 0, compute: Compute, rngs: nnx.Rngs
    ):
        init = UniformInit(1.0 / math.sqrt(features_in * kernel * kernel))
        super().__init__(
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
        self.margin = margin
        self.may_use_strips = compute.uses_tpu_form and kernel == 3

    def __call__(self, x: Features, extent: Extent = WHOLE) -> Features:
        """Return the output, zero beyond its `extent`."""
        if isinstance(x, Packed):
            return x.convolve(*self.parameters(), str(self.precision))
        if self.margin:
            # Not by the convolution itself, whose gradient XLA for CPU would compute many times slower.
            around = (self.margin // 2, self.margin // 2)
            x = jnp.pad(x, ((0, 0), around, around, (0, 0)))
        if self.may_use_strips and extent.size is None and (n_strips := strips.count(x)) > 1:
            kernel, bias = (parameter.astype(self.dtype) for parameter in self.parameters())
            return strips.convolve(x.astype(self.dtype), kernel, n_strips, str(self.precision)) + bias
        return extent.mask(super().__call__(x))

    def parameters(self) -> tuple[Float[Array, "k k c_in c_out"], Float[Array, " c_out"]]:
        """Return kernel and bias."""
        assert self.bias is not None
        return self.kernel[...], self.bias[...]


class UpsamplingConv(Conv):
    """A 3×3 convolution from C to C·r² channels and a pixel shuffle, which makes r×r positions of each.

    Args:
        n_feats: channels C.
        factor: r.
        compute: dtype and precision.
        rngs: parameter random stream.
    """

    def __init__(self, n_feats: int, factor: int, *, compute: Compute, rngs: nnx.Rngs):
        super().__init__(n_feats, n_feats * factor**2, 3, compute=compute, rngs=rngs)
        self.factor = factor

    def __call__(self, x: Float[Array, "b h w c"], extent: Extent = WHOLE) -> Float[Array, "b h_out w_out c"]:
        """Return features on a grid `factor` times as fine, zero beyond its `extent`."""
        return extent.mask(pixel_shuffle(super().__call__(x), self.factor))


def pixel_shuffle(x: Float[Array, "b h w c_in"], factor: int) -> Float[Array, "b h_out w_out c_out"]:
    """Rearrange channels into space, `[B,H,W,C·r²] → [B,rH,rW,C]`, in PyTorch's order: c·r² + dy·r + dx."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, c // factor**2, factor, factor)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(b, h * factor, w * factor, c // factor**2)


class Embedding(nnx.Module):
    """A convolution and a PReLU with one learned slope: how queries, keys, values and their grid are made.

    Args:
        features_in: input channels.
        features_out: output channels.
        kernel: side of the square kernel.
        margin: how much higher and wider than the input the output is; even.
        compute: dtype and precision.
        rngs: parameter random stream.
    """

    def __init__(
        self, features_in: int, features_out: int, kernel: int, *, margin: int = 0, compute: Compute, rngs: nnx.Rngs
    ):
        self.conv = Conv(features_in, features_out, kernel, margin=margin, compute=compute, rngs=rngs)
        self.prelu = nnx.PReLU(0.25)

    def __call__(self, x: Float[Array, "b h w c"], extent: Extent = WHOLE) -> Float[Array, "b h_out w_out c_out"]:
        """Embed every position; zero beyond the output's `extent`."""
        return extent.mask(self.prelu(self.conv(x)))


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
        self.squeeze = Conv(n_feats, hidden, 1, compute=gate_compute, rngs=rngs)
        self.excite = Conv(hidden, n_feats, 1, compute=gate_compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], extent: Extent = WHOLE) -> Float[Array, "b h w c"]:
        """Return `x · gate`, the shape and dtype of `x`, which is zero beyond its extent."""
        x32 = x.astype(jnp.float32)
        statistic = extent.mean(x32)
        if self.contrast:
            statistic = population_std(x32, statistic, extent) + statistic
        gate = jax.nn.sigmoid(self.excite(jax.nn.relu(self.squeeze(statistic))))
        return x * gate.astype(x.dtype)


def run_in_series(
    blocks: Sequence[nnx.Module], x: Float[Array, "b h w c"], extent: Extent, compute: Compute
) -> Float[Array, "b h w c"]:
    """Return the output of equal blocks, each of which takes the one before's, the first `x`.

    `compute` says whether they are run as a loop over their stacked parameters, and whether only what goes in and out
    of each is kept for the gradient.
    """
    graphs, states = zip(*(nnx.split(block) for block in blocks), strict=True)

    def run(features: Array, state: Any) -> tuple[Array, None]:
        return nnx.merge(graphs[0], state)(features, extent), None

    if compute.uses_remat:
        run = jax.checkpoint(run, prevent_cse=not compute.uses_loops)  # which a loop does by itself
    features = x
    if compute.uses_loops:
        features, _ = jax.lax.scan(run, features, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
    else:
        for state in states:
            features, _ = run(features, state)
    return features
