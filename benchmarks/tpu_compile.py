"""Compile the training step for TPUs that are not there, and report what the compiler says of it.

`make tpu-compile ARGS="--config configs/x4.py --topology v5e:2x2"`, or with the packages of `.venv-tpu` at hand
`python -m benchmarks.tpu_compile --config FILE [--topology v5e:16x16] [--config.FIELD=value ...] [--chip_batch 16]`.
`--compare FIELD=value` compiles the configuration with that change too, and puts it beside.
`--operator 7` compiles the attention alone, forward and gradient.
Memory is per chip. Cycles are the estimates of the compiler's scheduler, those of Pallas kernels counted from its
instruction bundles, each loop's body as often as it runs; they are no measurement, and leave out waiting for memory
that it does not foresee.
"""

from benchmarks import tpu  # isort: skip  # before JAX

import argparse
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from benchmarks import flops, hlo, measure
from benchmarks.chips import Chip, read_chip
from benchmarks.loader import Cut
from msnlan_jax.network import MSNLAB, Compute, ResidualGroup, parameters
from msnlan_jax.network.attention import patch_attention
from msnlan_jax.runtime import command, config_flags
from msnlan_jax.training import Experiment, init_state, make_step, read_experiment

SCOPES = {"attention": MSNLAB, "residual groups": ResidualGroup}
NETWORK = "head, tail and joins"
OPTIMISER = "optimiser and gradients' sum"
ALL = "all"
COLUMNS = (
    *("region", "part", "runs", "M cycles", "share", "M by bundles", "TFLOP", "of peak", "HBM GB", "vmem MiB"),
    "memory GiB",
)


def main() -> None:
    """Compile, print a table, and write it."""
    parser = command.Parser("python -m benchmarks.tpu_compile", description=__doc__)
    parser.add_argument("--topology", default="v5e:2x2", help="as in v5e:2x2, v5e:16x16, v5p:2x2x2, v4:2x2x1, v6e:2x2")
    config_flags.add_to(parser, default="configs/x4.py")
    parser.add_argument("--chip_batch", type=int, default=0, help="pictures on each chip, instead of the global batch")
    parser.add_argument(
        "--compare", default="", metavar="FIELD=value", help="also with this field so, or fields, by commas"
    )
    parser.add_argument("--form", default="auto", help="of the attention")
    parser.add_argument("--operator", type=int, default=0, metavar="K", help="only the attention of K×K patches")
    parser.add_argument("--hlo", default="", help="file for the compiled program's text")
    parser.add_argument("--all_bundles", action="store_true", help="count XLA's own instructions by bundles as well")
    parser.add_argument("--loops", action="store_true", help="also print what each loop of each Pallas kernel costs")
    measure.add_result_flags(parser)
    flags = config_flags.parse(parser)
    result = report(flags)
    show(result)
    if flags.compare:
        result["compared with"] = compared = report(with_changes(flags, flags.compare.split(",")))
        show(compared)
        print(side_by_side(compared, result, flags.compare))
    device = f"tpu-{flags.topology.split(':')[0]}-compiler"
    print(measure.write(result_name(flags), result, device=device, folder=flags.output, note=flags.note))


def result_name(flags: Any) -> str:
    """Return the name of the file of results, which tells all that the numbers depend on."""
    parts = [Path(flags.config_file).stem, flags.topology]
    parts += [f"chip_batch-{flags.chip_batch}"] if flags.chip_batch else []
    parts += [f"form-{flags.form}"] if flags.form != "auto" else []
    parts += [f"operator-{flags.operator}"] if flags.operator else []
    parts += flags.changes + ([f"against-{flags.compare}"] if flags.compare else [])
    return re.sub(r"[^\w.-]+", "-", "-".join(parts))


def with_changes(flags: argparse.Namespace, changes: list[str]) -> argparse.Namespace:
    """Return flags whose configuration has other values for some fields, given as `FIELD=value`."""
    changes = [*flags.changes, *changes]
    pairs = [(name, value if equals else None) for name, equals, value in (c.partition("=") for c in changes)]
    config = config_flags.read_config(flags.config_file, pairs)
    return argparse.Namespace(**vars(flags) | {"config": config, "changes": changes})


