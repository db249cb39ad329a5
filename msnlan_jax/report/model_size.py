"""PSNR against the size of networks, as papers plot it: the points, and where all goes in a drawing of them."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msnlan_jax.network import MSNLANConfig, abstract_model, count_parameters, multiply_adds
from msnlan_jax.report import published
from msnlan_jax.report.results import Results
from msnlan_jax.report.tables import is_papers_protocol

# The LR size for which multiply–adds are counted: attention grows with the square of it, convolutions do not.
LR_SIDE = 100

Box = tuple[float, float, float, float]  # left, top, right, bottom


class Point(NamedTuple):
    """One method: what it costs (parameters or multiply–adds), and its PSNR in dB."""

    name: str
    cost: float
    psnr: float
    ours: bool = False


@dataclasses.dataclass(frozen=True)
class Plot:
    """PSNR on one data set against one kind of cost: what that is called in names of files, and on the axis."""

    dataset: str
    cost: str
    label: str
    points: Sequence[Point]


@dataclasses.dataclass(frozen=True)
class Mark:
    """A point of a drawing: where it is, and where its label is, in pixels from the top left."""

    point: Point
    x: float
    y: float
    anchor: str
    label_x: float
    label_y: float


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A plot of a size in pixels: its frame's sides, what stands along them, and its points.

    Attributes:
        width: of all.
        height: of all.
        left, right, top, bottom: of the frame, from the top left.
        psnrs: how far down a line is, and the PSNR it is of.
        costs: how far to the right a line is, and the cost it is of.
        marks: the points.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    psnrs: Sequence[tuple[float, float]]
    costs: Sequence[tuple[float, float]]
    marks: Sequence[Mark]


def plots(results: Results, config: MSNLANConfig | None) -> list[Plot]:
    """Return the plots there are numbers for, ours among them, on the first data set that others published scores of.

    Args:
        results: what was found.
        config: of the network that made it; None where there is none, and nothing to plot.
    """
    scale = results.scale
    dataset = next((name for name in results.datasets if published.scores(scale, name)), None)
    if config is None or dataset is None or not is_papers_protocol(results):
        return []
    psnr = results.datasets[dataset].mean.psnr
    if not math.isfinite(psnr):
        return []
    scores = published.scores(scale, dataset)
    costs: list[tuple[str, str, Mapping[str, float], Callable[[MSNLANConfig], float]]] = [
        (
            "parameters",
            "parameters",
            published.parameters(scale),
            lambda config: count_parameters(abstract_model(config)),
        ),
        (
            "multiply_adds",
            f"multiply–adds at {LR_SIDE}×{LR_SIDE} input",
            published.multiply_adds(scale, LR_SIDE**2),
            lambda config: sum(multiply_adds(config, LR_SIDE, LR_SIDE)),
        ),
    ]
    found = []
    for cost, label, others, ours in costs:
        points = [Point(name, number, scores[name][0]) for name, number in others.items() if name in scores]
        points.append(Point("MSNLAN (this run)", ours(config), psnr, ours=True))
        if len(points) > 1:
            found.append(Plot(dataset, cost, label, points))
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


def lay_out(plot: Plot, width: int = 520, height: int = 340) -> Drawing:
    """Return where all goes in a drawing of a plot, the axis of costs logarithmic."""
    left, right, top, bottom = 66, width - 14, 14, height - 52
    x_low, x_high, y_low, y_high = limits(plot.points)

    def x(cost: float) -> float:
        return left + (right - left) * math.log(cost / x_low) / math.log(x_high / x_low)

    def y(psnr: float) -> float:
        return top + (bottom - top) * (y_high - psnr) / (y_high - y_low)

    places = place_labels([(x(p.cost), y(p.psnr), 8.0 * len(p.name)) for p in plot.points], right)
    marks = [
        Mark(point, x(point.cost), y(point.psnr), anchor, x(point.cost) + dx, y(point.psnr) + dy)
        for point, (anchor, dx, dy) in zip(plot.points, places, strict=True)
    ]
    psnrs = [(y(psnr), psnr) for psnr in ticks(y_low, y_high)]
    costs = [(x(cost), cost) for cost in log_ticks(x_low, x_high)]
    return Drawing(width, height, left, right, top, bottom, psnrs, costs, marks)


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

        boxes = [_label_box(x, y, width, choice) for choice in choices]
        costs = [sum(_overlap(box, other) for other in taken) + 10 * (box[2] > right or box[0] < 50) for box in boxes]
        # Its own point is among those taken, but no choice covers it.
        best = costs.index(min(costs))
        taken.append(boxes[best])
        places.append(choices[best])
    return places


def _label_box(x: float, y: float, width: float, place: tuple[str, float, float]) -> Box:
    anchor, dx, dy = place
    start = x + dx - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    return start, y + dy - 11, start + width, y + dy + 3


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
