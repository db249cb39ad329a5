"""Whole pictures: peak memory and time against size, ours whole and by the released chop.

`python -m benchmarks.whole_image [--sizes 48x64,96x128,192x256] [--modes whole,chop]`: sizes are
height × width in LR pixels. Each picture runs in a process of its own, whose peak resident memory is that of the whole
program, Python and JAX included; the second run is timed, so compiling is not.
"""

import argparse
import json
import resource
import sys
import time
from typing import Any

import numpy as np
from flax import nnx

from benchmarks import measure
from msnlan_jax.errors import InputError
from msnlan_jax.inference import Options, predict
from msnlan_jax.network import MSNLAN
from msnlan_jax.runtime import command, config_flags
from msnlan_jax.training import Experiment, read_experiment

COLUMNS = ("size", "mode", "s", "first s", "× chop", "peak MiB", "one score matrix, MiB")


def main() -> None:
    """Measure, print a table, and write it."""
    parser = command.Parser("python -m benchmarks.whole_image", description=__doc__)
    config_flags.add_to(parser, default="configs/x4.py")
    parser.add_argument("--sizes", default="48x64,96x128,192x256", help="height x width, comma-separated")
    parser.add_argument("--modes", default="whole,chop", help="of inference, comma-separated")
    parser.add_argument("--rounds", type=int, default=1, help="processes for each picture")
    measure.add_result_flags(parser)
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    flags = config_flags.parse(parser)
    if flags.one:
        size, mode = flags.one.split(",")
        print(json.dumps(run(read_experiment(flags.config), *_sides(size), mode)))
        return
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    modes = flags.modes.split(",")
    for size in flags.sizes.split(","):
        _sides(size)
        for _ in range(flags.rounds):
            for mode in modes:
                rows.setdefault((size, mode), []).append(measure.in_process("benchmarks.whole_image", f"{size},{mode}"))
    table = []
    for (size, mode), runs in rows.items():
        row: dict[str, Any] = {"size": size, "mode": mode}
        row |= {name: float(np.median([one[name] for one in runs])) for name in runs[0]}
        if (size, "chop") in rows:
            row["× chop"] = float(np.median([one["s"] for one in rows[size, "chop"]])) / row["s"]
        h, w = _sides(size)
        row["one score matrix, MiB"] = 4.0 * h * w * (h + 4) * (w + 4) / 2**20
        table.append(row)
    print(f"{measure.device_name()}: {flags.config_file}")
    print(measure.table(COLUMNS, table))
    facts = {"config": flags.config_file, "changes": flags.changes, "rounds": flags.rounds, "rows": table}
    print(measure.write("whole_image", facts, folder=flags.output, note=flags.note))


def run(experiment: Experiment, h: int, w: int, mode: str) -> dict[str, float]:
    """Return seconds of the first and the second run, and this process's peak resident memory."""
    model = MSNLAN(experiment.network, experiment.compute, rngs=nnx.Rngs(0))
    lr = measure.uint8(0, h, w, 3).astype(np.float32)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        predict(model, lr, Options(mode))
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"s": seconds[1], "first s": seconds[0], "peak MiB": peak}


def _sides(size: str) -> tuple[int, int]:
    try:
        h, w = map(int, size.split("x"))
    except ValueError:
        raise InputError(f"--sizes: found {size!r}, expected as in 192x256") from None
    return h, w


if __name__ == "__main__":
    measure.run(main)
