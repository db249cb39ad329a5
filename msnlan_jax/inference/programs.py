"""Compiled programs for pictures: a few, shared by pictures of similar sizes."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from msnlan_jax.inference import copies
from msnlan_jax.inference.dealing import Fetch
from msnlan_jax.network import MSNLAN, parameters
from msnlan_jax.runtime import compiler_options

# How many times as large as a picture's own array another may be that is taken in its place: one of those
# ready, or one that there is a program for already.
_REUSE_READY, _REUSE = 2.0, 1.35

Batch = Float[np.ndarray, "_b _h _w 3"]
ArraySize = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Forward:
    """A model as a compiled function of NumPy batches.

    Attributes:
        start: runs a batch on the device of a number below `n_devices`, without waiting; returns what waits for it.
        remember: takes note of a batch, by how many pictures of what height and width, as if it had been run.
        n_devices: on how many devices it runs.
    """

    start: Callable[[Batch, int], Fetch]
    remember: Callable[[int, int, int], None]
    n_devices: int = 1

    def __call__(self, batch: Batch) -> Batch:
        """Run a batch on the first device, and wait for it."""
        return self.start(batch, 0)()


@dataclasses.dataclass(frozen=True)
class _Network:
    """What one network's pictures have taken so far. One that computes in another way, as to save memory, is another.

    Attributes:
        graph: the network's, without its parameters.
        is_padded: whether it can leave padding out, as an MSNLAN can; pictures of others run in their own sizes.
        made: array sizes by batch size.
        compiled: the program for each shape of a batch, padding included, on each device; None for where the parameters
            are.
    """

    graph: nnx.GraphDef[Any]
    is_padded: bool
    made: dict[int, list[ArraySize]] = dataclasses.field(default_factory=dict)
    compiled: dict[tuple[int, ...], dict[jax.Device | None, jax.stages.Compiled]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(dict)
    )


class Programs:
    """The programs by which pictures have been run so far, so that the next ones are run by these too.

    JAX compiles a program for every network and every size of its input, which takes seconds to minutes. So pictures
    are padded to one of a few sizes, without changing the result beyond rounding: one that was used before, if it is
    not much too large, else the next of `bucket`. Who runs many pictures makes one object and passes it on. Without it
    a picture's size alone decides, and JAX itself finds what was compiled for an equal network and size.

    Batches run on every device of this process, where the network's parameters were not put on some by their maker. A
    program is compiled for the first of them that needs it, and that one is loaded on the others, so that all give the
    same numbers.

    Args:
        devices: others to run on.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None) -> None:
        self._networks: dict[Hashable, _Network] = {}
        self._compile_seconds = 0.0
        default: Any = jax.config.jax_default_device  # type: ignore[attr-defined]
        self._devices = tuple(devices or ([None] if default is not None else jax.local_devices()))

    @property
    def n_devices(self) -> int:
        """On how many devices batches run."""
        return len(self._devices)

    @property
    def compile_seconds(self) -> float:
        """How long compiling has taken so far, or reading programs from JAX's cache on disk."""
        return self._compile_seconds

    @property
    def count(self) -> int:
        """How many programs these pictures took, those of other networks than MSNLANs left out."""
        return sum(len(network.compiled) for network in self._networks.values() if network.is_padded)

    def forget_sizes(self) -> None:
        """Let the next pictures be padded as if they were the first; what is compiled is kept."""
        for network in self._networks.values():
            network.made.clear()

    def devices_of(self, model: nnx.Module) -> int:
        """Return on how many devices a network's batches run: one, if its parameters were put on some by their
        maker."""
        if self.n_devices == 1:
            return 1
        _, values = parameters.split(model)
        return 1 if any(getattr(value, "committed", False) for value in values.values()) else self.n_devices

    def forward(self, model: nnx.Module, ready: Sequence[ArraySize] = ()) -> Forward:
        """Return a model as a compiled function of NumPy batches; equal models and sizes share a program.

        Args:
            model: the network. Only an MSNLAN knows how to leave padding out; others run in the pictures' own sizes.
            ready: array sizes to take before others, smallest first.
        """
        graph, values = parameters.split(model)
        # Looked up once and not for every batch: hashing the graph of the published network takes 50 ms. A program is
        # compiled for parameters of these types, in the place where they are.
        types = tuple((name, jax.typeof(value), getattr(value, "sharding", None)) for name, value in values.items())
        network = self._networks.setdefault((graph, types), _Network(graph, isinstance(model, MSNLAN)))
        devices = self._devices if self.devices_of(model) > 1 else (None,)

        @functools.cache
        def values_on(number: int) -> parameters.Parameters:
            return values if devices[number] is None else jax.device_put(values, devices[number])

        def start(batch: Batch, number: int) -> Fetch:
            place, (n, h, w, _) = devices[number], batch.shape
            sizes: tuple[np.ndarray, ...] = ()
            if isinstance(model, MSNLAN):
                array_h, array_w = self.array_size(network.made.setdefault(n, []), h, w, ready)
                batch = np.pad(batch, ((0, 0), (0, array_h - h), (0, array_w - w), (0, 0)))
                sizes = (np.broadcast_to(np.array([h, w], np.int32), (n, 2)),)
            arguments = (batch, *sizes) if place is None else jax.device_put((batch, *sizes), place)
            output = self._call_compiled(network, place, values_on(number), *arguments)
            if not isinstance(model, MSNLAN):
                return lambda: np.asarray(output)
            return lambda: np.asarray(output)[:, : h * model.scale, : w * model.scale]

        def remember(n: int, h: int, w: int) -> None:
            if isinstance(model, MSNLAN):
                self.array_size(network.made.setdefault(n, []), h, w, ready)

        return Forward(start, remember, len(devices))

    def _call_compiled(
        self, network: _Network, place: jax.Device | None, values: parameters.Parameters, *arguments: Any
    ) -> Array:
        """Call the program for a batch of this shape, compiled apart the first time, so that it is known how long each
        of the two takes."""
        programs = network.compiled[arguments[0].shape]
        output: Array
        if place in programs:
            output = programs[place](values, *arguments)
            return output
        began = time.perf_counter()
        try:
            if programs:
                with contextlib.suppress(Exception):  # whatever keeps it from being loaded here, it can be compiled
                    loaded = copies.load_on(next(iter(programs.values())), place)
                    output = loaded(values, *arguments)
                    if place is not None and place.platform == "cpu":
                        jax.block_until_ready(output)  # it may yet fail
                    programs[place] = loaded
                    return output
            programs[place] = _jitted().lower(network.graph, values, *arguments).compile()
        finally:
            self._compile_seconds += time.perf_counter() - began
        output = programs[place](values, *arguments)
        return output

    def array_size(self, made: list[ArraySize], h: int, w: int, ready: Sequence[ArraySize] = ()) -> ArraySize:
        """Return the size of the arrays in which a batch of pictures of h×w pixels is run, and remember it.

        Args:
            made: sizes made before, for this network and as many pictures; a new one is added.
            h: height.
            w: width.
            ready: as in `forward`.
        """
        own = bucket(h), bucket(w)
        if not (sizes := _fitting(ready, h, w, _REUSE_READY) or _fitting(made, h, w, _REUSE)):
            made.append(own)
        return min(sizes, key=math.prod, default=own)

    def largest_array(self, h: int, w: int, ready: Sequence[ArraySize] = ()) -> ArraySize:
        """Return the largest array in which h×w pixels may be run. How the network will compute is not decided yet when
        this is asked, so the sizes made for all count."""
        if sizes := _fitting(ready, h, w, _REUSE_READY):
            return min(sizes, key=math.prod)
        made = itertools.chain.from_iterable(sizes for it in self._networks.values() for sizes in it.made.values())
        return max([*_fitting(list(made), h, w, _REUSE), (bucket(h), bucket(w))], key=math.prod)


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
def _jitted() -> Any:
    """Made at the first use, because it asks for the backend, which must not be chosen on import."""
    return jax.jit(_apply, static_argnums=0, compiler_options=compiler_options())


def _apply(graph: nnx.GraphDef[Any], values: parameters.Parameters, *arguments: Array) -> Array:
    output: Array = parameters.merge(graph, values)(*arguments)
    return output
