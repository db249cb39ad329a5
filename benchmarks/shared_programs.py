"""Data sets scored with programs that pictures share, and with one program for every shape.

`python -m benchmarks.shared_programs --data_dir datasets [--datasets Set5,Set14,B100] [--scale 4] [--inference chop]`:
seconds, compiling included, programs and PSNR of both, and the largest difference of one picture's PSNR. Each way runs
in a process of its own, so that neither finds what the other has compiled.
"""

import argparse
import functools
import json
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import measure
from data import folders
from msnlan_jax import inference, scoring
from msnlan_jax.runtime import command
from msnlan_jax.weights import load_model

WAYS = SHARED, EXACT = "shared", "one for every shape"
COLUMNS = ("way", "programs", "s", "pictures", "PSNR")


def main() -> None:
    """Measure, print a table, and write it."""
    parser = command.Parser("python -m benchmarks.shared_programs", description=__doc__)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--datasets", default="Set5,Set14,B100")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--weights", default="small")
    parser.add_argument("--inference", default="chop", choices=inference.INFERENCE_MODES)
    measure.add_result_flags(parser)
    parser.add_argument("--one", default="", choices=("", *WAYS), help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        print(json.dumps(score(flags)))
        return
    rows, (shared, exact) = zip(*(measure.in_process("benchmarks.shared_programs", way) for way in WAYS), strict=True)
    difference = max(abs(psnr - exact[name]) for name, psnr in shared.items())
    print(measure.table(COLUMNS, rows))
    print(f"largest difference of a picture's PSNR: {difference:.1e} dB")
    facts = {name: vars(flags)[name] for name in ("datasets", "scale", "weights", "inference")}
    facts |= {"largest difference of a picture's PSNR, dB": difference, "rows": rows}
    print(measure.write(f"shared_programs-x{flags.scale}", facts, folder=flags.output, note=flags.note))


class OwnSizes(inference.Programs):
    """Runs every picture in an array of its own size."""

    def array_size(
        self, made: list[tuple[int, int]], h: int, w: int, ready: Sequence[tuple[int, int]] = ()
    ) -> tuple[int, int]:
        """Return the picture's size."""
        return h, w


def score(flags: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the row of one way, and each picture's PSNR."""
    datasets = folders.find_datasets(flags.data_dir, flags.datasets.split(","), flags.scale)
    model = load_model(flags.weights, scale=flags.scale)
    programs = OwnSizes() if flags.one == EXACT else inference.Programs()
    upscale = functools.partial(inference.upscale, model, options=inference.Options(flags.inference), programs=programs)
    protocol = scoring.Protocol(flags.scale)
    psnr: dict[str, float] = {}
    means = []
    began = time.perf_counter()
    for name, pairs in datasets.items():
        pictures = scoring.evaluate(upscale, pairs, protocol, dataset=name, show_progress=True)
        scores = {picture.name: picture.sr.scores for picture in pictures}
        psnr |= {f"{name}/{picture}": found.psnr for picture, found in scores.items()}
        means.append(f"{name} {scoring.mean_scores(scores.values()).psnr:.4f}")
    row = {"way": flags.one, "programs": programs.count, "s": time.perf_counter() - began}
    return row | {"pictures": len(psnr), "PSNR": ", ".join(means)}, psnr


if __name__ == "__main__":
    measure.run(main)
