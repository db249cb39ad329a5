"""PSNR against the size of networks, as papers plot it: the points, and the plot as SVG for the report's page."""

import dataclasses
import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msnlan_jax.network import MSNLANConfig, abstract_model, count_parameters, multiply_adds
from msnlan_jax.report import published

# The LR size for which multiply–adds are counted: attention grows with the square of it, convolutions do not.
LR_SIDE = 100


class Point(NamedTuple):
    """One method: what it costs (parameters or multiply–adds), and its PSNR in dB."""

    name: str
    cost: float
    psnr: float
    ours: bool = False


@dataclasses.dataclass(frozen=True)
class Plot:
    """PSNR on one data set against one kind of cost."""

    dataset: str
    label: str
    points: Sequence[Point]


def plots(result: Mapping[str, Any], config: MSNLANConfig | None) -> list[Plot]:
    """Return the plots there are numbers for, ours among them, on the first data set that others published scores of.

    Args:
        result: `results.json`'s content.
        config: of the network that made it; None where there is none, and nothing to plot.
    """
    scale = result["scale"]
    dataset = next((name for name in result["datasets"] if published.scores(scale, name)), None)
    protocol = result["protocol"]
    if config is None or dataset is None or protocol.get("psnr") != "luma" or protocol.get("border") != scale:
        return []
    psnr = result["datasets"][dataset]["psnr"]
    if psnr is None:
        return []
    scores = published.scores(scale, dataset)
    costs: list[tuple[str, Mapping[str, float], Callable[[MSNLANConfig], float]]] = [
        ("parameters", published.parameters(scale), lambda config: count_parameters(abstract_model(config))),
        (
            f"multiply–adds at {LR_SIDE}×{LR_SIDE} input",
            published.multiply_adds(scale, LR_SIDE**2),
            lambda config: sum(multiply_adds(config, LR_SIDE, LR_SIDE)),
        ),
    ]
    found = []
    for label, others, ours in costs:
        points = [Point(name, cost, scores[name][0]) for name, cost in others.items() if name in scores]
        points.append(Point("MSNLAN (this run)", ours(config), psnr, ours=True))
        if len(points) > 1:
            found.append(Plot(dataset, label, points))
    return found


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers from `low` to `high`."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten from `low` to `high`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for power in powers for factor in (1, 2, 5) if low <= (value := factor * 10.0**power) <= high]


def short(value: float) -> str:
    """Write a count for people: 950 K, 11.9 M, 502 G."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def limits(points: Sequence[Point]) -> tuple[float, float, float, float]:
    """Return the axes' least and largest cost and PSNR, with room around the points."""
    costs, psnrs = [point.cost for point in points], [point.psnr for point in points]
    room = max(0.1, 0.15 * (max(psnrs) - min(psnrs)))
    return min(costs) / 1.6, max(costs) * 1.6, min(psnrs) - room, max(psnrs) + room


def svg(plot: Plot, width: int = 520, height: int = 340) -> str:
    """Return the plot as an inline SVG; colours come from the page's style."""
    left, right, top, bottom = 66, 14, 14, 52
    x_low, x_high, y_low, y_high = limits(plot.points)

    def x(cost: float) -> float:
        return left + (width - left - right) * math.log(cost / x_low) / math.log(x_high / x_low)

    def y(psnr: float) -> float:
        return top + (height - top - bottom) * (y_high - psnr) / (y_high - y_low)

    parts = []
    for psnr in ticks(y_low, y_high):
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(psnr):.1f}" y2="{y(psnr):.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{left - 8}" y="{y(psnr) + 4:.1f}">{psnr:.1f}</text>')
    for cost in log_ticks(x_low, x_high):
        parts.append(f'<line class="grid" x1="{x(cost):.1f}" x2="{x(cost):.1f}" y1="{top}" y2="{height - bottom}"/>')
        place = f'text-anchor="middle" x="{x(cost):.1f}" y="{height - bottom + 20}"'
        parts.append(f'<text class="tick" {place}>{short(cost)}</text>')
    middle = (left + width - right) / 2
    parts.append(f'<text class="axis" text-anchor="middle" x="{middle}" y="{height - 8}">{plot.label}</text>')
    turned = f'transform="rotate(-90)" text-anchor="middle" x="{-(top + height - bottom) / 2}" y="14"'
    parts.append(f'<text class="axis" {turned}>PSNR on {html.escape(plot.dataset)}, dB</text>')
    places = place_labels([(x(p.cost), y(p.psnr), 8.0 * len(p.name)) for p in plot.points], width - right)
    for point, (anchor, dx, dy) in zip(plot.points, places, strict=True):
        kind = "point ours" if point.ours else "point"
        title = f"<title>{html.escape(point.name)}: {short(point.cost)}, {point.psnr:.2f} dB</title>"
        at = f'cx="{x(point.cost):.1f}" cy="{y(point.psnr):.1f}" r="{6 if point.ours else 4.5}"'
        parts.append(f'<circle class="{kind}" {at}>{title}</circle>')
        at = f'text-anchor="{anchor}" x="{x(point.cost) + dx:.1f}" y="{y(point.psnr) + dy:.1f}"'
        parts.append(f'<text class="label{" ours" if point.ours else ""}" {at}>{html.escape(point.name)}</text>')
    about = f"PSNR on {plot.dataset} against {plot.label}"
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(about)}">' + "".join(parts) + "</svg>"
    )


def place_labels(points: Sequence[tuple[float, float, float]], right: float) -> list[tuple[str, float, float]]:
    """Find a place for every point's label where it meets no other point or label.

    Args:
        points: x, y (downwards) and width of the label, in pixels.
        right: where the plot ends.

    Returns:
        For every point its label's text-anchor, and dx and dy of its base line.
    """
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y, _ in points]
    places = []
    for x, y, width in points:
        choices = [("start", 10.0, 4.0), ("end", -10.0, 4.0), ("middle", 0.0, -11.0), ("middle", 0.0, 20.0)]
        choices += [("start", 8.0, dy) for dy in (-9.0, 16.0)] + [("end", -8.0, dy) for dy in (-9.0, 16.0)]

        def box(
            choice: tuple[str, float, float], x: float = x, y: float = y, width: float = width
        ) -> tuple[float, ...]:
            anchor, dx, dy = choice
            start = x + dx - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
            return start, y + dy - 11, start + width, y + dy + 3

        def cost(choice: tuple[str, float, float]) -> float:
            a = box(choice)
            meets = sum(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in taken)
            return meets + 10 * (a[2] > right or a[0] < 50)

        # Its own point is among those taken, but no choice covers it.
        best = min(choices, key=cost)
        taken.append(box(best))  # type: ignore[arg-type]
        places.append(best)
    return places
