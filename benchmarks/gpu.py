"""GPUs that are not there: their compiler, and how many kernels a program is by what it says.

To be imported before JAX. A function alone, in the environment of `make gpu-compile`:

    from benchmarks import gpu
    print(gpu.describe(gpu.count(function, ((256, 128), "bfloat16"), ((128, 128), "bfloat16"), chip="h100")))
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # there may be a GPU, but it is not the one that is compiled for

import collections
import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from benchmarks import products, traffic
from benchmarks.chips.gpu import GPU, read_gpu
from benchmarks.hlo import Instruction, Module, read_module
from benchmarks.thunks import Thunk, read_thunks
from msnlan_jax.errors import InputError

KINDS = ("fusions", "Triton", "library", "copies", "collectives", "others")
_KERNELS = ("kKernel", "kCustomKernel")
_LIBRARY = (
    "kConvolution",
    "kCuDnn",
    "kGemm",
    "kCublasLtMatmul",
    "kCubSort",
    "kCustomCall",
    "kLegacyCustomCall",
    "kFft",
)
_COPIES = ("kCopy", "kDynamicMemcpy", "kMemzero", "kMemset32BitValue")
_COLLECTIVES = ("kAll", "kCollective", "kReduceScatter", "kRagged", "kNccl", "kSend", "kRecv")
# Fusions that XLA hands to Triton, and Pallas kernels.
_TRITON = ('"kind":"__triton', "xla.gpu.triton", "mosaic_gpu")


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled program.

    Attributes:
        gpu: what it is compiled for.
        program: JAX's compiled function.
        module: what its text says.
        thunks: what it starts.
        seconds: that compiling took.
    """

    gpu: GPU
    program: Any
    module: Module
    thunks: Sequence[Thunk]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a region of a program costs each time that the program runs.

    Attributes:
        region: its name.
        kernels: how many are started, by kind of `KINDS`.
        in_graphs: how many of these are in CUDA graphs.
        flops: of matrix products and convolutions.
        hbm_bytes: read and written.
        seconds: the larger of each kernel's FLOPs at peak and its bytes at the memory's bandwidth, added up.
    """

    region: str
    kernels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    in_graphs: int = 0
    flops: float = 0.0
    hbm_bytes: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Runs:
    """How often an instruction of a computation runs."""

    instruction: Instruction
    times: int
    computation: str


def devices(gpu: GPU) -> Any:
    """Return a machine's devices: one GPU.

    Raises:
        InputError: JAX cannot compile for GPUs here.
    """
    try:
        found = topologies.get_topology_desc(
            platform="cuda", topology_name="one", topology="1x1x1", target_config=gpu.target
        )
    except Exception as error:
        raise InputError(f"--chip: found no compiler for GPUs, expected that of jax[cuda12]: {error}") from None
    return found.devices


def compile_lowered(lowered: Any, gpu: GPU) -> Compiled:
    """Compile what was lowered for `devices`.

    Raises:
        JaxRuntimeError: it does not compile.
        ValueError: XLA left no list of what the program starts.
    """
    with tempfile.TemporaryDirectory(prefix="thunks-") as folder:
        began = time.perf_counter()
        # With no GPU at hand nothing can be tried out.
        program = lowered.compile(compiler_options={"xla_gpu_autotune_level": 0, "xla_dump_to": folder})
        seconds = time.perf_counter() - began
        texts = [list(Path(folder).glob(f"*.{name}.txt")) for name in _DUMPS]
        if [len(files) for files in texts] != [1, 1]:
            raise ValueError(f"found {texts} in XLA's dump, expected one list of thunks and one of their names")
        thunks = read_thunks(*(files[0].read_text() for files in texts))
    return Compiled(gpu, program, read_module(program.as_text()), thunks, seconds)


_DUMPS = ("thunk_sequence_after_thunk_passes", "thunk_metadata")


def count(function: Callable[..., Any], *shapes: tuple[tuple[int, ...], Any], chip: str = "h100") -> Compiled:
    """Compile a function of arrays, each given as shape and dtype, for a GPU."""
    gpu = read_gpu(chip)
    sharding = jax.sharding.SingleDeviceSharding(devices(gpu)[0])
    arguments = [jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for shape, dtype in shapes]
    return compile_lowered(jax.jit(function).lower(*arguments), gpu)


def costs(compiled: Compiled, region: Callable[[str], str] = lambda _: "") -> list[Cost]:
    """Return what each region costs."""
    runs, seen = find_runs(compiled.module), set()
    found: dict[str, list[Cost]] = {}
    for thunk in compiled.thunks:
        ran = _run_of(thunk, runs)
        name = region(compiled.module.scope(ran.instruction, ran.computation))
        cost = _cost(compiled, ran, name) if ran.instruction.name not in seen else Cost(name)
        seen.add(ran.instruction.name)  # which may start a second kernel, such as one that clears its result
        kernels = {kind_of(thunk, ran.instruction): ran.times}
        cost = dataclasses.replace(cost, kernels=kernels, in_graphs=ran.times * bool(thunk.graph))
        found.setdefault(name, []).append(cost)
    return [total(parts, name) for name, parts in sorted(found.items())]


def _cost(compiled: Compiled, ran: Runs, name: str) -> Cost:
    """Return what an instruction moves and computes."""
    gpu, where = compiled.gpu, (compiled.module, ran.instruction, ran.computation)
    moved, computed = traffic.hbm_bytes(*where), list(products.products(*where))
    busy = sum(product.flops / gpu.flops_per_second(product.dtype) for product in computed)
    flops, seconds = sum(product.flops for product in computed), max(busy, moved / gpu.bytes_per_second)
    return Cost(name, {}, 0, ran.times * flops, ran.times * moved, ran.times * seconds)


def total(costs: Sequence[Cost], region: str) -> Cost:
    """Return the sum of costs, under a region's name."""
    kernels: collections.Counter[str] = collections.Counter()
    for cost in costs:
        kernels.update(cost.kernels)
    sums = {name: sum(getattr(cost, name) for cost in costs) for name in ("in_graphs", "flops", "hbm_bytes", "seconds")}
    return Cost(region, {kind: kernels[kind] for kind in KINDS}, **sums)


