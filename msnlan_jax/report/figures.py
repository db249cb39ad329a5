"""A report's figures for papers, as PNG and PDF: enlarged parts by every method, and score against size."""

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from msnlan_jax.report.model_size import Plot, limits, log_ticks, place_labels, short
from msnlan_jax.report.showcase import Sample
from msnlan_jax.report.tables import describe_scores
from msnlan_jax.runtime import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OURS, _OTHERS = "#0b58a5", "#5c5b56"
# Type 42 fonts are text that can be searched; many publishers refuse matplotlib's default, Type 3.
_STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "pdf.fonttype": 42,
    "svg.hashsalt": "msnlan_jax",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_DPI = 200
_AS_IT_IS: Any = {"parse_math": False}  # dollar signs in names are dollar signs


def write_figures(output: epath.PathLike, samples: Sequence[Sample], plots: Sequence[Plot]) -> list[epath.Path]:
    """Write `crops_<set>_<picture>` and `psnr_by_<cost>`, each as PNG and PDF, into a folder; return the files.

    Those of an earlier report in the same folder are removed.

    Raises:
        InputError: when they cannot be written.
    """
    import matplotlib  # takes a second, and only reports need it

    output, written = epath.Path(output), []
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box is drawn instead
        for sample in samples:
            written += _save(output / f"crops_{sample.dataset}_{sample.name}", crop_figure(sample))
        for plot in plots:
            written += _save(output / f"psnr_by_{plot.cost}", size_figure(plot))
    for path in output.iterdir() if output.exists() else ():
        if path.name.startswith(("crops_", "psnr_by_")) and path.suffix in (".png", ".pdf") and path not in written:
            path.unlink()
    return written


def crop_figure(sample: Sample) -> "Figure":
    """Return the whole picture with the part marked, and the part by every method with its scores."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    h, w = sample.hr.shape[:2]
    lpips = any(scores.lpips is not None for scores in sample.scores.values())
    panels = [("HR", sample.crop.of(sample.hr), "PSNR (dB) / SSIM" + (" / LPIPS" if lpips else ""))]
    for name, image in sample.methods.items():
        scores = sample.scores[name]
        panels.append((name, sample.crop.of(image), " / ".join(describe_scores(scores))))
    side = 1.5
    part_h, part_w = panels[0][1].shape[:2]
    widths = [min(3.0, max(0.6, w / h)), *(part_w / part_h for _ in panels)]
    figure = Figure(figsize=(side * sum(widths) + 0.12 * len(panels), side + 0.45), layout="constrained")
    axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    axes[0].imshow(sample.hr)
    corner = (sample.crop.x - 0.5, sample.crop.y - 0.5)
    axes[0].add_patch(Rectangle(corner, part_w, part_h, fill=False, edgecolor="#ff3d2e", linewidth=1.2))
    axes[0].set_xlabel(f"{sample.dataset}: {sample.name}", **_AS_IT_IS)
    for ax, (name, image, below) in zip(axes[1:], panels, strict=True):
        ax.imshow(image, interpolation="nearest")
        ax.set_xlabel(f"{name}\n{below}", color=_OURS if name == list(sample.methods)[-1] else "black", **_AS_IT_IS)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure


def size_figure(plot: Plot) -> "Figure":
    """Return PSNR against a cost on a logarithmic axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 3.1), layout="constrained")
    ax = figure.subplots()
    x_low, x_high, y_low, y_high = limits(plot.points)
    ax.set(xscale="log", xlim=(x_low, x_high), ylim=(y_low, y_high), xlabel=plot.label)
    ax.set_ylabel(f"PSNR on {plot.dataset} (dB)", **_AS_IT_IS)
    ax.set_xticks(log_ticks(x_low, x_high), [short(value) for value in log_ticks(x_low, x_high)])
    ax.minorticks_off()
    ax.grid(color="#e3e2dc", linewidth=0.6)
    ax.set_axisbelow(True)
    for point in plot.points:
        ax.plot(point.cost, point.psnr, "o", color=_OURS if point.ours else _OTHERS, markersize=7 if point.ours else 5)
    figure.draw_without_rendering()  # fixes the layout, so that positions in points are known
    to_points = 72 / figure.dpi
    places = []
    for point in plot.points:
        x, y = ax.transData.transform((point.cost, point.psnr)) * to_points
        places.append((float(x), -float(y), 5.2 * len(point.name)))
    right = float(ax.bbox.x1 * to_points)
    for point, (anchor, dx, dy) in zip(plot.points, place_labels(places, right), strict=True):
        ax.annotate(
            point.name,
            (point.cost, point.psnr),
            xytext=(0.8 * dx, -0.8 * dy),
            textcoords="offset points",
            ha={"start": "left", "middle": "center", "end": "right"}[anchor],
            color=_OURS if point.ours else "black",
            fontsize=8,
        )
    return figure


def _save(stem: epath.Path, figure: "Figure") -> list[epath.Path]:
    written = []
    for suffix, options in ((".png", {"dpi": _DPI}), (".pdf", {"metadata": {"CreationDate": None}})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], **options)
        written.append(stem.with_name(files.fit_name(stem.name, suffix)))
        files.write_bytes(written[-1], buffer.getvalue())
    return written
