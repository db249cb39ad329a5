"""The form of residual groups for GPUs against the plain layers that define it, gradients included."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msnlan_jax.network.compute import Compute
from msnlan_jax.network.kernels import gpu
from msnlan_jax.network.kernels.gpu import gate
from msnlan_jax.network.layers import Extent
from msnlan_jax.network.model import NonLocalBranch, ResidualGroup
from tests.helpers import normal, relative_l2

CHANNELS = 16


def as_on_a_gpu():
    return mock.patch("jax.default_backend", return_value="gpu")


@functools.cache
def outputs(dtype, implementation):
    """A group's output, and the gradients of sum(output · cotangent) by input and parameters, all as float32."""
    compute = Compute(dtype, "default", loops=False, implementation=implementation)
    graph, values = nnx.split(ResidualGroup(CHANNELS, 2, compute=compute, rngs=nnx.Rngs(0)))
    # Biases and gates that matter; the initialiser's are small.
    values = jax.tree.map(lambda p: 1.5 * p, values)

    def run(x, values):
        return nnx.merge(graph, values)(x.astype(dtype)).astype(jnp.float32)

    def with_gradients(x, values):
        y, vjp = jax.vjp(run, x, values)
        return y, *vjp(jnp.asarray(normal(1, *y.shape)))

    with as_on_a_gpu():
        y, to_x, to_values = jax.jit(with_gradients)(jnp.asarray(normal(0, 2, 7, 5, CHANNELS)), values)
    names = {jax.tree_util.keystr(path): value for path, value in jax.tree_util.tree_leaves_with_path(to_values)}
    return {"output": y, "input": to_x} | names


def test_a_group_is_the_plain_one_with_every_gradient():
    found, plain = (outputs("float32", implementation) for implementation in ("kernels", "plain"))
    for name in plain:
        assert relative_l2(found[name], plain[name]) <= 1e-5, name


def test_in_bfloat16_a_group_is_as_near_to_float32_as_the_plain_one():
    exact = outputs("float32", "plain")
    found, plain = (
        {name: relative_l2(value, exact[name]) for name, value in outputs("bfloat16", implementation).items()}
        for implementation in ("kernels", "plain")
    )
    # Both round the features themselves once a block: what is left between them there is luck.
    for name in ("output", "input"):
        assert 1e-4 < found.pop(name) <= 1.05 * plain.pop(name)
    assert sum(error**2 for error in found.values()) <= sum(error**2 for error in plain.values())
    assert np.median(list(found.values())) <= np.median(list(plain.values()))


@pytest.mark.parametrize("offset", [0.0, 100.0, -3000.0])
def test_moments_are_right_far_from_zero(offset):
    x = (normal(0, 2, 9, 8, 5) + np.float32(offset)).astype(np.float32)
    moments = jax.jit(gate.take_moments)(x)
    exact = x.astype(np.float64)
    assert relative_l2(moments.deviation, exact.std((1, 2))) <= 1e-6
    assert relative_l2(moments.first + moments.mean, exact.mean((1, 2))) <= 1e-6


def test_constant_features_have_no_deviation_and_finite_gradients():
    moments = jax.jit(gate.take_moments)(np.full((1, 3, 4, 4), 0.3, np.float32))
    weights = gate.GateWeights(*(np.ones(shape, np.float32) for shape in ((4,), (4, 2), (2,), (2, 4), (4,))))

    @jax.jit
    def send_back(moments, weights):
        return gate.gate_gradients(jnp.ones((1, 4, 3)), moments, gate.make_gate(moments, weights), weights)

    back = send_back(moments, weights)
    assert not np.any(moments.deviation)
    assert all(np.isfinite(part).all() for part in back)
    assert not np.any(back.to_variance)


@pytest.mark.parametrize(
    "part",
    [functools.partial(ResidualGroup, n_blocks=2), functools.partial(NonLocalBranch, kernel_size=3)],
    ids=["blocks", "pictures"],
)
def test_nothing_is_run_in_a_loop(part):
    def count_loops(implementation):
        compute = Compute("bfloat16", "default", implementation=implementation)
        graph, values = nnx.split(nnx.eval_shape(lambda: part(8, compute=compute, rngs=nnx.Rngs(0))))

        def loss(x, values):
            return jnp.sum(nnx.merge(graph, values)(x.astype(jnp.bfloat16)))

        with as_on_a_gpu():
            program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(jnp.zeros((2, 4, 4, 8)), values)
        return program.as_text().count("stablehlo.while")

    assert count_loops("kernels") == 0 < count_loops("plain")


@pytest.mark.parametrize(
    ("changes", "size", "expected"),
    [
        ({}, None, True),
        ({"implementation": "plain"}, None, False),
        ({"precision": "highest"}, None, False),
        ({"remat": True}, None, False),
        ({}, [[3, 3]], False),
    ],
    ids=str,
)
def test_sizes_given_exact_products_and_remat_take_the_plain_layers(monkeypatch, changes, size, expected):
    taken = []
    monkeypatch.setattr(gpu, "residual_group", lambda x, weights: taken.append(x) or x)
    compute = Compute(**{"precision": "default", "implementation": "kernels"} | changes)

    def run(x):
        group = ResidualGroup(CHANNELS, 1, compute=compute, rngs=nnx.Rngs(0))
        return group(x, Extent(None if size is None else jnp.array(size)))

    with as_on_a_gpu():
        nnx.eval_shape(run, jnp.zeros((1, 4, 4, CHANNELS)))
    assert bool(taken) is expected
