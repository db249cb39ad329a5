"""Patch attention for matrix units: patches of queries and keys unfolded, the vertical offsets of values box-filtered.

On accelerators the arithmetic that unfolding repeats is cheaper than passes over the L×L' matrix, L = HW queries and
L' = H'W' keys. Scores are therefore one product with the inner dimension k²·d, and of D_k (SPEC.md §1) only the half
along dy is left, once forward and once in the gradient, between products with the values unfolded along dx. The
gradient is written out, and what is kept for it is the matrix of exponentials, in the inputs' dtype.
"""

import functools

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Residuals = tuple[Array, ...]


def hybrid(
    query: Array, key: Array, value: Array, gain: Array, bias: Array, presence: Array, k: int, precision: str
) -> Float[Array, "b h w c"]:
    """Attend, one image at a time: TPU compilers run out of fast memory on more. Arguments as in `patch_attention`."""
    return jax.lax.map(lambda image: _attend(*image, k, precision), (query, key, value, gain, bias, presence))


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def _attend(
    query: Float[Array, "h w d"],
    key: Float[Array, "hk wk d"],
    value: Float[Array, "hk wk c"],
    gain: Float[Array, "hk wk"],
    bias: Float[Array, "hk wk"],
    presence: Float[Array, "h w"],
    k: int,
    precision: str,
) -> Float[Array, "h w c"]:
    """Attend within one image; float32 result. The L×L' matrix is stored in the dtype of the inputs."""
    return _forward(query, key, value, gain, bias, presence, k, precision)[0]


def _forward(
    query: Array, key: Array, value: Array, gain: Array, bias: Array, presence: Array, k: int, precision: str
) -> tuple[Array, Residuals]:
    with jax.default_matmul_precision(precision):
        return _outputs(query, key, value, gain, bias, presence, k)


def _backward(k: int, precision: str, residuals: Residuals, cotangent: Array) -> tuple[Array, ...]:
    # Gradients are traced when the caller's precision is no longer in force.
    with jax.default_matmul_precision(precision):
        return _gradients(k, residuals, cotangent)


_attend.defvjp(_forward, _backward)


def _outputs(
    query: Array, key: Array, value: Array, gain: Array, bias: Array, presence: Array, k: int
) -> tuple[Array, Residuals]:
    (h, w), dtype = query.shape[:2], query.dtype
    key_patches = (_unfold(key, k) * gain.reshape(-1, 1)).astype(dtype)
    scores = _dot(_unfold(query, k), key_patches, (1, 1)) + bias.reshape(1, -1)
    exponentials = jnp.exp(scores - jnp.max(scores, axis=1, keepdims=True)).astype(dtype)
    # A product with ones, because a reduction would be a second pass that computes the exponentials again.
    total = _dot(exponentials, jnp.ones((scores.shape[1], 8), dtype), (1, 0))[:, :1]
    share = presence.reshape(-1, 1) / total
    weights = _box_rows(exponentials, h, w, key.shape[0], key.shape[1], k, row_scale=share)
    pasted = _dot(weights, _unfold_columns(value, k), (1, 0), dtype)
    return _fold_columns(pasted.reshape(h, w, -1), k), (query, key, value, gain, exponentials, share)


def _gradients(k: int, residuals: Residuals, cotangent: Array) -> tuple[Array, ...]:
    query, key, value, gain, exponentials, share = residuals
    (h, w), (hk, wk), dtype = query.shape[:2], key.shape[:2], query.dtype
    weights = exponentials.astype(jnp.float32) * share
    cotangent = cotangent.astype(dtype)
    d_pasted = _unfold_columns(cotangent, k)
    boxed = _box_rows(exponentials, h, w, hk, wk, k, row_scale=share)
    d_value = _fold_columns(_dot(boxed, d_pasted, (0, 0), dtype).reshape(hk, wk, -1), k)
    d_boxed = _dot(d_pasted, _unfold_columns(value, k), (1, 1), dtype)
    d_weights = _box_rows(d_boxed, h, w, hk, wk, k).astype(jnp.float32)
    mean = jnp.sum(weights * d_weights, axis=1, keepdims=True)
    d_scores = (weights * (d_weights - mean)).astype(dtype)
    # Scores are ⟨query patch, key patch⟩ · gain; the gain's gradient needs L'·k²·d numbers, not L·L'.
    key_patches = _unfold(key, k)
    scaled = (key_patches * gain.reshape(-1, 1)).astype(dtype)
    d_query = _fold(_dot(d_scores, scaled, (1, 0), dtype).reshape(h, w, -1), k)
    d_patches = _dot(d_scores, _unfold(query, k), (0, 0))
    d_gain = jnp.sum(d_patches * key_patches, axis=1).reshape(hk, wk)
    d_key = _fold((d_patches * gain.reshape(-1, 1)).astype(dtype).reshape(hk, wk, -1), k)
    d_bias, d_presence = jnp.zeros((hk, wk)), jnp.zeros((h, w))
    return d_query.astype(dtype), d_key.astype(dtype), d_value.astype(value.dtype), d_gain, d_bias, d_presence


