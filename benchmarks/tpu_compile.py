"""Compile the training step for TPUs that are not there, and report what the compiler says of it.

`make tpu-compile ARGS="--config configs/x4.py --topology v5e:2x2"`, or with the packages of `.venv-tpu` at hand
`python -m benchmarks.tpu_compile --config FILE [--topology v5e:16x16] [--config.FIELD=value ...] [--chip_batch 16]`.
`--operator 7` compiles the attention alone, forward and gradient.
Memory is per chip. Cycles are the estimates of the compiler's scheduler, each loop's body counted as often as it runs;
they are no measurement, and leave out waiting for memory that it does not foresee.
"""

import os

# Before JAX is imported: there is no machine to ask what it is.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}

import dataclasses
import re
import time
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from benchmarks import hlo, measure
from benchmarks.loader import Cut
from msnlan_jax.errors import InputError
from msnlan_jax.network import MSNLAB, ResidualGroup, parameters
from msnlan_jax.network.attention import patch_attention
from msnlan_jax.runtime import command, config_flags
from msnlan_jax.training import Experiment, init_state, make_step, read_experiment

SCOPES = {"attention": MSNLAB, "residual groups": ResidualGroup}
NETWORK = "head, tail and joins"
OPTIMISER = "optimiser and gradients' sum"


def main() -> None:
    """Compile, print a table, and write it."""
    parser = command.Parser("python -m benchmarks.tpu_compile", description=__doc__)
    parser.add_argument("--topology", default="v5e:2x2", help="as in v5e:2x2, v5e:16x16, v5p:2x2x2")
    config_flags.add_to(parser, default="configs/x4.py")
    parser.add_argument("--chip_batch", type=int, default=0, help="pictures on each chip, instead of the global batch")
    parser.add_argument("--form", default="auto", help="of the attention")
    parser.add_argument("--operator", type=int, default=0, metavar="K", help="only the attention of K×K patches")
    parser.add_argument("--hlo", default="", help="file for the compiled program's text")
    measure.add_result_flags(parser)
    flags = config_flags.parse(parser)
    name = result_name(flags)
    result = report(flags)
    print("\n".join(f"{name}: {value}" for name, value in result.items() if name != "cycles"))
    if "cycles" in result:
        total = sum(result["cycles"].values())
        rows = [
            {"region": name, "cycles": f"{n:,}", "share": f"{n / total:.0%}"} for name, n in result["cycles"].items()
        ]
        rows.append({"region": "all", "cycles": f"{total:,}", "share": "100%"})
        print(measure.table(("region", "cycles", "share"), rows))
    device = f"tpu-{flags.topology.split(':')[0]}-compiler"
    print(measure.write(name, result, device=device, folder=flags.output, note=flags.note))


def result_name(flags: Any) -> str:
    """Return the name of the file of results, which tells all that the numbers depend on."""
    parts = [Path(flags.config_file).stem, flags.topology]
    parts += [f"chip_batch-{flags.chip_batch}"] if flags.chip_batch else []
    parts += [f"form-{flags.form}"] if flags.form != "auto" else []
    parts += [f"operator-{flags.operator}"] if flags.operator else []
    return re.sub(r"[^\w.-]+", "-", "-".join(parts + flags.changes))


def report(flags: Any) -> dict[str, Any]:
    """Return what the compiler says of the step."""
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=flags.topology).devices
    except Exception as error:
        raise InputError(f"--topology: found {flags.topology!r}, expected one that libtpu knows: {error}") from None
    if flags.chip_batch:
        flags.config.batch_size = flags.chip_batch * len(devices)
    experiment = read_experiment(flags.config, len(devices))
    facts: dict[str, Any] = {
        "config": flags.config_file,
        "changes": flags.changes,
        "topology": flags.topology,
        "chips": len(devices),
        "pictures per chip": experiment.batch_size // len(devices),
        "dtype": experiment.compute.dtype,
        "form": flags.form,
    }
    if flags.operator:
        facts["operator"] = f"{flags.operator}×{flags.operator} patches, forward and gradient"
        step, arguments = make_operator(experiment, flags.operator, flags.form, devices)
    else:
        step, arguments = make_step_arguments(experiment, flags.form, devices)
    facts["TFLOP per chip, as written"] = hlo.traced_flops(step, *arguments) / 1e12
    lowered = step.lower(*arguments)
    began = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        return facts | {"compiles": False, "error": str(error)[:2000]}
    facts |= {"compiles": True, "compile seconds": time.perf_counter() - began}
    memory = compiled.memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    facts["GiB per chip"] = (kept + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes) / 2**30
    facts["GiB of temporaries"] = memory.temp_size_in_bytes / 2**30
    text = compiled.as_text()
    if flags.hlo:
        Path(flags.hlo).write_text(text)
    return facts | {"collectives": hlo.collectives(text), "cycles": hlo.cycles_by(text, region)}


def make_step_arguments(experiment: Experiment, form: str, devices: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the real training step and shapes of its arguments, laid out over the devices as training does."""
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    compute = dataclasses.replace(experiment.compute, attention=form)
    graph, values = parameters.abstract_parameters(experiment.network, compute)
    state = jax.eval_shape(lambda values: init_state(experiment, values), values)

    def shaped(tree: Any, spec: PartitionSpec) -> Any:
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    lr, hr = (
        jax.ShapeDtypeStruct((experiment.batch_size, side, side, 3), jnp.uint8)
        for side in (experiment.patch_size, experiment.scale * experiment.patch_size)
    )
    step = make_step(graph, experiment, mesh, Cut())
    return step, (shaped(state, PartitionSpec()), (), shaped((lr, hr), PartitionSpec("data")))


def make_operator(experiment: Experiment, k: int, form: str, devices: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the attention operator with its gradient, and shapes of query, key and value on the first chip."""
    batch, side = experiment.batch_size // len(devices), experiment.patch_size
    compute, channels = experiment.compute, experiment.network.n_feats
    on_chip = jax.sharding.SingleDeviceSharding(devices[0])

    def loss(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(patch_attention(query, key, value, k, form=form, precision=compute.precision)))

    arguments = [
        jax.ShapeDtypeStruct((batch, grid, grid, n), compute.dtype, sharding=on_chip)
        for grid, n in ((side, channels // 2), (side + k - 3, channels // 2), (side + k - 3, channels))
    ]
    return jax.jit(jax.value_and_grad(jax.named_scope("attention")(loss), argnums=(0, 1, 2))), tuple(arguments)


def region(op_name: str) -> str:
    """Return the part of the step that an instruction comes from."""
    for name in SCOPES:
        if name.replace(" ", "_") in op_name:
            return name
    return NETWORK if "jvp" in op_name else OPTIMISER


def name_scopes() -> None:
    """Have every operation of the network's parts carry their names."""
    for name, part in SCOPES.items():
        part.__call__ = jax.named_scope(name.replace(" ", "_"))(part.__call__)  # type: ignore[attr-defined]


if __name__ == "__main__":
    name_scopes()
    # The library takes the forms for the backend that it runs on, which here is not the one that is compiled for.
    with mock.patch("jax.default_backend", return_value="tpu"):
        measure.run(main)
