import pytest

from msnlan_jax import weights
from msnlan_jax.errors import InputError
from msnlan_jax.weights.workdir import claim_workdir, read_config
from tests.samples import SIZES, snapshot


def test_a_workdir_belongs_to_one_network(tmp_path):
    config = {"scale": 2, "model": SIZES, "seed": 0, "ema_decay": 0.9, "data": {"dir": "a"}}
    assert claim_workdir(tmp_path, config) == []
    other = config | {"seed": 1, "ema_decay": 0.99, "data": {"dir": "b"}}
    changes = ["seed: 0 → 1", "ema_decay: 0.9 → 0.99", "data.dir: a → b"]
    assert claim_workdir(tmp_path, other) == changes
    assert read_config(tmp_path) == other
    claim_workdir(tmp_path, other | {"init_from": "w"})
    changed = claim_workdir(tmp_path, other | {"init_from": "v"})
    assert changed == ["init_from: w → v, which only a new run heeds"]
    claim_workdir(tmp_path, other)
    before = snapshot(tmp_path)
    for field, other in (("scale", {"scale": 4}), ("model.n_feats", {"model": SIZES | {"n_feats": 32}})):
        with pytest.raises(InputError, match=rf"^config\.{field}: found .*, expected .* as in .*config\.json"):
            claim_workdir(tmp_path, config | other)
    with pytest.raises(InputError, match=r"^config\.ema_decay: found 0\.0, expected 0\.99 as in .*config\.json"):
        claim_workdir(tmp_path, config | {"ema_decay": 0.0})
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("content", ["{", "[]", "7"])
@pytest.mark.usefixtures("unchecked")
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json: "):
        claim_workdir(tmp_path, {"scale": 2, "model": SIZES})
    with pytest.raises(InputError, match=r"config\.json: "):
        weights.load_model(tmp_path)
