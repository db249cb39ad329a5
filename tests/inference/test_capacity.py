"""Memory limits change how a picture is run and not what comes out; and how far a picture is, is told."""

import logging
import math

import jax
import numpy as np
import pytest
from etils import epath

from msnlan_jax import report
from msnlan_jax.errors import InputError
from msnlan_jax.inference import capacity, programs
from msnlan_jax.inference.upscaling import predict, upscale
from msnlan_jax.network import parameters
from msnlan_jax.network.attention import streamed
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.pictures.pairs import Pair
from msnlan_jax.report import benchmark, latex, page, writing
from msnlan_jax.report.showcase import Showcase
from msnlan_jax.runtime import machine
from tests.helpers import FORWARD, picture, relative_l2
from tests.samples import Nearest, noise, save_noise, tiny_config, tiny_parameters

GB = machine.GB


@pytest.fixture(scope="module")
def network():
    return parameters.to_model(tiny_config(2), tiny_parameters(2))


@pytest.fixture
def no_program(monkeypatch):
    """Pictures so small that the program itself would be all the memory."""
    monkeypatch.setattr(capacity, "_PROGRAM_BYTES", {})


def plan(model, h, w, inference="whole", tile_size=8, **options):
    return capacity.plan(model, h, w, inference=inference, tile_size=tile_size, **options)


def needed(model, h, w, score_bytes=None, array=None, batch=1, blended=0):
    array = array or (programs.bucket(h), programs.bucket(w))
    output = capacity.Output(h, w, model.scale, blended)
    return capacity.estimate_bytes(model.config, array, batch, output, score_bytes)


def record_score_bytes(monkeypatch):
    """Return a set that will hold how large a band's scores may be, wherever attention is streamed."""
    used, attend = set(), streamed.attend

    def recorded(*args, score_bytes, **kwargs):
        used.add(score_bytes)
        return attend(*args, score_bytes=score_bytes, **kwargs)

    monkeypatch.setattr(streamed, "attend", recorded)
    return used


@pytest.fixture(autouse=True)
def _no_arrays(monkeypatch):
    """As if no program had been made yet."""
    monkeypatch.setattr(programs, "_ARRAYS", {})


@pytest.mark.usefixtures("no_program")
def test_a_limit_changes_memory_and_not_the_result(network, monkeypatch):
    lr = picture(0, 30, 21, 3)
    expected = predict(network, lr)
    used = record_score_bytes(monkeypatch)
    limit = needed(network, 30, 21, 2**15) / GB
    chosen = plan(network, 30, 21, memory_limit=limit)
    assert chosen == capacity.Plan("whole", 2**15)
    assert relative_l2(predict(network, lr, memory_limit=limit), expected) <= FORWARD
    assert max(used) <= 2**15


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize(("mode", "array", "blended"), [("chop", (40, 56), 0), ("tile", (32, 32), 32 * 50)])
def test_a_limit_holds_for_tiles_too(network, mode, array, blended, monkeypatch):
    lr = picture(0, 50, 41, 3)
    options = {"inference": mode, "tile_size": 32, "tile_overlap": 4}
    expected = predict(network, lr, **options)
    used = record_score_bytes(monkeypatch)
    limit = needed(network, 50, 41, 2**18, array, 4, blended) / GB
    assert plan(network, 50, 41, mode, tile_size=32, memory_limit=limit) == capacity.Plan(mode, 2**18)
    assert relative_l2(predict(network, lr, **options, memory_limit=limit), expected) <= FORWARD
    assert max(used) <= 2**18


@pytest.mark.usefixtures("no_program")
def test_what_does_not_fit_by_the_smallest_block_is_tiled_and_it_is_said_once(network, caplog):
    options = {"tile_size": 8, "tile_overlap": 2}
    lr, limit = picture(0, 60, 50, 3), (needed(network, 60, 50, 1) - 1) / GB
    with caplog.at_level(logging.WARNING):
        found = [predict(network, lr, **options, memory_limit=limit) for _ in range(2)]
    (record,) = caplog.records
    assert record.message == "in tiles of 8×8 pixels, as whole, 50×60 would need at least about 0.017 of 0.017 GB"
    assert relative_l2(found[0], predict(network, lr, inference="tile", **options)) <= FORWARD
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("model", [None, Nearest(2)], ids=["network", "other"])
@pytest.mark.parametrize("mode", ["whole", "auto", "tile", "chop"])
def test_what_does_not_fit_in_tiles_is_refused_before_it_is_run(network, model, mode, monkeypatch):
    monkeypatch.setattr(programs, "_compiled", lambda: lambda *args: pytest.fail("it was run"))
    with pytest.raises(InputError, match=r"^memory: a picture of 8×9 pixels needs about .* found 1e-06 GB; expected a"):
        upscale(model or network, noise(0, 9, 8, 3), inference=mode, memory_limit=1e-6)


