import jax.numpy as jnp
import numpy as np
import optax
import pytest

from msnlan_jax.training.optimization import learning_rate_schedule, make_optimizer
from tests.samples import experiment

RATES = {
    "halving": ({}, {0: 8.0, 9: 8.0, 10: 4.0, 19: 4.0, 20: 2.0, 35: 1.0}),
    "halving after a warm-up": ({"warmup_steps": 4}, {0: 0.0, 1: 2.0, 3: 6.0, 4: 8.0, 13: 8.0, 14: 4.0}),
    "cosine": ({"schedule": "cosine"}, {0: 8.0, 10: 6.8284, 20: 4.0, 40: 0.0, 50: 0.0}),
    "cosine after a warm-up": (
        {"schedule": "cosine", "warmup_steps": 20},
        {0: 0.0, 5: 2.0, 20: 8.0, 30: 4.0, 40: 0.0},
    ),
}


@pytest.mark.parametrize("name", RATES)
def test_learning_rates(name):
    changes, expected = RATES[name]
    schedule = learning_rate_schedule(experiment(learning_rate=8.0, halve_every=10, total_steps=40, **changes))
    np.testing.assert_allclose([schedule(step) for step in expected], list(expected.values()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "reference"),
    [
        ({}, optax.adam(0.1, b1=0.9, b2=0.99)),
        ({"clip_norm": 0.5}, optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1, b1=0.9, b2=0.99))),
        ({"weight_decay": 0.03}, optax.adamw(0.1, b1=0.9, b2=0.99, weight_decay=0.03)),
    ],
    ids=["adam", "clipped", "adamw"],
)
def test_the_direction_times_the_rate_is_the_optimisers_update(changes, reference):
    params = {"w": jnp.array([1.0, -2.0, 3.0])}
    ours = make_optimizer(experiment(adam_b2=0.99, **changes))
    states = ours.init(params), reference.init(params)
    for gradient in ([0.1, 0.2, -3.0], [2.0, 0.0, 1.0]):
        found, state = ours.update({"w": jnp.array(gradient)}, states[0], params)
        expected, other = reference.update({"w": jnp.array(gradient)}, states[1], params)
        states = state, other
        np.testing.assert_allclose(-0.1 * found["w"], expected["w"], rtol=1e-6)
