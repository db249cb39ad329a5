"""Compile the training step for TPUs that are not there, and report what the compiler says of it.

`make tpu-compile ARGS="--config configs/x4.py --topology v5e:2x2"`, or with the packages of `.venv-tpu` at hand
`python -m benchmarks.tpu_compile --config FILE [--topology v5e:16x16] [--config.FIELD=value ...] [--chip_batch 16]`.
`--compare FIELD=value` compiles the configuration with that change too, and puts it beside.
`--operator 7` compiles the attention alone, forward and gradient; `--forward 339x510` the forward pass of evaluation.
Memory is per chip. Cycles are the estimates of the compiler's scheduler, those of Pallas kernels counted from its
instruction bundles, each loop's body as often as it runs; they are no measurement, and leave out waiting for memory
that it does not foresee.
"""

from benchmarks import tpu  # isort: skip  # before JAX

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import jax

from benchmarks import flops, hlo, measure, programs, reports
from benchmarks.chips import Chip, read_chip
from benchmarks.programs import ALL
from msnlan_jax.runtime import command, config_flags
from msnlan_jax.training import read_experiment

COLUMNS = (
    *("region", "part", "runs", "M cycles", "share", "M by bundles", "TFLOP", "of peak", "HBM GB", "vmem MiB"),
    "memory GiB",
)


def main() -> None:
    """Compile, print a table, and write it."""
    parser = command.Parser("python -m benchmarks.tpu_compile", description=__doc__)
    parser.add_argument("--topology", default="v5e:2x2", help="as in v5e:2x2, v5e:16x16, v5p:2x2x2, v4:2x2x1, v6e:2x2")
    parser.add_argument("--chip_batch", type=int, default=0, help="pictures on each chip, instead of the global batch")
    parser.add_argument("--all_bundles", action="store_true", help="count XLA's own instructions by bundles as well")
    parser.add_argument("--loops", action="store_true", help="also print what each loop of each Pallas kernel costs")
    reports.add_flags(parser)
    flags = config_flags.parse(parser)
    result = reports.compare(flags, report, show, measures)
    batch = f"chip_batch-{flags.chip_batch}" if flags.chip_batch else ""
    name, device = reports.result_name(flags, flags.topology, batch), f"tpu-{flags.topology.split(':')[0]}-compiler"
    print(measure.write(name, result, device=device, folder=flags.output, note=flags.note))


def report(flags: Any) -> dict[str, Any]:
    """Return what the compiler says of the program."""
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
        "pictures per chip": 1 if flags.forward else experiment.batch_size // len(devices),
        "dtype": experiment.compute.dtype,
        "form": flags.form,
        "implementation": programs.settle(experiment.compute).implementation,
        "all bundles": flags.all_bundles,
    } | programs.describe(flags)
    step, arguments = programs.make_program(flags, experiment, experiment.compute, devices)
    try:
        compiled = tpu.compile_lowered(step.lower(*arguments), flags.topology, flags.all_bundles)
    except jax.errors.JaxRuntimeError as error:
        return facts | {"compiles": False, "error": str(error)[:2000]}
    facts |= {"compiles": True, "compile seconds": compiled.seconds}
    facts |= programs.gib_per_chip(compiled.program)
    facts["collectives"] = hlo.collectives(compiled.module)
    if unread := sorted(name for name, kernel in compiled.kernels.items() if kernel.unread):
        facts["kernels with conditions that only the chip knows"] = unread
    if flags.hlo:
        Path(flags.hlo).write_text(compiled.program.as_text())
    if flags.loops:
        print(tpu.describe(compiled))
    plain, arguments = programs.plain_program(flags, experiment, devices)
    needed = flops.flops_by(programs.region, plain, *arguments)
    return facts | summarise(tpu.costs(compiled, programs.region), needed, compiled.chip)


def summarise(costs: list[tpu.Cost], needed: dict[str, float], chip: Chip) -> dict[str, Any]:
    """Return the costs of each region, those of its Pallas kernels apart, and of all."""
    rows = [
        _row([cost for cost in costs if cost.region == name], name, needed.get(name, 0.0), chip)
        for name in programs.by_region(cost.region for cost in costs)
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


def measures(result: dict[str, Any]) -> Mapping[str, Callable[[dict[str, Any]], Any]]:
    """Return what is compared of the regions of results."""
    shown: dict[str, Callable[[dict[str, Any]], Any]] = {"M cycles": lambda row: row["cycles"] / 1e6}
    if result.get("all bundles"):
        shown["M by bundles"] = lambda row: row["bundle cycles"] / 1e6
    return shown | {"of peak": lambda row: f"{row['of peak']:.1%}", "HBM GB": lambda row: row["HBM bytes"] / 1e9}


def run(main: Callable[[], None]) -> None:
    """Run a program that compiles for TPUs."""
    programs.run(main, "tpu")


if __name__ == "__main__":
    run(main)
