"""Train MSNLAN: `python train.py --config configs/x4.py --workdir runs/x4 [--config.FIELD=value ...]`."""

import argparse
import contextlib
from pathlib import Path

import jax
from etils import epath

from data import sources
from data.loaders import make_loader
from msnlan_jax import scoring, training
from msnlan_jax.errors import InputError
from msnlan_jax.pictures import Pair
from msnlan_jax.runtime import command, config_flags, distributed, files, lock
from msnlan_jax.weights import claim_workdir, read_start

FIELDS = Path(__file__).parent / "configs" / "base.py"


def main() -> None:
    """Train as the flags say."""
    flags = parse_flags()
    distributed.initialize(flags.coordinator_address, flags.num_processes, flags.process_id)
    # What one process of a job cannot read ends all of them.
    experiment = distributed.on_every(lambda: training.read_experiment(flags.config, jax.device_count()))
    training_set, validation_sets = distributed.on_every(lambda: find_pictures(experiment))
    with contextlib.ExitStack() as held:
        distributed.on_first(lambda: open_workdir(flags.workdir, experiment, held))
        loader = distributed.on_every(
            lambda: make_loader(experiment, jax.process_index(), jax.process_count(), training_set)
        )
        for change in distributed.on_first(lambda: claim_workdir(flags.workdir, flags.config.to_dict())) or []:
            command.say(f"changed since the run began: {change}")
        steps = training.train(experiment, flags.workdir, loader, validation_sets)
    if steps >= experiment.total_steps and jax.process_index() == 0:
        command.say(f"finished {steps} steps; checkpoints, metrics.jsonl and curves.png are in {flags.workdir}")


def find_pictures(experiment: training.Experiment) -> tuple[sources.TrainingSet, dict[str, list[Pair]]]:
    """Find the pictures to train on, and those to validate with, of which none is broken."""
    validation_sets = sources.validation_sets(experiment)
    training_set = sources.find_training_set(experiment)
    if jax.process_index() == 0:
        for line in sources.describe(experiment, training_set, validation_sets):
            command.say(line)
    for pairs in validation_sets.values():
        scoring.check_pairs(pairs, experiment.scale)
    return training_set, validation_sets


def open_workdir(workdir: str, experiment: training.Experiment, held: contextlib.ExitStack) -> None:
    """Make the folder; no other run may write there until `held` is closed."""
    if experiment.init_from and not (epath.Path(workdir) / "config.json").exists():
        # Weights that do not fit are refused before there is a run, which the command put right would have to continue.
        read_start(experiment.init_from, experiment.network, {}, new_tail=experiment.init_new_tail)
    files.prepare_output_dir(workdir, "--workdir")
    held.enter_context(lock.holding(workdir, "--workdir"))


def parse_flags() -> argparse.Namespace:
    """Read the command line; `config` is the configuration that it gives."""
    fields = config_flags.describe_fields(FIELDS)
    parser = command.Parser(
        description=__doc__,
        epilog=f"fields of the configuration, and their values in configs/base.py:\n{fields}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    config_flags.add_to(parser)
    parser.add_argument("--workdir", type="path", help="folder for checkpoints and logs; a run in it is continued")
    distributed.add_flags(parser)
    flags = config_flags.parse(parser)
    if flags.config is None or flags.workdir is None:
        raise InputError("flags: expected both --config, such as configs/x4.py, and --workdir, such as runs/x4")
    return flags


if __name__ == "__main__":
    command.run(main)
