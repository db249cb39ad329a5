"""Whole runs of tiny networks: what they record, how they stop, and that they go on without a trace."""

import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from msnlan_jax import weights
from msnlan_jax.errors import InputError
from msnlan_jax.inference import Programs
from msnlan_jax.network import parameters
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.pictures.bicubic import Bicubic
from msnlan_jax.pictures.images import read_image
from msnlan_jax.pictures.pairs import Pair
from msnlan_jax.runtime.distributed import StopSignal
from msnlan_jax.training import loop as training
from msnlan_jax.training.experiment import read_experiment
from msnlan_jax.training.validation import validate
from msnlan_jax.weights.workdir import claim_workdir
from tests.samples import (
    SIZES,
    FakeLoader,
    assert_same_arrays,
    experiment,
    save_noise,
    tiny_config,
    tiny_parameters,
    training_config,
)

ROOT = Path(__file__).parents[2]
CONFIG = {"batch_size": 8, "patch_size": 6, "total_steps": 10, "learning_rate": 1e-3, "precision": "highest"}
CONFIG |= {"checkpoint_every": 2, "eval_every": 5, "halve_every": 7}


def run(workdir, monkeypatch, *, psnrs, loader=None, **changes):
    """Train, with scripted scores, and return the parameters of every validation."""
    config, seen = training_config(**CONFIG | changes), []
    parsed = read_experiment(config)

    def scripted(network, sets, scale, mode, *, programs, stop):
        psnr = psnrs[len(seen)]
        if isinstance(psnr, BaseException):
            raise psnr
        if psnr is None:
            return None
        seen.append(jax.device_get(parameters.split(network)[1]))
        return {"psnr": psnr, "psnr/noise": psnr}, {}

    monkeypatch.setattr(training, "validate", scripted)
    claim_workdir(workdir, config.to_dict())
    training.train(parsed, workdir, loader or FakeLoader(parsed), {})
    return seen


def lines(workdir, name="metrics"):
    text = (workdir / f"{name}.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run: workdir and the parameters at its two validations."""
    workdir = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as monkeypatch:
        return workdir, run(workdir, monkeypatch, psnrs=[31.0, 30.0])


@pytest.mark.slow
def test_metrics_have_a_line_for_every_step_and_validation(finished):
    found = lines(finished[0])
    expected = [{"step", "loss", "grad_norm", "learning_rate", "skipped"}] * 10
    expected.insert(5, {"step", "psnr", "psnr/noise"})
    expected.append({"step", "psnr", "psnr/noise"})
    assert [line.keys() for line in found] == expected
    assert [line["step"] for line in found] == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10]
    assert [line["psnr"] for line in found if "psnr" in line] == [31.0, 30.0]
    assert [line["learning_rate"] for line in found if "loss" in line] == pytest.approx([1e-3] * 7 + [5e-4] * 3)
    assert all(line["skipped"] == 0 < line["grad_norm"] for line in found if "loss" in line)


@pytest.mark.slow
def test_timings_and_pictures_are_left_for_people(finished):
    timing = lines(finished[0], "timing")
    assert all(line["images_per_second"] > 0 for line in timing if "images_per_second" in line)
    (first,) = (line for line in timing if "compile_seconds" in line)
    assert first["step"] == 1
    assert first["seconds_to_first_step"] >= first["compile_seconds"] > 0
    assert read_image(finished[0] / "curves.png").ndim == 3
    assert list((finished[0] / "tensorboard").iterdir())


@pytest.mark.slow
def test_the_loss_falls(finished):
    values = [line["loss"] for line in lines(finished[0]) if "loss" in line]
    assert max(values[-3:]) < 0.9 * min(values[:3])


@pytest.mark.slow
def test_the_workdir_holds_the_best_network(finished):
    workdir, (best, last) = finished
    model = weights.load_model(workdir)
    assert model.config == MSNLANConfig(2, **SIZES)
    assert_same_arrays(parameters.split(model)[1], best)
    assert any((best[path] != last[path]).any() for path in best)
    assert sorted(int(path.name) for path in (workdir / "checkpoints").iterdir()) == [5, 8, 10]


