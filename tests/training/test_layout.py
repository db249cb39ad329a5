"""Stacked parameters: what lies where, and that files and losses are those of a state with an array for each path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from msnlan_jax.network import MSNLAN, MSNLANConfig, parameters
from msnlan_jax.training import layout as layouts
from msnlan_jax.training import loop as training
from msnlan_jax.training.layout import Stack, lay_out
from msnlan_jax.training.optimization import learning_rate_schedule, make_optimizer
from msnlan_jax.weights import Checkpoints, read_weights
from msnlan_jax.weights.workdir import claim_workdir
from tests.samples import (
    FakeLoader,
    assert_same_arrays,
    experiment,
    noise,
    tiny_config,
    tiny_parameters,
    training_config,
)
from tests.training.test_loop import lines


@pytest.fixture(autouse=True)
def _stacks(monkeypatch):
    """Lay parameters out as on a TPU."""
    monkeypatch.setattr(layouts, "uses_stacks", lambda: True)


@pytest.fixture(params=["TPU", "GPU"])
def _accelerator(monkeypatch, request):
    """Lay parameters out as on either accelerator."""
    monkeypatch.setattr(layouts, "uses_row", lambda: request.param == "GPU")


def published():
    return parameters.abstract_parameters(MSNLANConfig(4))[1], lay_out(MSNLANConfig(4))


def test_every_parameter_has_its_place_in_one_of_few_stacks():
    shapes, layout = published()
    paths = [path for stack in layout.stacks for path in stack.paths]
    assert sorted(paths) == sorted(shapes)
    assert len(layout.stacks) < 20 < len(paths) / 40


def test_equal_layers_of_a_groups_blocks_are_neighbours():
    _, layout = published()
    places = {path: place for stack in layout.stacks for place, path in enumerate(stack.paths)}
    for group in ("groups_before.0", "groups_after.3"):
        kernels = [places[f"{group}.blocks.{block}.convs.{i}.kernel"] for block in range(9) for i in range(3)]
        fusions = [places[f"{group}.blocks.{block}.fusion.bias"] for block in range(9)]
        for rows in (kernels, fusions):
            assert rows == list(range(rows[0], rows[0] + len(rows)))


@pytest.mark.parametrize(
    ("shape", "n", "joined"),
    [((3, 3, 64, 64), 6, (3, 3, 3, 64, 128)), ((64,), 3, (3, 64)), ((2, 40), 8, (4, 2, 80)), ((), 4, (4,))],
    ids=str,
)
def test_narrow_parameters_lie_side_by_side(shape, n, joined):
    stack = Stack(shape, tuple("abcdefgh"[:n]))
    values = {path: noise(number, *shape).astype(np.float32) for number, path in enumerate(stack.paths)}
    array = stack.join(values)
    assert array.shape == joined
    assert_same_arrays(stack.split(array), values)
    np.testing.assert_array_equal(jax.jit(stack.join)(values), array)
    assert_same_arrays(jax.device_get(jax.jit(stack.split)(array)), values)


@pytest.mark.parametrize(("stacks", "row"), [(True, False), (False, False), (True, True)])
def test_a_networks_parameters_survive(monkeypatch, stacks, row):
    monkeypatch.setattr(layouts, "uses_stacks", lambda: stacks)
    monkeypatch.setattr(layouts, "uses_row", lambda: row)
    layout, values = lay_out(tiny_config(2)), tiny_parameters(2)
    stacked = layout.stack(values)
    assert (len(stacked) == 1) == row
    assert (len(layout.stacks) < len(values)) == layout.is_stacked == stacks
    assert_same_arrays(layout.unstack(stacked), values)
    state = {"params": values, "opt_state": ({"mu": dict(values)},)}
    trained = layout.as_trained(state)
    assert (trained.keys(), trained["opt_state"][0]["mu"].keys()) == (state.keys(), stacked.keys())
    assert_same_arrays(layout.as_stored(trained)["opt_state"][0]["mu"], values)


def dictionary_state(config, values):
    """The state before the first step, with an array for each path, as checkpoints have it."""
    zero = jnp.zeros((), jnp.int32)
    counters = {"step": zero, "skipped": zero, "skipped_in_a_row": zero}
    return {
        "params": values,
        "opt_state": make_optimizer(config).init(values),
        "counters": counters,
        "ema": {path: jnp.copy(value) for path, value in values.items()},
    }


def dictionary_step(config):
    """Return the step on such a state: what is trained, written plainly."""
    graph, _ = parameters.abstract_parameters(config.network, config.compute)
    optimizer, schedule = make_optimizer(config), learning_rate_schedule(config)

    def loss_of(values, lr, hr):
        return jnp.mean(jnp.abs(parameters.merge(graph, values)(lr) - hr))

    @jax.jit
    def step(state, lr, hr):
        number = state["counters"]["step"]
        loss, gradients = jax.value_and_grad(loss_of)(state["params"], lr, hr)
        direction, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        params = jax.tree.map(lambda p, d: p - schedule(number) * d, state["params"], direction)
        decay = jnp.minimum(config.ema_decay, (1.0 + number) / (10.0 + number))
        ema = optax.incremental_update(params, state["ema"], 1 - decay)
        counters = state["counters"] | {"step": number + 1}
        return {"params": params, "opt_state": opt_state, "counters": counters, "ema": ema}, loss

    return step


@pytest.mark.slow
@pytest.mark.usefixtures("_accelerator")
def test_checkpoints_and_losses_are_those_of_a_state_by_paths(tmp_path, monkeypatch):
    """Three steps by paths, three stacked, three by paths, each from the checkpoint before; and nine by paths."""
    fields = {"total_steps": 9, "clip_norm": 1.0, "weight_decay": 0.01, "ema_decay": 0.9, "precision": "highest"}
    config = experiment(**fields)
    _, values = parameters.split(MSNLAN(config.network, rngs=nnx.Rngs(config.seed)))
    step, fresh = dictionary_step(config), dictionary_state(config, values)
    batches = [[jnp.asarray(part, jnp.float32) for part in batch] for batch in FakeLoader(config).batches(0)]

    def take(state, first, last):
        losses = []
        for batch in batches[first:last]:
            state, loss = step(state, *batch)
            losses.append(float(loss))
        return state, losses

    begun, _ = take(fresh, 0, 3)
    expected, losses = take(begun, 3, 9)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, begun)
    checkpoints.close()
    monkeypatch.setattr(training, "validate", lambda *args, **kwargs: ({"psnr": 30.0}, {}))
    fields["total_steps"] = 6
    claim_workdir(tmp_path, training_config(**fields).to_dict())
    shorter = experiment(**fields)
    training.train(shorter, tmp_path, FakeLoader(shorter), {})
    found = [line["loss"] for line in lines(tmp_path) if "loss" in line]
    checkpoints = Checkpoints(tmp_path)
    number, restored = checkpoints.restore_latest(fresh)
    checkpoints.close()
    assert number == 6
    assert_same_arrays(read_weights(tmp_path)[1], jax.device_get(restored["ema"]))
    ended, last = take(restored, 6, 9)
    np.testing.assert_allclose(found + last, losses, rtol=1e-6)
    assert jax.tree.structure(ended) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(ended), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
