"""TPUs that are not there: their compiler, and what it says of a program, Pallas kernels included.

To be imported before JAX. A kernel alone, in the environment of `make tpu-compile`:

    from benchmarks import tpu
    print(tpu.describe(tpu.count(function, ((256, 128), "bfloat16"), ((128, 128), "bfloat16"), topology="v5e:2x2")))
"""

import os

# There is no machine to ask what it is.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",  # whatever the topology is
    "TPU_WORKER_HOSTNAMES": "localhost",
}

import atexit
import collections
import contextlib
import dataclasses
import functools
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from benchmarks import bundles, hlo, traffic
from benchmarks.chips import Chip, read_chip
from msnlan_jax.errors import InputError

_DUMPS = (
    "--xla_jf_dump_to={} --xla_jf_dump_hlo_text=false --xla_jf_dump_llo_text=true "
    "--xla_jf_dump_llo_pass_label_regex=^({})$"
)
_LABELS = "final_bundles|deduplication-map"  # of 70 files for each kernel the ones that are read


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled program and its costs.

    Attributes:
        chip: what it is compiled for.
        program: JAX's compiled function.
        module: what its text says.
        kernels: the count of each instruction that runs a Pallas kernel, by name.
        others: that of XLA's own instructions, as far as they were asked for and can be counted.
        seconds: that compiling took.
    """

    chip: Chip
    program: Any
    module: hlo.Module
    kernels: Mapping[str, bundles.Count]
    others: Mapping[str, bundles.Count]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a part of a program costs each time that the program runs.

    Attributes:
        region: where it comes from.
        kernel: name of the Pallas kernel; empty for all that XLA compiles.
        runs: how many instructions run.
        cycles: in all, by XLA's estimates and by kernels' bundles.
        bundle_cycles: in all, by the bundles of XLA's instructions too, where these are counted.
        hbm_bytes: moved to and from HBM.
        vmem_bytes: vector memory that the kernel takes.
    """

    region: str
    kernel: str
    runs: int
    cycles: int
    bundle_cycles: int
    hbm_bytes: int
    vmem_bytes: int = 0


@functools.cache
def _dump_folder() -> Path:
    """Have libtpu, which reads its flags when it is first used, dump into a folder that goes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="bundles-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    flags = [os.environ.get("LIBTPU_INIT_ARGS", ""), _DUMPS.format(folder, _LABELS)]
    os.environ["LIBTPU_INIT_ARGS"] = " ".join(flags).strip()
    return folder


def devices(topology: str) -> Any:
    """Return the devices of a topology, as of "v5e:2x2" or "v5p:2x2x1".

    Raises:
        InputError: libtpu does not know it, or `benchmarks/chips` has no such chip.
    """
    # As JAX has it on the machines: both cores of a chip are one device.
    options = {"chip_config_name": "megacore"} if read_chip(topology).cores > 1 else {}
    _dump_folder()
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology, **options).devices
    except Exception as error:
        raise InputError(f"--topology: found {topology!r}, expected one that libtpu knows: {error}") from None


def compile_lowered(lowered: Any, topology: str, all_bundles: bool = False) -> Compiled:
    """Compile what was lowered for devices of a topology, and count its Pallas kernels.

    Args:
        lowered: a jitted function, lowered for such devices.
        topology: as of `devices`.
        all_bundles: count the bundles of XLA's own instructions too, where it is possible.

    Raises:
        JaxRuntimeError: it does not compile, as for want of memory.
        UnknownTripsError: how often a loop of a kernel runs cannot be read.
        ValueError: libtpu left no bundles of a kernel.
    """
    chip, folder = read_chip(topology), _dump_folder()
    began = time.perf_counter()
    try:
        program = lowered.compile()
        seconds = time.perf_counter() - began
        module = hlo.read_module(program.as_text())
        files = bundles.kernel_files(folder)
        counted = functools.cache(lambda path: bundles.count_file(path, chip))
        kernels, others = {}, {}
        for instruction, _, _ in module.walk():
            name = instruction.name
            if instruction.is_pallas:
                if name not in files:
                    raise ValueError(f"{name}: found no final bundles in libtpu's dump")
                kernels[name] = counted(files[name])
            elif all_bundles and name in files:
                with contextlib.suppress(bundles.UnknownTripsError):
                    others[name] = counted(files[name])
    finally:
        for path in folder.iterdir():
            path.unlink()
    return Compiled(chip, program, module, kernels, others, seconds)


def count(function: Callable[..., Any], *shapes: tuple[tuple[int, ...], Any], topology: str = "v5e:2x2") -> Compiled:
    """Compile a function of arrays, each given as shape and dtype, for a topology's first chip, and count it."""
    chip = jax.sharding.SingleDeviceSharding(devices(topology)[0])
    arguments = [jax.ShapeDtypeStruct(shape, dtype, sharding=chip) for shape, dtype in shapes]
    return compile_lowered(jax.jit(function).lower(*arguments), topology)