class PowerFailureError(Exception):
    """Not one of the library's errors."""


class CutOff(FakeLoader):
    """Ends the run while it fetches a step's batch, once the checkpoint before is there."""

    def __init__(self, experiment, workdir, step):
        super().__init__(experiment)
        self.checkpoint, self.step = workdir / "checkpoints" / str(step - step % experiment.checkpoint_every), step

    def batches(self, start):
        for step, batch in enumerate(super().batches(start)):
            if step == self.step:
                while not self.checkpoint.exists():
                    pass
                raise PowerFailureError
            yield batch


@pytest.mark.slow
def test_a_resumed_run_is_bit_identical(finished, tmp_path, monkeypatch):
    """Cut off in step 8: the checkpoint after step 6 is there, lines 7 and half of 8 are dropped and come again."""
    with pytest.raises(PowerFailureError):
        run(tmp_path, monkeypatch, psnrs=[31.0], loader=CutOff(experiment(**CONFIG), tmp_path, 7))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    assert [line.split(",")[0] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][-2:] == [
        '{"step": 7',
        '{"step": 8',
    ]
    (last,) = run(tmp_path, monkeypatch, psnrs=[30.0])
    assert_same_arrays(last, finished[1][1])
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished[0] / "metrics.jsonl").read_bytes()
    assert_same_arrays(weights.read_weights(tmp_path)[1], finished[1][0])


class Terminated(FakeLoader):
    """Sends SIGTERM to the run while it fetches a step's batch."""

    step = 3

    def batches(self, start):
        for step, batch in enumerate(super().batches(start), start):
            if step == self.step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


@pytest.mark.slow
def test_sigterm_saves_and_leaves_no_trace(finished, tmp_path, monkeypatch, capsys):
    assert run(tmp_path, monkeypatch, psnrs=[], loader=Terminated(experiment(**CONFIG))) == []
    assert "stopping after step 4, as asked; the same command goes on from there" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4"]
    run(tmp_path, monkeypatch, psnrs=[31.0, 30.0])
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished[0] / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_a_validation_that_was_given_up_comes_first_when_the_run_goes_on(finished, tmp_path, monkeypatch):
    assert run(tmp_path, monkeypatch, psnrs=[None]) == []
    first, last = run(tmp_path, monkeypatch, psnrs=[31.0, 30.0])
    assert_same_arrays(first, finished[1][0])
    assert_same_arrays(last, finished[1][1])
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished[0] / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_a_validation_that_fails_loses_no_training(tmp_path, monkeypatch):
    with pytest.raises(PowerFailureError):
        run(tmp_path, monkeypatch, psnrs=[PowerFailureError()])
    assert (tmp_path / "checkpoints" / "5").is_dir()


