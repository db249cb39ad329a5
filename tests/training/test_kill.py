"""Runs that are killed and started again, as the same command: nothing tells them from one that was left alone."""

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from msnlan_jax import weights
from tests.jobs import ROOT, on_cpu
from tests.samples import save_noise

FIELDS = {
    "model.n_feats": 16,
    "model.n_groups": 2,
    "model.n_blocks": 1,
    "total_steps": 40,
    "batch_size": 4,
    "patch_size": 8,
    "log_every": 1,
    "checkpoint_every": 7,
    "eval_every": 25,
    "ema_decay": 0.9,
    "data.source": "folder",
    "data.dir": "photos",
    "data.loader": "memory",
    "eval.data_dir": "photos",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with photos, in which runs are started."""
    folder = tmp_path_factory.mktemp("kill")
    save_noise(folder / "photos", {"a.png": (40, 36, 3), "b.png": (32, 44, 3)})
    return folder


def start(folder, workdir):
    flags = [f"--config.{name}={value}" for name, value in FIELDS.items()]
    return subprocess.Popen(
        [sys.executable, ROOT / "train.py", "--config", ROOT / "configs/quickstart.py", "--workdir", workdir, *flags],
        cwd=folder,
        env=on_cpu(folder / "xla"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(folder, workdir):
    """Let a run come to its end; return what it printed, and what it left."""
    output, _ = (job := start(folder, workdir)).communicate(timeout=1500)
    assert job.returncode == 0, output
    return output, (folder / workdir / "metrics.jsonl").read_bytes(), weights.read_weights(folder / workdir)[1]


@pytest.fixture(scope="module")
def left_alone(folder):
    return finish(folder, "alone")


@pytest.fixture
def kills(request):
    """How often a run is killed: `pytest tests/training/test_kill.py --kills=20`."""
    return request.config.getoption("--kills")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_nothing_tells_a_killed_run_from_one_left_alone(folder, left_alone, kills, number):
    moments = sorted(random.Random(int(number)).sample(range(2, 38), kills))
    workdir = f"killed-{number}"
    for moment in moments:
        if number == signal.SIGTERM and steps(folder / workdir) >= moment:
            continue  # taken before it could be told to stop; one that has only begun to start just ends
        job = start(folder, workdir)
        deadline = time.monotonic() + 1500
        while steps(folder / workdir) < moment:
            assert job.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        job.send_signal(number)
        output, _ = job.communicate(timeout=1500)
        if number == signal.SIGTERM:
            assert job.returncode == 0
            assert "as asked; the same command goes on from there" in output
        else:
            assert job.returncode == -number
    output, metrics, parameters = finish(folder, workdir)
    assert "continuing after step" in output
    assert metrics == left_alone[1]
    for path, value in left_alone[2].items():
        np.testing.assert_array_equal(parameters[path], value)


def steps(workdir):
    """How many lines of training there are."""
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b'"loss"') if path.exists() else 0
