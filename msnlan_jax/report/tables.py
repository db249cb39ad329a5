"""The tables of results, as rows and cells: methods by data sets, and a data set's pictures by methods.

Drawn by `markdown`, `latex` and the page, which add nothing to what they say.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from msnlan_jax.report import published
from msnlan_jax.report.comparison import Compared
from msnlan_jax.report.results import SCORING, DatasetResult, Results, StatedProtocol, Value
from msnlan_jax.scoring import Scores

BICUBIC = "bicubic"


class Measure(NamedTuple):
    """One kind of score: its heading and unit, its field in `Scores`, decimals to show, and which is best."""

    label: str
    unit: str
    field: str
    digits: int
    best: Callable[[Iterable[float]], float]

    def of(self, scores: Scores | None) -> float:
        """Return the score; NaN where there is none."""
        value = None if scores is None else getattr(scores, self.field)
        return math.nan if value is None else float(value)


PSNR = Measure("PSNR", " (dB)", "psnr", 2, max)
_LPIPS = Measure("LPIPS", "", "lpips", 4, min)
_MEASURES = (PSNR, Measure("SSIM", "", "ssim", 4, max), _LPIPS)


@dataclasses.dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        name: what it is called.
        datasets: data set → its scores.
        ours: whether it is what this evaluation ran.
        published: whether the numbers are others' own, not measured here.
        note: a caveat, such as another protocol.
        rival: whether its scores may be called better or worse than ours: measured on our pictures by our protocol.
    """

    name: str
    datasets: Mapping[str, DatasetResult]
    ours: bool = False
    published: bool = False
    note: str = ""
    rival: bool = True


class Cell(NamedTuple):
    """One score: the number, NaN where there is none, what it measures, and whether it is the best of its kind."""

    value: float
    measure: Measure
    best: bool

    @property
    def text(self) -> str:
        """The score as papers print it."""
        return number(self.value, self.measure.digits)


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a table.

    Attributes:
        name: of the method or picture.
        cells: for every column one cell a measure.
        row: the method; None where the line is a picture.
        is_mean: whether it is the mean of the lines above.
    """

    name: str
    cells: Sequence[Sequence[Cell]]
    row: Row | None = None
    is_mean: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Scores as they are shown.

    Attributes:
        corner: what the lines are, "Method" or "Picture".
        columns: names of the data sets or methods.
        measures: what stands in each column.
        lines: in order; published methods last, or the mean of the pictures.
        rows: the methods of the table.
    """

    corner: str
    columns: Sequence[str]
    measures: Sequence[Measure]
    lines: Sequence[Line]
    rows: Sequence[Row]

    @property
    def notes(self) -> list[tuple[str, str]]:
        """Methods that there is something to say of, and what."""
        return [(row.name, row.note) for row in self.rows if row.note]


def methods_table(results: Results, compared: Sequence[Compared] = ()) -> Table:
    """Return the table of methods by data sets."""
    found, names = rows(results, compared), list(results.datasets)
    means = [[_mean(row, name) for row in found] for name in names]
    shown = _measures(mean for column in means for mean in column)
    columns = [_cells(found, column, shown) for column in means]
    lines = [Line(row.name, [column[i] for column in columns], row) for i, row in enumerate(found)]
    return Table("Method", names, shown, lines, found)


def pictures_table(results: Results, compared: Sequence[Compared], dataset: str) -> Table:
    """Return the table of one data set's pictures by the methods measured on it."""
    found = [row for row in rows(results, compared) if not row.published and dataset in row.datasets]
    means = [_mean(row, dataset) for row in found]
    shown = _measures(means)
    lines = []
    for name in results.datasets[dataset].images:
        scores = [row.datasets[dataset].images.get(name) for row in found]
        lines.append(Line(name, _cells(found, scores, shown)))
    lines.append(Line("mean", _cells(found, means, shown), is_mean=True))
    return Table("Picture", [row.name for row in found], shown, lines, found)


