"""Jobs of one or more processes, each with CPU devices of its own; and how all of them compile."""

import importlib.metadata
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Tests compile tiny programs and run them a few times: what optimises them takes most of the time. The code generators
# that JAX 0.10 has for fused operations are the slowest part of it; XLA ends a process that gives a flag unknown to it.
QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    QUICK_COMPILATION += " --xla_cpu_use_fusion_emitters=false"
# As a user's programs are compiled: for the tests that compare them with recorded numbers.
FULL_OPTIMISATION = {
    "xla_backend_optimization_level": "3",
    "xla_llvm_disable_expensive_passes": "False",
    **({"xla_cpu_use_fusion_emitters": "True"} if "emitters" in QUICK_COMPILATION else {}),
}


def free_address():
    """Return host:port for a job's first process."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def on_cpu(cache):
    """Return the environment of a process that runs this project on CPU, and keeps programs in a folder."""
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def start_job(code, *arguments, cache, processes=1, devices=1, stderr=subprocess.STDOUT):
    """Start Python code in `processes`, each with `devices`; return the processes.

    It is given the arguments, its process's number, how many there are, and the address of the first one.
    """
    address = free_address()
    flags = f"{QUICK_COMPILATION} --xla_force_host_platform_device_count={devices}"
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, (*arguments, index, processes, address))],
            env=on_cpu(cache) | {"XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        for index in range(processes)
    ]


def run_pair(program, folder, *flags, of_second=()):
    """Run a program as a job of two processes, the second perhaps with other flags; return codes, outputs, errors."""
    address = free_address()
    jobs = []
    for index in range(2):
        place = [f"--coordinator_address={address}", "--num_processes=2", f"--process_id={index}"]
        command = [sys.executable, str(ROOT / program), *((of_second or flags) if index else flags), *place]
        streams = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        jobs.append(subprocess.Popen(command, cwd=folder, env=on_cpu(folder / "xla"), text=True, **streams))
    outputs = [job.communicate(timeout=600) for job in jobs]
    return [job.returncode for job in jobs], *zip(*outputs, strict=True)
