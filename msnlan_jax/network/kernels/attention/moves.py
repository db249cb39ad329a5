"""Inside a kernel: features put beside those of their neighbours along a row, and added back to where they belong."""

import functools
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array

from msnlan_jax.network.kernels.attention.layout import Layout
from msnlan_jax.network.kernels.chip import LANES

# A reference to memory, or part of one.
Ref = Any
# A place along a dimension, known beforehand or not.
Index = Array | int


def unfold_queries(out: Ref, x: Ref, at: Layout) -> None:
    """Put the features `[rows, width, f]` of a block's k neighbours beside each other."""
    f = x.shape[2]

    def unfold_row(i: Array, _: None) -> None:
        features = x[i].astype(jnp.float32)
        for o in range(at.k):
            out[i, :, o * f : (o + 1) * f] = _move(features, at.reach - o, 0, at).astype(out.dtype)

    lax.fori_loop(0, at.rows, unfold_row, None)


def unfold_transposed(out: Ref, x: Ref, at: Layout) -> None:
    """Put the features `[f, queries]` of a block's k neighbours below each other."""
    f, features = x.shape[0], x[...].astype(jnp.float32)
    for o in range(at.k):
        out[o * f : (o + 1) * f] = _move(features, at.reach - o, 1, at).astype(out.dtype)


def fold_queries(out: Ref, x: Ref, at: Layout) -> None:
    """Add the features `[rows, width, kf]` of a block where they belong: the transpose of `unfold_queries`."""
    f = out.shape[2]

    def fold_row(i: Array, _: None) -> None:
        parts = (_move(x[i, :, o * f : (o + 1) * f], o - at.reach, 0, at) for o in range(at.k))
        out[i] = functools.reduce(jnp.add, parts)

    lax.fori_loop(0, at.rows, fold_row, None)


def unfold_keys(out: Ref, x: Ref, at: Layout) -> None:
    """Put the features `[tiles, f, 128]` of k neighbouring keys below each other."""
    f = x.shape[1]

    def unfold_group(g: Array, _: None) -> None:
        features = _read_group(x, g, slice(None), at).astype(jnp.float32)
        for o in range(at.k):
            _write_group(out, g, slice(o * f, (o + 1) * f), _rotate(features, at.reach - o, 1), at)

    lax.fori_loop(0, x.shape[0] // at.parts, unfold_group, None)


def fold_keys(out: Ref, x: Ref, at: Layout) -> None:
    """Add features `[tiles, kf, 128]` where they belong: the transpose of `unfold_keys`."""
    f = out.shape[1]

    def fold_group(g: Array, _: None) -> None:
        features = (_read_group(x, g, slice(o * f, (o + 1) * f), at) for o in range(at.k))
        parts = (_rotate(part, o - at.reach, 1) for o, part in enumerate(features))
        _write_group(out, g, slice(None), functools.reduce(jnp.add, parts), at)

    lax.fori_loop(0, at.groups, fold_group, None)


def _read_group(x: Ref, g: Array, features: slice, at: Layout) -> Array:
    tiles = [x[g * at.parts + i, features] for i in range(at.parts)]
    return tiles[0] if at.parts == 1 else jnp.concatenate(tiles, axis=1)


def _write_group(out: Ref, g: Array, features: slice, x: Array, at: Layout) -> None:
    for i in range(at.parts):
        out[g * at.parts + i, features] = x[:, i * LANES : (i + 1) * LANES].astype(out.dtype)


def _move(x: Array, shift: int, axis: int, at: Layout) -> Array:
    """Take every query's from `shift` queries before it in its row, zero beyond the row."""
    if shift == 0:
        return x
    column = lax.broadcasted_iota(jnp.int32, tuple(n if i == axis else 1 for i, n in enumerate(x.shape)), axis)
    source = lax.rem(column, at.width) - shift
    return jnp.where((source >= 0) & (source < at.width), _rotate(x, shift, axis), 0.0)


def _rotate(x: Array, shift: int, axis: int) -> Array:
    rotated: Array = pltpu.roll(x, shift % x.shape[axis], axis) if shift else x
    return rotated
