"""How fast training pairs are cut, beside a PyTorch DataLoader that does what the released code's does.

`python -m benchmarks.input_pipeline [--data_dir DIR] [--workers 6]`: HR patch 192 (×4), batch 16, in rounds that take
turns. Every way starts from the same pictures: `.npy` files mapped into memory, pictures held in memory, the memory
loader on this machine's CPU, and EDSR's way, which the released code follows: every item loads its two pickled arrays,
crops, flips, and becomes a float tensor, in 6 worker processes by default. CPU time counts threads and workers. Ratios
are each way's median over PyTorch's.
"""

import argparse
import dataclasses
import itertools
import os
import pickle
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from tqdm import tqdm

from benchmarks import measure
from configs import x4
from data.loaders import make_loader
from data.prepare import prepare
from data.sources import open_pictures, training_pairs
from msnlan_jax.runtime import command
from msnlan_jax.training import read_experiment

BATCHES = 200
SPEEDS = ("pairs/s", "pairs per CPU second")
COLUMNS = ("way", *(column for speed in SPEEDS for column in (speed, f"{speed}, ratio")))


class PickledPairs(torch.utils.data.Dataset[Any]):
    """Pickled pairs, loaded whole for each crop, as EDSR's `SRData` does."""

    def __init__(self, files: list[Path], patch: int, scale: int, length: int):
        self.files, self.patch, self.scale, self.length = files, patch, scale, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        path = self.files[index % len(self.files)]
        lr, hr = (pickle.loads(path.with_suffix(suffix).read_bytes()) for suffix in (".lr", ".hr"))
        top, left = (random.randrange(size - self.patch + 1) for size in lr.shape[:2])
        flips = [random.random() < 0.5 for _ in range(3)]
        tensors = []
        for image, factor in ((lr, 1), (hr, self.scale)):
            y, x, side = top * factor, left * factor, self.patch * factor
            crop = image[y : y + side, x : x + side]
            crop = crop[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1]
            crop = crop.transpose(1, 0, 2) if flips[2] else crop
            tensors.append(torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))).float())
        return tuple(tensors)


def cpu_seconds() -> float:
    """Of this process, its threads, and its workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def jax_batches(loader: Any) -> Iterator[Any]:
    """Yield the arrays that reach the step."""
    resident, crops = jax.device_put(loader.resident), jax.jit(loader.crops)
    for batch in loader.batches(0):
        yield jax.block_until_ready(crops(resident, batch)) if loader.resident else batch


def speeds(make_batches: Any, batch_size: int) -> tuple[float, float]:
    """Return pairs per second and per CPU second, the start not counted in the first."""
    cpu = cpu_seconds()
    iterator = iter(make_batches())
    next(iterator)
    began = time.perf_counter()
    count = sum(1 for _ in iterator)
    seconds = time.perf_counter() - began
    del iterator
    return count * batch_size / seconds, (count + 1) * batch_size / (cpu_seconds() - cpu)


def main() -> None:
    """Measure, print a table, and write it."""
    parser = command.Parser("python -m benchmarks.input_pipeline", description=__doc__)
    parser.add_argument("--data_dir", default="", help="pictures; by default the built-in photos")
    parser.add_argument("--workers", type=int, default=6, help="of PyTorch's loader; EDSR's default is 6")
    parser.add_argument("--rounds", type=int, default=5)
    # PyTorch forks its workers, which run NumPy alone; as in the released code, there may be more than cores.
    warnings.filterwarnings("ignore", message=r"This DataLoader will create|os\.fork\(\) was called")
    measure.add_result_flags(parser)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ways, facts = set_up(flags, Path(folder))
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _, (name, way) in tqdm(list(itertools.product(range(flags.rounds), ways.items()))):
            rows[name].append(speeds(way, facts["batch_size"]))
    medians = {name: [statistics.median(column) for column in zip(*row, strict=True)] for name, row in rows.items()}
    ways = {
        name: dict(zip(SPEEDS, values, strict=True))
        | {f"{speed}, ratio": a / b for speed, a, b in zip(SPEEDS, values, medians["PyTorch"], strict=True)}
        for name, values in medians.items()
    }
    print(
        f"{measure.device_name()}: {facts['pictures']} pictures, {facts['megapixels']:.0f} Mpixel; "
        f"medians of {flags.rounds} rounds"
    )
    print(measure.table(COLUMNS, [{"way": name} | row for name, row in ways.items()]))
    print(measure.write("input_pipeline", facts | {"ways": ways}, folder=flags.output, note=flags.note))


def set_up(flags: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return name → what makes batches, and what is measured."""
    config = x4.get_config()
    config.data.source, config.data.dir = ("folder", flags.data_dir) if flags.data_dir else ("photos", "")
    config.total_steps = BATCHES + 1
    experiment = read_experiment(config)
    pictures = open_pictures(experiment)
    for i, (lr, hr) in enumerate(pictures):
        (folder / f"{i}.lr").write_bytes(pickle.dumps(lr))
        (folder / f"{i}.hr").write_bytes(pickle.dumps(hr))
    decoded = make_loader(experiment)
    if flags.data_dir:
        prepare(flags.data_dir, folder / "npy", (experiment.scale,))
    else:
        (folder / "photos").mkdir()
        for pair in training_pairs(experiment):
            (folder / "photos" / pair.hr.name).write_bytes(pair.hr.read_bytes())
        prepare(folder / "photos", folder / "npy", (experiment.scale,))
    arrays = dataclasses.replace(experiment.data, source="folder", dir=str(folder / "npy"))
    mapped = make_loader(dataclasses.replace(experiment, data=arrays))
    arrays = dataclasses.replace(arrays, loader="memory")
    memory = make_loader(dataclasses.replace(experiment, data=arrays))
    paths = [folder / f"{i}.hr" for i in range(len(pictures))]
    batch_size = experiment.batch_size
    dataset = PickledPairs(paths, experiment.patch_size, experiment.scale, batch_size * experiment.total_steps)
    torch_loader = torch.utils.data.DataLoader(dataset, batch_size, shuffle=True, num_workers=flags.workers)
    facts = {
        "batch_size": batch_size,
        "pictures": len(pictures),
        "megapixels": sum(hr.shape[0] * hr.shape[1] for _, hr in pictures) / 1e6,
        "workers": flags.workers,
        "rounds": flags.rounds,
    }
    ways = {
        "tfdata, .npy": lambda: jax_batches(mapped),
        "tfdata, decoded in memory": lambda: jax_batches(decoded),
        "memory, on CPU": lambda: jax_batches(memory),
        "PyTorch": lambda: torch_loader,
    }
    return ways, facts


if __name__ == "__main__":
    # Whatever trains, pairs are cut on the CPU, and its name is what the numbers go by.
    jax.config.update("jax_platforms", "cpu")
    measure.run(main)
