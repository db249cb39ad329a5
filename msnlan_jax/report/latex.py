"""Results as LaTeX tables, to be pasted into a paper: methods by data sets, the best in bold."""

from collections.abc import Mapping, Sequence
from typing import Any

from msnlan_jax.report import published
from msnlan_jax.report.comparison import Compared
from msnlan_jax.report.rows import Measure, Row, cells, describe_protocol, measures, rows

# Pictures in one table: more would not fit on a page.
_LINES = 40
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "×": r"$\times$",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def tables(result: Mapping[str, Any], compared: Sequence[Compared] = ()) -> str:
    """Return a table of the methods by data sets, and one of every set's pictures; needs `booktabs`.

    Args:
        result: `results.json`'s content.
        compared: other methods' results.
    """
    found = rows(result, compared)
    names = list(result["datasets"])
    shown = measures(found, names)
    protocol = describe_protocol(result["protocol"])
    scores = f"{' / '.join(f'{measure.label}{measure.unit}' for measure in shown)}. {protocol}"
    columns = [_cells(found, [row.datasets.get(name, {}) for row in found], shown) for name in names]
    lines = [(row.name, [column[i] for column in columns]) for i, row in enumerate(found)]
    n_measured = sum(not row.published for row in found)
    bold = ["bold: the best of those measured here"] if sum(row.rival for row in found) > 1 else []
    notes = [f"{row.name}: {row.note}" for row in found if row.note]
    caption = "; ".join([f"×{result['scale']}: {scores}", *bold, *notes]) + "."
    parts = ["% Needs \\usepackage{booktabs}.", _table(caption, "Method", names, lines, n_measured)]
    if n_measured < len(found):
        parts[0] += f" Published scores are from {'; '.join(published.sources())}."
    for name in names:
        having = [row for row in found if not row.published and name in row.datasets]
        pictures = list(result["datasets"][name]["images"])
        lines = [
            (picture, _cells(having, [row.datasets[name]["images"].get(picture, {}) for row in having], shown))
            for picture in pictures
        ]
        pages = [lines[i : i + _LINES] for i in range(0, len(lines), _LINES)]
        for i, page in enumerate(pages, 1):
            part = f" ({i} of {len(pages)})" if len(pages) > 1 else ""
            caption = f"{name}, ×{result['scale']}{part}: {scores}."
            parts.append(_table(caption, "Picture", [row.name for row in having], page, len(page)))
    return "\n\n".join(parts) + "\n"


def _cells(found: Sequence[Row], entries: Sequence[Mapping[str, Any]], shown: Sequence[Measure]) -> list[str]:
    """Return each method's scores of one data set or picture, the best in bold."""
    return [
        " / ".join(f"\\textbf{{{text}}}" if best else text.replace("–", "--") for text, best in line)
        for line in cells(found, entries, shown)
    ]


def _table(
    caption: str, first: str, columns: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]], n_measured: int
) -> str:
    """Return one table; lines after those measured stand apart."""
    text = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{escape(caption)}}}",
        f"\\begin{{tabular}}{{l{'c' * len(columns)}}}",
        r"\toprule",
        " & ".join(map(escape, [first, *columns])) + r" \\",
        r"\midrule",
    ]
    for position, (name, scores) in enumerate(lines):
        if position == n_measured:
            text += [r"\midrule", f"\\multicolumn{{{1 + len(columns)}}}{{l}}{{Published}} \\\\"]
        text.append(" & ".join([escape(name), *scores]) + r" \\")
    return "\n".join([*text, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def escape(text: str) -> str:
    """Return text with LaTeX's special characters made plain."""
    return "".join(_SPECIAL.get(character, character) for character in text)
