"""Compiled programs for pictures: a few, shared by pictures of similar sizes."""

import functools
import itertools
import math
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from msnlan_jax.network import MSNLAN, parameters
from msnlan_jax.runtime import compiler_options

# How many times as large as a picture's own array another may be that is taken in its place: one of those
# ready, or one that there is a program for already.
_REUSE_READY, _REUSE = 2.0, 1.35

Batch = Float[np.ndarray, "_b _h _w 3"]
Forward = Callable[[Batch], Batch]
ArraySize = tuple[int, int]


class Programs:
    """The array sizes in which pictures have been run so far, so that the next ones run in these too.

    JAX compiles a program for every network and every size of its input, which takes seconds to minutes. So pictures
    are padded to one of a few sizes, without changing the result beyond rounding: one that was used before, if it is
    not much too large, else the next of `bucket`. Who runs many pictures makes one object and passes it on; without it,
    every network has its own (`programs_of`).
    """

    def __init__(self) -> None:
        # By network and batch size. A network that computes in another way, as to save memory, counts as another.
        self._made: dict[tuple[nnx.GraphDef[Any], int], list[ArraySize]] = {}
        self._used: set[tuple[nnx.GraphDef[Any], tuple[int, ...]]] = set()
        self._seconds: dict[tuple[nnx.GraphDef[Any], tuple[int, ...]], float] = {}

    @property
    def compile_seconds(self) -> float:
        """How long compiling has taken so far, or reading programs from JAX's cache on disk."""
        return sum(self._seconds.values())

    @property
    def count(self) -> int:
        """How many programs these pictures took, those of other networks than MSNLANs left out."""
        return len(self._used)

    def forward(self, model: nnx.Module, ready: Sequence[ArraySize] = ()) -> Forward:
        """Return a model as a compiled function of NumPy batches; equal models and sizes share a program.

        Args:
            model: the network. Only an MSNLAN knows how to leave padding out; others run in the pictures' own sizes.
            ready: array sizes to take before others, smallest first.
        """
        graph, values = parameters.split(model)

        def forward(batch: Batch) -> Batch:
            if not isinstance(model, MSNLAN):
                return self._run(graph, values, batch)
            n, h, w = batch.shape[:3]
            array_h, array_w = self.array_size(graph, n, h, w, ready)
            padded = np.pad(batch, ((0, 0), (0, array_h - h), (0, array_w - w), (0, 0)))
            self._used.add((graph, padded.shape))
            sizes = np.broadcast_to(np.array([h, w], np.int32), (n, 2))
            return self._run(graph, values, padded, sizes)[:, : h * model.scale, : w * model.scale]

        return forward

    def _run(self, graph: nnx.GraphDef[Any], values: parameters.Parameters, *arguments: np.ndarray) -> np.ndarray:
        """Run a program, compiled apart the first time, so that it is known how long each of the two takes."""
        run, key, began = _compiled(), (graph, arguments[0].shape), time.perf_counter()
        if key not in self._seconds:
            run.lower(graph, values, *arguments).compile()
            self._seconds[key] = time.perf_counter() - began
        return np.asarray(run(graph, values, *arguments))

    def array_size(
        self, graph: nnx.GraphDef[Any], n: int, h: int, w: int, ready: Sequence[ArraySize] = ()
    ) -> ArraySize:
        """Return the size of the arrays in which a batch of n pictures of h×w pixels is run, and remember it."""
        made = self._made.setdefault((graph, n), [])
        own = bucket(h), bucket(w)
        if not (sizes := _fitting(ready, h, w, _REUSE_READY) or _fitting(made, h, w, _REUSE)):
            made.append(own)
        return min(sizes, key=math.prod, default=own)

    def largest_array(self, h: int, w: int, ready: Sequence[ArraySize] = ()) -> ArraySize:
        """Return the largest array in which h×w pixels may be run. How the network will compute is not decided yet when
        this is asked, so the sizes made for all count."""
        if sizes := _fitting(ready, h, w, _REUSE_READY):
            return min(sizes, key=math.prod)
        made = _fitting(list(itertools.chain(*self._made.values())), h, w, _REUSE)
        return max([*made, (bucket(h), bucket(w))], key=math.prod)


# The programs of networks that are run without any being passed, each as long as its network lives.
_OF_NETWORKS: weakref.WeakKeyDictionary[nnx.Module, Programs] = weakref.WeakKeyDictionary()


def programs_of(model: nnx.Module) -> Programs:
    """Return the programs that go with a network: what one picture leaves behind concerns no other network's."""
    return _OF_NETWORKS.setdefault(model, Programs())


def bucket(size: int) -> int:
    """Return the side to which a picture's side is padded: a multiple of 16, above 256 at most an eighth more; of
    thin pictures 4 or 8, because the other side may be long."""
    step: int = max(16 if size > 8 else 4, 2 ** ((size - 1).bit_length() - 4))
    return -(-size // step) * step


def _fitting(sizes: Sequence[ArraySize], h: int, w: int, reuse: float) -> list[ArraySize]:
    """Return those of the sizes that hold h×w pixels and are at most `reuse` times their own array."""
    most = reuse * bucket(h) * bucket(w)
    return [size for size in sizes if size[0] >= h and size[1] >= w and math.prod(size) <= most]


@functools.cache
def _compiled() -> Any:
    """Made at the first use, because it asks for the backend, which must not be chosen on import."""
    return jax.jit(_apply, static_argnums=0, compiler_options=compiler_options())


def _apply(graph: nnx.GraphDef[Any], values: parameters.Parameters, *arguments: Array) -> Array:
    output: Array = parameters.merge(graph, values)(*arguments)
    return output
