"""The rows of every table of results: bicubic, others', ours, and what was published, each with its caveats."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msnlan_jax.report import published
from msnlan_jax.report.comparison import Compared
from msnlan_jax.scoring import Scores

BICUBIC = "bicubic"
# What changes the numbers that a protocol gives; other entries say how pictures were run.
_SCORING = ("psnr", "ssim", "border", "rounding")


class Measure(NamedTuple):
    """One kind of score: its heading and unit, its key in `results.json`, decimals to show, and which is best."""

    label: str
    unit: str
    key: str
    digits: int
    best: Callable[[Iterable[float]], float]


_MEASURES = (
    Measure("PSNR", " (dB)", "psnr", 2, max),
    Measure("SSIM", "", "ssim", 4, max),
    Measure("LPIPS", "", "lpips", 4, min),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        name: what it is called.
        datasets: data set → its entry as in `results.json`.
        ours: whether it is what this evaluation ran.
        published: whether the numbers are others' own, not measured here.
        note: a caveat, such as another protocol.
        rival: whether its scores may be called better or worse than ours: measured on our pictures by our protocol.
    """

    name: str
    datasets: Mapping[str, Mapping[str, Any]]
    ours: bool = False
    published: bool = False
    note: str = ""
    rival: bool = True


def rows(result: Mapping[str, Any], compared: Sequence[Compared] = ()) -> list[Row]:
    """Return the methods in the order of a table; published ones last, and only for the papers' own protocol."""
    found = [Row(BICUBIC, result["bicubic"])] if result.get("bicubic") else []
    for other in compared:
        scored_otherwise, run_otherwise = _caveats(result, other.result)
        note = "; ".join(scored_otherwise + run_otherwise)
        found.append(Row(other.name, other.result["datasets"], note=note, rival=not scored_otherwise))
    ours = result.get("method", result["weights"])
    found.append(Row(ours, result["datasets"], ours=True, note="; ".join(_run_otherwise(result))))
    protocol = result["protocol"]
    if protocol.get("psnr") != "luma" or protocol.get("border") != result["scale"]:
        return found
    theirs: dict[str, dict[str, dict[str, float]]] = {}
    for name in result["datasets"]:
        for method, (psnr, ssim) in published.scores(result["scale"], name).items():
            theirs.setdefault(method, {})[name] = {"psnr": psnr, "ssim": ssim}
    return found + [Row(method, datasets, published=True, rival=False) for method, datasets in theirs.items()]


def measures(found: Iterable[Row], names: Iterable[str]) -> list[Measure]:
    """Return what there are scores of in some data sets: PSNR and SSIM always."""
    entries = [row.datasets.get(name, {}) for row in found for name in names]
    return [m for m in _MEASURES if m.key != "lpips" or any(entry.get(m.key) is not None for entry in entries)]


def cells(
    found: Sequence[Row], entries: Sequence[Mapping[str, Any]], shown: Sequence[Measure]
) -> list[list[tuple[str, bool]]]:
    """Return each method's scores as text, and whether it is the best there.

    Args:
        found: the methods.
        entries: of each, its scores of one data set or picture; may be empty.
        shown: from `measures`.
    """
    columns = []
    for measure in shown:
        values = [entry.get(measure.key) for entry in entries]
        rivals = [v for row, v in zip(found, values, strict=True) if row.rival and v is not None]
        texts = [number(value, measure.digits) for value in values]
        top = number(measure.best(rivals), measure.digits) if len(rivals) > 1 else None
        columns.append([(text, row.rival and text == top) for row, text in zip(found, texts, strict=True)])
    return [list(line) for line in zip(*columns, strict=True)]


def describe_scores(scores: Scores) -> list[str]:
    """Return a picture's scores as text, those that were computed, in the order of `measures`."""
    values = dataclasses.asdict(scores)
    return [number(values[m.key], m.digits) for m in _MEASURES if m.key != "lpips" or scores.lpips is not None]


def describe_protocol(protocol: Mapping[str, Any]) -> str:
    """Say in words how scores were computed, to stand beside a table."""
    channel = {"luma": "on Y", "RGB": "on RGB"}.get(protocol.get("psnr", ""), str(protocol.get("psnr")))
    said = [f"PSNR and SSIM {channel}", f"border of {protocol.get('border')} left out"]
    said.append("rounded to uint8" if protocol.get("rounding") == "uint8" else "not rounded")
    for name, value in protocol.items():
        if name not in _SCORING:
            said.append(f"{name.replace('_', ' ')}: {_in_words(value)}")
    return ", ".join(said)


def _in_words(value: Any) -> Any:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def number(value: float | None, digits: int) -> str:
    """Write a score; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _caveats(result: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Say why another method's scores do not compare with ours, and what else is different about them."""
    ours, theirs = result["protocol"], other["protocol"]
    different: list[str] = []
    run: list[str] = []
    for key in ours:
        if theirs.get(key, ours[key]) != ours[key]:
            said = f"{key.replace('_', ' ')} {_in_words(theirs[key])} instead of {_in_words(ours[key])}"
            (different if key in _SCORING else run).append(said)
    missing = [name for name in result["datasets"] if name not in other["datasets"]]
    for name in result["datasets"]:
        images = other["datasets"].get(name, {}).get("images")
        if images is not None and set(images) != set(result["datasets"][name]["images"]):
            different.append(f"other pictures in {name}")
    return different, run + ([f"no {', '.join(missing)}"] if missing else []) + _run_otherwise(other)


def _run_otherwise(result: Mapping[str, Any]) -> list[str]:
    """Say of how many pictures the protocol does not tell how they were run."""
    if not (notes := result.get("notes")):
        return []
    picture, note = next(iter(notes.items()))
    return [f"{len(notes)} of the pictures not run as the protocol says ({picture}: {note})"]
