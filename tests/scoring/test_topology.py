"""The same scores on one device, on four, and by two processes; and which devices the pictures are made on."""

import json
import subprocess

import pytest

from tests.jobs import start_job
from tests.samples import save_noise

SCORE = """
import collections, json, sys
from etils import epath
folder, index, count, address = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
from msnlan_jax import scoring
from msnlan_jax.inference import Options, programs
from msnlan_jax.network import parameters
from msnlan_jax.pictures import Pair
from msnlan_jax.report import Results, StatedProtocol, writing
from msnlan_jax.report.showcase import Showcase
from msnlan_jax.runtime import distributed, relay
from msnlan_jax.training.validation import validate
from msnlan_jax.runtime import StopSignal
from tests.samples import tiny_config, tiny_parameters
if count > 1:
    distributed.initialize(address, count, index)
relay._PART_BYTES = 1000  # so that a picture is several
used = collections.defaultdict(set)
call = programs.Programs._call_compiled

def recorded(self, network, place, values, *arguments):
    output = call(self, network, place, values, *arguments)
    used[mode] |= {str(device) for device in output.devices()}
    return output

programs.Programs._call_compiled = recorded
network = parameters.to_model(tiny_config(2), tiny_parameters(2))
files = sorted(epath.Path(folder).glob("*.png"))
pairs = [Pair(file.stem, file) for file in files]
sets, protocol = {"two": pairs[:2], "seven": pairs[2:]}, scoring.Protocol(2)
share = scoring.Share.of_process({name: scoring.check_pairs(of_set, 2) for name, of_set in sets.items()})
counts = {name: len(of_set) for name, of_set in sets.items()}
made, compiled = programs.Programs(), {}
with relay.ending_together():
    for mode in ("whole", "chop", "tile"):
        made.forget_sizes()
        options = Options(mode, 16, 4, memory_limit=8.0)
        own = scoring.score_network(network, sets, protocol, options, programs=made, share=share)
        pictures = scoring.bring_together(scoring.beside_bicubic(own, protocol), share, counts)
        start = Results(2, "w", StatedProtocol.of(protocol, **options.to_json()))
        if index == 0:
            writing.collect_results(pictures, start, f"{folder}/{mode}", Showcase(0))
        else:
            assert list(pictures) == []
        compiled[mode] = made.count
mode = "validation"
values, strips = validate(network, sets, 2, "whole", programs=made, stop=StopSignal())
found = {mode: sorted(devices) for mode, devices in used.items()}
print(json.dumps({"used": found, "programs": compiled, "values": values, "strips": sorted(strips)}))
"""
SIZES = [(20, 24), (26, 28), (24, 20), (32, 30), (60, 52), (30, 22), (24, 24), (20, 32), (22, 26)]


def score(folder, *, processes=1, devices=1):
    """Score pictures by `processes` × `devices`, in processes of their own; return what each of them prints."""
    save_noise(folder, {f"{number}.png": (*size, 3) for number, size in enumerate(SIZES)})
    cache = folder.parent / "xla"
    jobs = start_job(SCORE, folder, cache=cache, processes=processes, devices=devices, stderr=subprocess.PIPE)
    outputs = [job.communicate(timeout=600) for job in jobs]
    assert [job.returncode for job in jobs] == [0] * processes, "\n".join(err for _, err in outputs)
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


def results(folder):
    """Return what `results.json` of each mode holds, without seconds."""
    found = {}
    for mode in ("whole", "chop", "tile"):
        found[mode] = json.loads((folder / mode / "results.json").read_text())
        for dataset in (*found[mode]["datasets"].values(), *found[mode]["bicubic"].values()):
            assert dataset.pop("seconds") >= 0
        assert [len(dataset["images"]) for dataset in found[mode]["datasets"].values()] == [2, 7]
    return found


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topology") / "one"
    (printed,) = score(folder)
    assert {mode: len(devices) for mode, devices in printed["used"].items()} == dict.fromkeys(printed["used"], 1)
    return folder, results(folder), printed


@pytest.mark.slow
def test_four_devices_are_busy_and_score_as_one(one_device):
    folder, expected, alone = one_device
    (printed,) = score(folder.parent / "four", devices=4)
    assert {mode: len(devices) for mode, devices in printed["used"].items()} == dict.fromkeys(alone["used"], 4)
    assert results(folder.parent / "four") == expected
    for name in ("programs", "values", "strips"):
        assert printed[name] == alone[name]


@pytest.mark.slow
def test_two_processes_score_as_one(one_device):
    folder, expected, alone = one_device
    first, second = score(folder.parent / "two", processes=2)
    assert results(folder.parent / "two") == expected
    assert first["values"] == second["values"] == alone["values"]
    assert (first["strips"], second["strips"]) == (alone["strips"], [])
    assert set(first["used"]["whole"]) & set(second["used"]["whole"]) == set()
