"""MSNLAN, the multi-scale non-local attention network, as Flax NNX modules.

Source: Wu, Zhang, Hu, He, Gao, "Multi-scale non-local attention network for image super-resolution", Signal
Processing 2024, 109362, and the authors' released model, which wins where the two differ. Everything is NHWC.
"""

import dataclasses
import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from msnlan_jax.errors import InputError
from msnlan_jax.network.attention import patch_attention
from msnlan_jax.network.compute import EXACT, Compute
from msnlan_jax.network.kernels import GroupWeights, Packed, gpu
from msnlan_jax.network.layers import (
    WHOLE,
    ChannelAttention,
    Conv,
    Embedding,
    Extent,
    Features,
    UpsamplingConv,
    add_mean,
    concat,
    gelu,
    pack,
    run_in_series,
    subtract_mean,
    unpack,
)

KERNEL_SIZES = (3, 5, 7)
SCALES = (2, 3, 4)
RES_SCALE = 0.1


@dataclasses.dataclass(frozen=True)
class MSNLANConfig:
    """What a network is; the defaults are the published ×4 network. How it computes is apart, in `Compute`.

    Attributes:
        scale: up-scaling factor s, 2, 3 or 4.
        n_feats: channels C.
        n_groups: residual groups G, half before and half after the attention block; even.
        n_blocks: RMABs in each group, N.

    Raises:
        InputError: on a value outside these.
    """

    scale: int = 4
    n_feats: int = 64
    n_groups: int = 8
    n_blocks: int = 9

    def __post_init__(self) -> None:
        if self.scale not in SCALES or not isinstance(self.scale, int):
            raise InputError(f"scale: found {self.scale!r}, expected one of {', '.join(map(str, SCALES))}")
        for name, least in (("n_feats", 2), ("n_groups", 2), ("n_blocks", 1)):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < least:
                raise InputError(f"{name}: found {getattr(self, name)!r}, expected a whole number of at least {least}")
        if self.n_groups % 2:
            raise InputError(f"n_groups: found {self.n_groups}, expected an even number")


class RMAB(nnx.Module):
    """Residual multi-scale aggregation block (SPEC.md §1).

    Args:
        n_feats: channels C.
        compute: how.
        rngs: parameter random stream.
    """

    def __init__(self, n_feats: int, *, compute: Compute, rngs: nnx.Rngs):
        self.convs = nnx.List([Conv(n_feats, n_feats, 3, compute=compute, rngs=rngs) for _ in range(3)])
        self.fusion = Conv(3 * n_feats, n_feats, 1, compute=compute, rngs=rngs)
        self.channel_attention = ChannelAttention(n_feats, contrast=True, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], extent: Extent = WHOLE) -> Float[Array, "b h w c"]:
        """Return the block's output, the shape of `x`."""
        x1 = gelu(self.convs[0](x, extent))
        x2 = gelu(self.convs[1](x1, extent))
        x3 = gelu(self.convs[2](x2, extent))
        f = self.fusion(concat([x1, x2, x3]), extent)
        return x + self.channel_attention(f, extent)


class ResidualGroup(nnx.Module):
    """Residual group: N RMABs and a convolution, plus the group's input (SPEC.md §1).

    Args:
        n_feats: channels C.
        n_blocks: RMABs N.
        compute: how.
        rngs: parameter random stream.
    """

    def __init__(self, n_feats: int, n_blocks: int, *, compute: Compute, rngs: nnx.Rngs):
        self.compute = compute
        self.blocks = nnx.List([RMAB(n_feats, compute=compute, rngs=rngs) for _ in range(n_blocks)])
        self.conv = Conv(n_feats, n_feats, 3, compute=compute, rngs=rngs)

    def __call__(self, x: Features, extent: Extent = WHOLE) -> Features:
        """Return the group's output, the shape of `x`."""
        if isinstance(x, Packed):
            return x.residual_group(self._weights())
        if self.compute.uses_gpu_form and self.compute.remat is not True and extent.size is None:
            return gpu.residual_group(x, self._weights())
        return x + self.conv(run_in_series(self.blocks, x, extent, self.compute), extent)

    def _weights(self) -> GroupWeights:
        """Return the parameters as kernels take them."""

        def stack(convs: Iterable[Conv]) -> tuple[Array, Array]:
            kernels, biases = zip(*(conv.parameters() for conv in convs), strict=True)
            return jnp.stack(kernels), jnp.stack(biases)

        blocks = list(self.blocks)
        # In one row, as training holds them: a part of it is a slice then.
        kernels, biases = stack(conv for block in blocks for conv in block.convs)
        fusion, fusion_bias = stack(block.fusion for block in blocks)
        squeeze, squeeze_bias = stack(block.channel_attention.squeeze for block in blocks)
        excite, excite_bias = stack(block.channel_attention.excite for block in blocks)
        return GroupWeights(
            kernels.reshape(len(blocks), 3, *kernels.shape[1:]),
            biases.reshape(len(blocks), 3, -1),
            fusion[:, 0, 0],
            fusion_bias,
            squeeze[:, 0, 0],
            squeeze_bias,
            excite[:, 0, 0],
            excite_bias,
            *self.conv.parameters(),
        )


