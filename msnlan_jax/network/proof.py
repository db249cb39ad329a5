"""Whether kernels compute here what the plain layers do: they may meet a chip that they never ran on."""

import dataclasses
import functools
import math
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

# What has kernels.
PARTS: dict[str, Callable[..., nnx.Module]] = {
    "residual group": functools.partial(ResidualGroup, n_blocks=3),
    **{f"attention of {k}×{k} patches": functools.partial(NonLocalBranch, kernel_size=k) for k in KERNEL_SIZES},
}
_Results = dict[str, np.ndarray]
_Run = Callable[[Array, Array], _Results]

# What is compared is the root mean square over so many random inputs: that of a single number, as a PReLU's slope, may
# be nearly right by chance.
_DRAWS = 4
# How many times as far from float32 as the plain layers' results those of kernels may lie, and how far in any case,
# relative to their size. What is rounded in another order lies about as far as theirs; of few numbers this is less
# sure.
_FACTOR, _SLACK = 4.0, 0.002
_FACTOR_OF_FEW = 16.0  # divided by the root of how many numbers there are, and added


def find_fault(n_feats: int, compute: Compute, batch: int, side: int) -> str:
    """Run kernels and plain layers on random inputs, gradients included, and compare both with exact float32.

    In bfloat16 some gradients are mostly rounding, those of attention's slopes above all, in plain layers too; so each
    result is held to how far the plain layers' own lies from the exact one. A dozen small programs are compiled for
    that.

    Args:
        n_feats: channels of the network whose kernels are wanted.
        compute: how it will compute.
        batch: pictures that a device takes at once.
        side: height and width of each.

    Returns:
        What is wrong with the kernels' results, in a few words; "" when nothing is.
    """
    hows = {it: dataclasses.replace(compute, implementation=it) for it in ("kernels", "plain")} | {"exact": EXACT}
    for name, part in PARTS.items():
        ways = {way: _as_run(part, n_feats, how) for way, how in hows.items()}
        squares: dict[str, np.ndarray] = {}
        sizes: dict[str, int] = {}
        for draw in range(_DRAWS):
            random = np.random.default_rng(draw)
            x, cotangent = (random.standard_normal((batch, side, side, n_feats)).astype(np.float32) for _ in range(2))
            found: dict[str, _Results] = {}
            for way, run in ways.items():
                try:
                    found[way] = run(jnp.asarray(x), jnp.asarray(cotangent))
                except Exception as error:  # whatever the compiler or the chip has against it
                    where = name if way == "kernels" else f"{name}, {way} layers"
                    return f"{where}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            for result, exact in found["exact"].items():
                differences = (found["kernels"][result] - exact, found["plain"][result] - exact, exact)
                squares[result] = squares.get(result, np.zeros(3)) + [np.sum(np.square(d)) for d in differences]
                sizes[result] = exact.size
        for result, sums in squares.items():
            of_kernels, of_plain, size = np.sqrt(sums)
            factor = _FACTOR + _FACTOR_OF_FEW / math.sqrt(_DRAWS * sizes[result])
            # Not the other way round: NaN is a fault.
            if not of_kernels <= factor * of_plain + _SLACK * size:
                return f"{name}: {result} differs from the plain layers'"
    return ""


def _as_run(part: Callable[..., nnx.Module], n_feats: int, compute: Compute) -> _Run:
    """Return a function of a part's input and of what its output is multiplied with, which returns its output, and the
    gradients of the sum of the products by input and parameters."""
    graph, state = nnx.split(part(n_feats, compute=compute, rngs=nnx.Rngs(0)))

    def loss(x: Array, state: Any, cotangent: Array) -> tuple[Array, Array]:
        network: Any = nnx.merge(graph, state)
        features = x.astype(compute.dtype)
        if isinstance(network, ResidualGroup):
            features = pack(features, WHOLE, compute)
        output = unpack(network(features)).astype(jnp.float32)
        return jnp.sum(output * cotangent), output

    differentiate = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))

    def run(x: Array, cotangent: Array) -> _Results:
        (to_x, to_state), output = differentiate(x, state, cotangent)
        gradients = {f"gradient of {jax.tree_util.keystr(path)}": g for path, g in jax.tree.leaves_with_path(to_state)}
        results = jax.device_get({"output": output, "gradient of the input": to_x} | gradients)
        return {name: np.asarray(value, np.float64) for name, value in results.items()}

    return run