def costs(compiled: Compiled, region: Callable[[str], str] = lambda _: "") -> list[Cost]:
    """Return what each region costs: what XLA compiles, then each Pallas kernel."""
    found: dict[tuple[str, str], collections.Counter[str]] = {}
    for instruction, times, computation in compiled.module.walk():
        if instruction.opcode in ("while", "call", "conditional"):
            continue  # whose own estimates are those of their bodies
        where, kernel, vmem = region(compiled.module.scope(instruction, computation)), "", 0
        if instruction.is_pallas:
            counted = compiled.kernels[instruction.name]
            kernel, vmem = _kernel_name(instruction), _vmem_bytes(instruction)
            cycles = by_bundles = counted.cycles
            moved = counted.hbm_bytes
        else:
            cycles, moved = instruction.cycles, traffic.hbm_bytes(compiled.module, instruction, computation)
            other = compiled.others.get(instruction.name)
            by_bundles = other.cycles if other and cycles else cycles
        part = found.setdefault((where, kernel), collections.Counter())
        part.update(
            runs=times if cycles or moved else 0,
            cycles=times * cycles,
            bundle_cycles=times * by_bundles,
            hbm_bytes=times * moved,
        )
        part["vmem_bytes"] = max(part["vmem_bytes"], vmem)
    return [
        Cost(region=where, kernel=kernel, **part) for (where, kernel), part in sorted(found.items()) if part["runs"]
    ]


def describe(compiled: Compiled) -> str:
    """Return a line for each Pallas kernel and each of its loops."""
    return "\n".join(_describe(compiled))


def _describe(compiled: Compiled) -> Iterator[str]:
    for instruction, times, _ in compiled.module.walk():
        if not instruction.is_pallas:
            continue
        counted = compiled.kernels[instruction.name]
        yield (
            f"{_kernel_name(instruction)} ({instruction.name}), {times} times: {counted.cycles:,} cycles; HBM "
            f"{counted.hbm_bytes:,} bytes, {counted.hbm_cycles:,} cycles; vmem {_vmem_bytes(instruction):,} bytes"
        )
        for loop in counted.loops:
            where = f"loop {loop.first:#x}-{loop.last:#x}" if loop.depth else "outside loops"
            yield (
                f"{'  ' * (loop.depth + 1)}{where}: {loop.trips:,} trips, {loop.bundles:,} bundles, "
                f"busiest multiplier {loop.multiplier:,} cycles"
            )
        yield from (f"  counted although it may be passed over: {branch}" for branch in counted.unread)


def _kernel_name(instruction: hlo.Instruction) -> str:
    found = re.search(r"([^/]+)/pallas_call", instruction.op_name)
    return found.group(1) if found else instruction.name.rpartition(".")[0] or instruction.name


def _vmem_bytes(instruction: hlo.Instruction) -> int:
    used = instruction.line.partition('"used_scoped_memory_configs"')[2].partition("]")[0]
    return sum(int(size) for size in re.findall(r'"memory_space":"1"[^}]*"size":"(\d+)"', used))
