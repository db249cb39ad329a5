"""The rows of every table of results: bicubic, others', ours, and what was published, each with its caveats."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from msnlan_jax import published
from msnlan_jax.comparison import Compared

BICUBIC = "bicubic"
# What changes the numbers that a protocol gives; other entries say how pictures were run.
_SCORING = ("psnr", "ssim", "border", "rounding")


@dataclasses.dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        name: what it is called.
        datasets: data set → its entry as in `results.json`.
        ours: whether it is what this evaluation ran.
        published: whether the numbers are others' own, not measured here.
        note: a caveat, such as another protocol.
    """

    name: str
    datasets: Mapping[str, Mapping[str, Any]]
    ours: bool = False
    published: bool = False
    note: str = ""


def rows(result: Mapping[str, Any], compared: Sequence[Compared] = ()) -> list[Row]:
    """Return the methods in the order of a table; published ones last, and only for the papers' own protocol."""
    found = [Row(BICUBIC, result["bicubic"])] if result.get("bicubic") else []
    found += [Row(other.name, other.result["datasets"], note=_caveat(result, other.result)) for other in compared]
    ours = result.get("method", result["weights"])
    found.append(Row(ours, result["datasets"], ours=True, note="; ".join(_run_otherwise(result))))
    protocol = result["protocol"]
    if protocol.get("psnr") != "luma" or protocol.get("border") != result["scale"]:
        return found
    theirs: dict[str, dict[str, dict[str, float]]] = {}
    for name in result["datasets"]:
        for method, (psnr, ssim) in published.scores(result["scale"], name).items():
            theirs.setdefault(method, {})[name] = {"psnr": psnr, "ssim": ssim}
    return found + [Row(method, datasets, published=True) for method, datasets in theirs.items()]


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


def _caveat(result: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    ours, theirs = result["protocol"], other["protocol"]
    different = [
        f"{key.replace('_', ' ')} {_in_words(theirs[key])} instead of {_in_words(ours[key])}"
        for key in ours
        if theirs.get(key, ours[key]) != ours[key]
    ]
    missing = [name for name in result["datasets"] if name not in other["datasets"]]
    for name in result["datasets"]:
        images = other["datasets"].get(name, {}).get("images")
        if images is not None and set(images) != set(result["datasets"][name]["images"]):
            different.append(f"other pictures in {name}")
    return "; ".join(different + ([f"no {', '.join(missing)}"] if missing else []) + _run_otherwise(other))


def _run_otherwise(result: Mapping[str, Any]) -> list[str]:
    """Say of how many pictures the protocol does not tell how they were run."""
    if not (notes := result.get("notes")):
        return []
    picture, note = next(iter(notes.items()))
    return [f"{len(notes)} of the pictures not run as the protocol says ({picture}: {note})"]
