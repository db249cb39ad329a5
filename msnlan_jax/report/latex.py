"""Results as LaTeX tables, to be pasted into a paper: methods by data sets, the best in bold."""

from collections.abc import Sequence

from msnlan_jax.report import published
from msnlan_jax.report.comparison import Compared
from msnlan_jax.report.results import Results
from msnlan_jax.report.tables import Cell, Line, Table, describe_protocol, methods_table, pictures_table

# Pictures in one table: more would not fit on a page.
_LINES = 40
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "×": r"$\times$",
    "–": "--",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # after the end of a row it would be the space below
    "]": "{]}",
    '"': r"\textquotedbl{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def tables(results: Results, compared: Sequence[Compared] = ()) -> str:
    """Return a table of the methods by data sets, and one of every set's pictures; needs `booktabs`.

    Args:
        results: what was found.
        compared: other methods' results.
    """
    table = methods_table(results, compared)
    protocol = describe_protocol(results.protocol)
    bold = ["bold: the best of those measured here"] if sum(row.rival for row in table.rows) > 1 else []
    notes = [f"{name}: {note}" for name, note in table.notes]
    caption = "; ".join([f"×{results.scale}: {_measures(table)}. {protocol}", *bold, *notes]) + "."
    parts = ["% Needs \\usepackage{booktabs}.", _draw(table, table.lines, caption)]
    if any(row.published for row in table.rows):
        parts[0] += f" Published scores are from {'; '.join(published.sources())}."
    for name in results.datasets:
        table = pictures_table(results, compared, name)
        lines = [line for line in table.lines if not line.is_mean]
        pages = [lines[i : i + _LINES] for i in range(0, len(lines), _LINES)]
        for i, page in enumerate(pages, 1):
            part = f" ({i} of {len(pages)})" if len(pages) > 1 else ""
            caption = f"{name}, ×{results.scale}{part}: {_measures(table)}. {protocol}."
            parts.append(_draw(table, page, caption))
    return "\n\n".join(parts) + "\n"


def _draw(table: Table, lines: Sequence[Line], caption: str) -> str:
    """Return some lines of a table; published ones stand apart."""
    text = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{escape(caption)}}}",
        f"\\begin{{tabular}}{{l{'c' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(map(escape, [table.corner, *table.columns])) + r" \\",
        r"\midrule",
    ]
    is_published = False
    for line in lines:
        if line.row is not None and line.row.published and not is_published:
            is_published = True
            text += [r"\midrule", f"\\multicolumn{{{1 + len(table.columns)}}}{{l}}{{Published}} \\\\"]
        text.append(" & ".join([escape(line.name), *map(_column, line.cells)]) + r" \\")
    return "\n".join([*text, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _column(cells: Sequence[Cell]) -> str:
    """Return a method's scores, the best in bold."""
    return " / ".join(f"\\textbf{{{cell.text}}}" if cell.best else escape(cell.text) for cell in cells)


def _measures(table: Table) -> str:
    return " / ".join(f"{measure.label}{measure.unit}" for measure in table.measures)


def escape(text: str) -> str:
    """Return text with LaTeX's special characters made plain."""
    return "".join(_SPECIAL.get(character, character) for character in text)
