import jax.numpy as jnp
import pytest

from msnlan_jax import weights
from msnlan_jax.checkpoints import Checkpoints, claim_workdir, read_config
from msnlan_jax.errors import InputError
from tests.samples import SIZES, assert_same_arrays, save_workdir, snapshot, tiny_parameters


@pytest.mark.parametrize(
    ("psnrs", "chosen"),
    [((31.0, 33.0, 32.0), 1), ((31.0, None, 30.0), 0), ((None, None, None), 2), ((None, 0.0, None), 1)],
    ids=str,
)
def test_the_best_checkpoint_of_a_workdir_is_taken(tmp_path, psnrs, chosen):
    runs = [(10 * i, tiny_parameters(2, seed=i), psnr) for i, psnr in enumerate(psnrs)]
    assert_same_arrays(weights.read_weights(save_workdir(tmp_path / "run", *runs))[1], runs[chosen][1])


def break_config(workdir):
    (workdir / "config.json").write_text("{")
    return r"config\.json: damaged: "


def break_fields(workdir):
    (workdir / "config.json").write_text('{"scale": 2}')
    return r"config\.json: not a network's configuration: 'model'"


def remove_checkpoints(workdir):
    (workdir / "checkpoints").rename(workdir / "moved")
    return ": found no checkpoints, expected some under "


def empty_checkpoints(workdir):
    (workdir / "checkpoints" / "3").rename(workdir / "moved")
    return ": found no whole checkpoint under "


@pytest.mark.parametrize("damage", [break_config, break_fields, remove_checkpoints, empty_checkpoints])
def test_damaged_workdirs_are_refused(tmp_path, damage):
    workdir = save_workdir(tmp_path / "run", (3, tiny_parameters(2), 30.0))
    message = damage(workdir)
    with pytest.raises(InputError, match=rf"^{workdir}/?{message}") as raised:
        weights.load_model(workdir)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_no_workdir_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json: no such file, expected a training workdir's"):
        weights.load_model(tmp_path)


def test_the_newest_and_the_best_are_kept_and_restored(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    states = {step: {"params": {"w": jnp.full(3, step)}, "opt_state": {"m": jnp.ones(2)}} for step in range(1, 6)}
    assert checkpoints.restore_latest(states[1]) is None
    for step, state in states.items():
        checkpoints.save(step, state, {2: 33.0, 4: 31.0}.get(step))
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4", "5"]
    checkpoints = Checkpoints(tmp_path, keep=2)
    step, state = checkpoints.restore_latest(states[1])
    checkpoints.close()
    assert step == 5
    assert state["params"]["w"].tolist() == [5, 5, 5]
    assert state["opt_state"]["m"].tolist() == [1, 1]


def test_a_workdir_belongs_to_one_network(tmp_path):
    config = {"scale": 2, "model": SIZES, "seed": 0}
    claim_workdir(tmp_path, config)
    claim_workdir(tmp_path, config | {"seed": 1})
    assert read_config(tmp_path) == config | {"seed": 1}
    before = snapshot(tmp_path)
    for field, other in (("scale", {"scale": 4}), ("model.n_feats", {"model": SIZES | {"n_feats": 32}})):
        with pytest.raises(InputError, match=rf"^config\.{field}: found .*, expected .* as in .*config\.json"):
            claim_workdir(tmp_path, config | other)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("content", ["{", "[]", "7"])
@pytest.mark.usefixtures("unchecked")
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json: "):
        claim_workdir(tmp_path, {"scale": 2, "model": SIZES})
    with pytest.raises(InputError, match=r"config\.json: "):
        weights.load_model(tmp_path)


def test_a_damaged_checkpoint_is_named_on_resume(tmp_path):
    state = {"params": tiny_parameters(2), "opt_state": {"step": jnp.zeros(())}}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, state)
    checkpoints.close()
    for path in (tmp_path / "checkpoints" / "3" / "params").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:10])
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(InputError, match=r"checkpoints/3: damaged checkpoint: "):
        checkpoints.restore_latest(state)
