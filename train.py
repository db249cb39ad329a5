"""Train MSNLAN: `python train.py --config configs/x4.py --workdir runs/x4 [--config.FIELD=value ...]`."""

import functools
import re
import sys

import jax
from absl import flags
from flax import nnx
from ml_collections import ConfigDict, config_flags

from data import sources
from msnlan_jax import checkpoints, command, evaluation, files, inference, training
from msnlan_jax.errors import InputError

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file, such as configs/x4.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints and logs; a run in it is continued.")


def main() -> None:
    """Train as the flags say."""
    config, workdir = parse_flags()
    training.check_config(config, jax.device_count())
    validation = sources.validation_sets(config)
    for pairs in validation.values():
        evaluation.check_pairs(pairs, config.scale)
    if config.data.loader != "tfdata":
        raise InputError(f"config.data.loader: found {config.data.loader!r}, expected tfdata")
    from data import tfdata

    batches = tfdata.Batches(config)
    files.prepare_output_dir(workdir, "--workdir")
    checkpoints.claim_workdir(workdir, config.to_dict())

    def validate(network: nnx.Module) -> float:
        """Print the PSNR on every set; return the first's."""
        upscale = functools.partial(inference.upscale, network, inference=config.eval.inference)
        scores = {name: evaluation.evaluate(upscale, pairs, config.scale) for name, pairs in validation.items()}
        summary = ", ".join(f"{name} {score.psnr:.3f} dB" for name, score in scores.items())
        print(f"\nvalidation ×{config.scale}: {summary} (PSNR on luma)")
        return next(iter(scores.values())).psnr

    training.train(config, workdir, batches, validate)
    print(f"finished {config.total_steps} steps; checkpoints and metrics.jsonl are in {workdir}")


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
        hint = str(error).replace("\\n", " ").replace("\\", "").replace('"', "").strip("'")
        named = [match[1] for arg in sys.argv if (match := re.match(r"--?(config\.[\w.]+)", arg))]
        field = next((name for name in named if name.split(".")[-1] in hint), ", ".join(named))
        raise InputError(f"--{field}: found an unknown field: {hint}; configs/base.py lists them all") from None
    except Exception as error:  # a configuration file is code, and may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise InputError(f"flags: {reason}") from None
    if rest:
        raise InputError(f"flags: found {rest[0]!r}, expected only --flag=value")
    if config is None or workdir is None:
        raise InputError("flags: expected both --config, such as configs/x4.py, and --workdir, such as runs/x4")
    return config, workdir


if __name__ == "__main__":
    command.run(main)