@pytest.mark.slow
def test_a_finished_run_does_nothing_more(finished, monkeypatch):
    before = (finished[0] / "metrics.jsonl").read_bytes()
    assert run(finished[0], monkeypatch, psnrs=[]) == []
    assert (finished[0] / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_steps_that_are_not_finite_are_skipped_and_counted(tmp_path, monkeypatch):
    loader = FakeLoader(experiment(**CONFIG), spoil=(2, 5, 6))
    run(tmp_path, monkeypatch, psnrs=[31.0, 30.0], loader=loader)
    found = [line for line in lines(tmp_path) if "loss" in line]
    assert [line["skipped"] for line in found] == [0, 0, 1, 1, 1, 2, 3, 3, 3, 3]
    assert [line["step"] for line in found if line["loss"] is None] == [3, 6, 7]


@pytest.mark.slow
def test_too_many_in_a_row_end_the_run_with_the_last_good_parameters(tmp_path, monkeypatch):
    loader = FakeLoader(experiment(**CONFIG), spoil=range(3, 10))
    with pytest.raises(InputError, match=r"^training: .* last 4 steps .*; stopped after step 7, .* of step 3 kept"):
        run(tmp_path, monkeypatch, psnrs=[31.0], loader=loader, max_skipped_in_a_row=4)
    saved = weights.read_weights(tmp_path)[1]
    assert all(np.isfinite(value).all() for value in saved.values())


@pytest.mark.slow
def test_a_start_from_weights(tmp_path, monkeypatch):
    source = tmp_path / "x3.safetensors"
    values = tiny_parameters(3)
    weights.write_safetensors(source, tiny_config(3), values)
    changes = {"init_from": str(source), "total_steps": 1, "ema_decay": 0.0, "learning_rate": 1e-12}
    with pytest.raises(
        InputError, match=r"^config\.init_from: found weights for ×3 in .*, expected ×2; --config\.init_n"
    ):
        run(tmp_path / "refused", monkeypatch, psnrs=[31.0], **changes)
    (found,) = run(tmp_path / "run", monkeypatch, psnrs=[31.0], init_new_tail=True, **changes)
    for path, value in found.items():
        if path.startswith(("upsampler.", "tail.")):
            assert value.shape != values[path].shape or not np.allclose(value, values[path], atol=1e-6)
        else:
            np.testing.assert_allclose(value, values[path], atol=1e-9)


def test_a_start_from_another_size_is_refused(tmp_path, monkeypatch):
    weights.write_safetensors(tmp_path / "x2.safetensors", tiny_config(2), tiny_parameters(2))
    changes = {"init_from": str(tmp_path / "x2.safetensors"), "model": SIZES | {"n_blocks": 2}}
    with pytest.raises(
        InputError, match=r"config\.init_from: found n_blocks = 1 in .*, expected config\.model\.n_blocks = 2"
    ):
        run(tmp_path / "run", monkeypatch, psnrs=[31.0], **changes)


@pytest.mark.slow
def test_parts_of_a_batch_add_up(finished, tmp_path, monkeypatch):
    run(tmp_path, monkeypatch, psnrs=[30.0], accumulate=4, total_steps=3)
    found, expected = (
        [line["loss"] for line in lines(workdir) if "loss" in line][:3] for workdir in (tmp_path, finished[0])
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_real_validation_names_its_sets(tmp_path):
    save_noise(tmp_path, {"a.png": (20, 16, 3), "b.png": (16, 12, 3)})
    pairs = [Pair(name, epath.Path(tmp_path / f"{name}.png")) for name in "ab"]
    stop = StopSignal()
    values, strips = validate(Bicubic(2), {"two": pairs, "one": pairs[:1]}, 2, "whole", programs=Programs(), stop=stop)
    assert values.keys() == {"psnr", "psnr/two", "ssim/two", "psnr/one", "ssim/one"}
    assert values["psnr"] == values["psnr/two"] != values["psnr/one"]
    assert strips.keys() == {"two/a", "one/a"}
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
    assert validate(Bicubic(2), {"two": pairs}, 2, "whole", programs=Programs(), stop=stop) is None


def test_validations_share_the_programs_of_their_run(tmp_path):
    """And score the same however many there were before, as a run that goes on has had none."""
    save_noise(tmp_path, {"a.png": (32, 128, 3), "b.png": (32, 96, 3)})
    pairs = [Pair(name, epath.Path(tmp_path / f"{name}.png")) for name in "ba"]
    network, programs = parameters.to_model(tiny_config(2), tiny_parameters(2)), Programs()
    first, _ = validate(network, {"two": pairs}, 2, "whole", programs=programs, stop=StopSignal())
    taken = programs.compile_seconds
    again, _ = validate(network, {"two": pairs[::-1]}, 2, "whole", programs=programs, stop=StopSignal())
    assert again.keys() == first.keys()
    assert (programs.count, programs.compile_seconds) == (2, taken)
    third, _ = validate(network, {"two": pairs}, 2, "whole", programs=programs, stop=StopSignal())
    assert third == first
