"""What is compiled for chips that are not there: the training step, the attention alone, or the network's forward pass.

All are what training and evaluation run, with shapes for arguments; the parts of the network carry their names.
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from benchmarks import measure
from benchmarks.loader import Cut
from msnlan_jax.errors import InputError
from msnlan_jax.inference import Programs
from msnlan_jax.network import EXACT, MSNLAB, Compute, ResidualGroup, parameters
from msnlan_jax.network.attention import patch_attention
from msnlan_jax.runtime import compiler_options
from msnlan_jax.training import Experiment, init_state, make_step

SCOPES = {"attention": MSNLAB, "residual groups": ResidualGroup}
NETWORK = "head, tail and joins"
OPTIMISER = "optimiser and gradients' sum"
WEIGHTS = "layout of weights"  # of the forward pass alone
ALL = "all"

Program = tuple[Any, tuple[Any, ...]]  # a jitted function, and shapes of its arguments


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what is compiled."""
    parser.add_argument("--form", default="auto", help="of the attention")
    parser.add_argument("--operator", type=int, default=0, metavar="K", help="only the attention of K×K patches")
    parser.add_argument("--forward", default="", metavar="HxW", help="only the forward pass of evaluation, LR pixels")


def describe(flags: Any) -> dict[str, str]:
    """Return what is compiled in place of the step."""
    if flags.operator:
        return {"operator": f"{flags.operator}×{flags.operator} patches, forward and gradient"}
    if flags.forward:
        what = f"one picture of {flags.forward} LR pixels, highest precision"
        return {"forward": what, "dtype": "float32", "implementation": "plain"}
    return {}


def make_program(flags: Any, experiment: Experiment, compute: Compute, devices: Any) -> Program:
    """Return what the flags ask for, and shapes of its arguments."""
    compute = dataclasses.replace(settle(compute), attention=flags.form)
    if flags.operator:
        return make_operator(experiment, compute, flags.operator, devices)
    if flags.forward:
        return make_forward(experiment, flags.forward, flags.form, devices)
    return make_step_arguments(experiment, compute, devices)


def settle(compute: Compute) -> Compute:
    """Return how training computes where kernels have proved themselves."""
    implementation = "kernels" if compute.implementation == "auto" else compute.implementation
    return dataclasses.replace(compute, implementation=implementation)


def plain_program(flags: Any, experiment: Experiment, devices: Any) -> Program:
    """Return the same in the form that multiplies least: nothing computed twice, the attention's windows added up."""
    plain = dataclasses.replace(experiment.compute, implementation="plain", remat=False, loops=True)
    box = argparse.Namespace(**vars(flags) | {"form": "box"})
    return make_program(box, experiment, plain, devices)


def make_step_arguments(experiment: Experiment, compute: Compute, devices: Any) -> Program:
    """Return the real training step and shapes of its arguments, laid out over the devices as training does."""
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    graph, values = parameters.abstract_parameters(experiment.network, compute)
    state = jax.eval_shape(lambda values: init_state(experiment, values), values)

    def shaped(tree: Any, spec: PartitionSpec) -> Any:
        return _place(tree, NamedSharding(mesh, spec))

    lr, hr = (
        jax.ShapeDtypeStruct((experiment.batch_size, side, side, 3), jnp.uint8)
        for side in (experiment.patch_size, experiment.scale * experiment.patch_size)
    )
    step = make_step(graph, experiment, mesh, Cut())
    return step, (shaped(state, PartitionSpec()), (), shaped((lr, hr), PartitionSpec("data")))


def make_operator(experiment: Experiment, compute: Compute, k: int, devices: Any) -> Program:
    """Return the attention operator with its gradient, and shapes of query, key and value on the first chip."""
    batch, side = experiment.batch_size // len(devices), experiment.patch_size
    channels = experiment.network.n_feats

    def loss(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        attend = functools.partial(patch_attention, form=compute.attention, precision=compute.precision)
        return jnp.sum(
            jnp.sin(attend(query, key, value, k, uses_kernels=compute.uses_tpu_form, at_once=compute.uses_gpu_form))
        )

    shapes = [
        jax.ShapeDtypeStruct((batch, grid, grid, n), compute.dtype)
        for grid, n in ((side, channels // 2), (side + k - 3, channels // 2), (side + k - 3, channels))
    ]
    function = jax.jit(jax.value_and_grad(jax.named_scope("attention")(loss), argnums=(0, 1, 2)))
    return function, tuple(_place(shapes, SingleDeviceSharding(devices[0])))


def make_forward(experiment: Experiment, size: str, form: str, devices: Any) -> Program:
    """Return the exact forward pass by which one whole picture is evaluated, in the array that it is padded to, and
    shapes of parameters, batch and the picture's size on the first chip."""
    try:
        height, width = map(int, size.split("x"))
    except ValueError:
        raise InputError(f"--forward: found {size!r}, expected height and width as in 339x510") from None
    graph, values = parameters.abstract_parameters(experiment.network, dataclasses.replace(EXACT, attention=form))

    def forward(values: parameters.Parameters, batch: jax.Array, sizes: jax.Array) -> jax.Array:
        network: Any = parameters.merge(graph, values)
        output: jax.Array = network(batch, sizes)
        return output

    batch = jax.ShapeDtypeStruct((1, *Programs().array_size([], height, width), 3), jnp.float32)
    arguments = (values, batch, jax.ShapeDtypeStruct((1, 2), jnp.int32))
    return jax.jit(forward, compiler_options=compiler_options()), _place(arguments, SingleDeviceSharding(devices[0]))


def _place(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def region(op_name: str) -> str:
    """Return the part of the program that an instruction comes from."""
    for name in SCOPES:
        if name.replace(" ", "_") in op_name:
            return name
    if op_name.startswith("values["):
        return WEIGHTS
    is_network = "jvp" in op_name or op_name.startswith("jit(forward)")
    return NETWORK if is_network else OPTIMISER


def by_region(regions: Any) -> list[str]:
    """Return the regions' names in the order in which they are shown, those that have no place of their own last."""
    return list(dict.fromkeys([*SCOPES, NETWORK, OPTIMISER, *regions]))


def gib_per_chip(program: Any) -> dict[str, float]:
    """Return the memory that a compiled program takes on each chip, by its compiler."""
    memory = program.memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "GiB per chip": (kept + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes) / 2**30,
        "GiB of temporaries": memory.temp_size_in_bytes / 2**30,
    }


def name_scopes() -> None:
    """Have every operation of the network's parts carry their names."""
    for name, part in SCOPES.items():
        setattr(part, "__call__", jax.named_scope(name.replace(" ", "_"))(part.__call__))  # noqa: B010


def run(main: Callable[[], None], backend: str) -> None:
    """Run a program that compiles for chips of a backend, "tpu" or "gpu"."""
    name_scopes()
    # The library takes the forms for the backend that it runs on, which here is not the one that is compiled for.
    with mock.patch("jax.default_backend", return_value=backend):
        measure.run(main)
