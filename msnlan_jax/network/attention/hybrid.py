"""Patch attention for matrix units: patches unfolded into the inner dimension of products, or rows box-filtered.

On accelerators the arithmetic that unfolding repeats can be cheaper than passes over the L×L' matrix, L = HW queries
and L' = H'W' keys. Scores are one product with the inner dimension k²·d, because D_k (SPEC.md §1) would have to pass
over them in float32. Everywhere else the columns of patches are unfolded, and D_k's half along rows filters the
matrix, in the inputs' dtype: once forward, three times in the gradient. The gradient is written out, and what is kept
for it is the matrix of exponentials.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from msnlan_jax.network.attention.box import SMALLEST_WEIGHT
from msnlan_jax.network.attention.operands import Operands


class _Kept(NamedTuple):
    """What the gradient needs besides the operands.

    Attributes:
        exponentials: of scores less the query's largest, in the dtype of the inputs.
        largest: score of every query.
        share: of every query's exponentials that is its weight.
    """

    exponentials: Float[Array, "l lk"]
    largest: Float[Array, "l 1"]
    share: Float[Array, "l 1"]


def attend(operands: Operands, kernel_size: int, precision: str, *, at_once: int = 1) -> Float[Array, "b h w c"]:
    """Attend, `at_once` images at a time, a divisor of B: TPU compilers run out of fast memory on more than one."""

    def run(image: Operands) -> Array:
        return _attend(image, kernel_size, precision)

    output: Array
    if at_once == 1:
        output = jax.lax.map(run, operands)
    elif at_once == len(operands.query):
        output = jax.vmap(run)(operands)
    else:
        parts = jax.tree.map(lambda x: x.reshape(-1, at_once, *x.shape[1:]), operands)
        output = jax.lax.map(jax.vmap(run), parts).reshape(-1, *operands.query.shape[1:3], operands.value.shape[-1])
    return output


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _attend(image: Operands, k: int, precision: str) -> Float[Array, "h w c"]:
    """Attend within one image; float32 result. The L×L' matrix is stored in the dtype of the inputs."""
    return _forward(image, k, precision)[0]


def _forward(image: Operands, k: int, precision: str) -> tuple[Array, tuple[Operands, _Kept]]:
    with jax.default_matmul_precision(precision):
        output, kept = _output(image, k)
    return output, (image, kept)


def _backward(k: int, precision: str, residuals: tuple[Operands, _Kept], cotangent: Array) -> tuple[Operands]:
    # Gradients are traced when the caller's precision is no longer in force.
    with jax.default_matmul_precision(precision):
        return (_gradients(*residuals, cotangent, k),)


_attend.defvjp(_forward, _backward)


def _output(image: Operands, k: int) -> tuple[Float[Array, "h w c"], _Kept]:
    query, key, value, gain, bias, presence = image
    (h, w), wk, dtype = query.shape[:2], key.shape[1], query.dtype
    key_patches = (_unfold(_flat(key), wk, k) * gain.ravel()).astype(dtype)
    scores = _dot(_unfold(_flat(query), w, k), key_patches, (0, 0)) + bias.ravel()
    largest = jnp.max(scores, axis=1, keepdims=True)
    exponentials = jnp.exp(scores - largest).astype(dtype)
    # A product with ones, because a reduction would be a second pass that computes the exponentials again.
    total = _dot(exponentials, jnp.ones((scores.shape[1], 8), dtype), (1, 0))[:, :1]
    share = presence.reshape(-1, 1) / total
    weights = _filter_rows(exponentials, w, wk, k, row_scale=share)
    pasted = _dot(_unfold_columns(_flat(value), wk, k), weights, (1, 1), dtype)
    return _picture(_fold_columns(pasted, w, k), h), _Kept(exponentials, largest, share)