class NonLocalBranch(nnx.Module):
    """One branch of the MSNLAB, patch attention with k×k patches (SPEC.md §1, Branch k).

    Args:
        n_feats: channels C.
        kernel_size: patch side k.
        compute: how.
        rngs: parameter random stream.
    """

    def __init__(self, n_feats: int, kernel_size: int, *, compute: Compute, rngs: nnx.Rngs):
        embed = functools.partial(Embedding, n_feats, compute=compute, rngs=rngs)
        self.kernel_size, self.compute = kernel_size, compute
        # A 3×3 convolution that the released model pads by k//2.
        self.grid = embed(n_feats, 3, margin=kernel_size - 3)
        self.query = embed(n_feats // 2, 1)
        self.key = embed(n_feats // 2, 1)
        self.value = embed(n_feats, 1)

    def __call__(self, x: Float[Array, "b h w c"], extent: Extent = WHOLE) -> Float[Array, "b h w c"]:
        """Return the branch's output, the shape of `x`."""
        around = extent.grown(self.kernel_size - 3)
        s = self.grid(x, around)
        q = self.query(x, extent)
        r = self.key(s, around)
        v = self.value(s, around)
        out = patch_attention(
            q,
            r,
            v,
            self.kernel_size,
            size=extent.size,
            form=self.compute.attention,
            precision=self.compute.precision,
            score_bytes=self.compute.score_bytes,
            uses_kernels=self.compute.uses_tpu_form,
            at_once=self.compute.uses_gpu_form,
        )
        y = out.astype(x.dtype) + RES_SCALE * x
        return x + RES_SCALE * y


class MSNLAB(nnx.Module):
    """Multi-scale non-local attention block: branches k = 3, 5, 7 (SPEC.md §1).

    Args:
        n_feats: channels C.
        compute: how.
        rngs: parameter random stream.
    """

    def __init__(self, n_feats: int, *, compute: Compute, rngs: nnx.Rngs):
        self.branches = nnx.List([NonLocalBranch(n_feats, k, compute=compute, rngs=rngs) for k in KERNEL_SIZES])
        self.fusion = Conv(3 * n_feats, n_feats, 1, compute=compute, rngs=rngs)
        self.channel_attention = ChannelAttention(n_feats, contrast=False, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], extent: Extent = WHOLE) -> Float[Array, "b h w c"]:
        """Return the block's output, the shape of `x`."""
        b3, b5, b7 = (branch(x, extent) for branch in self.branches)
        o = self.fusion(concat([b3, b5, b7]), extent)
        return x + self.channel_attention(o, extent)


class MSNLAN(nnx.Module):
    """The whole network: `[B,H,W,3]` RGB 0..255 in, `[B,sH,sW,3]` RGB 0..255 out (SPEC.md §1).

    Args:
        config: what the network is.
        compute: how it computes.
        rngs: parameter random stream; initialisation is PyTorch's default.
    """

    def __init__(self, config: MSNLANConfig, compute: Compute = EXACT, *, rngs: nnx.Rngs):
        c, half = config.n_feats, config.n_groups // 2
        conv = functools.partial(Conv, compute=compute, rngs=rngs)
        group = functools.partial(ResidualGroup, c, config.n_blocks, compute=compute, rngs=rngs)
        self.config, self.compute = config, compute
        self.head = conv(3, c, 3)
        self.groups_before = nnx.List([group() for _ in range(half)])
        self.fusion_before = conv(c * half, c, 1)
        self.attention = MSNLAB(c, compute=compute, rngs=rngs)
        self.groups_after = nnx.List([group() for _ in range(half)])
        self.fusions_after = nnx.List([conv(2 * c, c, 1) for _ in range(half - 1)])
        self.body_conv = conv(c, c, 3)
        self.upsampler = nnx.List(
            [UpsamplingConv(c, r, compute=compute, rngs=rngs) for r in shuffle_factors(config.scale)]
        )
        self.tail = conv(c, 3, 3)

    @property
    def scale(self) -> int:
        """Up-scaling factor s."""
        return self.config.scale

    def __call__(
        self, x: Float[Array, "b h w 3"], size: Int[Array, "b 2"] | None = None
    ) -> Float[Array, "b h_out w_out 3"]:
        """Up-scale a batch.

        Args:
            x: RGB pictures, float, 0..255.
            size: height and width of each picture where it is smaller than the array, in whose top left it lies; its
                result, in the top left of the output, is that of the picture alone.

        Returns:
            float32 RGB, 0..255, s times as high and wide, neither clipped nor rounded.

        Raises:
            InputError: when `x` has another shape.
        """
        if jnp.ndim(x) != 4 or jnp.shape(x)[-1] != 3:
            raise InputError(f"x: found shape {jnp.shape(x)}, expected [B,H,W,3]")
        extent = Extent(size)
        h = f = self.head(subtract_mean(x, extent), extent)
        f, outputs = pack(f, extent, self.compute), []
        for group in self.groups_before:
            f = group(f, extent)
            outputs.append(f)
        m = self.attention(unpack(self.fusion_before(concat(outputs), extent)), extent)
        m = pack(m, extent, self.compute)
        f = self.groups_after[0](m, extent)
        for fusion, group in zip(self.fusions_after, list(self.groups_after)[1:], strict=True):
            f = group(fusion(concat([f, m]), extent), extent)
        f = self.body_conv(unpack(f), extent) + h
        for upsample in self.upsampler:
            extent = extent.finer(upsample.factor)
            f = upsample(f, extent)
        return add_mean(self.tail(f))


def shuffle_factors(scale: int) -> tuple[int, ...]:
    """Pixel-shuffle factors of the tail: ×4 shuffles twice by 2."""
    return (2, 2) if scale == 4 else (scale,)


def count_parameters(model: nnx.Module) -> int:
    """Number of parameters as the paper counts them: trained ones plus the 24 of the frozen mean shifts.

    The mean shifts are constants here; the released model stores them as two 1×1 convolutions (SPEC.md §3).
    """
    return sum(int(p.size) for p in jax.tree.leaves(nnx.state(model, nnx.Param))) + 24