def test_what_would_take_hours_is_tiled_unless_it_is_asked_for():
    network = parameters.abstract_model(MSNLANConfig())
    chosen = plan(network, 3000, 4000, "auto", memory_limit=math.inf)
    assert chosen.inference == "tile"
    assert chosen.note.startswith("in tiles of 8×8 pixels, as whole, 4000×3000 would take about ")
    chosen = plan(network, 3000, 4000, "whole", memory_limit=math.inf)
    assert chosen.inference == "whole"
    assert chosen.note.startswith("whole, 4000×3000 takes about ")
    assert plan(network, 192, 200, "auto", memory_limit=math.inf) == capacity.Plan("whole")


def test_time_grows_with_the_square_of_the_pixels(monkeypatch):
    config = MSNLANConfig()
    small, large = (capacity.estimate_seconds(config, side, side) for side in (1000, 2000))
    assert 14 < large / small <= 16
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert capacity.estimate_seconds(config, 1000, 1000) < small


def test_a_picture_of_any_size_fits_where_its_features_do():
    """The whole network: scores are cut as small as need be."""
    network = parameters.abstract_model(MSNLANConfig())
    for side in (200, 500, 1000):
        limit = needed(network, side, side, 1) / GB
        assert plan(network, side, side, memory_limit=1.001 * limit).inference == "whole"
        assert plan(network, side, side, memory_limit=0.999 * limit).inference == "tile"


def test_most_of_the_accelerators_memory_is_taken(monkeypatch):
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 1000}

    assert machine.free_bytes() > 0
    assert machine.limit_bytes(2.5) == 2.5 * GB
    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert machine.limit_bytes(None) == 800


def test_the_estimate_of_a_large_output_is_that_of_the_picture_and_a_strip():
    """24000×16000 pixels: uint8 with Pillow's copy and the file, and not the floats of all of it."""
    network = parameters.abstract_model(MSNLANConfig(scale=4, n_feats=32, n_groups=4, n_blocks=2))

    def least(h, w, **options):
        """The smallest limit, in GB, by bisection."""
        low, high = 0.0, 1000.0
        while high - low > 0.01:
            middle = (low + high) / 2
            try:
                plan(network, h, w, "tile", 64, memory_limit=middle, **options)
                high = middle
            except InputError:
                low = middle
        return high

    pixels = 16 * 4000 * 6000 / GB
    assert 10 * pixels < least(4000, 6000) < 14 * pixels
    assert least(4000, 6000, runs=8, float_result=True) < 20 * pixels
    # As the area, where the result outweighs; as the width, where strips do.
    assert 3.5 < least(16000, 12000) / least(8000, 6000) < 4
    running = [capacity.Output(100, 1000, 4, rows * 1000).bytes(GB) for rows in (0, 32, 64)]
    assert running[2] - running[1] == running[1] - running[0] > 0
    assert capacity.Output(100, 100, 2, 0).bytes(10**9) == 10**9 + 4 * 40000
    assert capacity.Output(100, 100, 2, 0, True).bytes(10**9) == 10**9 + 16 * 40000


def test_a_turned_picture_counts_where_it_is_turned():
    """By the self-ensemble: a tall picture's tiles are blended in rows as long as it is high."""
    network = parameters.abstract_model(tiny_config(4))

    def fits(runs, **limit):
        return plan(network, 10000, 100, "tile", tile_size=64, runs=runs, float_result=runs > 1, **limit)

    tall, wide = (capacity.Output(10000, 100, 4, 64 * side, True).bytes() / GB for side in (100, 10000))
    assert fits(1, memory_limit=tall + 0.6).inference == "tile"
    with pytest.raises(InputError, match=r"^memory: a picture of 100×10000 pixels needs about "):
        fits(8, memory_limit=wide)
    programs._ARRAYS["another", 1] = [(320, 256)]
    assert capacity._arrays(180, 290, 1) == [(192, 320)]
    assert capacity._arrays(180, 290, 8) == [(192, 320), (320, 256)]