def report(flags: Any) -> dict[str, Any]:
    """Return what the compiler says of the step."""
    # Kernels are made for the chip that they are compiled for, not for the one that is here.
    chip, module = read_chip(flags.topology), "msnlan_jax.network.kernels.chip"
    with mock.patch(f"{module}._FAST_MEMORY", chip.vmem_mib * 2**20), mock.patch(f"{module}.cores", lambda: chip.cores):
        return _report(flags, tpu.devices(flags.topology))


def _report(flags: Any, devices: Any) -> dict[str, Any]:
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
        "implementation": settle(experiment.compute).implementation,
        "all bundles": flags.all_bundles,
    }
    if flags.operator:
        facts["operator"] = f"{flags.operator}×{flags.operator} patches, forward and gradient"
    step, arguments = make_program(flags, experiment, experiment.compute, devices)
    try:
        compiled = tpu.compile_lowered(step.lower(*arguments), flags.topology, flags.all_bundles)
    except jax.errors.JaxRuntimeError as error:
        return facts | {"compiles": False, "error": str(error)[:2000]}
    facts |= {"compiles": True, "compile seconds": compiled.seconds}
    memory = compiled.program.memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    facts["GiB per chip"] = (kept + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes) / 2**30
    facts["GiB of temporaries"] = memory.temp_size_in_bytes / 2**30
    facts["collectives"] = hlo.collectives(compiled.module)
    if unread := sorted(name for name, kernel in compiled.kernels.items() if kernel.unread):
        facts["kernels with conditions that only the chip knows"] = unread
    if flags.hlo:
        Path(flags.hlo).write_text(compiled.program.as_text())
    if flags.loops:
        print(tpu.describe(compiled))
    needed = flops.flops_by(region, *plain_program(flags, experiment, devices))
    return facts | summarise(tpu.costs(compiled, region), needed, compiled.chip)


