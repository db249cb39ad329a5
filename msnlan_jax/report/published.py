"""Scores that others published, as the data file `published.json` beside this module holds them, with their sources."""

import functools
import json
from typing import Any

from etils import epath


@functools.cache
def _table() -> Any:
    return json.loads((epath.Path(__file__).parent / "published.json").read_text())


def about() -> str:
    """Return what the scores are."""
    return str(_table()["about"])


def sources() -> list[str]:
    """Return where the scores are from."""
    return [str(source) for source in _table()["sources"]]


def multiply_adds_about() -> str:
    """Return how the multiply–adds were counted."""
    return str(_table()["multiply_adds_about"])


def scores(scale: int, dataset: str) -> dict[str, tuple[float, float]]:
    """Return method → PSNR in dB and SSIM, both on Y, on one data set; empty where none are at hand."""
    rows = _table()["scores"].get(str(scale), {})
    return {method: (row[dataset][0], row[dataset][1]) for method, row in rows.items() if dataset in row}


def parameters(scale: int) -> dict[str, float]:
    """Return method → number of parameters, where it is known at this scale."""
    return dict(_table()["parameters"].get(str(scale), {}))


def multiply_adds(scale: int, pixels: int) -> dict[str, float]:
    """Return method → multiply–adds for this many LR pixels, where they could be counted."""
    return {method: count * pixels for method, count in _table()["multiply_adds_per_pixel"].get(str(scale), {}).items()}