def rows(results: Results, compared: Sequence[Compared] = ()) -> list[Row]:
    """Return the methods in the order of a table; published ones last, and only for the papers' own protocol."""
    found = [Row(BICUBIC, results.bicubic)] if results.bicubic else []
    for other in compared:
        scored_otherwise, run_otherwise = _caveats(results, other.results)
        note = "; ".join(scored_otherwise + run_otherwise)
        found.append(Row(other.name, other.results.datasets, note=note, rival=not scored_otherwise))
    found.append(Row(results.name, results.datasets, ours=True, note="; ".join(_run_otherwise(results))))
    if not is_papers_protocol(results):
        return found
    theirs: dict[str, dict[str, DatasetResult]] = {}
    for name in results.datasets:
        for method, (psnr, ssim) in published.scores(results.scale, name).items():
            theirs.setdefault(method, {})[name] = DatasetResult(Scores(psnr, ssim))
    return found + [Row(method, datasets, published=True, rival=False) for method, datasets in theirs.items()]


def is_papers_protocol(results: Results) -> bool:
    """Whether the scores compare with published ones."""
    return results.protocol.psnr == "luma" and results.protocol.border == results.scale


def number(value: float | None, digits: int) -> str:
    """Write a score; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def describe_scores(scores: Scores) -> list[str]:
    """Return a picture's scores as text, those that were computed, in the order of a table's measures."""
    return [number(m.of(scores), m.digits) for m in _MEASURES if m is not _LPIPS or scores.lpips is not None]


def describe_protocol(protocol: StatedProtocol) -> str:
    """Say in words how scores were computed, to stand beside a table."""
    channel = {"luma": "on Y", "RGB": "on RGB"}.get(protocol.psnr or "", str(protocol.psnr))
    said = [f"PSNR and SSIM {channel}", f"border of {protocol.border} left out"]
    said.append("rounded to uint8" if protocol.rounding == "uint8" else "not rounded")
    said += [f"{name.replace('_', ' ')}: {_in_words(value)}" for name, value in protocol.others.items()]
    return ", ".join(said)


def count_pictures(count: int) -> str:
    """Write how many pictures there are."""
    return "1 picture" if count == 1 else f"{count} pictures"


def _mean(row: Row, dataset: str) -> Scores | None:
    return row.datasets[dataset].mean if dataset in row.datasets else None


def _measures(found: Iterable[Scores | None]) -> list[Measure]:
    """Return what there are scores of: PSNR and SSIM always."""
    has_lpips = any(scores is not None and scores.lpips is not None for scores in found)
    return [measure for measure in _MEASURES if measure is not _LPIPS or has_lpips]


def _cells(found: Sequence[Row], scores: Sequence[Scores | None], shown: Sequence[Measure]) -> list[list[Cell]]:
    """Return each method's scores of one data set or picture."""
    columns = []
    for measure in shown:
        values = [measure.of(entry) for entry in scores]
        rivals = [value for row, value in zip(found, values, strict=True) if row.rival and math.isfinite(value)]
        top = number(measure.best(rivals), measure.digits) if len(rivals) > 1 else None
        is_best = [row.rival and number(v, measure.digits) == top for row, v in zip(found, values, strict=True)]
        columns.append([Cell(value, measure, best) for value, best in zip(values, is_best, strict=True)])
    return [list(line) for line in zip(*columns, strict=True)]


def _caveats(results: Results, other: Results) -> tuple[list[str], list[str]]:
    """Say why another method's scores do not compare with ours, and what else is different about them."""
    ours, theirs = results.protocol.to_json(), other.protocol.to_json()
    different: list[str] = []
    run: list[str] = []
    for key in ours:
        if theirs.get(key, ours[key]) != ours[key]:
            said = f"{key.replace('_', ' ')} {_in_words(theirs[key])} instead of {_in_words(ours[key])}"
            (different if key in SCORING else run).append(said)
    missing = [name for name in results.datasets if name not in other.datasets]
    for name, dataset in results.datasets.items():
        if name in other.datasets and set(other.datasets[name].images) != set(dataset.images):
            different.append(f"other pictures in {name}")
    return different, run + ([f"no {', '.join(missing)}"] if missing else []) + _run_otherwise(other)


def _run_otherwise(results: Results) -> list[str]:
    """Say of how many pictures the protocol does not tell how they were run."""
    if not results.notes:
        return []
    picture, note = next(iter(results.notes.items()))
    return [f"{len(results.notes)} of the pictures not run as the protocol says ({picture}: {note})"]


def _in_words(value: Value) -> Value:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