def make_program(flags: Any, experiment: Experiment, compute: Compute, devices: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return what the flags ask for, the step or the attention alone, and shapes of its arguments."""
    compute = dataclasses.replace(settle(compute), attention=flags.form)
    if flags.operator:
        return make_operator(experiment, compute, flags.operator, devices)
    return make_step_arguments(experiment, compute, devices)


def settle(compute: Compute) -> Compute:
    """Return how training computes where kernels have proved themselves."""
    implementation = "kernels" if compute.implementation == "auto" else compute.implementation
    return dataclasses.replace(compute, implementation=implementation)


def plain_program(flags: Any, experiment: Experiment, devices: Any) -> tuple[Any, ...]:
    """Return the same in the form that multiplies least: nothing computed twice, the attention's windows added up."""
    plain = dataclasses.replace(experiment.compute, implementation="plain", remat=False, loops=True)
    box = argparse.Namespace(**vars(flags) | {"form": "box"})
    step, arguments = make_program(box, experiment, plain, devices)
    return step, *arguments


def make_step_arguments(experiment: Experiment, compute: Compute, devices: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the real training step and shapes of its arguments, laid out over the devices as training does."""
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
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


def make_operator(experiment: Experiment, compute: Compute, k: int, devices: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the attention operator with its gradient, and shapes of query, key and value on the first chip."""
    batch, side = experiment.batch_size // len(devices), experiment.patch_size
    channels = experiment.network.n_feats
    on_chip = jax.sharding.SingleDeviceSharding(devices[0])

    def loss(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        attend = functools.partial(patch_attention, form=compute.attention, precision=compute.precision)
        return jnp.sum(jnp.sin(attend(query, key, value, k, uses_kernels=compute.uses_kernels)))

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


def summarise(costs: list[tpu.Cost], needed: dict[str, float], chip: Chip) -> dict[str, Any]:
    """Return the costs of each region, those of its Pallas kernels apart, and of all."""
    regions = list(dict.fromkeys([*SCOPES, NETWORK, OPTIMISER, *(cost.region for cost in costs)]))
    rows = [
        _row([cost for cost in costs if cost.region == name], name, needed.get(name, 0.0), chip) for name in regions
    ]
    rows = [row for row in rows if row["cycles"]]
    rows.append(_row(costs, ALL, sum(needed.values()), chip))
    return {"cycles": {row["region"]: row["cycles"] for row in rows[:-1]}, "regions": rows}


def _row(costs: list[tpu.Cost], name: str, needed: float, chip: Chip) -> dict[str, Any]:
    cycles = sum(cost.cycles for cost in costs)
    kernels = [dataclasses.asdict(cost) for cost in costs if cost.kernel] if name != ALL else []
    return {
        "region": name,
        "cycles": cycles,
        "bundle cycles": sum(cost.bundle_cycles for cost in costs),
        "FLOPs that the plain network needs": needed,
        "of peak": needed / (cycles * chip.flops_per_cycle) if cycles else 0.0,
        "HBM bytes": sum(cost.hbm_bytes for cost in costs),
        "XLA": {"cycles": cycles - sum(k["cycles"] for k in kernels)} if kernels else {},
        "kernels": kernels,
    }


def show(result: dict[str, Any]) -> None:
    """Print the facts and the table."""
    print("\n".join(f"{name}: {value}" for name, value in result.items() if name not in ("cycles", "regions")))
    if "regions" in result:
        print(measure.table(COLUMNS, list(_table_rows(result))))


def _table_rows(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    total = result["regions"][-1]["cycles"]

    def line(name: str, part: str, cost: dict[str, Any], **more: Any) -> dict[str, Any]:
        share = f"{cost['cycles'] / total:.0%}" if total else ""
        return {"region": name, "part": part, "M cycles": cost["cycles"] / 1e6, "share": share} | more

    for row in result["regions"]:
        needed = row["FLOPs that the plain network needs"] / 1e12
        whole = {"TFLOP": needed, "of peak": f"{row['of peak']:.1%}", "HBM GB": row["HBM bytes"] / 1e9}
        if result["all bundles"]:
            whole["M by bundles"] = row["bundle cycles"] / 1e6
        if row["region"] == ALL:
            whole["memory GiB"] = result["GiB per chip"]
        yield line(row["region"], "", row, **whole)
        if row["kernels"]:
            yield line("", "XLA", row["XLA"])
        for kernel in row["kernels"]:
            size = {"HBM GB": kernel["hbm_bytes"] / 1e9, "vmem MiB": kernel["vmem_bytes"] / 2**20}
            yield line("", f"Pallas: {kernel['kernel']}", kernel, runs=kernel["runs"], **size)


def side_by_side(old: dict[str, Any], new: dict[str, Any], change: str) -> str:
    """Return the table of two results, the regions of either."""
    before, after = ({row["region"]: row for row in result.get("regions", ())} for result in (old, new))
    names = sorted({*before, *after}, key=lambda name: name == ALL)
    rows = []
    for name in names:
        was, now = (rows.get(name, {}) for rows in (before, after))
        ratio = was["cycles"] / now["cycles"] if was.get("cycles") and now.get("cycles") else None
        row = {"region": name, "times fewer": ratio}
        for label, cost in ((change, was), ("as configured", now)):
            if cost:
                row[f"{label}: M cycles"] = cost["cycles"] / 1e6
                row[f"{label}: M by bundles"] = cost["bundle cycles"] / 1e6
                row[f"{label}: of peak"] = f"{cost['of peak']:.1%}"
                row[f"{label}: HBM GB"] = cost["HBM bytes"] / 1e9
        rows.append(row)
    kinds = ["M cycles", *(["M by bundles"] if new.get("all bundles") else []), "of peak", "HBM GB"]
    labels = [f"{label}: {what}" for what in kinds for label in (change, "as configured")]
    lines = [measure.table(["region", *labels[:2], "times fewer", *labels[2:]], rows)]
    for fact in ("GiB per chip", "compile seconds"):
        values = [f"{result[fact]:.3g}" if fact in result else "–" for result in (old, new)]
        lines.append(f"{fact}: {values[0]} with {change}, {values[1]} as configured")
    return "\n".join(lines)


def name_scopes() -> None:
    """Have every operation of the network's parts carry their names."""
    for name, part in SCOPES.items():
        part.__call__ = jax.named_scope(name.replace(" ", "_"))(part.__call__)  # type: ignore[attr-defined]


def run(main: Callable[[], None]) -> None:
    """Run a program that compiles for TPUs."""
    name_scopes()
    # The library takes the forms for the backend that it runs on, which here is not the one that is compiled for.
    with mock.patch("jax.default_backend", return_value="tpu"):
        measure.run(main)


if __name__ == "__main__":
    run(main)
