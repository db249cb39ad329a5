import dataclasses

import pytest

from msnlan_jax.network import complexity
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.report import model_size, published
from msnlan_jax.report.results import DatasetResult, Results, StatedProtocol
from msnlan_jax.scoring.metrics import Scores
from msnlan_jax.scoring.protocol import Protocol


def test_labels_meet_neither_points_nor_each_other():
    points = [(200.0 + 4 * i, 100.0 + 3 * i, 40.0) for i in range(4)]
    boxes = []
    for (x, y, width), (anchor, dx, dy) in zip(points, model_size.place_labels(points, 500), strict=True):
        left = x + dx - width * {"start": 0, "middle": 0.5, "end": 1}[anchor]
        boxes.append((left, y + dy - 11, left + width, y + dy + 3))
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])
    ((anchor, _, _),) = model_size.place_labels([(495.0, 50.0, 40.0)], 500)
    assert anchor == "end"


def test_ticks():
    assert model_size.ticks(31.9, 33.2) == pytest.approx([32.0, 32.5, 33.0])
    assert model_size.log_ticks(3e5, 6e6) == [5e5, 1e6, 2e6, 5e6]
    assert [model_size.short(value) for value in (950e3, 11.9e6, 5.02e11, 7)] == ["950 K", "11.9 M", "502 G", "7"]


def test_multiply_adds_of_the_published_size():
    """SPEC.md §1 and §2: 22 G in the convolutions at ×2; attention, by unfolding about 48 G, takes k² fewer here."""
    found = complexity.multiply_adds(MSNLANConfig(2), 48, 48)
    assert 20.5e9 < found.convolutions < 22.5e9
    assert found.attention == 2304 * (2304 + 2500 + 2704) * (32 + 64)
    unfolded = sum(k * k * (48 + k - 3) ** 2 * 2304 * 96 for k in (3, 5, 7))
    assert 47e9 < unfolded < 49e9


def test_edsr_and_rcan_are_counted_from_their_layers():
    def conv(features_in, features_out, side=3):
        return features_in * features_out * side * side

    blocks = {"EDSR": (256, 2 * 32 + 1), "RCAN": (64, 10 * (2 * 20 + 1) + 1)}
    for scale, ups in ((2, [(4, 1)]), (3, [(9, 1)]), (4, [(4, 1), (4, 4)])):
        for name, (c, convs) in blocks.items():
            total = conv(3, c) + convs * conv(c, c) + conv(c, 3) * scale**2
            total += sum(conv(c, factor * c) * positions for factor, positions in ups)
            assert published.multiply_adds(scale, 1)[name] == total


def test_published_scores_are_complete():
    for scale in (2, 3, 4):
        for dataset in ("Set5", "Set14", "B100", "Urban100", "Manga109"):
            found = published.scores(scale, dataset)
            assert next(iter(found)) == "Bicubic"
            assert len(found) == 8
            assert all(psnr > found["Bicubic"][0] for name, (psnr, _) in found.items() if name != "Bicubic")
    assert published.scores(4, "Set5")["RCAN"] == (32.63, 0.9002)


def test_plots_need_published_scores_of_the_same_protocol():
    config, one = MSNLANConfig(2, 16, 2, 1), DatasetResult.of({"a": Scores(34.0, 0.9)})
    result = Results(4, "w.pt", StatedProtocol.of(Protocol(4)), {"Set5": one, "odd": one})
    assert model_size.plots(dataclasses.replace(result, datasets={"odd": one}), config) == []
    rgb = StatedProtocol.of(Protocol(4, channel="rgb"))
    assert model_size.plots(dataclasses.replace(result, protocol=rgb), config) == []
    x2 = dataclasses.replace(result, scale=2, protocol=StatedProtocol.of(Protocol(2)))
    (plot,) = model_size.plots(x2, config)  # parameters are known at ×4 only
    assert {point.name: point.psnr for point in plot.points} == {
        "EDSR": 38.11,
        "RCAN": 38.27,
        "MSNLAN (this run)": 34.0,
    }
    assert [point.ours for point in plot.points] == [False, False, True]
