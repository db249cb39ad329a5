"""The diagonal box filter D_k of a matrix of all pairs, (D_k P)(i,j) = Σ_{d in k×k} P(i+d, j+d) (SPEC.md §1).

It is separable in rows and columns, and its own transpose, so that its gradient is itself.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Of all pairs of positions on two grids.
Matrix = Float[Array, "h w hk wk"]


def pad_rows(x: Matrix, k: int) -> Float[Array, "l lk"]:
    """Flatten both grids, with as many rows of zeros around each as a patch reaches beyond it."""
    h, w, hk, wk = x.shape
    r = _reach(k, h, hk)
    return jnp.pad(x.reshape(h * w, hk * wk), ((r * w, r * w), (r * wk, r * wk)))


def filter_padded_rows(padded: Float[Array, "l lk"], shape: tuple[Any, ...], k: int) -> Matrix:
    """Σ over dy of `x[y + dy, :, y' + dy, :]`, zero outside the grids: D_k's half along rows, of `pad_rows(x, k)`.

    Padded beforehand: with a padding for every term, XLA for CPU would ask of every value whether it is there.
    """
    h, w, hk, wk = shape
    rows = range(2 * _reach(k, h, hk) + 1)
    terms = (jax.lax.slice(padded, (d * w, d * wk), (d * w + h * w, d * wk + hk * wk)) for d in rows)
    return functools.reduce(jnp.add, terms).reshape(shape)


def filter_columns(x: Matrix, k: int) -> Matrix:
    """Σ over dx of `x[:, x + dx, :, x' + dx]`, zero outside the grids: D_k's half along columns."""
    total = x
    w, wk = x.shape[1], x.shape[3]
    for d in range(1, _reach(k, w, wk) + 1):
        total += jnp.pad(x[:, d:, :, d:], ((0, 0), (0, d), (0, 0), (0, d)))
        total += jnp.pad(x[:, : w - d, :, : wk - d], ((0, 0), (d, 0), (0, 0), (d, 0)))
    return total


def unfused(f: Callable[[Array], Array], x: Array, given: Array) -> Array:
    """Return `f(x)`, computed from an `x` that is in memory, and put into memory.

    XLA for CPU would fuse chains of shifted sums, and evaluate the inner sum anew for every term of the outer one.
    It fuses nothing into a branch of a condition, nor out of it. The condition here never holds, which the compiler
    cannot know: that a number overflows, the first of `given`, any array that there is anyway.
    """
    result: Array
    if jax.default_backend() == "cpu":
        overflows = given.ravel()[0].astype(jnp.float32) > 3e38
        result = jax.lax.cond(overflows, lambda x: jnp.full_like(f(x), jnp.nan), f, x)
    else:
        result = jax.lax.optimization_barrier(f(x))
    return result


def _reach(k: int, *sizes: Any) -> int:
    """How far a patch reaches within grids of these sizes; free sizes, of an exported program, are taken as large."""
    return min([k // 2] + [size - 1 for size in sizes if isinstance(size, int)])
