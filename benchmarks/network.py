"""The whole network: forward and training step, ours against the PyTorch reference.

`python -m benchmarks.network [--config configs/x4.py] [--config.FIELD=value ...] [--forward 1x60] [--step 4x48]`:
forward passes and training steps of batches BxSIDE, comma-separated. `--compare` adds ways of ours, each with other
values of some fields, as in `--compare "implementation=plain,blocks=scan;implementation=kernels"`. PyTorch runs
eagerly and, with `--compile`, through `torch.compile`; in bfloat16 through autocast, in which its parameters stay
float32 as ours do. Both steps are L1, Adam and averaged parameters. Ratios are PyTorch's median time over each way's,
from runs that take turns; the time to the first step is building the network, compiling, and one run. TFLOP/s are of
the operations that the first of our ways is written with, in all rows; GB/s are of the bytes that XLA counts, loops
once; kernels are what a GPU runs of ours, by the profiler.
"""

import copy
import dataclasses
import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from jax.sharding import AxisType

from benchmarks import measure, reports, torch_way
from benchmarks.flops import traced_flops
from benchmarks.loader import Cut
from msnlan_jax.errors import InputError
from msnlan_jax.network import MSNLAN, parameters, torch_reference
from msnlan_jax.runtime import command, config_flags
from msnlan_jax.training import Experiment, init_state, make_step, read_experiment, settle_implementation

COLUMNS = ("pass", "batch", "dtype", "way", "ms", "× PyTorch", "TFLOP/s", "GB/s", "MiB", "kernels", "first s")


