"""What an evaluation leaves behind: `results.json` and a Markdown table."""

import json
import math
from collections.abc import Mapping
from typing import Any

from etils import epath

from msnlan_jax import files
from msnlan_jax.evaluation import DatasetScores


def protocol(scale: int) -> dict[str, Any]:
    """Return how scores are computed, to stand beside every number (SPEC.md §6)."""
    return {"psnr": "luma", "ssim": "Y", "border": scale, "rounding": "uint8"}


def results(
    scale: int,
    weights: str,
    protocol: Mapping[str, Any],
    datasets: Mapping[str, DatasetScores],
    bicubic: Mapping[str, DatasetScores],
) -> dict[str, Any]:
    """Return the content of `results.json`; a score that is no finite number (equal pictures) is null.

    Args:
        scale: up-scaling factor.
        weights: what made the pictures.
        protocol: how scores were computed.
        datasets: name → its scores.
        bicubic: the same sets by bicubic up-sampling, the baseline; may be empty.
    """
    return {
        "scale": scale,
        "weights": weights,
        "protocol": dict(protocol),
        "datasets": {name: _as_json(scores) for name, scores in datasets.items()},
        "bicubic": {name: _as_json(scores) for name, scores in bicubic.items()},
    }


def markdown(result: Mapping[str, Any]) -> str:
    """Return `results.json`'s content as a Markdown table, the protocol above it."""
    protocol = ", ".join(f"{name}: {value}" for name, value in result["protocol"].items())
    lines = [
        f"**{result['weights']}**, ×{result['scale']} ({protocol})",
        "",
        "| data set | pictures | method | PSNR (dB) | SSIM | seconds |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for name, scores in result["datasets"].items():
        for method, row in (("bicubic", result["bicubic"].get(name)), (result["weights"], scores)):
            if row is not None:
                numbers = f"{_number(row['psnr'], 3)} | {_number(row['ssim'], 4)} | {row['seconds']:.1f}"
                lines.append(f"| {name} | {len(row['images'])} | {method} | {numbers} |")
    return "\n".join(lines) + "\n"


def write(output: epath.PathLike, result: Mapping[str, Any]) -> str:
    """Write `results.json` and `results.md` into `output`; return the table, to be shown.

    Raises:
        InputError: when they cannot be written.
    """
    output, table = epath.Path(output), markdown(result)
    pictures = ["| picture | PSNR (dB) | SSIM |", "|---|---:|---:|"]
    for name, scores in result["datasets"].items():
        for image, values in scores["images"].items():
            pictures.append(f"| {name}/{image} | {_number(values['psnr'], 3)} | {_number(values['ssim'], 4)} |")
    files.write_bytes(output / "results.json", json.dumps(result, indent=1, allow_nan=False).encode() + b"\n")
    files.write_bytes(output / "results.md", (table + "\n" + "\n".join(pictures) + "\n").encode())
    return table


def _as_json(scores: DatasetScores) -> dict[str, Any]:
    images = {
        name: {"psnr": _finite(values.psnr), "ssim": _finite(values.ssim)} for name, values in scores.images.items()
    }
    summary = {"psnr": _finite(scores.psnr), "ssim": _finite(scores.ssim), "seconds": round(scores.seconds, 3)}
    return summary | {"images": images}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