def test_a_larger_array_that_would_be_taken_again_is_counted(network):
    limit = needed(network, 128, 128, 1) / GB
    assert plan(network, 128, 128, memory_limit=1.001 * limit).inference == "whole"
    programs._ARRAYS["another", 1] = [(144, 144), (64, 64), (256, 256)]
    assert programs.largest_array(128, 128) == (144, 144)
    assert programs.largest_array(50, 50) == (64, 64)
    assert programs.largest_array(50, 50, programs.CHOP_ARRAYS[2]) == (56, 56)
    assert plan(network, 128, 128, memory_limit=1.001 * limit).inference == "tile"
    larger = needed(network, 128, 128, 1, (144, 144)) / GB
    assert plan(network, 128, 128, memory_limit=1.001 * larger).inference == "whole"


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")),
        ("sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
    ids=["v2", "v1"],
)
def test_free_memory_is_what_a_container_leaves(tmp_path, folder, names):
    bound, used, cached = names
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  900 kB\nMemAvailable:  700 kB\n")
    assert machine.free_bytes(tmp_path) == 700 * 1024
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / used).write_text("400000\n")
    (tmp_path / folder / "memory.stat").write_text(f"anon 1\nin{cached} 7\n{cached} 50000\n")
    for text, expected in (("max\n", 700 * 1024), ("600000\n", 250_000), ("300000\n", 0)):
        (tmp_path / folder / bound).write_text(text)
        assert machine.free_bytes(tmp_path) == expected


@pytest.mark.parametrize("limit", [0, -1.0, math.nan])
def test_other_limits_are_refused(limit):
    with pytest.raises(InputError, match=r"^memory_limit: found .*, expected a positive number of GB$"):
        upscale(Nearest(2), noise(0, 8, 8, 3), memory_limit=limit)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(1, 1)]),
        ({"self_ensemble": True}, [(n, 8) for n in range(1, 9)]),
        ({"inference": "tile", "tile_size": 16, "tile_overlap": 4}, [(4, 12), (8, 12), (12, 12)]),
        ({"inference": "chop"}, [(4, 4)]),
    ],
    ids=str,
)
def test_parts_are_counted_up_to_their_total(options, expected):
    told = []
    predict(Nearest(2), picture(0, 50, 33, 3), **options, progress=lambda *counts: told.append(counts))
    assert told == expected


def test_parts_of_a_chop_cut_twice():
    told = []
    predict(Nearest(4), picture(0, 98, 100, 3), inference="chop", progress=lambda *counts: told.append(counts))
    assert told == [(4, 16), (8, 16), (12, 16), (16, 16)]


@pytest.mark.usefixtures("no_program")
def test_an_evaluation_tells_which_pictures_were_not_run_as_asked_for(network, tmp_path):
    save_noise(tmp_path, {"large.png": (120, 100, 3), "small.png": (24, 24, 3)})
    pairs = {"s": [Pair(name, epath.Path(tmp_path / f"{name}.png")) for name in ("large", "small")]}
    limit = (needed(network, 60, 50, 1) - 1) / GB
    options = {"inference": "whole", "tile_size": 8, "tile_overlap": 2, "memory_limit": limit}
    protocol = benchmark.Protocol(2)
    outcome = benchmark.score_network(network, "ours", pairs, protocol, options=options, showcase=Showcase(0))
    assert list(outcome.notes) == ["s/large"]
    result = report.results(2, "w", protocol.as_json(), outcome.datasets, outcome.bicubic, notes=outcome.notes)
    assert result["notes"]["s/large"].startswith("in tiles of 8×8 pixels, as whole, ")
    for text in (writing.markdown(result), latex.tables(result), page.page(result, (), (), ())):
        assert "1 of the pictures not run as the protocol says (s/large: in tiles of 8" in text
