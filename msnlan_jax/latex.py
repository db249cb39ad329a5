"""Results as LaTeX tables, to be pasted into a paper: methods by data sets, the best in bold."""

from collections.abc import Mapping, Sequence
from typing import Any

from msnlan_jax import published
from msnlan_jax.comparison import Compared
from msnlan_jax.rows import Row, describe_protocol, number, rows

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
    lines = [(row.name, [row.datasets.get(name, {}) for name in names]) for row in found]
    measured = [row for row in found if not row.published]
    notes = [f"{row.name}: {row.note}" for row in found if row.note]
    protocol = describe_protocol(result["protocol"])
    best = ["bold: the best of those measured here"] if len(measured) > 1 else []
    caption = "; ".join([f"×{result['scale']}: PSNR (dB) / SSIM. {protocol}", *best, *notes]) + "."
    parts = ["% Needs \\usepackage{booktabs}.", _table(caption, "Method", names, lines, len(measured))]
    if len(measured) < len(found):
        parts[0] += f" Published scores are from {'; '.join(published.sources())}."
    for name in names:
        parts.append(_pictures(result, measured, name, f"{name}, ×{result['scale']}: PSNR (dB) / SSIM. {protocol}."))
    return "\n\n".join(parts) + "\n"


def _pictures(result: Mapping[str, Any], measured: Sequence[Row], dataset: str, caption: str) -> str:
    having = [row for row in measured if dataset in row.datasets]
    pictures = result["datasets"][dataset]["images"]
    lines = [(name, [row.datasets[dataset]["images"].get(name, {}) for row in having]) for name in pictures]
    return _table(caption, "Picture", [row.name for row in having], lines, len(lines), by_column=False)


def _table(
    caption: str,
    first: str,
    columns: Sequence[str],
    lines: Sequence[tuple[str, Sequence[Mapping[str, Any]]]],
    n_measured: int,
    *,
    by_column: bool = True,
) -> str:
    """Return one table; the best of each column, or each line, is bold, lines after those measured stand apart."""
    text = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{escape(caption)}}}",
        f"\\begin{{tabular}}{{l{'c' * len(columns)}}}",
        r"\toprule",
        " & ".join(map(escape, [first, *columns])) + r" \\",
        r"\midrule",
    ]
    for position, (name, cells) in enumerate(lines):
        if position == n_measured:
            text += [r"\midrule", f"\\multicolumn{{{1 + len(columns)}}}{{l}}{{Published}} \\\\"]
        shown = []
        for i, cell in enumerate(cells):
            rivals = [line[i] for _, line in lines[:n_measured]] if by_column else cells
            shown.append(_pair(cell, rivals if position < n_measured else ()))
        text.append(" & ".join([escape(name), *shown]) + r" \\")
    return "\n".join([*text, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _pair(cell: Mapping[str, Any], rivals: Sequence[Mapping[str, Any]]) -> str:
    """Return PSNR / SSIM, each bold where it is the best of several."""
    parts = []
    for key, digits in (("psnr", 2), ("ssim", 4)):
        value = cell.get(key)
        values = [rival[key] for rival in rivals if rival.get(key) is not None]
        text = number(value, digits).replace("–", "--")
        parts.append(f"\\textbf{{{text}}}" if value is not None and len(values) > 1 and value == max(values) else text)
    return " / ".join(parts)


def escape(text: str) -> str:
    """Return text with LaTeX's special characters made plain."""
    return "".join(_SPECIAL.get(character, character) for character in text)
