"""How pictures are run, as one value: what is refused, what results say, and the flags of the commands."""

import argparse
import math

import pytest

from msnlan_jax.errors import InputError
from msnlan_jax.inference import Options, add_flags, read_flags


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"mode": "fast"}, "inference: found 'fast', expected one of auto, whole, chop, tile"),
        ({"tile_size": 0}, "tile_size: found 0, expected at least 1"),
        ({"tile_size": 8, "tile_overlap": 5}, "tile_overlap: found 5 with a tile_size of 8, expected 0 to 4"),
        ({"tile_overlap": -1}, "tile_overlap: found -1 with a tile_size of 64, expected 0 to 32"),
        ({"memory_limit": -1.0}, "memory_limit: found -1, expected a positive number of GB"),
        ({"memory_limit": math.nan}, "memory_limit: found nan, expected a positive number of GB"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(found, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        Options(**found)


def test_results_say_what_had_an_influence():
    assert Options("whole", 32, 8).to_json() == {"inference": "whole", "self_ensemble": False}
    assert Options("tile", 32, 8, self_ensemble=True, memory_limit=2.5).to_json() == {
        "inference": "tile",
        "self_ensemble": True,
        "tile_size": 32,
        "tile_overlap": 8,
        "memory_limit": 2.5,
    }


def test_a_limit_is_a_number_once_it_was_asked_for():
    assert Options("chop", memory_limit=2.5).with_limit() == Options("chop", memory_limit=2.5)
    assert 0 < Options().with_limit().memory_limit < math.inf


@pytest.mark.parametrize("default", ["auto", "whole"])
def test_flags_say_the_same(default, capsys):
    parser = argparse.ArgumentParser()
    add_flags(parser, default)
    assert read_flags(parser.parse_args([])) == Options(default)
    line = "--inference tile --tile_size 32 --tile_overlap 4 --self_ensemble --memory_limit 1.5"
    assert read_flags(parser.parse_args(line.split())) == Options("tile", 32, 4, True, 1.5)
    for line in ("--memory_limit 0", "--memory_limit inf", "--inference fast"):
        with pytest.raises(SystemExit):
            parser.parse_args(line.split())
    if default == "whole":
        with pytest.raises(SystemExit):
            parser.parse_args(["--inference", "auto"])
    assert "argument --memory_limit: found inf, expected a positive number of GB" in capsys.readouterr().err
