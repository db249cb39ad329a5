"""Data sets scored with programs that pictures share, and with one program for every shape.

`python -m benchmarks.compilations --data_dir datasets [--datasets Set5,Set14,B100] [--scale 4] [--inference chop]`:
seconds, compiling included, programs and PSNR of both, and the largest difference of one picture's PSNR.
"""

import time
from typing import Any
from unittest import mock

from benchmarks import measure
from data import folders
from msnlan_jax import command, evaluation, inference, programs
from msnlan_jax.weights import load_model

COLUMNS = ("way", "programs", "s", "pictures", "PSNR")


def main() -> None:
    """Measure, print a table, and write it."""
    parser = command.Parser("benchmarks/compilations.py", description=__doc__)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--datasets", default="Set5,Set14,B100")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--weights", default="small")
    parser.add_argument("--inference", default="chop", choices=inference.INFERENCE_MODES)
    parser.add_argument("--output", default="", help="folder for the numbers")
    parser.add_argument("--note", default="", help="kept with the numbers")
    flags = parser.parse_args()
    datasets = folders.find_datasets(flags.data_dir, flags.datasets.split(","), flags.scale)
    shared, shared_psnr = score(flags, datasets)
    with mock.patch.object(programs, "padded_size", lambda graph, n, h, w, arrays=(): (h, w)):
        exact, exact_psnr = score(flags, datasets)
    rows = [{"way": "shared"} | shared, {"way": "one for every shape"} | exact]
    difference = max(abs(psnr - exact_psnr[name]) for name, psnr in shared_psnr.items())
    print(measure.table(COLUMNS, rows))
    print(f"largest difference of a picture's PSNR: {difference:.1e} dB")
    facts = {name: vars(flags)[name] for name in ("datasets", "scale", "weights", "inference")}
    facts |= {"largest difference of a picture's PSNR, dB": difference, "rows": rows}
    print(measure.write(f"compilations-x{flags.scale}", facts, folder=flags.output, note=flags.note))


def score(flags: Any, datasets: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the row of one way, and each picture's PSNR."""
    model = load_model(flags.weights, scale=flags.scale)
    before, began, psnr = programs.compilations(), time.perf_counter(), {}
    means = []
    for name, pairs in datasets.items():
        result = evaluation.evaluate(
            lambda lr: inference.upscale(model, lr, inference=flags.inference), pairs, flags.scale, title=name
        )
        psnr |= {f"{name}/{picture}": scores.psnr for picture, scores in result.images.items()}
        means.append(f"{name} {result.psnr:.4f}")
    row = {"programs": programs.compilations() - before, "s": time.perf_counter() - began, "pictures": len(psnr)}
    return row | {"PSNR": ", ".join(means)}, psnr


if __name__ == "__main__":
    measure.run(main)
