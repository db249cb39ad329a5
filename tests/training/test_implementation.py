"""Training with kernels: the losses of the plain layers', and no death of a kernel that fails."""

import dataclasses
from unittest import mock

import numpy as np
import pytest

from msnlan_jax.network import kernels
from msnlan_jax.network.kernels import chip
from msnlan_jax.network.kernels.trunk import group
from msnlan_jax.training import loop as training
from tests.samples import experiment
from tests.training.test_loop import lines, run

# The narrowest network that there are kernels for.
CONFIG = {
    "model": {"n_feats": 64, "n_groups": 2, "n_blocks": 1},
    "batch_size": 3,
    "patch_size": 6,
    "precision": "default",
}


def losses(workdir):
    return [line["loss"] for line in lines(workdir) if "loss" in line]


@pytest.mark.slow
def test_ten_steps_lose_what_the_plain_layers_do(tmp_path, monkeypatch):
    # The attention's other kernels compile as long again each.
    monkeypatch.setattr(kernels.attention, "fits", lambda query, value, k, precision: k == 3)
    for implementation in ("plain", "kernels"):
        # Adam turns the rounding of a gradient near zero into steps of its rate.
        changes = {"implementation": implementation, "total_steps": 10, "eval_every": 10, "learning_rate": 1e-5}
        run(tmp_path / implementation, monkeypatch, psnrs=[30.0], **CONFIG | changes)
    expected = losses(tmp_path / "plain")
    assert len(expected) == 10
    np.testing.assert_allclose(losses(tmp_path / "kernels"), expected, rtol=1e-5)


def as_on(backend, function):
    """A function that is told that it runs on an accelerator, a TPU's kernels being interpreted nevertheless."""

    def told(*arguments):
        with (
            mock.patch("jax.default_backend", return_value=backend),
            mock.patch.object(chip, "interprets", lambda: True),
        ):
            return function(*arguments)

    return told


def test_a_kernel_that_fails_is_told_and_left(tmp_path, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise RuntimeError("Mosaic failed to compile")

    monkeypatch.setattr(group, "forward", fail)
    monkeypatch.setattr(training, "settle_implementation", as_on("tpu", training.settle_implementation))
    run(tmp_path, monkeypatch, psnrs=[30.0], **CONFIG | {"total_steps": 1, "eval_every": 1})
    told = "kernels: residual group: RuntimeError: Mosaic failed to compile; going on with the plain layers"
    assert told in capsys.readouterr().out
    assert len(losses(tmp_path)) == 1


def test_a_step_that_kernels_cannot_be_compiled_into_is_told_and_has_none(tmp_path, monkeypatch, capsys):
    make_step = training.make_step

    def fail_with_kernels(graph, experiment, *others):
        if experiment.compute.implementation == "kernels":
            raise RuntimeError("out of vmem\nin the whole step")
        return make_step(graph, experiment, *others)

    monkeypatch.setattr(training, "find_fault", lambda *arguments: "")
    monkeypatch.setattr(training, "settle_implementation", as_on("tpu", training.settle_implementation))
    monkeypatch.setattr(training, "make_step", fail_with_kernels)
    run(tmp_path, monkeypatch, psnrs=[30.0], **CONFIG | {"total_steps": 1, "eval_every": 1})
    told = "kernels: the whole step: RuntimeError: out of vmem in the whole step; going on with the plain layers"
    assert told in capsys.readouterr().out
    assert len(losses(tmp_path)) == 1
    asked = CONFIG | {"total_steps": 1, "eval_every": 1, "implementation": "kernels"}
    with pytest.raises(RuntimeError, match="out of vmem"):
        run(tmp_path / "asked", monkeypatch, psnrs=[30.0], **asked)


@pytest.mark.parametrize("backend", ["tpu", "gpu"])
def test_auto_is_for_a_chip_whose_kernels_are_right(monkeypatch, backend):
    settle, auto = as_on(backend, training.settle_implementation), experiment(**CONFIG)
    monkeypatch.setattr(training, "find_fault", lambda *arguments: "")
    assert settle(auto)[0].implementation == "kernels"
    assert training.settle_implementation(auto)[0].implementation == "plain"  # on a CPU
    exact = dataclasses.replace(auto, compute=dataclasses.replace(auto.compute, precision="highest"))
    assert settle(exact)[0].implementation == "plain"
    monkeypatch.setattr(training, "find_fault", lambda *arguments: "output differs")
    assert settle(auto) == (dataclasses.replace(auto.compute, implementation="plain"), "output differs")
    asked = dataclasses.replace(auto, compute=dataclasses.replace(auto.compute, implementation="kernels"))
    assert settle(asked) == (asked.compute, "")
