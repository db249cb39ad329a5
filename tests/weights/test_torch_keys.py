import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msnlan_jax.errors import InputError
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.network.parameters import abstract_parameters, split, to_model
from msnlan_jax.weights.torch_keys import constants, from_torch, key_table, to_torch
from tests.helpers import torch_network

SMALL = MSNLANConfig(4, n_feats=16, n_groups=2, n_blocks=2)
CONFIGS = [
    SMALL,
    MSNLANConfig(2, n_feats=16, n_groups=4, n_blocks=2),
    MSNLANConfig(3, n_feats=32, n_groups=6, n_blocks=1),
    MSNLANConfig(2, n_feats=6, n_groups=2, n_blocks=3),
]
CONSTANTS = ["sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias", "body.1.atten2.stoL.escape_NaN"]


def random_state(config):
    """A checkpoint of ours: every number another, in the released key order."""
    random = np.random.default_rng(0)
    _, leaves = abstract_parameters(config)
    return to_torch(config, {path: random.random(leaf.shape, np.float32) for path, leaf in leaves.items()})


def assert_identical(found, expected):
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == np.float32
        np.testing.assert_array_equal(found[key], value, err_msg=key, strict=True)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_key_has_one_path(config):
    _, leaves = abstract_parameters(config)
    paths = list(key_table(config).values())
    assert sorted(paths) == sorted(leaves)
    assert not key_table(config).keys() & constants(config).keys()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_reference_round_trip_is_exact(config):
    network, _ = torch_network(config)
    state = {key: value.float().numpy() for key, value in network.state_dict().items()}
    inferred, parameters = from_torch(state, "model.pt")
    assert inferred == config
    assert_identical(to_torch(config, parameters), state)
    assert_identical(to_torch(config, jax.device_get(split(to_model(config, parameters))[1])), state)


def with_element(value, number):
    changed = value.copy()
    changed.flat[-1] = number
    return changed


DAMAGE = {
    "missing": lambda value: None,
    "misshapen": lambda value: value[None],
    "cut": lambda value: value[:-1],
    "int32": lambda value: value.astype(np.int32),
    "NaN": lambda value: with_element(value, np.nan),
    "infinite": lambda value: with_element(value, -np.inf),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_to_any_key_is_refused_by_name(damage):
    state = random_state(SMALL)
    for key, value in state.items():
        changed = {name: damage(value) if name == key else other for name, other in state.items()}
        with pytest.raises(InputError, match=rf"^model\.pt: .*key {re.escape(key)}\b"):
            from_torch({name: other for name, other in changed.items() if other is not None}, "model.pt")


@pytest.mark.parametrize("key", CONSTANTS)
def test_another_constant_is_refused(key):
    state = random_state(SMALL)
    state[key] = state[key] * np.float32(1.001)
    with pytest.raises(InputError, match=rf"^model\.pt: key {key}: found .*, expected the released constant"):
        from_torch(state, "model.pt")


@pytest.mark.parametrize(
    "key", ["optimizer.step", "tail.0.4.weight", "body.0.body.0.CCA.conv_du.4.bias", "fusion_list.0.weight"]
)
def test_an_unexpected_key_is_refused(key):
    with pytest.raises(InputError, match=rf"^model\.pt: key {key} is not"):
        from_torch(random_state(SMALL) | {key: np.zeros(1, np.float32)}, "model.pt")


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
def test_another_precision_is_converted(dtype):
    state = {key: value.astype(dtype) for key, value in random_state(SMALL).items()}
    _, parameters = from_torch(state, "model.pt")
    for key, value in to_torch(SMALL, parameters).items():
        assert value.dtype == np.float32
        if key not in constants(SMALL):
            np.testing.assert_array_equal(value, state[key].astype(np.float32))


@pytest.mark.parametrize("key", ["body.99999998.atten1.x", "body.0.body.99999999.branch1.0.x", "body.400.atten1.x"])
def test_a_key_of_a_network_far_larger_than_the_file_is_refused(key):
    with pytest.raises(InputError, match=r"^model\.pt: (says it holds \d+ groups of \d+ blocks, found|key )"):
        from_torch(random_state(SMALL) | {key: np.zeros(1, np.float32)}, "model.pt")


@pytest.mark.parametrize("state", [{}, {"conv.weight": np.zeros((3, 3))}], ids=["empty", "foreign"])
def test_other_dictionaries_are_refused(state):
    with pytest.raises(InputError, match=rf"^model\.pt: not an MSNLAN.* found {next(iter(state), 'no keys')}"):
        from_torch(state, "model.pt")
