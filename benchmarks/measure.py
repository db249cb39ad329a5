"""What the benchmark programs share: taking turns, processes of their own, tables, and where results go."""

import argparse
import importlib.metadata
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import command, compiler_options, count_cores

RESULTS = Path("benchmarks/results")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "libtpu")

Way = Callable[[], Any]


def run(main: Callable[[], None]) -> None:
    """Run a program as `command.run` does, but compile everything anew, so that compile times are true."""
    jax.config.update("jax_enable_compilation_cache", False)
    command.run(main)


def interleave(ways: Mapping[Any, Way], rounds: int, warmups: int = 1) -> dict[Any, float]:
    """Return the median seconds of each way, run in turns so that the machine's other work falls on all alike.

    A way ends by waiting for its result. The runs before the first round are not counted.
    """
    seconds: dict[Any, list[float]] = {name: [] for name in ways}
    for turn in range(-warmups, rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compiled_way(function: Callable[..., Any], *arguments: Any) -> tuple[Way, Any, float]:
    """Compile a function for its arguments; return a way of running it, the compiled program, and compile seconds."""
    began = time.perf_counter()
    compiled = jax.jit(function, compiler_options=compiler_options()).lower(*arguments).compile()
    return lambda: jax.block_until_ready(compiled(*arguments)), compiled, time.perf_counter() - began


def kernels_started(run: Way) -> int | None:
    """Return of how many kernels and copies one run is on a GPU, by JAX's profiler; None on other devices."""
    if jax.default_backend() != "gpu":
        return None
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (path,) = Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(path)).planes
    lines = [line for plane in planes if plane.name.startswith("/device:GPU") for line in plane.lines]
    return sum(sum(1 for _ in line.events) for line in lines if line.name.startswith("Stream"))


def temporary_bytes(compiled: Any) -> int | None:
    """Return the memory that a compiled program uses besides arguments and results, as the compiler planned it."""
    analysis = compiled.memory_analysis()
    return None if analysis is None else int(analysis.temp_size_in_bytes)


def in_process(module: str, one: str) -> Any:
    """Return what a program prints as JSON for `--one`, with this program's other flags, in a process of its own."""
    done = subprocess.run([sys.executable, "-m", module, *sys.argv[1:], "--one", one], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InputError(f"{one}: {reason.removeprefix('error: ')}")
    return json.loads(done.stdout.splitlines()[-1])


def add_flags(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the flags of programs that time ways against each other; `name` is that of their file of results."""
    parser.add_argument("--precision", default="highest", choices=("highest", "high", "default"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default=name, help="of the file of results")
    add_result_flags(parser)


def add_result_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every program that writes its result."""
    parser.add_argument("--output", default="", help="folder for the numbers, by default benchmarks/results/<device>")
    parser.add_argument("--note", default="", help="kept with the numbers")


def normal(seed: int, *shape: int) -> np.ndarray:
    """Return standard normal float32 values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def uint8(seed: int, *shape: int) -> np.ndarray:
    """Return uniform values 0..255."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def device_name() -> str:
    """Return the device's name as a folder's, as in "cpu-2-cores" or "nvidia-h100-80gb-hbm3"."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"cpu-{count_cores()}-cores"
    return "-".join(device.device_kind.lower().split())


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide about speed, of those that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table; what a row does not have is a dash."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def write(name: str, result: Mapping[str, Any], *, folder: str | Path = "", device: str = "", note: str = "") -> Path:
    """Write a result, with the device's name and versions, and return its file.

    Args:
        name: the program's name, that of the file without `.json`.
        result: what was measured.
        folder: where results go, by default `benchmarks/results/<device>`.
        device: its name, by default that of JAX's first device.
        note: what else a reader should know about the run, as that cores were shared.
    """
    device = device or device_name()
    path = Path(folder) if folder else RESULTS / device
    path.mkdir(parents=True, exist_ok=True)
    path /= f"{name}.json"
    facts = {"device": device, "versions": versions()} | ({"note": note} if note else {})
    path.write_text(json.dumps(facts | dict(result), indent=2) + "\n")
    return path
