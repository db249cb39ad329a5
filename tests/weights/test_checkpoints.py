import json
import re
import shutil

import jax.numpy as jnp
import pytest

from msnlan_jax import weights
from msnlan_jax.errors import InputError
from msnlan_jax.weights.checkpoints import Checkpoints
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
    return r"config\.json: not a readable configuration, damaged or cut short: "


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
        checkpoints.save(step, state)
        if step in (2, 4):
            checkpoints.add_score(step, 35.0 - step)
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4", "5"]
    checkpoints = Checkpoints(tmp_path, keep=2)
    step, state = checkpoints.restore_latest(states[1])
    checkpoints.close()
    assert step == 5
    assert state["params"]["w"].tolist() == [5, 5, 5]
    assert state["opt_state"]["m"].tolist() == [1, 1]


STATES = {step: {"params": {"w": jnp.full(3, step)}, "opt_state": {"m": jnp.ones(2)}} for step in range(1, 6)}


def save_states(workdir, *steps):
    checkpoints = Checkpoints(workdir)
    for step in steps:
        checkpoints.save(step, STATES[step])
    checkpoints.close()


def cut_short(checkpoint):
    for path in (checkpoint / "params").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:10])


def change_a_number(checkpoint):
    """Damage that the file format does not notice: another whole checkpoint's parameters."""
    shutil.rmtree(checkpoint / "params")
    shutil.copytree(checkpoint.parent / "1" / "params", checkpoint / "params")


def remove_an_item(checkpoint):
    shutil.rmtree(checkpoint / "opt_state")


@pytest.mark.parametrize("damage", [cut_short, change_a_number, remove_an_item])
def test_a_damaged_checkpoint_is_passed_over_and_said_so(tmp_path, capfd, damage):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, STATES[step])
    checkpoints.close()
    damage(tmp_path / "checkpoints" / "3")
    checkpoints = Checkpoints(tmp_path, keep=3)
    step, state = checkpoints.restore_latest(STATES[1])
    assert step == 2
    assert state["params"]["w"].tolist() == [2, 2, 2]
    (line,) = capfd.readouterr().out.splitlines()
    assert re.match(rf".*/checkpoints/3: damaged checkpoint, moved to {tmp_path}/damaged/3: .", line)
    assert (tmp_path / "damaged" / "3").is_dir()
    checkpoints.save(3, STATES[3])
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied"),
        ValueError("PERMISSION_DENIED: Error reading gs://bucket/x [tensorstore_spec='{...}']"),
        type("DefaultCredentialsError", (Exception,), {"__module__": "google.auth.exceptions"})("none were found"),
    ],
    ids=["local", "remote", "client"],
)
def test_one_that_may_not_be_read_is_not_damaged(tmp_path, monkeypatch, capfd, error):
    save_states(tmp_path, 1, 2)
    before = snapshot(tmp_path)

    def refuse(*args, **kwargs):
        raise error

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(checkpoints._manager, "restore", refuse)
    with pytest.raises(InputError, match=rf"^{tmp_path}/checkpoints/2: cannot be read: [^\[]*(\[Errno|$)"):
        checkpoints.restore_latest(STATES[1])
    checkpoints.close()
    assert snapshot(tmp_path) == before
    assert capfd.readouterr().out == ""


def test_what_a_kill_left_unfinished_is_passed_over(tmp_path, capfd):
    save_states(tmp_path, 1)
    unfinished = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp-7"
    shutil.copytree(tmp_path / "checkpoints" / "1", unfinished)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore_latest(STATES[1])[0] == 1
    checkpoints.save(2, STATES[2])
    checkpoints.close()
    assert capfd.readouterr().out == ""
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore_latest(STATES[1])[0] == 2
    checkpoints.close()


def test_without_a_whole_checkpoint_nothing_is_begun_anew(tmp_path):
    save_states(tmp_path, 1, 2)
    before = snapshot(tmp_path)
    for step in (1, 2):
        cut_short(tmp_path / "checkpoints" / str(step))
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(InputError, match=r"checkpoints/2: damaged checkpoint: .*; no whole one left"):
        checkpoints.restore_latest(STATES[1])
    assert snapshot(tmp_path).keys() == before.keys()


