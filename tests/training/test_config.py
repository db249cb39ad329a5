import pytest

from msnlan_jax.errors import InputError
from msnlan_jax.network.compute import Compute
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.training.config import check_config, compute_config, model_config
from tests.samples import SIZES, experiment


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scale", 5),
        ("dtype", "float16"),
        ("precision", "fast"),
        ("model.n_feats", 0),
        ("model.n_groups", 3),
        ("model.n_blocks", 0),
        ("total_steps", 0),
        ("batch_size", 0),
        ("batch_size", 3),
        ("patch_size", 0),
        ("log_every", 0),
        ("eval_every", 0),
        ("checkpoint_every", 0),
        ("halve_every", 0),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-4),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("warmup_steps", -1),
        ("schedule", "linear"),
        ("adam_b1", 0.0),
        ("adam_b2", 1.0),
        ("clip_norm", -1.0),
        ("clip_norm", float("nan")),
        ("weight_decay", -0.1),
        ("ema_decay", 1.0),
        ("loss", "huber"),
        ("accumulate", 0),
        ("max_skipped_in_a_row", 0),
        ("init_new_tail", True),
        ("eval.inference", "fast"),
    ],
)
def test_impossible_values_are_refused_by_field(field, value):
    config = experiment()
    check_config(config, 2)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=rf"^config\b.*\b{field.split('.')[-1]}: found '?{value}'?, expected ."):
        check_config(config, 2)


def test_the_configuration_reaches_the_network():
    config = experiment(scale=3, dtype="bfloat16", precision="high")
    assert model_config(config) == MSNLANConfig(3, **SIZES)
    assert compute_config(config) == Compute("bfloat16", "high")
    config = experiment(blocks="unroll", remat="on")
    assert compute_config(config) == Compute(precision="default", loops=False, remat=True)


def test_a_batch_is_divided_by_devices_and_parts():
    check_config(experiment(batch_size=12, accumulate=3), 4)
    with pytest.raises(InputError, match="found 8, expected a multiple of the 4 devices × accumulate = 3"):
        check_config(experiment(batch_size=8, accumulate=3), 4)
