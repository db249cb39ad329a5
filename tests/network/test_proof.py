"""Kernels that compute something else than the plain layers are found out."""

import functools
from unittest import mock

import jax.numpy as jnp
import pytest

from msnlan_jax.network import Compute, find_fault, proof
from msnlan_jax.network.kernels.gpu import group as gpu_group
from msnlan_jax.network.kernels.trunk import forms, group
from msnlan_jax.network.model import ResidualGroup

COMPUTE = Compute("bfloat16", "default")


def only(monkeypatch, *names):
    """Have these parts proved alone, groups of a single block: each compiles for seconds."""
    short = proof.PARTS | {"residual group": functools.partial(ResidualGroup, n_blocks=1)}
    monkeypatch.setattr(proof, "PARTS", {name: short[name] for name in names})


def test_kernels_that_are_right_are_trusted(monkeypatch):
    only(monkeypatch, "residual group", "attention of 3×3 patches")
    assert find_fault(64, COMPUTE, 1, 4) == ""


def test_plain_layers_are_trusted_where_gradients_are_mostly_rounding(monkeypatch):
    only(monkeypatch, "attention of 7×7 patches")
    with mock.patch("jax.default_backend", return_value="gpu"):
        assert find_fault(16, COMPUTE, 2, 12) == ""


@pytest.mark.parametrize("result", ["output", "gradient of ['conv']['kernel'].value"])
def test_a_few_wrong_numbers_are_found(monkeypatch, result):
    as_run = proof._as_run

    def spoilt(part, n_feats, compute):
        run = as_run(part, n_feats, compute)

        def spoil(*arguments):
            results = run(*arguments)
            if compute.implementation == "kernels":
                results[result][:, 0] *= 0.9  # a row of sixteen
            return results

        return spoil

    only(monkeypatch, "residual group")
    monkeypatch.setattr(proof, "_as_run", spoilt)
    with mock.patch("jax.default_backend", return_value="gpu"):
        assert find_fault(4, COMPUTE, 1, 16) == f"residual group: {result} differs from the plain layers'"


def test_a_wrong_gradient_is_found(monkeypatch):
    only(monkeypatch, "residual group")
    monkeypatch.setattr(forms, "flip", lambda kernel: kernel)
    assert find_fault(64, COMPUTE, 1, 4).startswith("residual group: gradient of ")


def test_kernels_that_cannot_be_run_are_a_fault(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("Mosaic failed\nto compile")

    only(monkeypatch, "residual group")
    monkeypatch.setattr(group, "forward", fail)
    assert find_fault(64, COMPUTE, 1, 4) == "residual group: RuntimeError: Mosaic failed to compile"


@pytest.mark.parametrize(
    ("slope", "fault"),
    [pytest.param(None, "", marks=pytest.mark.slow), (jnp.ones_like, "residual group: gradient of ")],
)
def test_the_form_for_gpus_is_proved_as_well(monkeypatch, slope, fault):
    only(monkeypatch, "residual group")
    if slope:
        monkeypatch.setattr(gpu_group, "_gelu_slope", slope)
    with mock.patch("jax.default_backend", return_value="gpu"):
        found = find_fault(8, COMPUTE, 2, 4)
    assert found.startswith(fault) and bool(found) == bool(fault)