def test_averaged_parameters_are_taken_where_there_are_any(tmp_path):
    workdir = save_workdir(tmp_path / "run")
    states = [
        {name: {key: jnp.asarray(value) for key, value in tiny_parameters(2, seed).items()}}
        for seed, name in enumerate(("params", "ema"))
    ]
    checkpoints = Checkpoints(workdir)
    checkpoints.save(7, states[0] | states[1])
    checkpoints.close()
    assert_same_arrays(weights.read_weights(workdir)[1], tiny_parameters(2, 1))


def test_a_score_that_comes_later_leaves_the_arrays_alone(tmp_path):
    """Of a run that stopped before a validation, and went on with it: no moment without the checkpoint."""
    save_states(tmp_path, 1, 2)
    before = snapshot(tmp_path)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(2, STATES[2])
    assert snapshot(tmp_path) == before
    checkpoints.add_score(2, 33.0)
    after = snapshot(tmp_path)
    assert after.keys() - before.keys() == {"checkpoints/2/metrics/metrics"}
    assert {name: after[name] for name in before} == before
    for step in (3, 4, 5):
        checkpoints.save(step, STATES[step])
    checkpoints.add_score(5, 32.0)
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "5"]


def test_a_score_that_comes_later_counts(tmp_path):
    workdir = save_workdir(tmp_path / "run", *((step, tiny_parameters(2, step), None) for step in (1, 2)))
    for step, psnr in ((1, 33.0), (2, 31.0)):
        checkpoints = Checkpoints(workdir)
        checkpoints.add_score(step, psnr)
        checkpoints.close()
    assert_same_arrays(weights.read_weights(workdir)[1], tiny_parameters(2, 1))


def test_a_score_that_was_not_finished_is_none(tmp_path):
    workdir = save_workdir(tmp_path / "run", (1, tiny_parameters(2, 1), 30.0), (2, tiny_parameters(2, 2), None))
    (workdir / "checkpoints" / "2" / "metrics").mkdir()
    assert_same_arrays(weights.read_weights(workdir)[1], tiny_parameters(2, 1))
    checkpoints = Checkpoints(workdir)
    checkpoints.add_score(2, 31.0)
    checkpoints.close()
    assert_same_arrays(weights.read_weights(workdir)[1], tiny_parameters(2, 2))


@pytest.mark.parametrize("damage", [b"{", b"", b"\xff", b"[1]", b'{"psnr": "high"}', b'{"psnr": NaN}', b"[" * 99999])
def test_a_damaged_score_is_passed_over(tmp_path, capfd, damage):
    workdir = save_workdir(tmp_path / "run", *((step, tiny_parameters(2, step), 30.0 + step) for step in (1, 2)))
    score = workdir / "checkpoints" / "2" / "metrics" / "metrics"
    score.write_bytes(damage)
    assert_same_arrays(weights.read_weights(workdir)[1], tiny_parameters(2, 1))
    checkpoints = Checkpoints(workdir)
    (first, second) = capfd.readouterr().out.splitlines()
    assert first == second
    assert first.startswith(f"{score}: damaged score, passed over: ")
    checkpoints.save(3, STATES[3])
    checkpoints.add_score(3, 30.5)
    checkpoints.close()
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["1", "2", "3"]


@pytest.mark.parametrize("sizes", [{"n_blocks": 10**8}, {"n_groups": 2 * 10**6}, {"n_feats": 10**9}])
@pytest.mark.usefixtures("unchecked")
def test_a_configuration_that_claims_more_than_there_is_is_refused(tmp_path, sizes):
    workdir = save_workdir(tmp_path / "run", (3, tiny_parameters(2), 30.0))
    (workdir / "config.json").write_text(json.dumps({"scale": 2, "model": SIZES | sizes}))
    with pytest.raises(InputError, match=rf"^{workdir}/config\.json: says it (holds|has) .*, found (no|\d+) array"):
        weights.read_weights(workdir)


def test_a_checkpoint_that_cannot_be_written_names_the_one_before(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, STATES[1])

    def fail(*args, **kwargs):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing x: No space left on device [os_error_code='28']\nand more")

    monkeypatch.setattr(checkpoints._manager, "save", fail)
    with pytest.raises(InputError) as raised:
        checkpoints.save(2, STATES[2])
    message = (
        f"{tmp_path}/checkpoints: a checkpoint cannot be written: No space left on device; the one of step 1 is whole"
    )
    assert str(raised.value) == message
    checkpoints.close()