def main() -> None:
    """Measure, print a table, and write it."""
    parser = command.Parser("python -m benchmarks.network", description=__doc__)
    config_flags.add_to(parser, default="configs/x4.py")
    parser.add_argument("--forward", default="1x60", help="batches, as in 1x60,4x48")
    parser.add_argument("--step", default="4x48", help="batches, as in 4x48,16x48")
    parser.add_argument("--dtypes", default="float32", help="float32, bfloat16")
    parser.add_argument("--form", default="auto", help="of the attention")
    parser.add_argument(
        "--compare", default="", metavar="FIELD=value", help="ours so too: fields by commas, further ways by semicolons"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile besides")
    measure.add_flags(parser, "network")
    flags = config_flags.parse(parser)
    torch_way.use_precision(flags.precision)
    rows: list[dict[str, Any]] = []
    for dtype in flags.dtypes.split(","):
        experiments = {"ours": read_as(flags, dtype)}
        for changes in filter(None, flags.compare.split(";")):
            changed = reports.with_changes(flags, changes.split(","))
            experiments[f"ours, {changes.replace(',', ', ')}"] = read_as(changed, dtype)
        for which, batches in (("forward", flags.forward), ("step", flags.step)):
            for batch in filter(None, batches.split(",")):
                rows += compare(experiments, which, batch, flags)
    print(f"{measure.device_name()}: {flags.config_file}, matrix products in {flags.precision} precision")
    print(measure.table(COLUMNS, rows))
    facts = {"config": flags.config_file, "model": flags.config.model.to_dict()}
    facts |= {name: vars(flags)[name] for name in ("changes", "compare", "precision", "form", "rounds")}
    print(measure.write(flags.name, facts | {"rows": rows}, folder=flags.output, note=flags.note))


def read_as(flags: Any, dtype: str) -> Experiment:
    """Return the experiment of the flags in a dtype, computed as training would on this device."""
    flags.config.precision, flags.config.dtype = flags.precision, dtype
    experiment = read_experiment(flags.config)
    compute, fault = settle_implementation(experiment)
    if fault:
        print(f"kernels: {fault}; the plain layers instead")
    return dataclasses.replace(experiment, compute=compute)


def compare(experiments: Mapping[str, Experiment], which: str, batch: str, flags: Any) -> list[dict[str, Any]]:
    """Return the rows of one pass on one batch."""
    try:
        n, side = map(int, batch.split("x"))
    except ValueError:
        raise InputError(f"--{which}: found {batch!r}, expected as in 4x48") from None
    experiment = experiments["ours"]
    lr = measure.uint8(0, n, side, side, 3)
    hr = measure.uint8(1, n, side * experiment.scale, side * experiment.scale, 3)
    ways: dict[str, measure.Way] = {}
    facts: dict[str, dict[str, Any]] = {}
    operations = 0.0
    for name, ours in experiments.items():
        ways[name], facts[name], counted = jax_way(ours, which, lr, hr, flags.form)
        operations = operations or counted
    for name in ("PyTorch", "PyTorch compiled") if flags.compile else ("PyTorch",):
        began = time.perf_counter()
        try:
            ways[name] = reference_way(experiment, which, lr, hr, compiles=name != "PyTorch")
            ways[name]()
            facts[name] = {"first s": time.perf_counter() - began, "MiB": torch_way.peak_mib(ways[name])}
        except Exception as error:  # torch.compile needs a C++ compiler or Triton, and memory can run out
            ways.pop(name, None)
            facts[name] = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"}
            print(f"{name}, {which} {batch}: {facts[name]['error']}")
    times = measure.interleave(ways, flags.rounds)
    rows = []
    for name, fact in facts.items():
        row = {"pass": which, "batch": batch, "dtype": experiment.compute.dtype, "way": name} | fact
        if name in times:
            row["ms"] = times[name] * 1e3
            row["TFLOP/s"] = operations / times[name] / 1e12
            row["× PyTorch"] = times["PyTorch"] / times[name] if "PyTorch" in times else None
            if moved := row.pop("bytes", None):
                row["GB/s"] = moved / times[name] / 1e9
        rows.append(row)
    ways.clear()
    gc.collect()
    return rows


def jax_way(
    experiment: Experiment, which: str, lr: np.ndarray, hr: np.ndarray, form: str
) -> tuple[measure.Way, dict[str, Any], float]:
    """Return a way of running ours, what building and compiling it said, and its operations as they are written."""
    began = time.perf_counter()
    compute = dataclasses.replace(experiment.compute, attention=form)
    graph, values = parameters.split(MSNLAN(experiment.network, compute, rngs=nnx.Rngs(0)))
    function: Any
    if which == "forward":

        def function(values: parameters.Parameters, x: jax.Array) -> jax.Array:
            model: Any = parameters.merge(graph, values)
            output: jax.Array = model(x)
            return output

        arguments: tuple[Any, ...] = (values, jnp.asarray(lr, jnp.float32))
        run, compiled, _ = measure.compiled_way(function, *arguments)
    else:
        mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
        function = make_step(graph, experiment, mesh, Cut())
        arguments = (init_state(experiment, jax.device_get(values)), (), (jnp.asarray(lr), jnp.asarray(hr)))
        compiled = function.lower(*arguments).compile()
        run = _steps(compiled, *arguments)
    run()
    facts: dict[str, Any] = {
        "first s": time.perf_counter() - began,
        "kernels": measure.kernels_started(run),
        "MiB": (measure.temporary_bytes(compiled) or 0) / 2**20,
        "bytes": (compiled.cost_analysis() or {}).get("bytes accessed"),
    }
    return run, facts, traced_flops(function, *arguments)


def _steps(compiled: Any, state: Any, *others: Any) -> measure.Way:
    """Return a way of taking one step after another."""
    # The state is given up to every step, so nothing of it may be shared.
    state = jax.tree.map(jnp.copy, state)

    def run() -> None:
        nonlocal state
        state, metrics = compiled(state, *others)
        jax.block_until_ready((state, metrics))

    return run


def reference_way(
    experiment: Experiment, which: str, lr: np.ndarray, hr: np.ndarray, *, compiles: bool, foreach: bool | None = None
) -> Callable[[], None]:
    """Return a way of running the PyTorch reference; `foreach` as in Adam, by default on GPU only."""
    device = torch_way.torch_device()
    network = torch_reference.MSNLAN(experiment.network).to(device)
    averaged = copy.deepcopy(network)
    trained: list[torch.Tensor] = [p for p in network.parameters() if p.requires_grad]
    average: list[torch.Tensor] = [p for p in averaged.parameters() if p.requires_grad]
    betas = experiment.adam_b1, experiment.adam_b2
    optimizer = torch.optim.Adam(trained, lr=experiment.learning_rate, betas=betas, foreach=foreach)
    run: Any = torch.compile(network) if compiles else network
    x, y = (torch_way.pictures(array.astype(np.float32)) for array in (lr, hr))
    is_autocast = experiment.compute.dtype == "bfloat16"

    def forward() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=is_autocast):
            run(x)
        torch_way.wait()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=is_autocast):
            sr = run(x)
        (sr.float() - y).abs().mean().backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, trained, 1 - experiment.ema_decay)
        torch_way.wait()

    return forward if which == "forward" else step


if __name__ == "__main__":
    measure.run(main)
