"""Paths under gs://, in a folder that stands in for a bucket."""

import json
import re

import numpy as np
import pytest

from data import folders, prepare, sources
from msnlan_jax.errors import InputError
from msnlan_jax.runtime import distributed, files
from msnlan_jax.training.metrics_log import MetricsLog
from msnlan_jax.training.tensorboard import Events
from msnlan_jax.weights import checkpoints
from msnlan_jax.weights.workdir import claim_workdir
from tests import object_store
from tests.samples import experiment, save_noise, snapshot

BUCKET = object_store.ADDRESS


@pytest.fixture
def store(tmp_path, monkeypatch):
    (tmp_path / "bucket").mkdir()
    monkeypatch.chdir(tmp_path)
    return object_store.use(tmp_path / "bucket", monkeypatch)


def test_remote_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(files.absolute(f"{BUCKET}/run")) == f"{BUCKET}/run"
    assert str(files.absolute("run")) == f"{tmp_path}/run"
    assert str(checkpoints._folder(f"{BUCKET}/run")) == f"{BUCKET}/run/checkpoints"


def test_files_are_written_at_once(store):
    files.write_bytes(f"{BUCKET}/a/b", b"data")
    assert [call for call, _ in store.calls] == ["open"]
    assert files.read_bytes(f"{BUCKET}/a/b", "thing") == b"data"
    with pytest.raises(FileNotFoundError, match=rf"^{BUCKET}/none: no such file, expected a thing$"):
        files.read_bytes(f"{BUCKET}/none", "thing")
    with pytest.raises(InputError, match=rf"^{BUCKET}/a: found a folder, expected a thing$"):
        files.read_bytes(f"{BUCKET}/a", "thing")
    files.prepare_output_dir(f"{BUCKET}/new", "--output")
    assert snapshot(store.root) == {"a/b": b"data"}


def test_a_workdir_has_its_configuration_and_logs(store):
    assert claim_workdir(f"{BUCKET}/run", {"scale": 2}) == []
    with pytest.raises(InputError, match=rf"^config\.scale: found 3, expected 2 as in {BUCKET}/run/config\.json"):
        claim_workdir(f"{BUCKET}/run", {"scale": 3})
    log = MetricsLog(f"{BUCKET}/run/metrics.jsonl", 0)
    for step in (1, 2, 3):
        log.write(step, {"loss": 0.5})
    MetricsLog(f"{BUCKET}/run/metrics.jsonl", 2)
    lines = (store.root / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_tensorboard_events_arrive_with_the_pictures(store, tmp_path):
    pytest.importorskip("tensorboardX")
    events = Events(f"{BUCKET}/tensorboard", 0, pytest.fail)
    events.scalars(1, {"loss": 2.5})
    assert snapshot(store.root) == {}
    events.pictures(1, {"baby": np.zeros((4, 6, 3), np.uint8)})
    ((name, first),) = snapshot(store.root).items()
    assert b"loss" in first and b"baby" in first
    events.scalars(2, {"psnr": 30.0})
    events.close()
    assert snapshot(store.root)[name].startswith(first) and b"psnr" in snapshot(store.root)[name]
    assert [path.name for path in tmp_path.iterdir()] == ["bucket"]


def test_pictures_are_found_prepared_and_read(store):
    save_noise(store.root / "photos", {"a.png": (24, 20, 3), "b.png": (20, 24, 3)})
    found = folders.find_pairs(f"{BUCKET}/photos", 2)
    assert [str(pair.hr) for pair in found] == [f"{BUCKET}/photos/{name}.png" for name in "ab"]
    assert list(folders.find_datasets(f"{BUCKET}/photos", [], 2)) == ["photos"]
    assert prepare.prepare(f"{BUCKET}/photos", f"{BUCKET}/arrays", (2,)) == (2, 0, [])
    assert prepare.prepare(f"{BUCKET}/photos", f"{BUCKET}/arrays", (2,)) == (0, 2, [])
    with pytest.raises(InputError, match=r"^--output: found the input folder"):
        prepare.prepare(f"{BUCKET}/photos", f"{BUCKET}/photos", (2,))
    pictures = [
        sources.open_pictures(experiment(data={"source": "folder", "dir": f"{BUCKET}/{name}"}, patch_size=8))
        for name in ("photos", "arrays")
    ]
    for decoded, mapped in zip(*pictures, strict=True):
        for expected, array in zip(decoded, mapped, strict=True):
            np.testing.assert_array_equal(array, expected, strict=True)


def test_listing_a_folder_asks_nothing_of_its_pictures(store):
    save_noise(store.root / "photos", {f"{number}.png": (8, 8, 3) for number in range(9)})
    assert len(folders.find_pairs(f"{BUCKET}/photos", 2)) == 9
    assert not [path for _, path in store.calls if path.endswith(".png")]


class RefusedError(Exception):
    """As a client's errors are: of no class that Python knows."""


RefusedError.__module__ = "gcsfs.retry"


def test_what_a_store_refuses_ends_in_a_line_that_names_the_file(store, monkeypatch):
    def refuse(*arguments):
        raise RefusedError("Forbidden,\n403")

    monkeypatch.setattr(store, "open", refuse, raising=False)
    with pytest.raises(InputError, match=rf"^{BUCKET}/a: cannot be written: Forbidden, 403$"):
        files.write_bytes(f"{BUCKET}/a", b"data")
    with pytest.raises(InputError, match=rf"^{BUCKET}/a: cannot be read: Forbidden, 403$"):
        files.read_bytes(f"{BUCKET}/a", "thing")
    with pytest.raises(InputError, match=rf"^--output: found {BUCKET}/a, .* can be written: Forbidden, 403$"):
        files.prepare_output_dir(f"{BUCKET}/a", "--output")


def test_the_other_processes_hear_of_whatever_befalls_the_first(monkeypatch):
    heard = []
    monkeypatch.setattr(distributed, "any_process", lambda failed: heard.append(failed) or failed)

    def fail():
        raise RefusedError("Forbidden")

    with pytest.raises(RefusedError):
        distributed.on_first(fail)
    assert (distributed.on_first(lambda: 5), heard) == (5, [True, False])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ImportError("Please install gcsfs to access Google Storage"), r"found no client for gs://, .*\[gcs\]"),
        (ImportError("cannot import name 'storage' from 'google.cloud'"), r"found no client for gs://, .*\[gcs\]"),
        (RefusedError("Forbidden"), f"^{BUCKET}/run: Forbidden$"),
    ],
)
def test_commands_end_in_one_line_too(invoke, monkeypatch, error, reason):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("msnlan_jax.weights.loading.read_weights", fail)
    code, _, err = invoke("eval", "--weights", f"{BUCKET}/run")
    assert code == 2
    (line,) = err.splitlines()
    assert re.search(reason, line.removeprefix("error: "))


def test_other_errors_are_none_of_a_store():
    assert files.remote_failure(ImportError("No module named 'lpips'")) is None
    assert files.remote_failure(ImportError("cannot import name 'x' from 'google.protobuf'")) is None
    assert files.remote_failure(RefusedError("Traceback (most recent call last):\n in our own code")) is None
    assert files.remote_failure(ValueError("wrong")) is None
