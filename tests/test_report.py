import json
import math

import pytest

from msnlan_jax import report
from msnlan_jax.errors import InputError
from msnlan_jax.evaluation import DatasetScores
from msnlan_jax.metrics import Scores
from tests.samples import snapshot

SET5 = DatasetScores({"baby": Scores(33.5, 0.91), "bird": Scores(34.5, 0.93)}, seconds=1.23456)
BICUBIC = DatasetScores({"baby": Scores(31.0, 0.85), "bird": Scores(32.0, 0.87)}, seconds=0.5)
ODD = DatasetScores({"equal": Scores(math.inf, 1.0), "small": Scores(20.25, math.nan)}, seconds=2.0)
PROTOCOL = {"psnr": "luma", "ssim": "Y", "border": 4, "rounding": "uint8"}


@pytest.fixture
def result():
    datasets = {"Set5": SET5, "odd": ODD}
    return report.results(4, "w.pt", report.protocol(4) | {"inference": "chop"}, datasets, {"Set5": BICUBIC})


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


def test_results_json(tmp_path, result):
    report.write(tmp_path / "new", result)
    assert json.loads((tmp_path / "new" / "results.json").read_text(), parse_constant=refuse_constant) == {
        "scale": 4,
        "weights": "w.pt",
        "protocol": PROTOCOL | {"inference": "chop"},
        "datasets": {
            "Set5": {
                "psnr": 34.0,
                "ssim": pytest.approx(0.92, rel=1e-14),
                "seconds": 1.235,
                "images": {"baby": {"psnr": 33.5, "ssim": 0.91}, "bird": {"psnr": 34.5, "ssim": 0.93}},
            },
            "odd": {
                "psnr": None,
                "ssim": 1.0,
                "seconds": 2.0,
                "images": {"equal": {"psnr": None, "ssim": 1.0}, "small": {"psnr": 20.25, "ssim": None}},
            },
        },
        "bicubic": {
            "Set5": {
                "psnr": 31.5,
                "ssim": pytest.approx(0.86, rel=1e-14),
                "seconds": 0.5,
                "images": {"baby": {"psnr": 31.0, "ssim": 0.85}, "bird": {"psnr": 32.0, "ssim": 0.87}},
            }
        },
    }


def test_markdown(tmp_path, result):
    table = [
        "**w.pt**, ×4 (psnr: luma, ssim: Y, border: 4, rounding: uint8, inference: chop)",
        "",
        "| data set | pictures | method | PSNR (dB) | SSIM | seconds |",
        "|---|---:|---|---:|---:|---:|",
        "| Set5 | 2 | bicubic | 31.500 | 0.8600 | 0.5 |",
        "| Set5 | 2 | w.pt | 34.000 | 0.9200 | 1.2 |",
        "| odd | 2 | w.pt | – | 1.0000 | 2.0 |",
    ]
    pictures = [
        "",
        "| picture | PSNR (dB) | SSIM |",
        "|---|---:|---:|",
        "| Set5/baby | 33.500 | 0.9100 |",
        "| Set5/bird | 34.500 | 0.9300 |",
        "| odd/equal | – | 1.0000 |",
        "| odd/small | 20.250 | – |",
    ]
    assert report.write(tmp_path, result).splitlines() == table
    assert (tmp_path / "results.md").read_text().splitlines() == table + pictures
    assert sorted(snapshot(tmp_path)) == ["results.json", "results.md"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, result):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"file/results\.json: cannot be written"):
        report.write(tmp_path / "file", result)
    assert snapshot(tmp_path) == {"file": b"precious"}
