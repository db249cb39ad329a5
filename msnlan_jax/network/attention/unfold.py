"""Patch attention as it is defined, patch by patch: the reference, with k² times the memory and arithmetic of `box`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from msnlan_jax.network.attention.operands import Operands


def attend(operands: Operands, kernel_size: int, precision: str) -> Float[Array, "b h w c"]:
    """Attend, one image at a time, keeping nothing for the gradient but the operands."""
    with jax.default_matmul_precision(precision):
        output: Array = jax.lax.map(jax.checkpoint(lambda image: _attend(image, kernel_size)), operands)
    return output


def _attend(image: Operands, k: int) -> Float[Array, "h w c"]:
    query, key, value = (_patches(x.astype(jnp.float32), k) for x in (image.query, image.key, image.value))
    scores = jnp.einsum("hwkd,xykd->hwxy", query, key) * image.gain + image.bias
    weights = jax.nn.softmax(scores, axis=(2, 3)) * image.presence[:, :, None, None]
    return _paste(jnp.einsum("hwxy,xykc->hwkc", weights, value), k)


def _patches(x: Float[Array, "h w c"], k: int) -> Float[Array, "h w kk c"]:
    """All zero-padded k×k patches, offsets in row-major order."""
    r = k // 2
    h, w = x.shape[:2]
    padded = jnp.pad(x, ((r, r), (r, r), (0, 0)))
    return jnp.stack([padded[dy : dy + h, dx : dx + w] for dy in range(k) for dx in range(k)], axis=2)


def _paste(patches: Float[Array, "h w kk c"], k: int) -> Float[Array, "h w c"]:
    """Add up what every patch pastes onto the positions around it: the one at p − d its offset d onto p."""
    r = k // 2
    h, w = patches.shape[:2]
    padded = jnp.pad(patches, ((r, r), (r, r), (0, 0), (0, 0)))
    starts = [(2 * r - dy, 2 * r - dx) for dy in range(k) for dx in range(k)]
    pasted = (padded[y : y + h, x : x + w, n] for n, (y, x) in enumerate(starts))
    return sum(pasted, start=jnp.zeros_like(patches[:, :, 0]))
