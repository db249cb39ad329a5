"""Whether kernels compute here what the plain layers do: they may meet a chip that they never ran on."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from msnlan_jax.network.compute import EXACT, Compute
from msnlan_jax.network.layers import WHOLE, pack, unpack
from msnlan_jax.network.model import KERNEL_SIZES, NonLocalBranch, ResidualGroup

_Results = dict[str, np.ndarray]

# How many times as far from float32 as the plain layers' results those of kernels may lie, and how far in any case,
# and at most, relative to their size. What is wrong is off by more; what is rounded in another order, by less.
_FACTOR, _SLACK, _MOST = 3.0, 0.02, 0.2


def find_fault(n_feats: int, compute: Compute, batch: int, side: int) -> str:
    """Run kernels and plain layers on one input, gradients included, and compare both with exact float32.

    A dozen small programs are compiled for that.

    Args:
        n_feats: channels of the network whose kernels are wanted.
        compute: how it will compute.
        batch: pictures that a device takes at once.
        side: height and width of each.

    Returns:
        What is wrong with the kernels' results, in a few words; "" when nothing is.
    """
    parts: dict[str, Callable[..., nnx.Module]] = {"residual group": functools.partial(ResidualGroup, n_blocks=3)}
    for k in KERNEL_SIZES:
        parts[f"attention of {k}×{k} patches"] = functools.partial(NonLocalBranch, kernel_size=k)
    for name, part in parts.items():
        run = functools.partial(_run, part, n_feats=n_feats, shape=(batch, side, side, n_feats))
        ways = {it: dataclasses.replace(compute, implementation=it) for it in ("kernels", "plain")} | {"exact": EXACT}
        results: dict[str, _Results] = {}
        for way, how in ways.items():
            try:
                results[way] = run(how)
            except Exception as error:  # whatever the compiler or the chip has against it
                where = name if way == "kernels" else f"{name}, {way} layers"
                return f"{where}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        kernels, plain, exact = results.values()
        # What the plain layers have furthest off bounds all: in a single bias they may happen to be right.
        furthest = max(_distance(plain[result], exact[result]) for result in exact)
        allowed = min(_SLACK + _FACTOR * furthest, _MOST)
        for result in exact:
            # Not the other way round: NaN is a fault.
            if not _distance(kernels[result], exact[result]) <= allowed:
                return f"{name}: {result} differs from the plain layers'"
    return ""


def _run(part: Callable[..., nnx.Module], compute: Compute, *, n_feats: int, shape: tuple[int, ...]) -> _Results:
    """Return a part's output, and the gradients of a sum of it by input and parameters."""
    random = np.random.default_rng(0)
    x, cotangent = (jnp.asarray(random.standard_normal(shape), jnp.float32) for _ in range(2))
    graph, state = nnx.split(part(n_feats, compute=compute, rngs=nnx.Rngs(0)))

    def loss(x: Array, state: Any) -> tuple[Array, Array]:
        network: Any = nnx.merge(graph, state)
        features = x.astype(compute.dtype)
        if isinstance(network, ResidualGroup):
            features = pack(features, WHOLE, compute)
        output = unpack(network(features)).astype(jnp.float32)
        return jnp.sum(output * cotangent), output

    (to_x, to_state), output = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(x, state)
    gradients = {f"gradient of {jax.tree_util.keystr(path)}": g for path, g in jax.tree.leaves_with_path(to_state)}
    results: _Results = jax.device_get({"output": output, "gradient of the input": to_x} | gradients)
    return results


def _distance(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the relative distance of two results."""
    found, exact = np.asarray(found, np.float64), np.asarray(exact, np.float64)
    return float(np.linalg.norm(found - exact)) / max(float(np.linalg.norm(exact)), 1e-30)
