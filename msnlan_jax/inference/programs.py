"""Compiled programs for pictures: a few, shared by pictures of similar sizes."""

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from msnlan_jax.network import MSNLAN, parameters
from msnlan_jax.runtime import compiler_options

# The released chop: how far a corner reaches beyond the half, and below how many pixels it is not cut again.
_CHOP_SHAVE = 10
_CHOP_LIMIT, _CHOP_LIMIT_X4 = 4000, 3600
# Arrays in which the chop's tiles are run, by scale, smallest first. Pictures of the common sizes, 481×321 or 512×512,
# are cut into tiles that fill the first two almost or the third; the last holds any tile below the chop's limit that is
# not very long. Larger steps would waste attention, which costs with the square of the area.
CHOP_ARRAYS = {
    2: ((40, 56), (56, 40), (56, 56), (72, 72)),
    3: ((48, 64), (64, 48), (64, 64), (72, 72)),
    4: ((40, 48), (48, 40), (56, 56), (72, 72)),
}
# An array of the chop's this many times as large as need be is taken rather than another.
_REUSE_CHOP = 2.0
# A program for an array this many times as large is taken rather than compiling another.
_REUSE = 1.35
# Array sizes for which there are programs, by network and batch size.
_ARRAYS: dict[tuple[nnx.GraphDef, int], list[tuple[int, int]]] = {}
# Programs compiled, by kind of network.
_COMPILED: collections.Counter[type] = collections.Counter()

Batch = Float[np.ndarray, "_b _h _w 3"]
Forward = Callable[[Batch], Batch]
ArraySize = tuple[int, int]


def reconfigured(model: MSNLAN, **changes: Any) -> MSNLAN:
    """Return a network of the same parameters that computes in another way, itself where nothing changes."""
    compute = dataclasses.replace(model.compute, **changes)
    return model if compute == model.compute else parameters.to_model(model.config, parameters.split(model)[1], compute)


def make_forward(model: nnx.Module, arrays: Sequence[ArraySize] = ()) -> Forward:
    """Return a model as a compiled function of NumPy batches; equal models and shapes share a compilation.

    MSNLAN runs pictures of similar sizes in one program: they are padded to the next of a few sizes, without changing
    the result.

    Args:
        model: the network.
        arrays: sizes to pad to before others, smallest first.
    """
    graph, values = parameters.split(model)
    apply = _compiled()

    def forward(batch: Batch) -> Batch:
        if not isinstance(model, MSNLAN):
            return np.asarray(apply(graph, values, batch))
        n, h, w = batch.shape[:3]
        array_h, array_w = padded_size(graph, n, h, w, arrays)
        padded = np.pad(batch, ((0, 0), (0, array_h - h), (0, array_w - w), (0, 0)))
        sizes = np.broadcast_to(np.array([h, w], np.int32), (n, 2))
        return np.asarray(apply(graph, values, padded, sizes))[:, : h * model.scale, : w * model.scale]

    return forward


def padded_size(graph: nnx.GraphDef, n: int, h: int, w: int, arrays: Sequence[ArraySize] = ()) -> ArraySize:
    """Return the size of the arrays in which a batch of n pictures of h×w pixels is run."""
    return _array_size(arrays, _ARRAYS.setdefault((graph, n), []), h, w)


def _array_size(ready: Sequence[ArraySize], made: list[ArraySize], h: int, w: int) -> ArraySize:
    """Return the size of the array in which to run h×w pixels: one of those `ready`, else of those `made`, if it is not
    much too large; else the next bucket, which is then `made` too."""
    own = bucket(h), bucket(w)
    if not (sizes := _fitting(ready, h, w, _REUSE_CHOP) or _fitting(made, h, w, _REUSE)):
        made.append(own)
    return min(sizes, key=math.prod, default=own)


def largest_array(h: int, w: int, arrays: Sequence[ArraySize] = ()) -> ArraySize:
    """Return the largest array in which h×w LR pixels may be run, as things are: which programs there are for a network
    depends on how it is configured, so those of all count."""
    if ready := _fitting(arrays, h, w, _REUSE_CHOP):
        return min(ready, key=math.prod)
    made = _fitting(list(itertools.chain(*_ARRAYS.values())), h, w, _REUSE)
    return max([*made, (bucket(h), bucket(w))], key=math.prod)


def _fitting(sizes: Sequence[ArraySize], h: int, w: int, reuse: float) -> list[ArraySize]:
    """Return those of the sizes that hold h×w pixels and are not much too large."""
    most = reuse * bucket(h) * bucket(w)
    return [size for size in sizes if size[0] >= h and size[1] >= w and math.prod(size) <= most]


def chop_levels(h: int, w: int, scale: int) -> list[tuple[int, int]]:
    """Return the sizes of the corners into which the chop cuts h×w LR pixels, each of these, and so on; none where
    these are too few, and run whole, on which the released code breaks."""
    # The geometry, quirks included: a size already divisible by the scale still grows by the scale.
    tile_h, tile_w = (side // 2 + _CHOP_SHAVE for side in (h, w))
    tile_h, tile_w = tile_h + scale - tile_h % scale, tile_w + scale - tile_w % scale
    if tile_h > h or tile_w > w:
        return []
    limit = _CHOP_LIMIT_X4 if scale == 4 else _CHOP_LIMIT
    further = [] if tile_h * tile_w < limit else chop_levels(tile_h, tile_w, scale)
    return [(tile_h, tile_w), *further]


def bucket(size: int) -> int:
    """Return the side to which a picture's side is padded: a multiple of 16, above 256 at most an eighth more; of
    thin pictures 4 or 8, because the other side may be long."""
    step = max(16 if size > 8 else 4, 2 ** ((size - 1).bit_length() - 4))
    return -(-size // step) * step


def compilations(kind: type = MSNLAN) -> int:
    """How many programs this process has compiled for pictures so far, for networks of one kind."""
    return _COMPILED[kind]


@functools.cache
def _compiled() -> Callable[..., Array]:
    """Made at the first use, because it asks for the backend, which must not be chosen on import."""
    return jax.jit(_apply, static_argnums=0, compiler_options=compiler_options())


def _apply(graph: nnx.GraphDef, values: parameters.Parameters, *arguments: Array) -> Array:
    model = parameters.merge(graph, values)
    _COMPILED[type(model)] += 1  # once for each program, when it is traced
    return model(*arguments)  # type: ignore[operator]
