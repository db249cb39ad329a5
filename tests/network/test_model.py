import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msnlan_jax.errors import InputError
from msnlan_jax.network import parameters as params
from msnlan_jax.network.compute import Compute
from msnlan_jax.network.layers import RGB_MEAN
from msnlan_jax.network.model import KERNEL_SIZES, MSNLAN, RES_SCALE, MSNLANConfig, count_parameters
from tests.helpers import (
    FORWARD,
    PARTS,
    assert_same_run,
    forward,
    normal,
    part,
    picture,
    record_forms,
    relative_l2,
    run,
    torch_network,
    torch_run,
)
from tests.samples import tiny_config, tiny_parameters

SMALL = MSNLANConfig(2, n_feats=16, n_groups=2, n_blocks=1)
NETWORKS = [
    MSNLANConfig(2, n_feats=64, n_groups=2, n_blocks=1),
    MSNLANConfig(3, n_feats=32, n_groups=4, n_blocks=1),
    MSNLANConfig(4, n_feats=16, n_groups=6, n_blocks=1),
]


def sizes(config):
    return f"x{config.scale}-C{config.n_feats}-G{config.n_groups}-N{config.n_blocks}"


@pytest.mark.parametrize("name", sorted(PARTS.keys() - {"cca", "ca"}))
def test_block_equals_the_reference(name):
    config = MSNLANConfig(2, n_feats=32, n_groups=2, n_blocks=2)
    network, parameters = torch_network(config)
    theirs, ours = PARTS[name]
    x, cotangent = normal(0, 2, 32, 9, 8), normal(1, 2, 32, 9, 8)
    assert_same_run(run(config, parameters, ours, x, cotangent), torch_run(network, theirs, x, cotangent))


@pytest.mark.parametrize("config", NETWORKS, ids=sizes)
def test_network_equals_the_reference(config):
    network, parameters = torch_network(config)
    # A mean of 1 keeps the slopes' gradients, sums over the whole picture, from cancelling to rounding noise.
    cotangent = 1 + normal(1, 2, 3, 9 * config.scale, 8 * config.scale)
    x = RGB_MEAN[:, None, None] + normal(0, 2, 3, 9, 8)
    assert_same_run(run(config, parameters, "", x, cotangent), torch_run(network, "", x, cotangent))
    # Contrast makes the softmax steep, which float32 gradients do not survive to 1e-4 in PyTorch either.
    x = picture(0, 2, 3, 9, 8)
    found, expected = run(config, parameters, "", x, cotangent), torch_run(network, "", x, cotangent)
    assert relative_l2(found.y, expected.y) <= FORWARD


@pytest.mark.parametrize("size", [(1, 1), (1, 5)], ids=str)
def test_pictures_smaller_than_the_patches(size):
    network, parameters = torch_network(SMALL)
    x = picture(0, 1, 3, *size)
    expected = torch_run(network, "", x, normal(1, 1, 3, 2 * size[0], 2 * size[1]))
    assert relative_l2(forward(SMALL, parameters, x), expected.y) <= FORWARD


@pytest.mark.parametrize(("colour", "weights"), [(0, 1), (128, 1), (128, 0)])
def test_gradients_are_finite_where_nothing_varies(colour, weights):
    parameters = jax.device_get(params.split(MSNLAN(SMALL, rngs=nnx.Rngs(0)))[1])
    parameters = {path: np.float32(weights) * value for path, value in parameters.items()}
    x, cotangent = np.full((1, 3, 1, 1), colour, np.float32), normal(0, 1, 3, 2, 2)
    found = run(SMALL, parameters, "", x, cotangent)
    for value in (found.y, found.grad_x, *found.grads.values()):
        assert np.isfinite(value).all()


def test_constants_that_the_reference_shares():
    np.testing.assert_allclose(RGB_MEAN, [255 * 0.4025, 255 * 0.4482, 255 * 0.4264], rtol=1e-7)
    assert (RES_SCALE, KERNEL_SIZES) == (0.1, (3, 5, 7))


@pytest.mark.parametrize(("scale", "count"), [(2, 9_581_067), (3, 9_765_707), (4, 9_728_779)])
def test_published_sizes(scale, count):
    assert count_parameters(params.abstract_model(MSNLANConfig(scale))) == count


def test_initialisation_is_pytorchs():
    parameters = jax.device_get(params.split(MSNLAN(SMALL, rngs=nnx.Rngs(0)))[1])
    for path, value in parameters.items():
        layer, _, name = path.rpartition(".")
        if name == "negative_slope":
            assert value == 0.25
        else:
            bound = np.prod(parameters[f"{layer}.kernel"].shape[:3]) ** -0.5
            assert 0 < np.abs(value).max() <= bound
    first_weights = [float(value.flat[0]) for value in parameters.values() if value.ndim]
    assert len(set(first_weights)) == len(first_weights)