def _gradients(image: Operands, kept: _Kept, cotangent: Float[Array, "h w c"], k: int) -> Operands:
    """Return the gradient with respect to every operand."""
    query, key, value, gain, bias, presence = image
    (h, w), (hk, wk), dtype = query.shape[:2], key.shape[:2], query.dtype
    exponentials = kept.exponentials.astype(jnp.float32)
    d_pasted = _unfold_columns(_flat(cotangent.astype(dtype)), w, k)
    filtered = _filter_rows(kept.exponentials, w, wk, k, row_scale=kept.share)
    d_value = _fold_columns(_dot(d_pasted, filtered, (1, 0), dtype), wk, k)
    d_filtered = _dot(d_pasted, _unfold_columns(_flat(value), wk, k), (0, 0), dtype)
    d_weights = _filter_rows(d_filtered, w, wk, k).astype(jnp.float32)
    weights = exponentials * kept.share
    mean = jnp.sum(weights * d_weights, axis=1, keepdims=True)
    d_scores = weights * (d_weights - mean)
    # Scores less their bias, as their exponentials tell; where these have vanished, so has the gradient.
    products = jnp.log(jnp.maximum(exponentials, SMALLEST_WEIGHT)) + kept.largest - bias.ravel()
    d_gain = jnp.sum(d_scores * products, axis=0) / gain.ravel()
    d_products = _filter_rows((d_scores * gain.ravel()).astype(dtype), w, wk, k)
    d_query = _fold_columns(_dot(_unfold_columns(_flat(key), wk, k), d_products, (1, 1), dtype), w, k)
    d_key = _fold_columns(_dot(_unfold_columns(_flat(query), w, k), d_products, (1, 0), dtype), wk, k)
    return Operands(
        query=_picture(d_query, h).astype(dtype),
        key=_picture(d_key, hk).astype(dtype),
        value=_picture(d_value, hk).astype(value.dtype),
        gain=d_gain.reshape(hk, wk),
        bias=jnp.zeros_like(bias),
        presence=jnp.zeros_like(presence),
    )


def _dot(a: Array, b: Array, axes: tuple[int, int], dtype: DTypeLike = jnp.float32) -> Array:
    product = jax.lax.dot_general(a, b, (((axes[0],), (axes[1],)), ((), ())), preferred_element_type=jnp.float32)
    return product.astype(dtype)


def _flat(x: Float[Array, "h w c"]) -> Float[Array, "c hw"]:
    """Features first, pixels in a row: where every shift of a picture is one of the row, and features are stacked."""
    return x.reshape(-1, x.shape[2]).T


def _picture(x: Float[Array, "c hw"], h: int) -> Float[Array, "h w c"]:
    return x.T.reshape(h, -1, x.shape[0])


def _shift(x: Float[Array, "c n"], d: int) -> Float[Array, "c n"]:
    """`x[:, i + d]` at i, zero beyond the ends."""
    n = x.shape[1]
    return jnp.pad(x, ((0, 0), (max(-d, 0), max(d, 0))))[:, max(d, 0) : max(d, 0) + n]


def _windows(x: Float[Array, "c n"], k: int, step: int) -> list[Float[Array, "c n"]]:
    """The row at k offsets, `step` apart and centred, zero beyond the ends. Padded once: compilers for TPUs would copy
    every piece that had a padding of its own."""
    n, reach = x.shape[1], k // 2 * step
    padded = jnp.pad(x, ((0, 0), (reach, reach)))
    return [padded[:, o * step : o * step + n] for o in range(k)]


def _within(x: Float[Array, "c hw"], w: int, dx: int) -> Float[Array, "c hw"]:
    """Zero where the pixel dx to the right would be in another row."""
    column = jnp.arange(x.shape[1]) % w + dx
    return jnp.where((column >= 0) & (column < w), x, 0)


def _unfold_columns(x: Float[Array, "c hw"], w: int, k: int) -> Float[Array, "kc hw"]:
    """Stack the k zero-padded neighbours along dx, of a picture w wide."""
    return jnp.concatenate([_within(window, w, o - k // 2) for o, window in enumerate(_windows(x, k, 1))])


def _unfold(x: Float[Array, "c hw"], w: int, k: int) -> Float[Array, "kkc hw"]:
    """Stack all zero-padded k×k neighbours."""
    return jnp.concatenate(_windows(_unfold_columns(x, w, k), k, w))


def _fold_columns(x: Float[Array, "kc hw"], w: int, k: int) -> Float[Array, "c hw"]:
    """Add every one of k horizontal neighbours where it belongs: the transpose of `_unfold_columns`, in float32."""
    parts = jnp.split(x.astype(jnp.float32), k)
    return functools.reduce(jnp.add, (_shift(_within(part, w, o - k // 2), k // 2 - o) for o, part in enumerate(parts)))


def _filter_rows(
    x: Float[Array, "l lk"], w: int, wk: int, k: int, row_scale: Float[Array, "l 1"] | None = None
) -> Float[Array, "l lk"]:
    """Sum along dy of the diagonal box, of `x · row_scale`; in a flat matrix a row of pixels is a shift."""
    r, (n, nk) = k // 2, x.shape
    padded = jnp.pad(x, ((r * w, r * w), (r * wk, r * wk)))
    scale = None if row_scale is None else jnp.pad(row_scale, ((r * w, r * w), (0, 0)))

    def shifted(o: int) -> Array:
        part = padded[o * w : o * w + n, o * wk : o * wk + nk].astype(jnp.float32)
        return part if scale is None else part * scale[o * w : o * w + n]

    return functools.reduce(jnp.add, map(shifted, range(k))).astype(x.dtype)
