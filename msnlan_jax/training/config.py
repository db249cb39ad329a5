"""Reading a training configuration: the network it describes, and what is impossible in it."""

import math

from ml_collections import ConfigDict

from msnlan_jax.errors import InputError
from msnlan_jax.inference import INFERENCE_MODES
from msnlan_jax.network import Compute, MSNLANConfig
from msnlan_jax.training.losses import LOSSES
from msnlan_jax.training.optimization import learning_rate_schedule

_INTERVALS = ("log_every", "eval_every", "checkpoint_every", "halve_every")
_COUNTS = ("total_steps", "batch_size", "patch_size", "keep_checkpoints", "accumulate", "max_skipped_in_a_row")
BLOCKS = {"auto": None, "scan": True, "unroll": False}
REMAT = {"auto": None, "on": True, "off": False}


def model_config(config: ConfigDict) -> MSNLANConfig:
    """Return the network that a configuration describes.

    Raises:
        InputError: naming the field whose value is not possible.
    """
    try:
        return MSNLANConfig(scale=config.scale, **config.model.to_dict())
    except InputError as error:
        raise InputError(f"config: {error}") from None


def compute_config(config: ConfigDict) -> Compute:
    """Return how a configuration has its network compute.

    Raises:
        InputError: naming the field whose value is not possible.
    """
    for name, choices in (("blocks", BLOCKS), ("remat", REMAT)):
        if config[name] not in choices:
            raise InputError(f"config.{name}: found {config[name]!r}, expected one of {', '.join(choices)}")
    try:
        return Compute(config.dtype, config.precision, loops=BLOCKS[config.blocks], remat=REMAT[config.remat])
    except InputError as error:
        raise InputError(f"config: {error}") from None


def check_config(config: ConfigDict, n_devices: int) -> None:
    """Refuse impossible values before anything is read or written.

    Raises:
        InputError: naming the field, what was found and what was expected.
    """
    model_config(config)
    compute_config(config)
    for name in (*_COUNTS, *_INTERVALS):
        if config[name] < 1:
            raise InputError(f"config.{name}: found {config[name]}, expected at least 1")
    parts = n_devices * config.accumulate
    if config.batch_size % parts:
        devices = f"{n_devices} device{'s' * (n_devices > 1)}" + (
            f" × accumulate = {config.accumulate}" if config.accumulate > 1 else ""
        )
        raise InputError(f"config.batch_size: found {config.batch_size}, expected a multiple of the {devices}")
    if not 0 < config.learning_rate < math.inf:
        raise InputError(f"config.learning_rate: found {config.learning_rate}, expected a positive number")
    for name in ("seed", "warmup_steps", "weight_decay"):
        if not config[name] >= 0:
            raise InputError(f"config.{name}: found {config[name]}, expected at least 0")
    for name in ("adam_b1", "adam_b2"):
        if not 0 < config[name] < 1:
            raise InputError(f"config.{name}: found {config[name]}, expected a number between 0 and 1")
    if not 0 <= config.ema_decay < 1:
        raise InputError(f"config.ema_decay: found {config.ema_decay}, expected at least 0 (for none) and below 1")
    if not config.clip_norm >= 0:
        raise InputError(f"config.clip_norm: found {config.clip_norm}, expected a positive number, or 0 for none")
    for name, found, choices in (
        ("loss", config.loss, tuple(LOSSES)),
        ("eval.inference", config.eval.inference, INFERENCE_MODES),
    ):
        if found not in choices:
            raise InputError(f"config.{name}: found {found!r}, expected one of {', '.join(choices)}")
    if config.init_new_tail and not config.init_from:
        raise InputError("config.init_new_tail: found True, expected config.init_from to name the weights besides")
    learning_rate_schedule(config)
