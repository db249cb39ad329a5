import dataclasses
import json
import math

import numpy as np
import pytest

from msnlan_jax import __version__
from msnlan_jax.errors import InputError
from msnlan_jax.report.results import DatasetResult, Results, StatedProtocol, read_results, write_results
from msnlan_jax.scoring.metrics import Scores
from msnlan_jax.scoring.protocol import Protocol
from tests.report.samples import RESULTS

HUGE = 10**400  # JSON knows no limit; a float does


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


def test_results_json(tmp_path):
    write_results(tmp_path / "new" / "results.json", RESULTS)
    assert json.loads((tmp_path / "new" / "results.json").read_text(), parse_constant=refuse_constant) == {
        "scale": 4,
        "weights": "w.pt",
        "version": __version__,
        "has_images": False,
        "protocol": {"psnr": "luma", "ssim": "Y", "border": 4, "rounding": "uint8", "inference": "chop"},
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


def test_what_is_there_only_where_it_is_known():
    scores = DatasetResult.of({"a": Scores(30.0, 0.9, 0.25), "b": Scores(32.0, 0.8, 0.75)})
    found = Results(4, "w.pt", StatedProtocol(), {"s": scores}, method="ours", notes={"s/a": "in tiles"}).to_json()
    assert (found["method"], found["notes"], found["protocol"]) == ("ours", {"s/a": "in tiles"}, {})
    assert found["datasets"]["s"]["lpips"] == 0.5
    assert found["datasets"]["s"]["images"]["b"]["lpips"] == 0.75
    assert "seconds" not in found["datasets"]["s"]


@pytest.mark.parametrize("name", ["ours", ""])
def test_what_is_written_is_read(tmp_path, name):
    lpips = DatasetResult.of({"a": Scores(30.0, 0.9, 0.25)}, 2.5)
    stated = StatedProtocol.of(Protocol(4, "rgb", 0, "none", lambda sr, hr: 0.0), inference="tile", tile_size=48)
    result = Results(4, "w.pt", stated, {"s": lpips}, {}, name, {"s/a": "in tiles"}, has_images=True)
    write_results(tmp_path / "results.json", result)
    assert read_results(tmp_path / "results.json") == result
    written = RESULTS.to_json()
    np.testing.assert_equal(Results.from_json(written).to_json(), written)  # an infinite PSNR is null from then on


def test_a_file_made_by_hand_needs_scores_only():
    found = Results.from_json({"scale": 2, "datasets": {"s": {"psnr": 30, "ssim": None, "images": {}}}})
    assert (found.scale, found.bicubic, found.notes, found.has_images) == (2, {}, {}, True)
    assert found.protocol == StatedProtocol()
    assert found.datasets["s"].mean.psnr == 30.0
    assert math.isnan(found.datasets["s"].mean.ssim)
    assert found.datasets["s"].seconds is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], r"the file: found \[\], expected an object"),
        ({"scale": "4"}, 'scale: found "4", expected a whole number of at least 1'),
        ({"scale": True}, "scale: found true, expected a whole number of at least 1"),
        ({"scale": None}, "scale: found nothing, expected a whole number of at least 1"),
        ({"scale": -4}, "scale: found -4, expected a whole number of at least 1"),
        ({"scale": 0.0}, "scale: found 0.0, expected a whole number of at least 1"),
        ({"scale": 2.5}, "scale: found 2.5, expected a whole number of at least 1"),
        ({"scale": math.inf}, "scale: found Infinity, expected a whole number of at least 1"),
        ({"scale": HUGE}, f"scale: found 1{'0' * 39}…, expected a whole number of at least 1"),
        ({"scale": [4]}, r"scale: found \[4\], expected a whole number of at least 1"),
        ({"weights": {}}, r"weights: found \{\}, expected a text"),
        ({"version": 1.0}, "version: found 1.0, expected a text"),
        ({"datasets": None}, "datasets: found nothing, expected an object"),
        ({"datasets": []}, r"datasets: found \[\], expected an object"),
        ({"bicubic": [1]}, r"bicubic: found \[1\], expected an object"),
        ({"datasets": {"s": 3}}, "datasets.s: found 3, expected an object"),
        ({"datasets": {"s": [{"psnr": 1}]}}, r'datasets.s: found \[\{"psnr": 1\}\], expected an object'),
        (
            {"datasets": {"s": {"psnr": 1, "ssim": 1, "images": ["a"]}}},
            r'datasets.s.images: found \["a"\], expected an object',
        ),
        (
            {"datasets": {"s": {"psnr": 1, "ssim": 1, "images": {"a": 30}}}},
            "datasets.s.images.a: found 30, expected an object",
        ),
        ({"datasets": {"s": {"ssim": 1, "images": {}}}}, "datasets.s: found no psnr, expected a number or null"),
        ({"datasets": {"s": {"psnr": 1, "ssim": 1}}}, "datasets.s.images: found nothing, expected an object"),
        (
            {"datasets": {"s": {"psnr": "x", "ssim": 1, "images": {}}}},
            'datasets.s.psnr: found "x", expected a number or null',
        ),
        (
            {"bicubic": {"s": {"psnr": 1, "ssim": 1, "images": {"a": {"psnr": 1, "ssim": []}}}}},
            r"bicubic.s.images.a.ssim: found \[\], expected a number or null",
        ),
        (
            {"datasets": {"s": {"psnr": 1, "ssim": 1, "lpips": "x", "images": {}}}},
            'datasets.s.lpips: found "x", expected a number or null',
        ),
        ({"protocol": None}, "protocol: found nothing, expected an object"),
        ({"protocol": {"border": "4"}}, 'protocol.border: found "4", expected a whole number of at least 0'),
        ({"protocol": {"border": -1}}, "protocol.border: found -1, expected a whole number of at least 0"),
        ({"protocol": {"psnr": 3}}, "protocol.psnr: found 3, expected a text"),
        ({"protocol": {"tiles": math.nan}}, "protocol.tiles: found NaN, expected a number or a text"),
        ({"protocol": {"tiles": [1]}}, r"protocol.tiles: found \[1\], expected a number or a text"),
        ({"notes": {"s/a": 1}}, "notes.s/a: found 1, expected a text"),
        ({"notes": "x"}, 'notes: found "x", expected an object'),
        ({"has_images": 1}, "has_images: found 1, expected true or false"),
        ({"has_images": "no"}, 'has_images: found "no", expected true or false'),
        ({"method": 3}, "method: found 3, expected a text"),
    ],
)
def test_an_odd_file_is_refused_in_one_line_that_says_where(tmp_path, change, message):
    value = RESULTS.to_json() | change if isinstance(change, dict) else change
    (tmp_path / "results.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=rf"^.*/results\.json: not a results\.json of eval\.py: {message}$"):
        read_results(tmp_path / "results.json")


@pytest.mark.parametrize("field", ["psnr", "ssim", "lpips"])
@pytest.mark.parametrize(("value", "found"), [(HUGE, f"1{'0' * 39}…"), (True, "true"), ("30", '"30"'), ({}, r"\{\}")])
def test_scores_are_numbers(field, value, found):
    scores = {"psnr": 30, "ssim": 1, field: value}
    for where, entry in (
        ("s", {**scores, "images": {}}),
        ("s.images.a", {"psnr": 30, "ssim": 1, "images": {"a": scores}}),
    ):
        with pytest.raises(
            InputError, match=rf"^datasets\.{where}\.{field}: found {found}, expected a number or null$"
        ):
            Results.from_json({"scale": 2, "datasets": {"s": entry}})


@pytest.mark.parametrize(
    ("value", "found"),
    [(HUGE, f"1{'0' * 39}…"), (False, "false"), ("1", '"1"'), (-1, "-1"), (math.nan, "NaN"), (math.inf, "Infinity")],
)
def test_seconds_are_a_time(value, found):
    entry = {"psnr": 30, "ssim": 1, "images": {}, "seconds": value}
    message = rf"^datasets\.s\.seconds: found {found}, expected a number of at least 0 or null$"
    with pytest.raises(InputError, match=message):
        Results.from_json({"scale": 2, "datasets": {"s": entry}})


def test_numbers_are_of_one_type_however_they_are_written():
    entry = {"psnr": 30, "ssim": 1, "lpips": 0, "seconds": 2, "images": {}}
    found = Results.from_json({"scale": 4.0, "datasets": {"s": entry}, "protocol": {"border": 4.0}})
    mean = found.datasets["s"].mean
    numbers = (found.scale, found.protocol.border, mean.psnr, mean.ssim, mean.lpips, found.datasets["s"].seconds)
    assert [repr(number) for number in numbers] == ["4", "4", "30.0", "1.0", "0.0", "2.0"]


def test_another_file_is_refused(tmp_path):
    for data, message in (
        (b"{", "no JSON: Expecting"),
        (b"\xff\xfe\x00", "no JSON: "),
        (b"[" * 200000, "no JSON: "),
        (b'{"scale": 4, "datasets": {}, "weights": "\\ud800"}', "no JSON: .*surrogates not allowed"),
        (b'{"scale": ' + b"1" * 5000 + b"}", "no JSON: "),
    ):
        (tmp_path / "results.json").write_bytes(data)
        with pytest.raises(InputError, match=rf"/results\.json: not a results\.json of eval\.py: {message}"):
            read_results(tmp_path / "results.json")


def test_results_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RESULTS.scale = 3
