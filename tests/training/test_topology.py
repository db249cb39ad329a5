"""The same training on one device, on four, and on two processes with two each; and what each device is sent."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.jobs import QUICK_COMPILATION, ROOT, start_job

TRAIN = """
import json, sys
workdir, steps, index, count, address = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
from msnlan_jax.runtime import distributed
from msnlan_jax.training import loop as training
if count > 1:
    distributed.initialize(address, count, index)
from tests.samples import FakeLoader, experiment
from tests.training.test_loop import CONFIG
changes = {"total_steps": steps, "eval_every": 1000, "checkpoint_every": 1000}
config = experiment(**CONFIG | changes | {"ema_decay": 0.9, "learning_rate": 2e-4})
training.validate = lambda *args, **kwargs: ({"psnr": 30.0}, {})
training.train(config, workdir, FakeLoader(config, (index, count)), {})
"""


def start(workdir, steps, *, processes=1, devices=1):
    """Start a training of `processes` × `devices`, in processes of their own."""
    cache = workdir.parent / "xla"
    return start_job(TRAIN, workdir, steps, cache=cache, processes=processes, devices=devices)


def finish(jobs):
    outputs = [job.communicate(timeout=1500)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * len(jobs), "\n".join(outputs)
    return outputs


def losses(workdir):
    """Return step → loss of the lines that are complete."""
    written = (workdir / "metrics.jsonl").read_text().rpartition("\n")[0]
    found = [json.loads(line) for line in written.splitlines()]
    return {line["step"]: line["loss"] for line in found if "loss" in line}


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one")
    finish(start(workdir, 20))
    return losses(workdir)


@pytest.mark.slow
def test_losses_do_not_depend_on_the_topology_and_its_changes(one_device, tmp_path):
    """Eight steps on four devices, eight on two processes with two each, four on one device."""
    finish(start(tmp_path, 8, devices=4))
    outputs = finish(start(tmp_path, 16, processes=2, devices=2))
    assert "continuing after step 8" in outputs[0]
    assert "continuing" not in outputs[1]
    finish(start(tmp_path, 20))
    found = losses(tmp_path)
    assert found.keys() == one_device.keys() == set(range(1, 21))
    np.testing.assert_allclose(list(found.values()), list(one_device.values()), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "ctrl-c"])
def test_a_signal_to_one_process_stops_all_at_one_step(one_device, tmp_path, number):
    """And until then they lose what one device does."""
    jobs = start(tmp_path, 100_000, processes=2, devices=2)
    deadline = time.monotonic() + 600
    while not (tmp_path / "metrics.jsonl").exists() or len(losses(tmp_path)) < 3:
        assert all(job.poll() is None for job in jobs) and time.monotonic() < deadline
        time.sleep(0.05)
    jobs[1].send_signal(number)
    assert "as asked; the same command goes on from there" in finish(jobs)[0]
    found = losses(tmp_path)
    assert (tmp_path / "checkpoints" / str(max(found))).is_dir()
    shared = found.keys() & one_device.keys()
    assert shared >= {1, 2, 3}
    np.testing.assert_allclose([found[n] for n in shared], [one_device[n] for n in shared], rtol=1e-5)


def test_each_device_sees_its_own_pictures_only():
    """The compiled step of four devices averages gradients, and gathers nothing."""
    code = """
import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from msnlan_jax.network import parameters
from msnlan_jax.training import init_state, make_step
from tests.samples import FakeLoader, experiment
config = experiment()
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
graph, values = parameters.abstract_parameters(config.network)
put = lambda leaf, spec: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))
state = jax.eval_shape(lambda values: init_state(config, values), values)
state = jax.tree.map(lambda leaf: put(leaf, PartitionSpec()), state)
batch = [put(jax.ShapeDtypeStruct((8, side, side, 3), "uint8"), PartitionSpec("data")) for side in (6, 12)]
text = make_step(graph, config, mesh, FakeLoader(config)).lower(state, (), batch).compile().as_text()
assert "all-gather" not in text
assert "all-reduce" in text
"""
    environment = os.environ | {"XLA_FLAGS": f"{QUICK_COMPILATION} --xla_force_host_platform_device_count=4"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
