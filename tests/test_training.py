import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from msnlan_jax import losses, parameters, weights
from msnlan_jax.checkpoints import claim_workdir
from msnlan_jax.errors import InputError
from msnlan_jax.metrics_log import MetricsLog
from msnlan_jax.model import MSNLANConfig
from msnlan_jax.training import check_config, learning_rate_schedule, model_config, train
from tests.samples import SIZES, assert_same_arrays, experiment, fake_batches

ROOT = Path(__file__).parents[1]


def test_the_loss_is_the_mean_absolute_difference():
    prediction, target = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, 5, 3)).astype(np.float32)
    found = losses.l1(jax.numpy.asarray(prediction), jax.numpy.asarray(target))
    np.testing.assert_allclose(found, np.abs(prediction.astype(np.float64) - target).mean(), rtol=1e-6)


RATES = {
    "halving": ({}, {0: 8.0, 9: 8.0, 10: 4.0, 19: 4.0, 20: 2.0, 35: 1.0}),
    "halving after a warm-up": ({"warmup_steps": 4}, {0: 0.0, 1: 2.0, 3: 6.0, 4: 8.0, 13: 8.0, 14: 4.0}),
    "cosine": ({"schedule": "cosine"}, {0: 8.0, 10: 6.8284, 20: 4.0, 40: 0.0, 50: 0.0}),
    "cosine after a warm-up": (
        {"schedule": "cosine", "warmup_steps": 20},
        {0: 0.0, 5: 2.0, 20: 8.0, 30: 4.0, 40: 0.0},
    ),
}


@pytest.mark.parametrize("name", RATES)
def test_learning_rates(name):
    changes, expected = RATES[name]
    schedule = learning_rate_schedule(experiment(learning_rate=8.0, halve_every=10, total_steps=40, **changes))
    np.testing.assert_allclose([schedule(step) for step in expected], list(expected.values()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scale", 5),
        ("dtype", "float16"),
        ("precision", "fast"),
        ("model.n_feats", 0),
        ("model.n_groups", 3),
        ("model.n_blocks", 0),
        ("total_steps", 0),
        ("batch_size", 0),
        ("batch_size", 3),
        ("patch_size", 0),
        ("log_every", 0),
        ("eval_every", 0),
        ("checkpoint_every", 0),
        ("halve_every", 0),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-4),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("warmup_steps", -1),
        ("schedule", "linear"),
        ("adam_b2", 1.0),
        ("clip_norm", -1.0),
        ("eval.inference", "fast"),
    ],
)
def test_impossible_values_are_refused_by_field(field, value):
    config = experiment()
    check_config(config, 2)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=rf"^config\b.*\b{field.split('.')[-1]}: found '?{value}'?, expected ."):
        check_config(config, 2)


def test_the_configuration_reaches_the_network():
    config = experiment(scale=3, dtype="bfloat16", precision="high")
    assert model_config(config) == MSNLANConfig(3, **SIZES, dtype="bfloat16", precision="high")


CONFIG = {"batch_size": 8, "patch_size": 6, "total_steps": 10, "learning_rate": 1e-3, "precision": "highest"}
CONFIG |= {"checkpoint_every": 2, "eval_every": 5, "halve_every": 7}


def run(workdir, *, psnrs, batches=None):
    """Train, and return the parameters of every validation."""
    config, seen = experiment(**CONFIG), []

    def validate(network):
        seen.append(jax.device_get(parameters.split(network)[1]))
        return psnrs[len(seen) - 1]

    claim_workdir(workdir, config.to_dict())
    psnr = train(config, workdir, batches or fake_batches(config), validate)
    assert psnr == psnrs[len(seen) - 1]
    return seen


def lines(workdir):
    """The lines of `metrics.jsonl` without what depends on the machine."""
    text = (workdir / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        if "loss" in line:
            assert line.pop("images_per_second") > 0
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compilation_cache):
    """An uninterrupted run: workdir and the parameters at its two validations."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, run(workdir, psnrs=[31.0, 30.0])


@pytest.mark.slow
def test_metrics_have_a_line_for_every_step_and_validation(finished):
    found = lines(finished[0])
    expected = [{"step", "loss", "learning_rate"}] * 10
    expected.insert(5, {"step", "psnr"})
    expected.append({"step", "psnr"})
    assert [line.keys() for line in found] == expected
    assert [line["step"] for line in found] == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10]
    assert [line["psnr"] for line in found if "psnr" in line] == [31.0, 30.0]
    assert [line["learning_rate"] for line in found if "loss" in line] == pytest.approx([1e-3] * 7 + [5e-4] * 3)


@pytest.mark.slow
def test_the_loss_falls(finished):
    values = [line["loss"] for line in lines(finished[0]) if "loss" in line]
    assert max(values[-3:]) < 0.9 * min(values[:3])


@pytest.mark.slow
def test_the_workdir_holds_the_best_network(finished):
    workdir, (best, last) = finished
    model = weights.load_model(workdir)
    assert model.config == MSNLANConfig(2, **SIZES)
    assert_same_arrays(parameters.split(model)[1], best)
    assert any((best[path] != last[path]).any() for path in best)
    assert sorted(int(path.name) for path in (workdir / "checkpoints").iterdir()) == [5, 8, 10]


class PowerFailureError(Exception):
    """Not one of the library's errors."""


