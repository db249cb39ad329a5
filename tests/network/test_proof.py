"""Kernels that compute something else than the plain layers are found out."""

import pytest

from msnlan_jax.network import Compute, find_fault, proof
from msnlan_jax.network.kernels.trunk import forms, group

COMPUTE = Compute("bfloat16", "default")
pytestmark = pytest.mark.usefixtures("quick_compilation")


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
