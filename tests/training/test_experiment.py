import pytest
from ml_collections import ConfigDict

from msnlan_jax.errors import InputError
from msnlan_jax.network.compute import Compute
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.training.experiment import read_experiment
from tests.samples import SIZES, experiment, training_config


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
    config = training_config()
    read_experiment(config, 2)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=rf"^config\b.*\b{field.split('.')[-1]}: found '?{value}'?, expected ."):
        read_experiment(config, 2)


def test_the_configuration_reaches_the_network():
    read = experiment(scale=3, dtype="bfloat16", precision="high")
    assert (read.network, read.compute) == (MSNLANConfig(3, **SIZES), Compute("bfloat16", "high"))
    assert experiment(blocks="unroll", remat="on").compute == Compute(precision="default", loops=False, remat=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda config: config.update({"batchsize": 2}),
            r"config\.batchsize: found an unknown field; configs/base\.py",
        ),
        (lambda config: config.eval.update({"crop": 2}), r"config\.eval\.crop: found an unknown field"),
        (lambda config: config.__delattr__("loss"), r"config\.loss: found none, expected one as in configs/base\.py"),
        (lambda config: config.model.__delattr__("n_feats"), r"config\.model\.n_feats: found none"),
        (lambda config: config.__delattr__("data"), r"config\.data: found none"),
    ],
)
def test_fields_that_are_not_those_of_the_base_are_named(change, message):
    config = training_config()
    change(config)
    with pytest.raises(InputError, match=f"^{message}"):
        read_experiment(config)


def test_values_of_another_type_are_named():
    fields = training_config().to_dict()
    assert read_experiment(ConfigDict(fields | {"learning_rate": 1})).learning_rate == 1.0
    for name, value, expected in (("seed", 0.5, "a whole number"), ("log_every", True, "a whole number")):
        with pytest.raises(InputError, match=rf"^config\.{name}: found {value}, expected {expected}$"):
            read_experiment(ConfigDict(fields | {name: value}))
    with pytest.raises(InputError, match=r"^config\.data: found 'photos', expected a section of fields$"):
        read_experiment(ConfigDict(fields | {"data": "photos"}))


def test_a_batch_is_divided_by_devices_and_parts():
    read_experiment(training_config(batch_size=12, accumulate=3), 4)
    with pytest.raises(InputError, match="found 8, expected a multiple of the 4 devices × accumulate = 3"):
        read_experiment(training_config(batch_size=8, accumulate=3), 4)


def test_paths_may_begin_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    config = training_config(init_from="~/weights.pt")
    config.data.dir = "~/photos"
    found = read_experiment(config)
    assert (found.init_from, found.data.dir) == ("/home/someone/weights.pt", "/home/someone/photos")
