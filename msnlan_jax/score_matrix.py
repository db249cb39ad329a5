"""Patch attention on the whole score matrix of one image at a time, with a gradient of its own: the form for CPU.

    out = D(softmax(D(q rᵀ) · gain + bias)) · v

with D = D_k, the diagonal box filter, separable in rows and columns and its own transpose. The gradient keeps
two matrices where they fit and computes them anew where not, instead of keeping every one on the way.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# A batch's scores (in bfloat16, attention weights) and what D_k makes of the weights are kept for the gradient up to so
# many bytes.
KEPT_BYTES = 2 * 2**30
# Score of a position that is not there. Finite, so that a softmax over nothing else is no NaN.
NOWHERE = -1e30
# A little above the smallest float32 that has all its digits: less has no logarithm worth having.
SMALLEST_WEIGHT = 1e-37

Matrix = Float[Array, "h w hk wk"]
Kept = tuple[Array, Array, Array, Array]


def box(
    query: Array, key: Array, value: Array, gain: Array, bias: Array, presence: Array, k: int, precision: str
) -> Float[Array, "b h w c"]:
    """Attend; arguments as in `patch_attention`."""
    return _attend(query, key, value, gain, bias, presence, k, precision)


def unfold_axis(x: Float[Array, "b h w c"], k: int, axis: int) -> Float[Array, "b h w kc"]:
    """Put beside each position's features those of the k positions around it along one axis, zero beyond the grid."""
    r, size = k // 2, x.shape[axis]
    padded = jnp.pad(x, [(r, r) if a == axis else (0, 0) for a in range(4)])
    return jnp.concatenate([jax.lax.slice_in_dim(padded, o, o + size, axis=axis) for o in range(k)], axis=-1)


def fold_axis(x: Float[Array, "b h w kc"], k: int, axis: int) -> Float[Array, "b h w c"]:
    """Add what each position holds for the k positions around it: the transpose of `unfold_axis`."""
    r, size = k // 2, x.shape[axis]
    parts = jnp.split(x, k, axis=-1)
    widths = [[(o, k - 1 - o) if a == axis else (0, 0) for a in range(4)] for o in range(k)]
    total = sum((jnp.pad(p, w) for p, w in zip(parts[1:], widths[1:], strict=True)), start=jnp.pad(parts[0], widths[0]))
    return jax.lax.slice_in_dim(total, r, r + size, axis=axis)


def pad_rows(x: Matrix, k: int) -> Float[Array, "l lk"]:
    """Flatten both grids, with as many zero rows of pixels around each as a patch reaches beyond it."""
    h, w, hk, wk = x.shape
    r = _reach(k, h, hk)
    return jnp.pad(x.reshape(h * w, hk * wk), ((r * w, r * w), (r * wk, r * wk)))


def sum_rows(padded: Float[Array, "l lk"], shape: tuple[Any, ...], k: int) -> Matrix:
    """Σ over dy of `x[y + dy, :, y' + dy, :]`, zero outside the grids: D_k's part along rows, of `pad_rows(x, k)`.

    Padded once, before: with a padding for every term, XLA for CPU would ask of every value whether it is there.
    """
    h, w, hk, wk = shape
    rows = range(2 * _reach(k, h, hk) + 1)
    parts = (jax.lax.slice(padded, (d * w, d * wk), (d * w + h * w, d * wk + hk * wk)) for d in rows)
    return functools.reduce(jnp.add, parts).reshape(shape)


def shift_columns(x: Matrix, k: int) -> Matrix:
    """Σ over dx of `x[:, x + dx, :, x' + dx]`, zero outside the grids: D_k's part along columns."""
    total = x
    w, wk = x.shape[1], x.shape[3]
    for d in range(1, _reach(k, w, wk) + 1):
        total += jnp.pad(x[:, d:, :, d:], ((0, 0), (0, d), (0, 0), (0, d)))
        total += jnp.pad(x[:, : w - d, :, : wk - d], ((0, 0), (d, 0), (0, 0), (d, 0)))
    return total


