"""What an evaluation leaves behind: `results.json`, tables in Markdown and LaTeX, a page to look at, and figures."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from msnlan_jax.network import MSNLANConfig
from msnlan_jax.report import figures, latex, model_size, page
from msnlan_jax.report.comparison import Compared
from msnlan_jax.report.rows import Measure, measures, number, rows
from msnlan_jax.report.showcase import Sample
from msnlan_jax.runtime import files
from msnlan_jax.scoring import DatasetScores, Scores
from msnlan_jax.version import __version__


def protocol(
    scale: int, *, channel: str = "y", border: int | None = None, rounding: str = "uint8", lpips: bool = False
) -> dict[str, Any]:
    """Return how scores are computed, to stand beside every number; by default as papers do (SPEC.md §6)."""
    names = {"psnr": "luma", "ssim": "Y"} if channel == "y" else {"psnr": "RGB", "ssim": "RGB"}
    perceptual = {"lpips": "AlexNet"} if lpips else {}
    return {**names, "border": scale if border is None else border, "rounding": rounding, **perceptual}


def results(
    scale: int,
    weights: str,
    protocol: Mapping[str, Any],
    datasets: Mapping[str, DatasetScores],
    bicubic: Mapping[str, DatasetScores],
    *,
    method: str | None = None,
    notes: Mapping[str, str] | None = None,
    has_images: bool = False,
) -> dict[str, Any]:
    """Return the content of `results.json`; a score that is no finite number (equal pictures) is null.

    Args:
        scale: up-scaling factor.
        weights: what made the pictures.
        protocol: how scores were computed.
        datasets: name → its scores.
        bicubic: the same sets by bicubic up-sampling, the baseline; may be empty.
        method: what to call it in tables; by default `weights`.
        notes: `set/picture` → how it was run, where that is not as the protocol says.
        has_images: whether its pictures lie beside it, in `images/<set>/`.
    """
    named = {} if method in (None, weights) else {"method": method}
    return {
        "scale": scale,
        "weights": weights,
        "version": __version__,
        **named,
        "has_images": has_images,
        "protocol": dict(protocol),
        **({"notes": dict(notes)} if notes else {}),
        "datasets": {name: _as_json(scores) for name, scores in datasets.items()},
        "bicubic": {name: _as_json(scores) for name, scores in bicubic.items()},
    }


def markdown(result: Mapping[str, Any], compared: Sequence[Compared] = ()) -> str:
    """Return the methods' scores by data set as a Markdown table, the protocol above it."""
    protocol = ", ".join(f"{name}: {value}" for name, value in result["protocol"].items())
    measured = [row for row in rows(result, compared) if not row.published]
    shown = measures(measured, result["datasets"])
    heads = " | ".join(f"{measure.label}{measure.unit}" for measure in shown)
    rules = "---:|" * len(shown)
    lines = [
        f"**{result['weights']}**, ×{result['scale']} ({protocol})",
        "",
        f"| data set | pictures | method | {heads} | seconds |",
        f"|---|---:|---|{rules}---:|",
    ]
    for name in result["datasets"]:
        for row in measured:
            if name in row.datasets:
                scores = row.datasets[name]
                numbers = f"{_numbers(scores, shown)} | {number(scores.get('seconds'), 1)}"
                lines.append(f"| {name} | {len(scores['images'])} | {row.name} | {numbers} |")
    lines += [f"\n{row.name}: {row.note}." for row in measured if row.note]
    return "\n".join(lines) + "\n"


def write(
    output: epath.PathLike,
    result: Mapping[str, Any],
    *,
    compared: Sequence[Compared] = (),
    samples: Sequence[Sample] = (),
    config: MSNLANConfig | None = None,
) -> str:
    """Write `results.json`, `results.md`, `results.tex`, `report.html` and `figures/`; return the table, to be shown.

    Args:
        output: folder.
        result: from `results`.
        compared: other methods' results, to stand beside.
        samples: pictures to show, the most telling ones.
        config: of the network, for the plots against its size.

    Raises:
        InputError: when they cannot be written.
    """
    output, table = epath.Path(output), markdown(result, compared)
    pictures = _picture_table(result)
    plots = model_size.plots(result, config)
    files.write_bytes(output / "results.json", json.dumps(result, indent=1, allow_nan=False).encode() + b"\n")
    files.write_bytes(output / "results.md", f"{table}\n{pictures}".encode())
    files.write_bytes(output / "results.tex", latex.tables(result, compared).encode())
    files.write_bytes(output / "report.html", page.page(result, compared, samples, plots).encode())
    figures.write_figures(output / "figures", samples, plots)
    return table


def _picture_table(result: Mapping[str, Any]) -> str:
    """Return our own scores by picture as a Markdown table."""
    shown = measures([row for row in rows(result) if row.ours], result["datasets"])
    heads = " | ".join(f"{measure.label}{measure.unit}" for measure in shown)
    lines = [f"| picture | {heads} |", f"|---|{'---:|' * len(shown)}"]
    for name, scores in result["datasets"].items():
        lines += [f"| {name}/{image} | {_numbers(values, shown)} |" for image, values in scores["images"].items()]
    return "\n".join(lines) + "\n"


def _numbers(scores: Mapping[str, Any], shown: Sequence[Measure]) -> str:
    # A decimal more of PSNR than papers print.
    return " | ".join(number(scores.get(m.key), m.digits + (m.key == "psnr")) for m in shown)


def _as_json(scores: DatasetScores) -> dict[str, Any]:
    images = {name: _scores(values) for name, values in scores.images.items()}
    summary = {"psnr": _finite(scores.psnr), "ssim": _finite(scores.ssim)} | _lpips(scores.lpips)
    return summary | {"seconds": round(scores.seconds, 3), "images": images}


def _scores(values: Scores) -> dict[str, Any]:
    return {"psnr": _finite(values.psnr), "ssim": _finite(values.ssim)} | _lpips(values.lpips)


def _lpips(value: float | None) -> dict[str, float]:
    return {} if value is None else {"lpips": value}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
