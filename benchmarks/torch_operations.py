"""Of how many operations a training step of the PyTorch reference is, to be held against the kernels of `gpu_compile`.

`python -m benchmarks.torch_operations [--config configs/x4.py] [--config.FIELD=value ...] [--dtypes float32,bfloat16]`,
on CPU, with `pip install torch`. Counted is what eager PyTorch dispatches in a step after the first: the loss, its
gradient, Adam over lists of tensors as on GPU, and the averaged parameters; views, which a GPU does nothing for, and
Adam's steps, which the host counts, apart. The number depends on the batch, over whose
pictures the released attention loops, and not on the pictures' size, which here is tiny. In bfloat16 it is autocast's
choice for CPU. An operation is a kernel or some: a convolution's gradients are two or three, a sum over a list of
940 tensors a few.
"""

import dataclasses
from typing import Any

from benchmarks import measure, network, torch_way
from msnlan_jax.runtime import command, config_flags
from msnlan_jax.training import Experiment, read_experiment

COLUMNS = ("dtype", "operations", "views and numbers read", "casts", "convolutions and their gradients")
SIDE = 4  # of the LR pictures


def main() -> None:
    """Count, print a table, and write it."""
    parser = command.Parser("python -m benchmarks.torch_operations", description=__doc__)
    config_flags.add_to(parser, default="configs/x4.py")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    measure.add_result_flags(parser)
    flags = config_flags.parse(parser)
    experiment = read_experiment(flags.config)
    rows = []
    for dtype in flags.dtypes.split(","):
        compute = dataclasses.replace(experiment.compute, dtype=dtype)
        rows.append(count(dataclasses.replace(experiment, compute=compute)))
    print(measure.table(COLUMNS, rows))
    facts = {"config": flags.config_file, "changes": flags.changes, "batch": experiment.batch_size, "rows": rows}
    print(measure.write("torch_operations", facts, folder=flags.output, note=flags.note))


def count(experiment: Experiment) -> dict[str, Any]:
    """Return a row: the operations of one step."""
    lr = measure.uint8(0, experiment.batch_size, SIDE, SIDE, 3)
    hr = measure.uint8(1, experiment.batch_size, SIDE * experiment.scale, SIDE * experiment.scale, 3)
    step = network.reference_way(experiment, "step", lr, hr, compiles=False, foreach=True)
    step()  # which makes Adam's averages
    with torch_way.Operations() as operations:
        step()
    named = {word: sum(n for name, n in operations.others.items() if word in name) for word in ("_copy", "convolution")}
    return {
        "dtype": experiment.compute.dtype,
        "operations": operations.others.total(),
        "views and numbers read": operations.idle.total(),
        "casts": named["_copy"],
        "convolutions and their gradients": named["convolution"],
        "by name": dict(operations.others.most_common()),
    }


if __name__ == "__main__":
    measure.run(main)
