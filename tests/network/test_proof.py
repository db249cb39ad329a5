"""Kernels that compute something else than the plain layers are found out."""

from unittest import mock

import jax.numpy as jnp
import pytest

from msnlan_jax.network import Compute, find_fault, proof
from msnlan_jax.network.kernels.gpu import group as gpu_group
from msnlan_jax.network.kernels.trunk import forms, group

COMPUTE = Compute("bfloat16", "default")


def test_kernels_that_are_right_are_trusted(monkeypatch):
    monkeypatch.setattr(proof, "KERNEL_SIZES", (3,))  # the others compile as long again each
    assert find_fault(64, COMPUTE, 1, 4) == ""


def test_a_wrong_gradient_is_found(monkeypatch):
    monkeypatch.setattr(forms, "flip", lambda kernel: kernel)
    assert find_fault(64, COMPUTE, 1, 4).startswith("residual group: gradient of ")


def test_kernels_that_cannot_be_run_are_a_fault(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("Mosaic failed\nto compile")

    monkeypatch.setattr(group, "forward", fail)
    assert find_fault(64, COMPUTE, 1, 4) == "residual group: RuntimeError: Mosaic failed to compile"


@pytest.mark.parametrize(
    ("slope", "fault"),
    [pytest.param(None, "", marks=pytest.mark.slow), (jnp.ones_like, "residual group: gradient of ")],
)
def test_the_form_for_gpus_is_proved_as_well(monkeypatch, slope, fault):
    monkeypatch.setattr(proof, "KERNEL_SIZES", ())
    if slope:
        monkeypatch.setattr(gpu_group, "_gelu_slope", slope)
    with mock.patch("jax.default_backend", return_value="gpu"):
        found = find_fault(8, COMPUTE, 2, 4)
    assert found.startswith(fault) and bool(found) == bool(fault)