@pytest.mark.slow
def test_a_resumed_run_is_bit_identical(finished, tmp_path):
    """Cut off in step 8: the checkpoint after step 6 is there, lines 7 and half of 8 are dropped and come again."""
    config = experiment(**CONFIG)

    def cut_off(start):
        for step, batch in enumerate(fake_batches(config)(start), start + 1):
            if step == 8:
                while not (tmp_path / "checkpoints" / "6").exists():
                    pass
                raise PowerFailureError
            yield batch

    with pytest.raises(PowerFailureError):
        run(tmp_path, psnrs=[31.0], batches=cut_off)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    assert [line.split(",")[0] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][-2:] == [
        '{"step": 7',
        '{"step": 8',
    ]
    starts = []

    def resumed(start):
        starts.append(start)
        return fake_batches(config)(start)

    (last,) = run(tmp_path, psnrs=[30.0], batches=resumed)
    assert starts == [6]
    assert_same_arrays(last, finished[1][1])
    assert lines(tmp_path) == lines(finished[0])
    assert_same_arrays(weights.read_weights(tmp_path)[1], finished[1][0])


@pytest.mark.slow
def test_a_finished_run_does_nothing_more(finished):
    before = (finished[0] / "metrics.jsonl").read_bytes()
    config = experiment(**CONFIG)
    train(config, finished[0], fake_batches(config), lambda network: pytest.fail("nothing to validate"))
    assert (finished[0] / "metrics.jsonl").read_bytes() == before


MANY_DEVICES = """
import sys
from msnlan_jax.training import train
from tests.samples import experiment, fake_batches
import jax, tests.test_training as t
assert jax.device_count() == 8
config = experiment(**t.CONFIG | {"total_steps": 3})
train(config, sys.argv[1], fake_batches(config), lambda network: 0.0)
"""


@pytest.mark.slow
def test_eight_devices_train_as_one(finished, tmp_path):
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run([sys.executable, "-c", MANY_DEVICES, tmp_path], check=True, cwd=tmp_path, env=environment)
    found, expected = (
        [line["loss"] for line in lines(workdir) if "loss" in line][:3] for workdir in (tmp_path, finished[0])
    )
    assert len(found) == 3
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_metrics_log(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    log = MetricsLog(path, last_step=0)
    for count, step in enumerate((1, 2, 3, 3), 1):
        log.write(step, {"loss": step / 3})
        assert len(path.read_text().splitlines()) == count
    kept = path.read_text().splitlines(keepends=True)
    with path.open("a") as file:
        file.write('{"step": 1, "loss"')
    MetricsLog(path, last_step=2).write(7, {"psnr": 30.5})
    assert path.read_text() == "".join(kept[:2]) + '{"step": 7, "psnr": 30.5}\n'
    MetricsLog(path, last_step=0)
    assert path.read_text() == ""


def test_losses_that_are_no_number_stay_strict_json(tmp_path):
    MetricsLog(tmp_path / "metrics.jsonl", last_step=0).write(1, {"loss": float("nan"), "psnr": float("inf")})
    json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=lambda name: pytest.fail(f"found {name}"))


def test_a_validation_that_fails_loses_no_training(tmp_path):
    def fail(network):
        raise PowerFailureError

    config = experiment(**CONFIG)
    with pytest.raises(PowerFailureError):
        train(config, tmp_path, fake_batches(config), fail)
    assert (tmp_path / "checkpoints" / str(config.eval_every)).is_dir()


def test_each_device_sees_its_own_pictures_only():
    """The compiled step of four devices averages gradients, and gathers nothing."""
    code = """
import jax, optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from msnlan_jax import parameters
from msnlan_jax.model import MSNLANConfig
from msnlan_jax.training import make_step
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
graph, values = parameters.abstract_parameters(MSNLANConfig(2, 16, 2, 1))
put = lambda leaf, spec: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))
optimizer = optax.adam(1e-3)
state = {"params": values, "opt_state": jax.eval_shape(optimizer.init, values)}
state = jax.tree.map(lambda leaf: put(leaf, PartitionSpec()), state)
pictures = [put(jax.ShapeDtypeStruct((8, side, side, 3), "uint8"), PartitionSpec("data")) for side in (6, 12)]
text = make_step(graph, optimizer, mesh).lower(state, *pictures).compile().as_text()
assert "all-gather" not in text
assert "all-reduce" in text
"""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
