"""Parameters as a flat dictionary, `path → array`: the form in which they are trained, converted and stored.

Paths are dotted, as in `groups_before.0.blocks.1.fusion.kernel`. A network is a graph, which is static, and such a
dictionary; carrying the dictionary through `jax.jit` costs far less per call than dispatching whole modules.
"""

import functools
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from msnlan_jax.errors import InputError
from msnlan_jax.network.compute import EXACT, Compute
from msnlan_jax.network.model import MSNLAN, MSNLANConfig

Parameters = dict[str, Any]


class _NoRandomness(nnx.Rngs):
    """Stands in for `nnx.Rngs` where only shapes are wanted: counting keys while tracing takes seconds."""

    def __init__(self) -> None:
        pass

    def params(self) -> jax.Array:
        return jax.random.key(0)


def abstract_model(config: MSNLANConfig, compute: Compute = EXACT) -> MSNLAN:
    """Return a network whose parameters are shapes without values."""
    return nnx.eval_shape(lambda: MSNLAN(config, compute, rngs=_NoRandomness()))


@functools.cache
def abstract_parameters(
    config: MSNLANConfig, compute: Compute = EXACT
) -> tuple[nnx.GraphDef[Any], dict[str, jax.ShapeDtypeStruct]]:
    """Return a network's graph, and path → shape and dtype of every parameter."""
    return split(abstract_model(config, compute))


def split(model: nnx.Module) -> tuple[nnx.GraphDef[Any], Parameters]:
    """Return a network's static graph and its parameters."""
    graph, state = nnx.split(model)
    return graph, {".".join(map(str, path)): variable.get_value() for path, variable in nnx.to_flat_state(state)}


def merge(graph: nnx.GraphDef[Any], parameters: Parameters) -> nnx.Module:
    """Return the network of a graph and parameters, the inverse of `split`; works under `jax.jit`."""
    flat = [(_path(name), nnx.Param(value)) for name, value in parameters.items()]
    module: nnx.Module = nnx.merge(graph, nnx.from_flat_state(flat))
    return module


def to_model(config: MSNLANConfig, parameters: Parameters, compute: Compute = EXACT) -> MSNLAN:
    """Return the network with these parameters, in eval mode; `parameters` has every path, in the right shapes."""
    graph, _ = abstract_parameters(config, compute)
    model = cast(MSNLAN, merge(graph, {path: jnp.asarray(value) for path, value in parameters.items()}))
    model.eval()  # type: ignore[no-untyped-call]
    return model


def check_keys(found: Collection[str], expected: Collection[str], *, source: str, note: str) -> None:
    """Refuse other keys than those expected.

    Args:
        found: the keys that there are.
        expected: the keys of a network.
        source: file name for messages.
        note: what `expected` was derived from, for messages.

    Raises:
        InputError: naming the first key that is missing or unexpected.
    """
    there, wanted = set(found), set(expected)
    for problem, keys in (
        ("is missing", [key for key in expected if key not in there]),
        ("is not one of this network's", [key for key in found if key not in wanted]),
    ):
        if keys:
            more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
            raise InputError(f"{source}: key {keys[0]} {problem}{more}; {note}")


def check_arrays(
    found: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
    *,
    dtypes: Iterable[str] = ("float32",),
    source: str,
    note: str,
) -> None:
    """Refuse arrays that are not exactly those expected.

    Args:
        found: key → array, for every key that is expected.
        expected: key → shape.
        dtypes: names of the dtypes allowed.
        source: file name for messages.
        note: what `expected` was derived from, for messages.

    Raises:
        InputError: naming the first key that is misshapen, of another dtype, or not finite in float32.
    """
    for key, shape in expected.items():
        value = found[key]
        if value.shape != shape:
            raise InputError(f"{source}: key {key}: found shape {value.shape}, expected {shape}; {note}")
        if value.dtype.name not in dtypes:
            raise InputError(f"{source}: key {key}: found {value.dtype}, expected {' or '.join(dtypes)}")
        with np.errstate(over="ignore"):
            numbers = value.astype(np.float32)
        if not np.isfinite(numbers).all():
            raise InputError(f"{source}: key {key} holds NaN or infinity, expected finite numbers")


def _path(name: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in name.split("."))
