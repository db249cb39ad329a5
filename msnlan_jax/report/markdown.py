"""Results as Markdown, which is also what the command prints."""

import re
from collections.abc import Sequence

from msnlan_jax.report.comparison import Compared
from msnlan_jax.report.results import Results
from msnlan_jax.report.tables import PSNR, Cell, Measure, methods_table, number, pictures_table

# What would be a mark, the end of a cell, or HTML. An underscore within a word is none.
_SPECIAL = re.compile(r"[\\`*\[\]|<>&]|(?<!\w)_|_(?!\w)")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def methods(results: Results, compared: Sequence[Compared] = ()) -> str:
    """Return the methods' scores by data set, the protocol above them."""
    table = methods_table(results, compared)
    protocol = ", ".join(f"{escape(name)}: {escape(str(value))}" for name, value in results.protocol.to_json().items())
    lines = [
        f"**{escape(results.weights)}**, ×{results.scale} ({protocol})",
        "",
        f"| data set | pictures | method | {_heads(table.measures)} | seconds |",
        f"|---|---:|---|{'---:|' * len(table.measures)}---:|",
    ]
    for i, name in enumerate(table.columns):
        for line in table.lines:
            if line.row is not None and not line.row.published and name in line.row.datasets:
                found = line.row.datasets[name]
                numbers = f"{_numbers(line.cells[i])} | {number(found.seconds, 1)}"
                lines.append(f"| {escape(name)} | {len(found.images)} | {escape(line.name)} | {numbers} |")
    lines += ["", "Seconds are those of up-scaling alone, without reading, compiling and scoring."]
    lines += [f"\n{escape(name)}: {escape(note)}." for name, note in table.notes]
    return "\n".join(lines) + "\n"


def pictures(results: Results) -> str:
    """Return the scores by picture, of the method itself."""
    measures = methods_table(results).measures
    lines = [f"| picture | {_heads(measures)} |", f"|---|{'---:|' * len(measures)}"]
    for dataset in results.datasets:
        table = pictures_table(results, (), dataset)
        ours = [row.ours for row in table.rows].index(True)  # by name it could be the baseline
        lines += [
            f"| {escape(f'{dataset}/{line.name}')} | {_numbers(line.cells[ours])} |"
            for line in table.lines
            if not line.is_mean
        ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, in one cell of a table."""
    return _SPECIAL.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), " ".join(text.split()))


def _heads(measures: Sequence[Measure]) -> str:
    return " | ".join(f"{measure.label}{measure.unit}" for measure in measures)


def _numbers(cells: Sequence[Cell]) -> str:
    # A decimal more of PSNR than papers print.
    return " | ".join(number(cell.value, cell.measure.digits + (cell.measure is PSNR)) for cell in cells)
