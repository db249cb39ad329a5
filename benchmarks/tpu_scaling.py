"""How the training step grows with the number of chips, by the compiler, with no TPU at hand.

`make tpu-scaling ARGS="--config configs/tpu_pod.py"`, or `python -m benchmarks.tpu_scaling --config FILE [--topologies
v5e:2x2,v5e:16x16] [--chip_batch 16] [--batch 256]`: for each topology a row with so many pictures on each chip (weak
scaling), and one with so many in all (strong). Cycles are estimates, as in `tpu_compile`; those of the gradients' sum
follow from its bytes and from the links' published bandwidth, if nothing overlaps.
"""

from benchmarks import tpu_compile  # isort: skip  # before JAX

import argparse
import math
import re
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.chips import read_chip
from msnlan_jax.errors import InputError
from msnlan_jax.runtime import command, config_flags

TOPOLOGIES = "v5e:2x2,v5e:4x4,v5e:16x16,v5p:2x2x2,v5p:8x8x8"
CHIP_BATCH, BATCH = 16, 256
COLUMNS = (
    *("scaling", "topology", "chips", "pictures a chip", "M cycles", "collectives MB", "sum M cycles", "sum's share"),
    *("pictures/s", "of the smallest's", "memory GiB"),
)


def main() -> None:
    """Compile for each topology, print a table, and write it."""
    parser = command.Parser("python -m benchmarks.tpu_scaling", description=__doc__)
    parser.add_argument("--topologies", default=TOPOLOGIES)
    config_flags.add_to(parser, default="configs/tpu_pod.py")
    parser.add_argument("--chip_batch", type=int, default=CHIP_BATCH, help="pictures on each chip; 0 for no such rows")
    parser.add_argument("--batch", type=int, default=BATCH, help="pictures in all; 0 for no such rows")
    parser.add_argument("--form", default="auto", help="of the attention")
    measure.add_result_flags(parser)
    flags = config_flags.parse(parser)
    compiled: dict[tuple[str, int], dict[str, Any]] = {}  # what both ways need is compiled once
    rows: list[dict[str, Any]] = []
    for topology in flags.topologies.split(","):
        chips = math.prod(axes_of(topology))
        for scaling, pictures in (("weak", flags.chip_batch), ("strong", flags.batch / chips)):
            if not pictures:
                continue
            row = {"scaling": scaling, "topology": topology, "chips": chips, "pictures a chip": pictures}
            if pictures == int(pictures):
                key = topology, int(pictures)
                compiled[key] = compiled.get(key) or step_facts(flags, *key)
                row |= growth(compiled[key], topology)
            rows.append(row)
            print(measure.table(COLUMNS, rows[-1:]).splitlines()[-1], flush=True)
            write(flags, rows)  # since the next may take long
    print(measure.table(COLUMNS, with_efficiency(rows)))
    print(write(flags, rows))


def write(flags: Any, rows: list[dict[str, Any]]) -> Path:
    """Write the rows into a file whose name tells all that they depend on, and return its path."""
    parts = ["scaling", Path(flags.config_file).stem, *flags.changes]
    parts += [flags.topologies] if flags.topologies != TOPOLOGIES else []
    parts += [f"chip_batch-{flags.chip_batch}"] if flags.chip_batch != CHIP_BATCH else []
    parts += [f"batch-{flags.batch}"] if flags.batch != BATCH else []
    parts += [f"form-{flags.form}"] if flags.form != "auto" else []
    result = {"config": flags.config_file, "changes": flags.changes, "rows": with_efficiency(rows)}
    name = re.sub(r"[^\w.-]+", "-", "-".join(parts))
    return measure.write(name, result, device="tpu-compiler", folder=flags.output, note=flags.note)


def axes_of(topology: str) -> tuple[int, ...]:
    """Return the sides of a topology, (2, 2) of "v5e:2x2"."""
    found = re.fullmatch(r"\w+:(\d+(?:x\d+)*)", topology)
    if not found:
        raise InputError(f"--topologies: found {topology!r}, expected such as v5e:2x2")
    return tuple(int(side) for side in found.group(1).split("x"))


def step_facts(flags: Any, topology: str, pictures: int) -> dict[str, Any]:
    """Return what `tpu_compile` reports of the step with so many pictures on each chip."""
    values = {
        "topology": topology,
        "chip_batch": pictures,
        "operator": 0,
        "forward": "",
        "hlo": "",
        "loops": False,
        "all_bundles": False,
    }
    return tpu_compile.report(argparse.Namespace(**vars(flags) | values))


def growth(facts: dict[str, Any], topology: str) -> dict[str, Any]:
    """Return a row's numbers; of a step that does not compile, none."""
    if not facts["compiles"]:
        return {}
    chip, axes = read_chip(topology), axes_of(topology)
    cycles = facts["regions"][-1]["cycles"]
    moved = sum(kind["bytes"] for kind in facts["collectives"].values())
    summing = chip.all_reduce_cycles(moved, axes)
    seconds = (cycles + summing) / chip.clock_ghz / 1e9
    return {
        "M cycles": cycles / 1e6,
        "collectives MB": moved / 1e6,
        "sum M cycles": summing / 1e6,
        "sum's share": f"{summing / (cycles + summing):.1%}",
        "pictures/s": facts["pictures per chip"] * facts["chips"] / seconds,
        "memory GiB": facts["GiB per chip"],
    }


def with_efficiency(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with what a chip does, of what one does in the smallest topology of its kind at weak scaling."""
    return [row | _efficiency(row, rows) for row in rows]


def _efficiency(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    kind = row["topology"].partition(":")[0]
    same = [r for r in rows if r["topology"].startswith(f"{kind}:") and "pictures/s" in r and r["scaling"] == "weak"]
    if "pictures/s" not in row or not same:
        return {}
    least = min(same, key=lambda r: r["chips"])
    return {"of the smallest's": f"{row['pictures/s'] / row['chips'] / (least['pictures/s'] / least['chips']):.0%}"}


if __name__ == "__main__":
    tpu_compile.run(main)