def graphs(compiled: Compiled) -> int:
    """Return how often a CUDA graph is started."""
    runs = find_runs(compiled.module)
    first = {thunk.graph: _run_of(thunk, runs).times for thunk in reversed(compiled.thunks) if thunk.graph}
    return sum(first.values())


def waits(compiled: Compiled) -> int:
    """Return how often the host waits to know whether a loop goes on, of loops whose length the compiler does not
    know."""
    return sum(
        run.times * (compiled.module.trips(run.instruction) + 1)
        for run in find_runs(compiled.module).values()
        if run.instruction.opcode == "while" and not run.instruction.has_known_trips
    )


def unknown_kernels(compiled: Compiled) -> list[str]:
    """Return the Pallas kernels, of which only the bytes of operands and results are counted."""
    found = {_run_of(thunk, find_runs(compiled.module)).instruction for thunk in compiled.thunks}
    return sorted(i.name for i in found if i.opcode == "custom-call" and any(mark in i.line for mark in _TRITON))


def kind_of(thunk: Thunk, instruction: Instruction) -> str:
    """Return which of `KINDS` a thunk is."""
    if thunk.kind in (*_KERNELS, "kCustomCall") and any(mark in instruction.line for mark in _TRITON):
        return "Triton"
    if thunk.kind in _KERNELS:
        return "fusions"
    if thunk.kind in _LIBRARY:
        return "library"
    if thunk.kind in _COPIES:
        return "copies"
    return "collectives" if thunk.kind.startswith(_COLLECTIVES) else "others"


def find_runs(module: Module) -> dict[str, Runs]:
    """Return how often each instruction runs, by its name.

    A loop's condition does not run where the compiler knows the loop's length; elsewhere once more than the body.
    """
    found: dict[str, Runs] = {}
    for instruction, times, computation in module.walk():
        found[instruction.name] = Runs(instruction, times, computation)
        if instruction.opcode == "while":
            condition = instruction.called("condition")
            tests = 0 if instruction.has_known_trips else times * (module.trips(instruction) + 1)
            found |= {i.name: Runs(i, tests, condition) for i in module.computations[condition].values()}
    return found


def _run_of(thunk: Thunk, runs: dict[str, Runs]) -> Runs:
    """Return the run of the instruction that a thunk comes from, or of the fusion that this is in."""
    for name in thunk.names:
        if name in runs:
            return runs[name]
    raise ValueError(f"{thunk.names[0]}: the program's text has no such instruction")


def describe(compiled: Compiled) -> str:
    """Return a line for each kernel, those that run most first."""
    runs = find_runs(compiled.module)
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    for thunk in compiled.thunks:
        ran = _run_of(thunk, runs)
        kind = kind_of(thunk, ran.instruction) + (", in a graph" if thunk.graph else "")
        found[f"{ran.instruction.name} ({kind})", ran.instruction.op_name] += ran.times
    lines = [f"{times:6,} {name}: {scope}" for (name, scope), times in found.most_common()]
    return "\n".join([*lines, f"{found.total():6,} in all"])
