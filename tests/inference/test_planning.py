"""Memory limits change how a picture is run and not what comes out; and how far a picture is, is told."""

import logging
import math

import jax
import numpy as np
import pytest
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.inference import Options, Programs, plan_picture, planning, predict, programs, upscale, upscale_in_parts
from msnlan_jax.inference.tiling import CHOP_ARRAYS
from msnlan_jax.network import parameters
from msnlan_jax.network.attention import streamed
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.pictures.pairs import Pair
from msnlan_jax.report import latex, markdown, page, writing
from msnlan_jax.report.results import Results, StatedProtocol
from msnlan_jax.report.showcase import Showcase
from msnlan_jax.runtime import machine
from msnlan_jax.scoring.evaluation import score_network
from msnlan_jax.scoring.protocol import Protocol
from tests.helpers import FORWARD, picture, relative_l2
from tests.samples import Nearest, noise, save_noise, tiny_config, tiny_parameters

GB = machine.GB


@pytest.fixture(scope="module")
def network():
    return parameters.to_model(tiny_config(2), tiny_parameters(2))


@pytest.fixture
def no_program(monkeypatch):
    """Pictures so small that the program itself would be all the memory."""
    monkeypatch.setattr(planning, "_PROGRAM_BYTES", {})


def plan(model, h, w, mode="whole", tile_size=8, memory_limit=None, self_ensemble=False, programs=None):
    options = Options(mode, tile_size, tile_size // 4, self_ensemble, memory_limit)
    return plan_picture(model, (h, w), options, programs=programs or Programs())


def needed(model, h, w, score_bytes=None, array=None, batch=1, blended=0):
    array = array or (programs.bucket(h), programs.bucket(w))
    output = planning.Output(h, w, model.scale, blended)
    return planning.estimate_bytes(model.config, array, batch, output, score_bytes)


def made_before(*sizes):
    """Programs of which others than the network have made sizes."""
    made = Programs()
    made._networks["another"] = programs._Network(parameters.split(Nearest(2))[0], True, {1: list(sizes)})
    return made


def record_score_bytes(monkeypatch):
    """Return a set that will hold how large a band's scores may be, wherever attention is streamed."""
    used, attend = set(), streamed.attend

    def recorded(*args, score_bytes, **kwargs):
        used.add(score_bytes)
        return attend(*args, score_bytes=score_bytes, **kwargs)

    monkeypatch.setattr(streamed, "attend", recorded)
    return used


@pytest.mark.usefixtures("no_program")
def test_a_limit_changes_memory_and_not_the_result(network, monkeypatch):
    lr = picture(0, 30, 21, 3)
    expected = predict(network, lr, programs=Programs())
    used = record_score_bytes(monkeypatch)
    limit = needed(network, 30, 21, 2**15) / GB
    chosen = plan(network, 30, 21, memory_limit=limit)
    assert (chosen.mode, chosen.score_bytes, chosen.notes) == ("whole", 2**15, ())
    assert relative_l2(predict(network, lr, chosen.options, programs=Programs()), expected) <= FORWARD
    assert max(used) <= 2**15


@pytest.mark.usefixtures("no_program", "full_optimisation")
@pytest.mark.parametrize(("mode", "array", "blended"), [("chop", (40, 56), 0), ("tile", (32, 32), 32 * 50)])
def test_a_limit_holds_for_tiles_too(network, mode, array, blended, monkeypatch):
    lr = picture(0, 50, 41, 3)
    expected = predict(network, lr, Options(mode, 32, 4), programs=Programs())
    used = record_score_bytes(monkeypatch)
    limit = needed(network, 50, 41, 2**18, array, 4, blended) / GB
    chosen = plan(network, 50, 41, mode, tile_size=32, memory_limit=limit)
    assert (chosen.mode, chosen.score_bytes, chosen.notes) == (mode, 2**18, ())
    limited = Options(mode, 32, 4, memory_limit=limit)
    assert relative_l2(predict(network, lr, limited, programs=Programs()), expected) <= FORWARD
    assert max(used) <= 2**18


@pytest.mark.usefixtures("no_program")
def test_what_does_not_fit_by_the_smallest_block_is_tiled_and_it_is_said_once(network, caplog):
    lr, limit = picture(0, 60, 50, 3), (needed(network, 60, 50, 1) - 1) / GB
    with caplog.at_level(logging.WARNING):
        found = [predict(network, lr, Options("whole", 8, 2, memory_limit=limit)) for _ in range(2)]
    (record,) = caplog.records
    assert record.message == "in tiles of 8×8 pixels, as whole, 50×60 would need at least about 0.017 of 0.017 GB"
    assert relative_l2(found[0], predict(network, lr, Options("tile", 8, 2))) <= FORWARD
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("model", [None, Nearest(2)], ids=["network", "other"])
@pytest.mark.parametrize("mode", ["whole", "auto", "tile", "chop"])
def test_what_does_not_fit_in_tiles_is_refused_before_it_is_run(network, model, mode, monkeypatch):
    monkeypatch.setattr(programs, "_jitted", lambda: pytest.fail("it was run"))
    with pytest.raises(InputError, match=r"^memory: a picture of 8×9 pixels needs about .* found 1e-06 GB; expected a"):
        upscale(model or network, noise(0, 9, 8, 3), inference=mode, memory_limit=1e-6)


def test_auto_takes_tiles_where_whole_takes_more_than_a_minute(monkeypatch):
    monkeypatch.setattr(planning, "count_cores", lambda: 2)
    network = parameters.abstract_model(MSNLANConfig())

    def chosen(h, w, mode, tile_size=64):
        found = plan(network, h, w, mode, tile_size=tile_size, memory_limit=math.inf)
        return found.mode, found.notes

    reason = "would take about 962 h instead of 74 min; --inference whole insists"
    expected = ("tile", (f"in tiles of 64×64 pixels, as whole, 4000×3000 {reason}",))
    assert chosen(3000, 4000, "auto") == expected
    expected = ("whole", ("whole, 4000×3000 takes about 962 h; --inference tile takes 74 min",))
    assert chosen(3000, 4000, "whole") == expected
    assert chosen(3000, 4000, "tile") == ("tile", ())
    for side, mode in ((220, "whole"), (240, "tile")):
        assert (planning.estimate_seconds(network.config, side, side) <= 60) == (mode == "whole")
        assert chosen(side, side, "auto")[0] == mode
        assert chosen(side, side, "whole") == ("whole", ())
    assert chosen(220, 220, "auto")[1] == ("whole, 220×220 takes about 49 s; --inference tile takes 21 s",)
    assert chosen(120, 120, "auto") == ("whole", ())
    # A tile as large as the picture is no faster.
    assert chosen(240, 240, "auto", tile_size=500)[0] == "whole"


def test_time_grows_with_the_square_of_the_pixels(monkeypatch):
    config = MSNLANConfig()
    small, large = (planning.estimate_seconds(config, side, side) for side in (1000, 2000))
    assert 14 < large / small <= 16
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert planning.estimate_seconds(config, 1000, 1000) < small


def test_a_picture_of_any_size_fits_where_its_features_do():
    """The whole network: scores are cut as small as need be."""
    network = parameters.abstract_model(MSNLANConfig())
    for side in (200, 500, 1000):
        limit = needed(network, side, side, 1) / GB
        assert plan(network, side, side, memory_limit=1.001 * limit).mode == "whole"
        assert plan(network, side, side, memory_limit=0.999 * limit).mode == "tile"


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
    program = planning.program_bytes(network) / GB
    assert 10 * pixels < least(4000, 6000) - program < 13 * pixels
    assert least(4000, 6000, self_ensemble=True) - program < 19 * pixels
    # As the area, where the result outweighs; as the width, where strips do.
    assert 3.5 < least(16000, 12000) / least(8000, 6000) < 4
    running = [planning.Output(100, 1000, 4, rows * 1000).bytes(GB) for rows in (0, 32, 64)]
    assert running[2] - running[1] == running[1] - running[0] > 0
    assert planning.Output(100, 100, 2, 0).bytes(10**9) == 10**9 + 4 * 40000
    assert planning.Output(100, 100, 2, 0, True).bytes(10**9) == 10**9 + 16 * 40000


def test_a_turned_picture_counts_where_it_is_turned():
    """By the self-ensemble: a tall picture's tiles are blended in rows as long as it is high."""
    network = parameters.abstract_model(tiny_config(4))

    def fits(self_ensemble, limit, programs=None):
        return plan(network, 10000, 100, "tile", 64, limit, self_ensemble, programs)

    tall, wide = (planning.Output(10000, 100, 4, 64 * side, True).bytes() / GB for side in (100, 10000))
    assert fits(False, tall + planning.program_bytes(network) / GB + 0.14).mode == "tile"
    with pytest.raises(InputError, match=r"^memory: a picture of 100×10000 pixels needs about "):
        fits(True, wide)
    made, output = made_before((320, 256)), planning.Output(180, 290, 4, 0, True)
    turned = planning.estimate_bytes(network.config, (320, 256), 1, output, 1) / GB
    for self_ensemble, limit, mode in ((False, 0.999, "whole"), (True, 0.999, "tile"), (True, 1.001, "whole")):
        found = plan(network, 180, 290, memory_limit=limit * turned, self_ensemble=self_ensemble, programs=made)
        assert found.mode == mode


def test_a_larger_array_that_would_be_taken_again_is_counted(network):
    limit = needed(network, 128, 128, 1) / GB
    assert plan(network, 128, 128, memory_limit=1.001 * limit).mode == "whole"
    made = made_before((144, 144), (64, 64), (256, 256))
    assert made.largest_array(128, 128) == (144, 144)
    assert made.largest_array(50, 50) == (64, 64)
    assert made.largest_array(50, 50, CHOP_ARRAYS[2]) == (56, 56)
    assert plan(network, 128, 128, memory_limit=1.001 * limit, programs=made).mode == "tile"
    larger = needed(network, 128, 128, 1, (144, 144)) / GB
    assert plan(network, 128, 128, memory_limit=1.001 * larger, programs=made).mode == "whole"


@pytest.mark.parametrize("limit", [0, -1.0, math.nan])
def test_other_limits_are_refused(limit):
    with pytest.raises(InputError, match=r"^memory_limit: found .*, expected a positive number of GB$"):
        upscale(Nearest(2), noise(0, 8, 8, 3), memory_limit=limit)


@pytest.mark.parametrize(
    ("scale", "size", "options", "expected"),
    [
        (2, (50, 33), Options(), 1),
        (2, (50, 33), Options(self_ensemble=True), 8),
        (2, (50, 33), Options("tile", 16, 4), 12),
        (2, (50, 33), Options("tile", 16, 4, self_ensemble=True), 96),
        (2, (50, 33), Options("chop"), 4),
        (4, (98, 100), Options("chop"), 16),
    ],
    ids=str,
)
def test_there_are_as_many_parts_as_planned(scale, size, options, expected):
    model, image = Nearest(scale), noise(0, *size, 3)
    chosen = plan_picture(model, size, options)
    parts = list(upscale_in_parts(model, image, chosen))
    assert (chosen.parts, len(parts)) == (expected, expected)
    np.testing.assert_array_equal(parts[-1], image.repeat(scale, 0).repeat(scale, 1))


def test_rows_of_tiles_are_finished_one_after_the_other():
    model, image = Nearest(2), noise(0, 40, 24, 3)
    expected = image.repeat(2, 0).repeat(2, 1)
    chosen = plan_picture(model, image.shape, Options("tile", 16, 4))
    for done, large in enumerate(upscale_in_parts(model, image, chosen), 1):
        # Two tiles in a row, the next row 12 LR pixels further down, the third at the end.
        finished = {0: 0, 1: 24, 2: 48, 3: 80}[done // 2]
        np.testing.assert_array_equal(large[:finished], expected[:finished])


@pytest.mark.usefixtures("no_program")
def test_an_evaluation_tells_which_pictures_were_not_run_as_asked_for(network, tmp_path):
    save_noise(tmp_path, {"large.png": (120, 100, 3), "small.png": (24, 24, 3)})
    pairs = {"s": [Pair(name, epath.Path(tmp_path / f"{name}.png")) for name in ("large", "small")]}
    limit = (needed(network, 60, 50, 1) - 1) / GB
    options, protocol = Options("whole", 8, 2, memory_limit=limit), Protocol(2)
    start = Results(2, "w", StatedProtocol.of(protocol))
    results = writing.collect_results(score_network(network, pairs, protocol, options), start, tmp_path, Showcase(0))
    assert list(results.notes) == ["s/large"]
    assert results.notes["s/large"].startswith("in tiles of 8×8 pixels, as whole, ")
    for text in (markdown.methods(results), latex.tables(results), page.page(results, (), (), ())):
        assert "1 of the pictures not run as the protocol says (s/large: in tiles of 8" in text
