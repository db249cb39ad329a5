"""Jobs of one or more processes, each with CPU devices of its own; and how all of them compile."""

import contextlib
import importlib.metadata
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
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


def start_job(code, *arguments, cache, processes=1, devices=1, stderr=subprocess.STDOUT):
    """Start Python code in `processes`, each with `devices`; return the processes.

    It is given the arguments, its process's number, how many there are, and the address of the first one.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {
        "XLA_FLAGS": f"{QUICK_COMPILATION} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, (*arguments, index, processes, address))],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        for index in range(processes)
    ]


HOLD = """import sys, time
from msnlan_jax.runtime import lock
with lock.holding(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    time.sleep(600)"""


@contextlib.contextmanager
def held(folder: Path, flag: str = "--workdir") -> Iterator[subprocess.Popen]:
    """Have another process hold a folder, made if needed, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, flag],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout.readline() == b"held\n"
        yield other
    finally:
        other.kill()
        other.communicate()