def _dot(a: Array, b: Array, axes: tuple[int, int], dtype: DTypeLike = jnp.float32) -> Array:
    product = jax.lax.dot_general(a, b, (((axes[0],), (axes[1],)), ((), ())), preferred_element_type=jnp.float32)
    return product.astype(dtype)


def _unfold_columns(x: Float[Array, "h w c"], k: int) -> Float[Array, "hw kc"]:
    """Concatenate the k zero-padded neighbours along dx."""
    h, w = x.shape[:2]
    padded = jnp.pad(x, ((0, 0), (k // 2, k // 2), (0, 0)))
    return jnp.concatenate([padded[:, o : o + w] for o in range(k)], axis=2).reshape(h * w, -1)


def _unfold(x: Float[Array, "h w c"], k: int) -> Float[Array, "hw kkc"]:
    """All zero-padded k×k patches. Along dy whole rows of the dx-unfolded picture shift, which stay aligned."""
    h, w = x.shape[:2]
    columns = jnp.pad(_unfold_columns(x, k).reshape(h, w, -1), ((k // 2, k // 2), (0, 0), (0, 0)))
    return jnp.concatenate([columns[o : o + h] for o in range(k)], axis=2).reshape(h * w, -1)


def _fold_columns(x: Float[Array, "h w kc"], k: int) -> Float[Array, "h w c"]:
    """Add every one of k horizontal neighbours where it belongs: the transpose of `_unfold_columns`, in float32."""
    w, c = x.shape[1], x.shape[2] // k
    padded = jnp.pad(x, ((0, 0), (k // 2, k // 2), (0, 0))).astype(jnp.float32)
    return sum(
        (padded[:, k - 1 - o : k - 1 - o + w, o * c : (o + 1) * c] for o in range(1, k)),
        start=padded[:, k - 1 : k - 1 + w, :c],
    )


def _fold(x: Float[Array, "h w kkc"], k: int) -> Float[Array, "h w c"]:
    """Transpose of `_unfold`, in float32."""
    h, c = x.shape[0], x.shape[2] // k
    padded = jnp.pad(x, ((k // 2, k // 2), (0, 0), (0, 0))).astype(jnp.float32)
    rows = sum(
        (padded[k - 1 - o : k - 1 - o + h, :, o * c : (o + 1) * c] for o in range(1, k)),
        start=padded[k - 1 : k - 1 + h, :, :c],
    )
    return _fold_columns(rows, k)


def _box_rows(
    x: Float[Array, "l lk"], h: int, w: int, hk: int, wk: int, k: int, row_scale: Float[Array, "l 1"] | None = None
) -> Float[Array, "l lk"]:
    """Sum along dy of the diagonal box, of `x · row_scale`; in a flat matrix a row of pixels is a shift."""
    r = k // 2
    padded = jnp.pad(x, ((r * w, r * w), (r * wk, r * wk)))
    scale = None if row_scale is None else jnp.pad(row_scale, ((r * w, r * w), (0, 0)))

    def shifted(o: int) -> Array:
        part = padded[o * w : (o + h) * w, o * wk : (o + hk) * wk].astype(jnp.float32)
        return part if scale is None else part * scale[o * w : (o + h) * w]

    return sum((shifted(o) for o in range(1, k)), start=shifted(0)).astype(x.dtype)
