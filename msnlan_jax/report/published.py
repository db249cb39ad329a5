"""Scores that others published, as the data file `published.json` beside this module holds them, with their sources."""

import functools
import json
from typing import Any

from etils import epath

# The data set's own name for up-sampling without a network.
BICUBIC = "Bicubic"


@functools.cache
def table() -> dict[str, Any]:
    """Return the data file's content."""
    return json.loads((epath.Path(__file__).parent / "published.json").read_text())


def sources() -> list[str]:
    """Return where the scores are from."""
    return table()["sources"]


def scores(scale: int, dataset: str) -> dict[str, tuple[float, float]]:
    """Return method → PSNR in dB and SSIM, both on Y, on one data set; empty where none are at hand."""
    rows = table()["scores"].get(str(scale), {})
    return {method: (row[dataset][0], row[dataset][1]) for method, row in rows.items() if dataset in row}


def parameters(scale: int) -> dict[str, float]:
    """Return method → number of parameters, where it is known at this scale."""
    return table()["parameters"].get(str(scale), {})


def multiply_adds(scale: int, pixels: int) -> dict[str, float]:
    """Return method → multiply–adds for this many LR pixels, where they could be counted."""
    return {method: count * pixels for method, count in table()["multiply_adds_per_pixel"].get(str(scale), {}).items()}
