"""Patch attention on the whole matrix of one image's scores, with a gradient written out: the form for CPU.

    out = D_k( softmax( D_k(q rᵀ) · gain + bias ) ) · v

The gradient keeps two such matrices of every image where they fit, and where they do not computes them anew.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from msnlan_jax.network.attention.filters import Matrix, filter_columns, filter_padded_rows, pad_rows, unfused
from msnlan_jax.network.attention.operands import Operands

# The two matrices of a batch are kept for the gradient up to so many bytes.
KEPT_BYTES = 2 * 2**30
# A little above the smallest float32 that has all its digits: less has no logarithm worth having.
SMALLEST_WEIGHT = 1e-37


class _Kept(NamedTuple):
    """What the gradient needs besides the operands.

    Attributes:
        matrix: scores in float32, from which weights follow exactly; in 16 bits the weights.
        largest: score of every query.
        total: of every query's exponentials of scores less the largest.
        filtered: D_k of the weights.
    """

    matrix: Matrix
    largest: Float[Array, "h w 1 1"]
    total: Float[Array, "h w 1 1"]
    filtered: Matrix


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def attend(operands: Operands, kernel_size: int, precision: str) -> Float[Array, "b h w c"]:
    """Attend, one image at a time: its matrices stay in cache, and TPU compilers run out of fast memory on more."""
    with jax.default_matmul_precision(precision):
        output: Array = jax.lax.map(lambda image: _attend(image, kernel_size)[0], operands)
    return output


def _forward(operands: Operands, kernel_size: int, precision: str) -> tuple[Array, tuple[Operands, _Kept | None]]:
    (b, h, w), (hk, wk), itemsize = operands.query.shape[:3], operands.key.shape[1:3], operands.query.dtype.itemsize
    if 2 * b * h * w * hk * wk * itemsize > KEPT_BYTES:
        return attend(operands, kernel_size, precision), (operands, None)
    with jax.default_matmul_precision(precision):
        output, kept = jax.lax.map(lambda image: _attend(image, kernel_size), operands)
    return output, (operands, kept)


def _backward(
    kernel_size: int, precision: str, residuals: tuple[Operands, _Kept | None], cotangent: ArrayLike
) -> tuple[Operands]:
    # Gradients are traced when the caller's precision is no longer in force.
    with jax.default_matmul_precision(precision):
        images = (*residuals, cotangent)
        gradients: Operands = jax.lax.map(lambda image: _gradients(kernel_size, *image), images)
    return (gradients,)


attend.defvjp(_forward, _backward)


def _attend(image: Operands, k: int) -> tuple[Float[Array, "h w c"], _Kept]:
    scores, largest, total = _scores(image, k)
    weights = _weights(scores, largest, total, image).astype(image.query.dtype)
    filtered = _filter(weights, k, image.value).astype(image.value.dtype)
    matrix = scores if weights.dtype == jnp.float32 else weights
    return _to_queries(filtered, image.value), _Kept(matrix, largest, total, filtered)


def _gradients(k: int, image: Operands, kept: _Kept | None, cotangent: Float[Array, "h w c"]) -> Operands:
    """Return the gradient with respect to every operand."""
    query, key, value, gain, bias, presence = image
    matrix, largest, total = kept[:3] if kept else _scores(image, k)
    if matrix.dtype == jnp.float32:
        scores, weights = matrix, _weights(matrix, largest, total, image)
    else:
        # Where weights have vanished, so has the gradient.
        weights = matrix.astype(jnp.float32)
        scores = jnp.log(jnp.maximum(weights, SMALLEST_WEIGHT) * total) + largest
    filtered = kept.filtered if kept else _filter(weights, k, value).astype(value.dtype)
    given = cotangent.astype(value.dtype)
    d_weights = _filtered_products(given, value, k)
    d_scores = weights * (d_weights - _sum(weights * d_weights, (2, 3), query))
    d_products = _filter(d_scores * gain, k, query).astype(query.dtype)
    return Operands(
        query=_to_queries(d_products, key).astype(query.dtype),
        key=_to_keys(d_products, query).astype(key.dtype),
        value=_to_keys(filtered, given).astype(value.dtype),
        gain=_sum(d_scores * (scores - bias), (0, 1), query)[0, 0] / gain,
        bias=jnp.zeros_like(bias),
        presence=jnp.zeros_like(presence),
    )


def _scores(image: Operands, k: int) -> tuple[Matrix, Array, Array]:
    """Return scores, and the largest of every query and the total of its exponentials."""
    # Rounded here, once: weights would not sum to 1 if the sum and they themselves saw differently rounded scores.
    scores = _filtered_products(image.query, image.key, k, lambda products: products * image.gain + image.bias)
    largest = jnp.max(scores, axis=(2, 3), keepdims=True)
    return scores, largest, _sum(jnp.exp(scores - largest), (2, 3), image.query)


def _weights(scores: Matrix, largest: Array, total: Array, image: Operands) -> Matrix:
    return jnp.exp(scores - largest) * (image.presence[:, :, None, None] / total)


def _filtered_products(
    a: Float[Array, "h w d"],
    b: Float[Array, "hk wk d"],
    k: int,
    finish: Callable[[Matrix], Matrix] = lambda products: products,
) -> Matrix:
    """D_k of the products of all pairs, and what `finish` makes of it."""
    products = jnp.einsum("hwd,xyd->hwxy", a, b, preferred_element_type=jnp.float32)
    padded = unfused(lambda y: pad_rows(filter_columns(y, k), k), products, a)
    return unfused(lambda y: finish(filter_padded_rows(y, products.shape, k)), padded, a)


def _filter(x: Matrix, k: int, given: Array) -> Matrix:
    """D_k of a matrix, in float32."""
    padded = unfused(lambda y: pad_rows(filter_columns(y, k), k), x.astype(jnp.float32), given)
    return unfused(lambda y: filter_padded_rows(y, x.shape, k), padded, given)


def _sum(x: Matrix, axes: tuple[int, int], given: Array) -> Array:
    """Sum over two axes, one after the other: one long sum in float32 would lose digits that gradients need."""
    return unfused(lambda y: jnp.sum(y, axis=axes[0], keepdims=True), jnp.sum(x, axis=axes[1], keepdims=True), given)


def _to_queries(matrix: Matrix, features: Float[Array, "hk wk c"]) -> Float[Array, "h w c"]:
    """Sum the features of keys into queries."""
    return jnp.einsum("hwxy,xyc->hwc", matrix, features, preferred_element_type=jnp.float32)


def _to_keys(matrix: Matrix, features: Float[Array, "h w c"]) -> Float[Array, "hk wk c"]:
    """Sum the features of queries into keys; written with features first, which is about twice as fast on CPU."""
    summed = jnp.einsum("chw,hwxy->cxy", features.transpose(2, 0, 1), matrix, preferred_element_type=jnp.float32)
    return summed.transpose(1, 2, 0)
