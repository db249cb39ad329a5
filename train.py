"""Train MSNLAN: `python train.py --config configs/x4.py --workdir runs/x4 [--config.FIELD=value ...]`."""

import re
import sys

import jax
from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from data import sources
from data.loaders import make_loader
from msnlan_jax import training
from msnlan_jax.errors import InputError
from msnlan_jax.runtime import command, distributed, files
from msnlan_jax.scoring import evaluation
from msnlan_jax.weights import claim_workdir, read_start

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file, such as configs/x4.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints and logs; a run in it is continued.")
_COORDINATOR = flags.DEFINE_string("coordinator_address", None, "Several hosts: host:port of process 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Several hosts: how many processes there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Several hosts: this process's number, from 0.")

_WRONG_TYPES = {"int()": "a whole number", "to float": "a number", "boolean": "True or False"}  # what absl says of them


def main() -> None:
    """Train as the flags say."""
    config, workdir = parse_flags()
    distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    training.check_config(config, jax.device_count())
    validation_sets = sources.validation_sets(config)
    for pairs in validation_sets.values():
        evaluation.check_pairs(pairs, config.scale)
    loader = make_loader(config, jax.process_index(), jax.process_count())
    for change in distributed.on_first(lambda: prepare_workdir(config, workdir)) or []:
        print(f"changed since the run began: {change}")
    steps = training.train(config, workdir, loader, validation_sets)
    if steps >= config.total_steps and jax.process_index() == 0:
        print(f"finished {steps} steps; checkpoints, metrics.jsonl and curves.png are in {workdir}")


def prepare_workdir(config: ConfigDict, workdir: str) -> list[str]:
    """Make the folder, or check that the run in it is this one; return what has changed since it began."""
    if config.init_from and not (epath.Path(workdir) / "config.json").exists():
        # Weights that do not fit are refused before there is a run, which the command put right would have to continue.
        model = training.model_config(config)
        read_start(config.init_from, model, {}, new_tail=config.init_new_tail)
    files.prepare_output_dir(workdir, "--workdir")
    return claim_workdir(workdir, config.to_dict())


def parse_flags() -> tuple[ConfigDict, str]:
    """Return configuration and workdir."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"{__doc__}\n\n{flags.FLAGS.main_module_help()}\n\nconfigs/base.py lists every field with a comment.")
        sys.exit()
    try:
        rest = flags.FLAGS(sys.argv)[1:]
        config, workdir = _CONFIG.value, _WORKDIR.value
        getattr(config, "scale", None)  # a file that could not be read raises only when it is looked at
    except (AttributeError, KeyError) as error:
        named = [match[1] for arg in sys.argv if (match := re.match(r"--?(config\.[\w.]+)", arg))]
        found = str(error).split("Did you mean")[0]
        unknown = next((field for field in named if re.search(rf"\W{field.split('.')[-1]}\W", found)), ", ".join(named))
        meant = re.search(r"Did you mean \W*(\w+)", str(error))
        hint = f"did you mean {meant[1]}? " if meant else ""
        raise InputError(f"--{unknown}: found an unknown field; {hint}configs/base.py lists them all") from None
    except Exception as error:  # a configuration file is code, and may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        if missing := re.search(r"No such file or directory: '(.*)'", reason):
            raise InputError(f"--config: {missing[1]}: no such file, expected one such as configs/x4.py") from None
        for complaint, expected in _WRONG_TYPES.items():
            if value := re.match(rf"flag (--[\w.]+)=(.*): .*{re.escape(complaint)}", reason):
                raise InputError(f"{value[1]}: found {value[2]!r}, expected {expected}") from None
        if not isinstance(error, flags.Error):
            (*_, file) = re.findall(r"--?config[= ](\S+)", " ".join(sys.argv)) or ["?"]
            raise InputError(f"--config: {file}: found no configuration: {reason}") from None
        hint = "; fields of the configuration are set by --config.FIELD" if "Unknown command" in reason else ""
        raise InputError(f"flags: {reason}{hint}") from None
    if rest:
        raise InputError(f"flags: found {rest[0]!r}, expected only --flag=value")
    if config is None or workdir is None:
        raise InputError("flags: expected both --config, such as configs/x4.py, and --workdir, such as runs/x4")
    return config, workdir


if __name__ == "__main__":
    command.run(main)
