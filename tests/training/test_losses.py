import jax.numpy as jnp
import numpy as np
import pytest

from msnlan_jax.training.losses import LOSSES

REFERENCES = {
    "l1": lambda d: np.abs(d).mean(),
    "charbonnier": lambda d: np.sqrt(d**2 + 0.255**2).mean(),
    "mse": lambda d: (d**2).mean(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_in_float32(name):
    prediction, target = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, 5, 3)).astype(np.float32)
    found = LOSSES[name](jnp.asarray(prediction), jnp.asarray(target))
    np.testing.assert_allclose(found, REFERENCES[name](prediction.astype(np.float64) - target), rtol=1e-5)
    assert LOSSES[name](jnp.asarray(prediction, jnp.bfloat16), jnp.asarray(target)).dtype == jnp.float32
