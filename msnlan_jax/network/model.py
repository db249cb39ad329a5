"""MSNLAN, the multi-scale non-local attention network, as Flax NNX modules.

Source: Wu, Zhang, Hu, He, Gao, "Multi-scale non-local attention network for image super-resolution", Signal
Processing 2024, 109362, and the authors' released model, which wins where the two differ. Everything is NHWC.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from msnlan_jax.errors import InputError
from msnlan_jax.network.attention import patch_attention
from msnlan_jax.network.compute import EXACT, Compute
from msnlan_jax.network.layers import WHOLE, ChannelAttention, Extent, conv, pixel_shuffle

# Not DIV2K's usual mean. The product is rounded to float32 as the released checkpoint's own biases are.
RGB_MEAN = np.float32(255) * np.array([0.4025, 0.4482, 0.4264], np.float32)
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


def _concat(parts: Sequence[Array]) -> Array:
    return jnp.concatenate(parts, axis=-1)


class RMAB(nnx.Module):
    """Residual multi-scale aggregation block: three chained 3×3 convolutions, fused and gated (SPEC.md §1).

    Args:
        n_feats: channels C.
        compute: how.
        rngs: parameter random stream.
    """

    def __init__(self, n_feats: int, *, compute: Compute, rngs: nnx.Rngs):
        self.convs = nnx.List([conv(n_feats, n_feats, 3, compute=compute, rngs=rngs) for _ in range(3)])
        self.fusion = conv(3 * n_feats, n_feats, 1, compute=compute, rngs=rngs)
        self.channel_attention = ChannelAttention(n_feats, contrast=True, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], extent: Extent = WHOLE) -> Float[Array, "b h w c"]:
        """Return `x + CCA(fusion of the three scales)`, the shape of `x`."""
        scales = []
        features = x
        for layer in self.convs:
            features = extent.mask(jax.nn.gelu(layer(features), approximate=False))
            scales.append(features)
        return x + self.channel_attention(extent.mask(self.fusion(_concat(scales))), extent)


class ResidualGroup(nnx.Module):
    """N RMABs and a 3×3 convolution, plus the group's input (SPEC.md §1).

    Args:
        n_feats: channels C.
        n_blocks: RMABs N.
        compute: how.
        rngs: parameter random stream.
    """

    def __init__(self, n_feats: int, n_blocks: int, *, compute: Compute, rngs: nnx.Rngs):
        self.uses_loops, self.uses_remat = compute.uses_loops, compute.uses_remat
        self.blocks = nnx.List([RMAB(n_feats, compute=compute, rngs=rngs) for _ in range(n_blocks)])
        self.conv = conv(n_feats, n_feats, 3, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], extent: Extent = WHOLE) -> Float[Array, "b h w c"]:
        """Return the group's output, the shape of `x`."""
        graphs, states = zip(*(nnx.split(block) for block in self.blocks), strict=True)

        def run(features: Array, state: Any) -> tuple[Array, None]:
            return nnx.merge(graphs[0], state)(features, extent), None

        if self.uses_remat:
            run = jax.checkpoint(run, prevent_cse=not self.uses_loops)  # which a loop does by itself
        features = x
        if self.uses_loops:
            features, _ = jax.lax.scan(run, features, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
        else:
            for state in states:
                features, _ = run(features, state)
        return x + extent.mask(self.conv(features))


class PatchEmbedding(nnx.Module):
    """A convolution and a PReLU with one learned slope: how queries, keys, values and their grid are made."""

    def __init__(self, features_in: int, features_out: int, kernel: int, *, compute: Compute, rngs: nnx.Rngs):
        self.conv = conv(features_in, features_out, kernel, compute=compute, rngs=rngs)
        self.prelu = nnx.PReLU(0.25)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h_out w_out c_out"]:
        """Embed every position."""
        return self.prelu(self.conv(x))


class NonLocalBranch(nnx.Module):
    """One branch of the MSNLAB: patch attention with k×k patches, and its two residuals (SPEC.md §1, Branch k).

    Args:
        n_feats: channels C.
        kernel_size: patch side k.
        compute: how.
        rngs: parameter random stream.
    """

    def __init__(self, n_feats: int, kernel_size: int, *, compute: Compute, rngs: nnx.Rngs):
        embed = functools.partial(PatchEmbedding, n_feats, compute=compute, rngs=rngs)
        self.kernel_size, self.compute = kernel_size, compute
        self.grid = embed(n_feats, 3)
        self.query = embed(n_feats // 2, 1)
        self.key = embed(n_feats // 2, 1)
        self.value = embed(n_feats, 1)

    def __call__(self, x: Float[Array, "b h w c"], extent: Extent = WHOLE) -> Float[Array, "b h w c"]:
        """Return `x + ρ·(attention + ρ·x)`, the shape of `x`."""
        # The released model pads its 3×3 convolution by k//2, so that the keys' grid is k − 3 larger than the picture.
        # Not by the convolution itself, whose gradient XLA for CPU would compute many times slower.
        margin = self.kernel_size - 3
        around = (margin // 2, margin // 2)
        grid = extent.mask(self.grid(jnp.pad(x, ((0, 0), around, around, (0, 0)))), margin=margin)
        attended = patch_attention(
            extent.mask(self.query(x)),
            extent.mask(self.key(grid), margin=margin),
            extent.mask(self.value(grid), margin=margin),
            self.kernel_size,
            size=extent.size,
            form=self.compute.attention,
            precision=self.compute.precision,
            score_bytes=self.compute.score_bytes,
        )
        return x + RES_SCALE * (extent.mask(attended).astype(x.dtype) + RES_SCALE * x)


class MSNLAB(nnx.Module):
    """Multi-scale non-local attention block: branches k = 3, 5, 7, fused and gated (SPEC.md §1).

    Args:
        n_feats: channels C.
        compute: how.
        rngs: parameter random stream.
    """

    def __init__(self, n_feats: int, *, compute: Compute, rngs: nnx.Rngs):
        self.branches = nnx.List([NonLocalBranch(n_feats, k, compute=compute, rngs=rngs) for k in KERNEL_SIZES])
        self.fusion = conv(3 * n_feats, n_feats, 1, compute=compute, rngs=rngs)
        self.channel_attention = ChannelAttention(n_feats, contrast=False, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], extent: Extent = WHOLE) -> Float[Array, "b h w c"]:
        """Return `x + CA(fusion of the branches)`, the shape of `x`."""
        branches = _concat([branch(x, extent) for branch in self.branches])
        return x + self.channel_attention(extent.mask(self.fusion(branches)), extent)


class MSNLAN(nnx.Module):
    """The whole network: `[B,H,W,3]` RGB 0..255 in, `[B,sH,sW,3]` RGB 0..255 out (SPEC.md §1).

    Args:
        config: what the network is.
        compute: how it computes.
        rngs: parameter random stream; initialisation is PyTorch's default.
    """

    def __init__(self, config: MSNLANConfig, compute: Compute = EXACT, *, rngs: nnx.Rngs):
        c, half = config.n_feats, config.n_groups // 2
        layer = functools.partial(conv, compute=compute, rngs=rngs)
        group = functools.partial(ResidualGroup, c, config.n_blocks, compute=compute, rngs=rngs)
        self.config, self.compute = config, compute
        self.head = layer(3, c, 3)
        self.groups_before = nnx.List([group() for _ in range(half)])
        self.fusion_before = layer(c * half, c, 1)
        self.attention = MSNLAB(c, compute=compute, rngs=rngs)
        self.groups_after = nnx.List([group() for _ in range(half)])
        self.fusions_after = nnx.List([layer(2 * c, c, 1) for _ in range(half - 1)])
        self.body_conv = layer(c, c, 3)
        self.upsampler = nnx.List([layer(c, c * r * r, 3) for r in shuffle_factors(config.scale)])
        self.tail = layer(c, 3, 3)

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
        head = extent.mask(self.head(extent.mask(jnp.asarray(x, jnp.float32) - RGB_MEAN)))
        features, outputs = head, []
        for group in self.groups_before:
            features = group(features, extent)
            outputs.append(features)
        attended = self.attention(extent.mask(self.fusion_before(_concat(outputs))), extent)
        features = self.groups_after[0](attended, extent)
        for fusion, group in zip(self.fusions_after, list(self.groups_after)[1:], strict=True):
            features = group(extent.mask(fusion(_concat([features, attended]))), extent)
        features = extent.mask(self.body_conv(features)) + head
        factor = 1
        for layer, shuffle in zip(self.upsampler, shuffle_factors(self.scale), strict=True):
            factor *= shuffle
            features = extent.mask(pixel_shuffle(layer(features), shuffle), factor=factor)
        return self.tail(features).astype(jnp.float32) + RGB_MEAN


def shuffle_factors(scale: int) -> tuple[int, ...]:
    """Pixel-shuffle factors of the tail: ×4 shuffles twice by 2."""
    return (2, 2) if scale == 4 else (scale,)


def count_parameters(model: nnx.Module) -> int:
    """Number of parameters as the paper counts them: trained ones plus the 24 of the frozen mean shifts.

    The mean shifts are constants here; the released model stores them as two 1×1 convolutions (SPEC.md §3).
    """
    return sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param))) + 24