def _reach(k: int, *sizes: Any) -> int:
    """How far a patch reaches within grids of these sizes; free sizes, of an exported program, are taken as large."""
    return min([k // 2] + [size - 1 for size in sizes if isinstance(size, int)])


def apart(f: Callable[[Array], Array], x: Array, never: Array) -> Array:
    """Return `f(x)`, computed on its own.

    XLA for CPU would fuse chains of shifted sums, and evaluate the inner sum anew for every term of the outer one.
    Nothing is fused across a condition; this one's is false.
    """
    if jax.default_backend() != "cpu":
        return jax.lax.optimization_barrier(f(x))
    return jax.lax.cond(never, lambda x: jnp.full_like(f(x), jnp.nan), f, x)


def impossible(query: Array) -> Array:
    """A condition that is never true, and that the compiler cannot know."""
    return query.ravel()[0].astype(jnp.float32) > 3e38


def _filter(x: Matrix, k: int, never: Array) -> Matrix:
    """D_k of a matrix, in float32."""
    padded = apart(lambda y: pad_rows(shift_columns(y, k), k), x.astype(jnp.float32), never)
    return apart(lambda y: sum_rows(y, x.shape, k), padded, never)


def _sum(x: Matrix, axes: tuple[int, int], never: Array) -> Array:
    """Sum over two axes, one after the other: one long sum in float32 would lose digits that gradients need."""
    return apart(lambda y: jnp.sum(y, axis=axes[0], keepdims=True), jnp.sum(x, axis=axes[1], keepdims=True), never)


def _products(
    a: Float[Array, "h w d"],
    b: Float[Array, "hk wk d"],
    k: int,
    never: Array,
    finish: Callable[[Matrix], Matrix] = lambda products: products,
) -> Matrix:
    """D_k of the products of all pairs, and what `finish` makes of it."""
    products = jnp.einsum("hwd,xyd->hwxy", a, b, preferred_element_type=jnp.float32)
    padded = apart(lambda y: pad_rows(shift_columns(y, k), k), products, never)
    return apart(lambda y: finish(sum_rows(y, products.shape, k)), padded, never)


def _scores(query: Array, key: Array, gain: Array, bias: Array, k: int) -> tuple[Matrix, Array, Array]:
    """Return one image's scores, and the largest and the sum of the exponentials of every query."""
    # Rounded here, once: weights would not sum to 1 if the sum and they themselves saw differently rounded scores.
    scores = _products(query, key, k, impossible(query), lambda products: products * gain + bias)
    largest = jnp.max(scores, axis=(2, 3), keepdims=True)
    return scores, largest, _sum(jnp.exp(scores - largest), (2, 3), impossible(query))


def _weights(scores: Matrix, largest: Array, total: Array, presence: Array) -> Matrix:
    return jnp.exp(scores - largest) * (presence[:, :, None, None] / total)


def _pasted(weights: Matrix, value: Array, k: int) -> Matrix:
    """D_k of the weights, by which values are summed."""
    return _filter(weights, k, impossible(value)).astype(value.dtype)


def _to_queries(matrix: Matrix, features: Float[Array, "hk wk c"]) -> Float[Array, "h w c"]:
    """Sum the features of keys into queries."""
    return jnp.einsum("hwxy,xyc->hwc", matrix, features, preferred_element_type=jnp.float32)


def _to_keys(matrix: Matrix, features: Float[Array, "h w c"]) -> Float[Array, "hk wk c"]:
    """Sum the features of queries into keys; written with features first, which is about twice as fast on CPU."""
    summed = jnp.einsum("chw,hwxy->cxy", features.transpose(2, 0, 1), matrix, preferred_element_type=jnp.float32)
    return summed.transpose(1, 2, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def _attend(
    query: Float[Array, "b h w d"],
    key: Float[Array, "b hk wk d"],
    value: Float[Array, "b hk wk c"],
    gain: Float[Array, "b hk wk"],
    bias: Float[Array, "b hk wk"],
    presence: Float[Array, "b h w"],
    k: int,
    precision: str,
) -> Float[Array, "b h w c"]:
    def attend(image: tuple[Array, ...]) -> Array:
        query, key, value, gain, bias, presence = image
        weights = _weights(*_scores(query, key, gain, bias, k), presence)
        return _to_queries(_pasted(weights.astype(query.dtype), value, k), value)

    # One image at a time: its matrices stay in cache, and TPU compilers run out of fast memory on a batch of them.
    with jax.default_matmul_precision(precision):
        return jax.lax.map(attend, (query, key, value, gain, bias, presence))


def _attend_forward(query, key, value, gain, bias, presence, k, precision):  # type: ignore[no-untyped-def]
    inputs = (query, key, value, gain, bias, presence)
    scores = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[1] * key.shape[2]
    if 2 * scores * query.dtype.itemsize > KEPT_BYTES:
        return _attend(*inputs, k, precision), (inputs, None)

    def attend(image: tuple[Array, ...]) -> tuple[Array, Kept]:
        query, key, value, gain, bias, presence = image
        scores, largest, total = _scores(query, key, gain, bias, k)
        weights = _weights(scores, largest, total, presence).astype(query.dtype)
        pasted = _pasted(weights, value, k)
        # Scores in float32, from which weights follow exactly; of those to be stored in 16 bits, the weights.
        kept = scores if weights.dtype == jnp.float32 else weights
        return _to_queries(pasted, value), (kept, largest, total, pasted)

    with jax.default_matmul_precision(precision):
        output, kept = jax.lax.map(attend, inputs)
    return output, (inputs, kept)


def _attend_backward(k, precision, residuals, cotangent):  # type: ignore[no-untyped-def]
    inputs, kept = residuals

    def gradients(image: tuple[tuple[Array, ...], Kept | None, Array]) -> tuple[Array, ...]:
        (query, key, value, gain, bias, presence), kept, cotangent = image
        never = impossible(query)
        matrix, largest, total, pasted = kept or (*_scores(query, key, gain, bias, k), None)
        if matrix.dtype == jnp.float32:
            scores, weights = matrix, _weights(matrix, largest, total, presence)
        else:
            # Where weights have vanished, so has the gradient.
            weights = matrix.astype(jnp.float32)
            scores = jnp.log(jnp.maximum(weights, SMALLEST_WEIGHT) * total) + largest
        given = cotangent.astype(value.dtype)
        d_weights = _products(given, value, k, never)
        d_scores = weights * (d_weights - _sum(weights * d_weights, (2, 3), never))
        d_gain = _sum(d_scores * (scores - bias), (0, 1), never)[0, 0] / gain
        d_products = _filter(d_scores * gain, k, never).astype(query.dtype)
        if pasted is None:
            pasted = _pasted(weights, value, k)
        return (
            _to_queries(d_products, key).astype(query.dtype),
            _to_keys(d_products, query).astype(key.dtype),
            _to_keys(pasted, given).astype(value.dtype),
            d_gain,
        )

    # Gradients are traced when the caller's precision is no longer in force.
    with jax.default_matmul_precision(precision):
        d_query, d_key, d_value, d_gain = jax.lax.map(gradients, (inputs, kept, cotangent))
    return d_query, d_key, d_value, d_gain, jnp.zeros_like(d_gain), jnp.zeros_like(inputs[-1])


_attend.defvjp(_attend_forward, _attend_backward)
