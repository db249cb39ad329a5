"""The machine a process runs on: its cores, and the memory that may be taken."""

import os
import re
import resource
from pathlib import Path

import jax

GB = 10**9
# Of the memory that is free, so much is taken if nobody says.
_SHARE = 0.8
# Of the addresses that `ulimit -v` leaves, so many go to no memory: stacks, of 8 MiB, of the 18 threads that XLA starts
# after a picture is planned.
_STACK_BYTES = 18 * 8 * 2**20
# Where a container's bound is, as what it is listed in /proc/self/cgroup, what it has taken of it, and the name of what
# could be given back: versions 2 and 1.
_CGROUPS = (
    ("sys/fs/cgroup", "", "memory.max", "memory.current", "inactive_file"),
    ("sys/fs/cgroup/memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def limit_bytes(memory_limit: float | None) -> float:
    """Return how much memory may be taken; if nobody says, most of the accelerator's, or of what is free."""
    if memory_limit is not None:
        return memory_limit * GB
    stats = jax.local_devices()[0].memory_stats() or {}
    return _SHARE * (stats.get("bytes_limit") or free_bytes())


def limit_gb(memory_limit: float | None) -> float:
    """Return `limit_bytes` in GB, for a command to ask once: what its pictures leave with the C library would count as
    taken, and how a picture is run is not to depend on those before."""
    return limit_bytes(memory_limit) / GB


def describe_devices() -> str:
    """Say on how many devices programs run, and of what kind; empty for a single one."""
    n_devices, n_processes = jax.device_count(), jax.process_count()
    processes = f" of {n_processes} processes" if n_processes > 1 else ""
    return f"{n_devices} devices{processes}: {jax.local_devices()[0].device_kind}" if n_devices > 1 else ""


def count_cores() -> int:
    """Return how many cores this process may use, as far as the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_bytes(root: Path = Path("/")) -> int:
    """Memory that can be had without swapping, within the bounds of containers and of `ulimit -v`, as they are now."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    if (available := _number(root / "proc/meminfo", r"^MemAvailable: *(\d+) kB")) is not None:
        found.append(available * 1024)
    for top, controller, bound, used, cached in _CGROUPS:
        for folder in _own_folders(root, top, controller):
            most, taken = (_number(folder / name, r"^(\d+)") for name in (bound, used))
            if most is not None and taken is not None:
                # Files read once are given up when memory is short.
                found.append(most - taken + (_number(folder / "memory.stat", rf"^{cached} (\d+)") or 0))
    if (addresses := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        mapped = _number(root / "proc/self/statm", r"^(\d+)") or 0
        found.append(addresses - mapped * os.sysconf("SC_PAGE_SIZE") - _STACK_BYTES)
    return max(0, min(found))


def _own_folders(root: Path, top: str, controller: str) -> list[Path]:
    """Return the folders of this process's groups, from the innermost to the one that holds all."""
    listed = root / "proc/self/cgroup"
    lines = listed.read_text().splitlines() if listed.exists() else []
    paths = [path for _, names, path in (line.split(":", 2) for line in lines) if controller in names.split(",")]
    folder = root / top / (paths[0].lstrip("/") if paths else "")
    return [found for found in (folder, *folder.parents) if found.is_relative_to(root / top)]


def _number(path: Path, pattern: str) -> int | None:
    match = re.search(pattern, path.read_text(), re.MULTILINE) if path.exists() else None
    return int(match[1]) if match else None
