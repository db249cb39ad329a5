"""A residual group as kernels, interpreted, against the plain layers that define it."""

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msnlan_jax.network.compute import Compute
from msnlan_jax.network.kernels import Packed, can_pack, chip
from msnlan_jax.network.kernels.chip import SUBLANES
from msnlan_jax.network.kernels.trunk import activation
from msnlan_jax.network.kernels.trunk.packing import CHANNELS, Packing
from msnlan_jax.network.layers import WHOLE, Extent, pack
from msnlan_jax.network.model import ResidualGroup
from tests.helpers import normal, relative_l2

# Batches that fill the sublanes, with whole pictures or strips of them, and that do not; odd widths, heights that
# strips do not divide, strips of a row.
CASES = [(1, 47, 9), (3, 9, 6), (4, 16, 4), (16, 10, 8), (20, 3, 4)]


def outputs(x, dtype, *, packs, n_blocks=2):
    """A group's output, and the gradients of sum(output · cotangent) by input and parameters, all as float32."""
    group = ResidualGroup(CHANNELS, n_blocks, compute=Compute(dtype, "default", loops=False), rngs=nnx.Rngs(0))
    graph, values = nnx.split(group)
    # Biases and gates that matter; the initialiser's are small.
    values = jax.tree.map(lambda p: 1.5 * p, values)

    def run(x, values):
        network, features = nnx.merge(graph, values), x.astype(dtype)
        return (network(Packed.pack(features)).unpack() if packs else network(features)).astype(jnp.float32)

    def with_gradients(x, values):
        y, vjp = jax.vjp(run, x, values)
        return y, *vjp(jnp.asarray(normal(1, *y.shape)))

    y, to_x, to_values = jax.jit(with_gradients)(x, values)
    names = {jax.tree_util.keystr(path): value for path, value in jax.tree_util.tree_leaves_with_path(to_values)}
    return {"output": y, "input": to_x} | names


@pytest.mark.parametrize("shape", CASES, ids=str)
def test_a_group_is_the_plain_one_with_every_gradient(shape):
    x = jnp.asarray(normal(0, *shape, CHANNELS))
    kernels, plain = (outputs(x, "float32", packs=packs) for packs in (True, False))
    for name in plain:
        assert relative_l2(kernels[name], plain[name]) <= 1e-5, name


@pytest.mark.parametrize(("shape", "dtype"), [((3, 9, 6), "bfloat16"), ((16, 5, 6), "float32")])
def test_with_products_in_bfloat16_a_group_is_as_near_to_float32_as_the_plain_one(monkeypatch, shape, dtype):
    x = jnp.asarray(normal(0, *shape, CHANNELS))
    exact = outputs(x, "float32", packs=False)
    monkeypatch.setattr(chip, "products_dtype", lambda dtype: "bfloat16")  # as on a TPU
    kernels, plain = (
        {name: relative_l2(value, exact[name]) for name, value in found.items()}
        for found in (outputs(x, dtype, packs=True), outputs(x, "bfloat16", packs=False))
    )
    # Both round the features themselves once a block: what is left between them there is luck.
    for name in ("output", "input"):
        assert 1e-4 < kernels.pop(name) <= 1.05 * plain.pop(name)
    assert sum(error**2 for error in kernels.values()) <= sum(error**2 for error in plain.values())
    assert np.median(list(kernels.values())) <= np.median(list(plain.values()))


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 8, 16, 17, 20, 32])
def test_batches_fill_sixteen_sublanes_with_pictures_or_strips(batch):
    packing = Packing(batch, 48, 48)
    assert packing.pictures * packing.strips == SUBLANES
    assert packing.tiles * packing.pictures >= batch > packing.tiles * packing.pictures / 2
    assert packing.rows * packing.strips == 48 and not packing.is_padded


def test_two_cores_share_a_batch():
    assert (Packing(16, 48, 48, cores=2).tiles, Packing(16, 48, 48, cores=2).strips) == (2, 2)
    assert (Packing(1, 48, 48, cores=2).tiles, Packing(1, 48, 48, cores=2).strips) == (1, 16)


@pytest.mark.parametrize("shape", CASES, ids=str)
def test_packed_features_come_back(shape):
    x = jnp.asarray(normal(0, *shape, CHANNELS))
    packed = Packed.pack(x)
    np.testing.assert_array_equal(packed.unpack(), x)
    assert float(jnp.abs(packed.array).sum()) == pytest.approx(float(jnp.abs(x).sum()))  # padding is zero


def test_what_there_are_no_kernels_for_stays_plain(monkeypatch):
    assert can_pack(jnp.zeros((16, 48, 48, 64)))
    assert not can_pack(jnp.zeros((16, 48, 48, 32)))
    assert not can_pack(jnp.zeros((1, 512, 512, 64)))
    monkeypatch.setattr(chip, "fast_memory", lambda: 16 * 2**20)
    assert not can_pack(jnp.zeros((16, 48, 48, 64)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("shape", [(16, 48, 48), (1, 47, 33)], ids=str)
def test_kernels_are_lowered_for_a_tpu(dtype, shape):
    group = ResidualGroup(CHANNELS, 2, compute=Compute(dtype, "default"), rngs=nnx.Rngs(0))
    graph, values = nnx.split(group)

    def loss(x, values):
        return jnp.sum(nnx.merge(graph, values)(Packed.pack(x)).array)

    with mock.patch("jax.default_backend", return_value="tpu"):
        gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
        program = jax.export.export(gradient, platforms=["tpu"])(
            jax.ShapeDtypeStruct((*shape, CHANNELS), dtype), values
        )
    assert program.mlir_module().count("tpu_custom_call") == 2


def test_sizes_given_and_exact_products_take_the_plain_layers():
    x, compute = jnp.zeros((2, 4, 4, 64)), Compute(precision="default", implementation="kernels")
    assert isinstance(pack(x, WHOLE, compute), Packed)
    assert pack(x, Extent(jnp.full((2, 2), 3)), compute) is x
    assert pack(x, WHOLE, dataclasses.replace(compute, precision="highest")) is x
    assert pack(x, WHOLE, dataclasses.replace(compute, implementation="plain")) is x


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gelu_and_its_slope_are_the_exact_ones(dtype):
    u = jnp.linspace(-8, 8, 4001)
    exact, slope = jax.vmap(jax.value_and_grad(functools.partial(jax.nn.gelu, approximate=False)))(u)
    tolerance = 1e-6 if dtype == "float32" else 2.5e-5
    np.testing.assert_allclose(activation.gelu(u, jnp.dtype(dtype)), exact, rtol=0, atol=tolerance)
    np.testing.assert_allclose(activation.gelu_slope(u, jnp.dtype(dtype)), slope, rtol=0, atol=8 * tolerance)
