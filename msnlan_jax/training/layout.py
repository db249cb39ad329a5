"""How parameters lie in memory during training: on TPU all of one shape in one array, on GPU all in one row.

An optimiser works on every array by kernels of its own, and a network has up to a thousand parameters but less than
twenty shapes of them. On TPU a row would be laid out anew for every use; on GPU it is what is read fastest. Files and
the network itself know parameters by path.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msnlan_jax.network import MSNLANConfig, parameters

Stacks = dict[str, Any]

_LANES = 128  # values side by side in a TPU's registers, which narrower arrays leave empty
_ROW = "row"  # the name of the one array, in a state


@dataclasses.dataclass(frozen=True)
class Stack:
    """Parameters of one shape, in one array; a single one is itself.

    Attributes:
        shape: of each, `[*s, c]`.
        paths: what they are, in the order of the array's rows.
        lanes: how many values should lie side by side at least; 1 for any number.
    """

    shape: tuple[int, ...]
    paths: tuple[str, ...]
    lanes: int = _LANES

    @property
    def name(self) -> str:
        """Its name in a state."""
        return self.paths[0] if len(self.paths) == 1 else "x".join(map(str, self.shape)) or "scalar"

    @property
    def parts(self) -> int:
        """Into how many equal parts the rows fall that lie beside one another, to fill a TPU's lanes: a power of 2."""
        parts = 1
        while self.shape and self.shape[-1] * parts * 2 <= self.lanes and len(self.paths) % (parts * 2) == 0:
            parts *= 2
        return parts

    def join(self, values: parameters.Parameters) -> Any:
        """Return the array `[n / parts, *s, c · parts]` of n parameters, in NumPy if they are."""
        rows = [values[path] for path in self.paths]
        if len(rows) == 1:
            return rows[0]
        numpy: Any = np if isinstance(rows[0], np.ndarray) else jnp
        array = numpy.stack(rows)
        return _concatenate(numpy.split(array, self.parts)) if self.parts > 1 else array

    def split(self, array: Any) -> parameters.Parameters:
        """Return the parameters in an array, the inverse of `join`; of a NumPy array, views."""
        if len(self.paths) == 1:
            return {self.paths[0]: array}
        values, n_rows = {}, len(self.paths) // self.parts
        for number, path in enumerate(self.paths):
            part, row = divmod(number, n_rows)
            channels = [slice(part * self.shape[-1], (part + 1) * self.shape[-1])] if self.parts > 1 else []
            values[path] = array[row, ..., *channels]
        return values


@dataclasses.dataclass(frozen=True)
class Layout:
    """The stacks that hold a network's parameters, or anything else of which there is one for each of them.

    In NumPy nothing is compiled; the step alone has them traced.

    Attributes:
        stacks: all that there are.
        in_a_row: whether one array holds them all, one behind another.
    """

    stacks: tuple[Stack, ...]
    in_a_row: bool = False

    @property
    def is_stacked(self) -> bool:
        """Whether any array holds several parameters."""
        return any(len(stack.paths) > 1 for stack in self.stacks)

    def stack(self, values: parameters.Parameters) -> Stacks:
        """Return path → array as name → stack, or as the row of all."""
        stacks = {stack.name: stack.join(values) for stack in self.stacks}
        return {_ROW: _concatenate([array.reshape(-1) for array in stacks.values()])} if self.in_a_row else stacks

    def unstack(self, stacks: Stacks) -> parameters.Parameters:
        """Return name → stack, or the row of all, as path → array."""
        if self.in_a_row:
            stacks = self._cut(stacks[_ROW])
        return {path: value for stack in self.stacks for path, value in stack.split(stacks[stack.name]).items()}

    def _cut(self, row: Any) -> Stacks:
        """Return the row of all as name → stack."""
        stacks, start = {}, 0
        for stack in self.stacks:
            shape = stack.shape if len(stack.paths) == 1 else (len(stack.paths), *stack.shape)
            end = start + math.prod(shape)
            stacks[stack.name] = row[start:end].reshape(shape)
            start = end
        return stacks

    def as_stored(self, state: Any) -> Any:
        """Return a training state as checkpoints hold it: path → array wherever it has stacks."""
        return _replace(state, {_ROW} if self.in_a_row else {stack.name for stack in self.stacks}, self.unstack)

    def as_trained(self, stored: Any) -> Any:
        """Return a checkpoint's state with stacks again, the inverse of `as_stored`."""
        return _replace(stored, {path for stack in self.stacks for path in stack.paths}, self.stack)


def uses_stacks() -> bool:
    """Whether parameters are stacked, on the backend there is.

    Not on CPU, where kernels cost little to start, and those that cut a thousand slices take long to compile.
    """
    return jax.default_backend() != "cpu"


def uses_row() -> bool:
    """Whether stacks lie in a row, on the backend there is."""
    return jax.default_backend() == "gpu"


def lay_out(network: MSNLANConfig) -> Layout:
    """Return the layout of a network's parameters, on the backend there is.

    Equal layers of a residual group's blocks are neighbours, in the order in which they run: to stack them for a loop
    over the blocks is to take a slice.
    """
    return _lay_out(network, uses_stacks(), uses_row())


@functools.cache
def _lay_out(network: MSNLANConfig, stacks: bool, row: bool) -> Layout:
    _, found = parameters.abstract_parameters(network)
    if not stacks:
        return Layout(tuple(Stack(value.shape, (path,)) for path, value in found.items()))
    paths: dict[tuple[int, ...], list[str]] = collections.defaultdict(list)
    for path in sorted(found, key=_kind_and_place):
        paths[found[path].shape].append(path)
    lanes = 1 if row else _LANES
    return Layout(tuple(Stack(shape, tuple(equal), lanes) for shape, equal in paths.items()), row)


def _concatenate(arrays: list[Any]) -> Any:
    """Put arrays side by side, in NumPy if they are."""
    numpy: Any = np if isinstance(arrays[0], np.ndarray) else jnp
    return numpy.concatenate(arrays, axis=-1)


def _kind_and_place(path: str) -> tuple[list[str], list[int]]:
    parts = path.split(".")
    return [part for part in parts if not part.isdigit()], [int(part) for part in parts if part.isdigit()]


def _replace(tree: Any, keys: set[str], function: Callable[[Any], Any]) -> Any:
    """Return a tree with a function's results in place of the dictionaries that have these keys."""

    def has_keys(node: Any) -> bool:
        return isinstance(node, dict) and node.keys() == keys

    return jax.tree.map(lambda node: function(node) if has_keys(node) else node, tree, is_leaf=has_keys)