def test_bfloat16_is_near_float32():
    compute = Compute("bfloat16")
    _, parameters = params.split(MSNLAN(SMALL, compute, rngs=nnx.Rngs(0)))
    assert {value.dtype for value in parameters.values()} == {jnp.dtype("float32")}
    x = picture(0, 1, 3, 12, 10)
    found, expected = forward(SMALL, parameters, x, compute=compute), forward(SMALL, parameters, x)
    assert found.dtype == np.float32
    assert 1e-5 < relative_l2(found, expected) < 1e-2


@pytest.mark.parametrize("name", PARTS)
def test_parts_keep_bfloat16(name):
    model = MSNLAN(SMALL, Compute("bfloat16"), rngs=nnx.Rngs(0))
    x = jax.ShapeDtypeStruct((1, 5, 4, 16), jnp.bfloat16)
    y = jax.eval_shape(part(model, PARTS[name][1]), x)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)


def test_equal_configurations_share_one_compilation():
    traced = []

    @partial(jax.jit, static_argnums=0)
    def head(graph, parameters, x):
        traced.append(graph)
        return params.merge(graph, parameters).head(x)

    for seed in (0, 1):
        graph, parameters = params.split(MSNLAN(MSNLANConfig(2, 16, 2, 1), rngs=nnx.Rngs(seed)))
        head(graph, parameters, jnp.zeros((1, 2, 2, 3)))
    head(params.abstract_parameters(SMALL)[0], parameters, jnp.zeros((1, 2, 2, 3)))
    assert len(traced) == 1


@pytest.mark.parametrize("form", ["unfold", "box", "hybrid", "streamed"])
@pytest.mark.parametrize("precision", ["default", "highest"])
def test_precision_reaches_every_product(precision, form):
    compute = Compute(precision=precision, attention=form)
    graph, parameters = params.split(MSNLAN(SMALL, compute, rngs=nnx.Rngs(0)))

    def loss(parameters, x):
        return params.merge(graph, parameters)(x).sum()

    text = str(jax.make_jaxpr(jax.grad(loss))(parameters, jnp.zeros((1, 4, 4, 3))))
    products = re.findall(r"\b(?:conv_general_dilated|dot_general)\[", text)
    wanted = f"precision=(Precision.{precision.upper()}, Precision.{precision.upper()})"
    assert len(products) == text.count(wanted) > 0


@pytest.mark.parametrize("form", ["unfold", "box", "hybrid", "streamed", "fused"])
def test_configured_attention_form_is_used(monkeypatch, form):
    used = record_forms(monkeypatch)
    model = MSNLAN(SMALL, Compute(attention=form), rngs=nnx.Rngs(0))
    jax.eval_shape(model, jax.ShapeDtypeStruct((1, 5, 4, 3), jnp.float32))
    assert used == {form}


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("scale", 5, "2, 3, 4"),
        ("dtype", "float16", "float32, bfloat16"),
        ("precision", "fast", "default, high, highest"),
        ("attention", "flash", "auto, unfold, box, hybrid, streamed, fused"),
        ("score_bytes", 0, "positive"),
        ("n_feats", 1, "at least 2"),
        ("n_groups", 0, "at least 2"),
        ("n_groups", 3, "even"),
        ("n_blocks", 0, "at least 1"),
    ],
)
def test_bad_configurations_are_refused(field, value, expected):
    with pytest.raises(InputError, match=f"{field}: found {value!r}, expected .*{expected}"):
        (Compute if field in vars(Compute) else MSNLANConfig)(**{field: value})


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pictures_smaller_than_the_array_get_their_own_results(scale):
    """Two sizes in one batch, with other pixels beyond them."""
    config, values, sizes = tiny_config(scale), tiny_parameters(scale), [(9, 6), (5, 11)]
    model = params.to_model(config, values)
    batch = jnp.asarray(picture(0, 2, 12, 13, 3))
    found = model(batch, jnp.array(sizes))
    for n, (h, w) in enumerate(sizes):
        alone = model(batch[n : n + 1, :h, :w])
        assert relative_l2(found[n : n + 1, : h * scale, : w * scale], alone) <= FORWARD


@pytest.mark.parametrize("changes", [{"loops": True}, {"remat": True}, {"loops": True, "remat": True}])
def test_how_blocks_are_run_changes_nothing(changes):
    config, compute = MSNLANConfig(2, 16, 2, 3), Compute(loops=False)
    values = params.split(MSNLAN(config, compute, rngs=nnx.Rngs(0)))[1]
    x, cotangent = picture(0, 1, 3, 6, 5), normal(1, 1, 16, 6, 5)
    other = dataclasses.replace(compute, **changes)
    assert params.abstract_parameters(config, other)[1] == params.abstract_parameters(config, compute)[1]
    part_of = partial(run, config, values, "groups_before.0", normal(0, 1, 16, 6, 5), cotangent)
    assert_same_run(part_of(compute=other), part_of(compute=compute))
    whole = partial(forward, config, values, x)
    assert relative_l2(whole(compute=other), whole(compute=compute)) <= FORWARD
