"""Compile the training step for a GPU that is not there, and report of how many kernels it is.

`make gpu-compile ARGS="--config configs/x4.py --chip h100"`, or with the packages of `.venv-gpu` at hand
`python -m benchmarks.gpu_compile --config FILE [--chip a100] [--config.FIELD=value ...] [--batch 16]`.
`--compare FIELD=value` compiles the configuration with that change too, and puts it beside.
`--operator 7` compiles the attention alone, forward and gradient; `--forward 339x510` the forward pass of evaluation.
Kernels are what the program starts, each as often as it runs. The roofline's time is no measurement: it is what each
kernel would take at the chip's published peaks, started in no time.
"""

from benchmarks import gpu  # isort: skip  # before JAX

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from benchmarks import hlo, measure, programs, reports
from benchmarks.chips.gpu import names, read_gpu
from benchmarks.programs import ALL
from msnlan_jax.runtime import command, config_flags
from msnlan_jax.training import read_experiment

COLUMNS = ("region", "kernels", *gpu.KINDS, "in CUDA graphs", "TFLOP", "HBM GB", "roofline ms", "memory GiB")
_FACTS = ("regions", "compared with")


def main() -> None:
    """Compile, print a table, and write it."""
    parser = command.Parser("python -m benchmarks.gpu_compile", description=__doc__)
    parser.add_argument("--chip", default="h100", help=" or ".join(names()))
    parser.add_argument("--batch", type=int, default=0, help="pictures, instead of the configuration's")
    parser.add_argument("--kernels", action="store_true", help="also print every kernel, those that run most first")
    reports.add_flags(parser)
    flags = config_flags.parse(parser)
    result = reports.compare(flags, report, show, measures)
    name = reports.result_name(flags, "", f"batch-{flags.batch}" if flags.batch else "")
    print(measure.write(name, result, device=f"{flags.chip}-compiler", folder=flags.output, note=flags.note))


def report(flags: Any) -> dict[str, Any]:
    """Return what the compiler says of the program."""
    chip = read_gpu(flags.chip)
    devices = gpu.devices(chip)
    if flags.batch:
        flags.config.batch_size = flags.batch
    experiment = read_experiment(flags.config, len(devices))
    facts: dict[str, Any] = {
        "config": flags.config_file,
        "changes": flags.changes,
        "chip": chip.description,
        "pictures": 1 if flags.forward else experiment.batch_size,
        "dtype": experiment.compute.dtype,
        "form": flags.form,
        "implementation": programs.settle(experiment.compute).implementation,
    } | programs.describe(flags)
    step, arguments = programs.make_program(flags, experiment, experiment.compute, devices)
    try:
        compiled = gpu.compile_lowered(step.lower(*arguments), chip)
    except jax.errors.JaxRuntimeError as error:
        return facts | {"compiles": False, "error": str(error)[:2000]}
    facts |= {"compiles": True, "compile seconds": compiled.seconds}
    facts |= programs.gib_per_chip(compiled.program) | {"GiB that the chip has": chip.memory_gib}
    facts |= {"CUDA graphs started": gpu.graphs(compiled), "waits of the host for a loop": gpu.waits(compiled)}
    facts["collectives"] = hlo.collectives(compiled.module)
    if unknown := gpu.unknown_kernels(compiled):
        facts["Pallas kernels, whose FLOPs are not counted"] = unknown
    if flags.hlo:
        Path(flags.hlo).write_text(compiled.program.as_text())
    if flags.kernels:
        print(gpu.describe(compiled))
    return facts | summarise(gpu.costs(compiled, programs.region))


def summarise(costs: list[gpu.Cost]) -> dict[str, Any]:
    """Return the costs of each region, and of all."""
    by_name = {cost.region: cost for cost in costs}
    regions = [by_name[name] for name in programs.by_region(by_name) if name in by_name]
    return {"regions": [_row(cost) for cost in [*regions, gpu.total(costs, ALL)]]}


def _row(cost: gpu.Cost) -> dict[str, Any]:
    return {
        "region": cost.region,
        "kernels": sum(cost.kernels.values()),
        "by kind": dict(cost.kernels),
        "in CUDA graphs": cost.in_graphs,
        "FLOPs": cost.flops,
        "HBM bytes": cost.hbm_bytes,
        "roofline seconds": cost.seconds,
    }


def show(result: dict[str, Any]) -> None:
    """Print the facts and the table."""
    print("\n".join(f"{name}: {value}" for name, value in result.items() if name not in _FACTS))
    if "regions" in result:
        rows = [
            row["by kind"] | {title: value(row) for title, value in _SHOWN.items()} | {"region": row["region"]}
            for row in result["regions"]
        ]
        rows[-1]["memory GiB"] = result["GiB per chip"]
        print(measure.table(COLUMNS, rows))


_SHOWN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "kernels": lambda row: row["kernels"],
    "in CUDA graphs": lambda row: row["in CUDA graphs"],
    "TFLOP": lambda row: row["FLOPs"] / 1e12,
    "HBM GB": lambda row: row["HBM bytes"] / 1e9,
    "roofline ms": lambda row: row["roofline seconds"] * 1e3,
}


def measures(result: dict[str, Any]) -> Mapping[str, Callable[[dict[str, Any]], Any]]:
    """Return what is compared of the regions of results."""
    return _SHOWN


if __name__ == "__main__":
    programs.run(main, "gpu")
