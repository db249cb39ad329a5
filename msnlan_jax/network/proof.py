"""Whether kernels compute here what the plain layers do: they may meet a chip that they never ran on."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from msnlan_jax.network import parameters
from msnlan_jax.network.compute import Compute
from msnlan_jax.network.model import MSNLAN, MSNLANConfig

# How much further from float32 than the plain form's a result of kernels may lie; what is left is for luck.
_FACTOR, _SLACK = 2.0, 2e-3


def find_fault(config: MSNLANConfig, compute: Compute, batch: int, side: int) -> str:
    """Run kernels and plain layers on one input, gradients included, and compare both with exact float32.

    Takes seconds: the network has the width of `config`, but only two groups of one block each.

    Args:
        config: the network whose kernels are wanted.
        compute: how it will compute.
        batch: pictures that a device takes at once.
        side: height and width of each.

    Returns:
        What is wrong with the kernels' results, in a few words; "" when nothing is.
    """
    config = dataclasses.replace(config, n_groups=2, n_blocks=1)
    random = np.random.default_rng(0)
    x, cotangent = (
        jnp.asarray(random.uniform(0, 255, (batch, s, s, 3)), jnp.float32) for s in (side, config.scale * side)
    )
    _, values = parameters.split(MSNLAN(config, rngs=nnx.Rngs(0)))

    def run(**changes: str) -> dict[str, Any]:
        graph, _ = parameters.abstract_parameters(config, dataclasses.replace(compute, **changes))

        def loss(values: parameters.Parameters) -> tuple[Array, Array]:
            network: Any = parameters.merge(graph, values)
            output = network(x)
            return jnp.mean(output * cotangent), output

        gradients, output = jax.jit(jax.grad(loss, has_aux=True))(values)
        return jax.device_get({"output": output} | gradients)

    try:
        kernels = run(implementation="kernels")
    except Exception as error:  # whatever the compiler or the chip has against them
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    plain = run(implementation="plain")
    exact = run(implementation="plain", dtype="float32", precision="highest")
    for name in exact:
        allowed = _FACTOR * _distance(plain[name], exact[name]) + _SLACK * float(np.linalg.norm(exact[name]))
        # Not the other way round: NaN is a fault.
        if not _distance(kernels[name], exact[name]) <= allowed:
            what = "the output" if name == "output" else f"the gradient of {name}"
            return f"{what} differs from the plain layers'"
    return ""


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(a, np.float64) - np.asarray(b, np.float64)))
