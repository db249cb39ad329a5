"""A plot of a run's loss and PSNR."""

import io
from collections.abc import Sequence
from typing import Any

from etils import epath

from msnlan_jax.runtime import files


def draw_curves(path: epath.PathLike, lines: Sequence[dict[str, Any]]) -> None:
    """Draw loss and PSNR against the step, as a PNG.

    Args:
        path: the picture to write.
        lines: of `metrics.jsonl`.

    Raises:
        InputError: when it cannot be written.
    """
    from matplotlib.figure import Figure  # not before it is needed: it takes a while to import

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    losses = [(line["step"], line["loss"]) for line in lines if line.get("loss") is not None]
    steps, values = zip(*losses, strict=True) if losses else ((), ())
    left.plot(steps, values, color="tab:blue", alpha=0.3, linewidth=1)
    left.plot(steps, _smoothed(values), color="tab:blue", marker="o" if len(steps) == 1 else None)
    left.set(xlabel="step", ylabel="loss", yscale="log", title="training loss")
    for name in sorted({name for line in lines for name in line if name.startswith("psnr/")}):
        scores = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
        if scores:
            right.plot(*zip(*scores, strict=True), marker="o", markersize=3, label=name.removeprefix("psnr/"))
    right.set(xlabel="step", ylabel="PSNR (dB, luma)", title="validation")
    if right.lines:
        right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    files.write_bytes(path, buffer.getvalue())


def _smoothed(values: Sequence[float]) -> list[float]:
    """Average over about a twentieth of the curve, weighted towards the present."""
    weight = 1 / max(1.0, len(values) / 20)
    smooth: list[float] = []
    for value in values:
        smooth.append(value if not smooth else smooth[-1] + weight * (value - smooth[-1]))
    return smooth
