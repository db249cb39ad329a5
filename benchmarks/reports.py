"""What the programs that compile for absent chips share: flags, comparing two configurations, results' names."""

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import measure, programs
from msnlan_jax.runtime import config_flags

Result = dict[str, Any]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the configuration, of what is compiled, and of what becomes of the result."""
    config_flags.add_to(parser, default="configs/x4.py")
    programs.add_flags(parser)
    parser.add_argument(
        "--compare", default="", metavar="FIELD=value", help="also with this field so, or fields, by commas"
    )
    parser.add_argument("--hlo", default="", help="file for the compiled program's text")
    measure.add_result_flags(parser)


def with_changes(flags: argparse.Namespace, changes: list[str]) -> argparse.Namespace:
    """Return flags whose configuration has other values for some fields, given as `FIELD=value`."""
    changes = [*flags.changes, *changes]
    pairs = [(name, value if equals else None) for name, equals, value in (c.partition("=") for c in changes)]
    config = config_flags.read_config(flags.config_file, pairs)
    return argparse.Namespace(**vars(flags) | {"config": config, "changes": changes})


def compare(
    flags: Any,
    report: Callable[[Any], Result],
    show: Callable[[Result], None],
    measures: Callable[[Result], Mapping[str, Callable[[Result], Any]]],
) -> Result:
    """Report of the configuration, and of the one to compare with if there is one, and print both.

    Args:
        flags: the program's.
        report: returns the result of flags.
        show: prints a result.
        measures: returns what the comparison shows of the regions of a result, by title; the first as a ratio too.
    """
    result = report(flags)
    show(result)
    if flags.compare:
        result["compared with"] = compared = report(with_changes(flags, flags.compare.split(",")))
        show(compared)
        print(side_by_side(compared, result, flags.compare, measures(result)))
    return result


def side_by_side(old: Result, new: Result, change: str, measures: Mapping[str, Callable[[Result], Any]]) -> str:
    """Return the table of two results, the regions of either."""
    before, after = ({row["region"]: row for row in result.get("regions", ())} for result in (old, new))
    first = next(iter(measures.values()))
    rows = []
    for name in sorted({*before, *after}, key=lambda name: name == programs.ALL):
        was, now = (rows.get(name, {}) for rows in (before, after))
        row = {"region": name, "times fewer": first(was) / first(now) if was and now and first(now) else None}
        for label, cost in ((change, was), ("as configured", now)):
            row |= {f"{label}: {title}": value(cost) for title, value in measures.items() if cost}
        rows.append(row)
    labels = [f"{label}: {title}" for title in measures for label in (change, "as configured")]
    lines = [measure.table(["region", *labels[:2], "times fewer", *labels[2:]], rows)]
    for fact in ("GiB per chip", "compile seconds"):
        values = [f"{result[fact]:.3g}" if fact in result else "–" for result in (old, new)]
        lines.append(f"{fact}: {values[0]} with {change}, {values[1]} as configured")
    return "\n".join(lines)


def result_name(flags: Any, chip: str, batch: str = "") -> str:
    """Return the name of the file of results, which tells all that the numbers depend on."""
    parts = [Path(flags.config_file).stem, chip, *([batch] if batch else [])]
    parts += [f"form-{flags.form}"] if flags.form != "auto" else []
    parts += [f"operator-{flags.operator}"] if flags.operator else []
    parts += [f"forward-{flags.forward}"] if flags.forward else []
    parts += flags.changes + ([f"against-{flags.compare}"] if flags.compare else [])
    return re.sub(r"[^\w.-]+", "-", "-".join(part for part in parts if part))
