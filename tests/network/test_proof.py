"""Kernels that compute something else than the plain layers are found out."""

from msnlan_jax.network import Compute, MSNLANConfig, find_fault
from msnlan_jax.network.kernels import forms, group

NETWORK = MSNLANConfig(2, n_feats=64, n_groups=2, n_blocks=1)
COMPUTE = Compute("bfloat16", "default")


def test_kernels_that_are_right_are_trusted():
    assert find_fault(NETWORK, COMPUTE, 1, 4) == ""


def test_a_wrong_gradient_is_found(monkeypatch):
    monkeypatch.setattr(forms, "flip", lambda kernel: kernel)
    assert find_fault(NETWORK, COMPUTE, 1, 4).endswith("differs from the plain layers'")


def test_kernels_that_cannot_be_run_are_a_fault(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("Mosaic failed\nto compile")

    monkeypatch.setattr(group, "forward", fail)
    assert find_fault(NETWORK, COMPUTE, 1, 4) == "RuntimeError: Mosaic failed to compile"
