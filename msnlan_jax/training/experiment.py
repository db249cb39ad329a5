"""An experiment: a training configuration, read once into what training needs, and found possible."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from msnlan_jax.errors import InputError, naming
from msnlan_jax.inference import INFERENCE_MODES
from msnlan_jax.network import Compute, MSNLANConfig
from msnlan_jax.runtime import files
from msnlan_jax.training.losses import LOSSES

SCHEDULES = ("halving", "cosine")
# The fields that describe the network and how it computes.
_NETWORK = {
    "scale": int,
    "model": ConfigDict,
    "dtype": str,
    "precision": str,
    "implementation": str,
    "blocks": str,
    "remat": str,
}
_BLOCKS = {"auto": None, "scan": True, "unroll": False}
_REMAT = {"auto": None, "on": True, "off": False}
_INTERVALS = ("log_every", "eval_every", "checkpoint_every", "halve_every")
_COUNTS = ("total_steps", "batch_size", "patch_size", "keep_checkpoints", "accumulate", "max_skipped_in_a_row")
_KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Which pictures are trained on: the fields of `data` in `configs/base.py`; `data.sources` knows their values."""

    source: str
    dir: str
    hr_dir: str
    lr_dir: str
    loader: str


@dataclasses.dataclass(frozen=True)
class ValidationData:
    """Which pictures are validated on, and how: the fields of `eval` in `configs/base.py`."""

    data_dir: str
    datasets: str
    hr_dir: str
    lr_dir: str
    inference: str

    @property
    def names(self) -> list[str]:
        """The sets' names; none for all that there are."""
        return [name.strip() for name in self.datasets.split(",") if name.strip()]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is trained, on what and how; made by `read_experiment`.

    Attributes:
        network: the network's sizes, from `scale` and `model`.
        compute: how it computes, from `dtype`, `precision`, `implementation`, `blocks` and `remat`.
        data: the pictures to train on.
        eval: the pictures to validate on.

    The others are the fields of `configs/base.py` of the same name, with their comments there.
    """

    network: MSNLANConfig
    compute: Compute
    data: TrainingData
    eval: ValidationData
    seed: int
    total_steps: int
    batch_size: int
    accumulate: int
    patch_size: int
    loss: str
    init_from: str
    init_new_tail: bool
    learning_rate: float
    schedule: str
    halve_every: int
    warmup_steps: int
    adam_b1: float
    adam_b2: float
    weight_decay: float
    clip_norm: float
    ema_decay: float
    max_skipped_in_a_row: int
    log_every: int
    eval_every: int
    checkpoint_every: int
    keep_checkpoints: int

    @property
    def scale(self) -> int:
        """The up-scaling factor."""
        return self.network.scale

    def validates_after(self, step: int) -> bool:
        """Whether the network is validated after so many steps: every `eval_every`, and at the end."""
        return step % self.eval_every == 0 or step == self.total_steps


def read_experiment(config: ConfigDict, n_devices: int = 1) -> Experiment:
    """Read a configuration, and refuse what is impossible before anything else is read or written.

    Args:
        config: every field of `configs/base.py`.
        n_devices: how many devices of all processes share a batch.

    Raises:
        InputError: naming the field, what was found and what was expected.
    """
    fields = _types(Experiment) | {"data": ConfigDict, "eval": ConfigDict}
    del fields["network"], fields["compute"]
    values = _read_section(config, _NETWORK | fields)
    network, compute = _read_network(**{name: values.pop(name) for name in _NETWORK})
    data = TrainingData(**_read_section(values.pop("data"), _types(TrainingData), "data."))
    validation = ValidationData(**_read_section(values.pop("eval"), _types(ValidationData), "eval."))
    experiment = Experiment(network, compute, data, validation, **values)
    _check(experiment, n_devices)
    return experiment


def _types(section: type) -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(section)}


def _read_section(section: ConfigDict, types: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a section's fields, each of the type that is expected."""
    for name in section:
        if name not in types:
            raise InputError(f"config.{prefix}{name}: found an unknown field; configs/base.py lists them all")
    values: dict[str, Any] = {}
    for name, kind in types.items():
        if name not in section:
            raise InputError(f"config.{prefix}{name}: found none, expected one as in configs/base.py")
        value = section[name]
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InputError(
                f"config.{prefix}{name}: found {value!r}, expected {_KINDS.get(kind, 'a section of fields')}"
            )
        with naming(f"config.{prefix}{name}"):
            values[name] = files.expand_home(value) if isinstance(value, str) else value
    return values


def _read_network(
    scale: int, model: ConfigDict, dtype: str, precision: str, implementation: str, blocks: str, remat: str
) -> tuple[MSNLANConfig, Compute]:
    _check_choice("blocks", blocks, tuple(_BLOCKS))
    _check_choice("remat", remat, tuple(_REMAT))
    if implementation == "kernels" and precision != "default":
        raise InputError(f"config.implementation: found 'kernels', expected config.precision default, not {precision}")
    sizes = _read_section(model, {"n_feats": int, "n_groups": int, "n_blocks": int}, "model.")
    with naming("config"):
        network = MSNLANConfig(scale, **sizes)
        return network, Compute(
            dtype, precision, loops=_BLOCKS[blocks], remat=_REMAT[remat], implementation=implementation
        )


def _check(experiment: Experiment, n_devices: int) -> None:
    """Refuse values that are impossible, each alone or together."""
    found = vars(experiment)
    for name in (*_COUNTS, *_INTERVALS):
        if found[name] < 1:
            raise InputError(f"config.{name}: found {found[name]}, expected at least 1")
    if experiment.batch_size % (n_devices * experiment.accumulate):
        devices = f"{n_devices} device{'s' * (n_devices > 1)}" + (
            f" × accumulate = {experiment.accumulate}" if experiment.accumulate > 1 else ""
        )
        raise InputError(f"config.batch_size: found {experiment.batch_size}, expected a multiple of the {devices}")
    if not 0 < experiment.learning_rate < math.inf:
        raise InputError(f"config.learning_rate: found {experiment.learning_rate}, expected a positive number")
    for name in ("seed", "warmup_steps", "weight_decay"):
        if not found[name] >= 0:
            raise InputError(f"config.{name}: found {found[name]}, expected at least 0")
    for name in ("adam_b1", "adam_b2"):
        if not 0 < found[name] < 1:
            raise InputError(f"config.{name}: found {found[name]}, expected a number between 0 and 1")
    if not 0 <= experiment.ema_decay < 1:
        raise InputError(f"config.ema_decay: found {experiment.ema_decay}, expected at least 0 (for none) and below 1")
    if not experiment.clip_norm >= 0:
        raise InputError(f"config.clip_norm: found {experiment.clip_norm}, expected a positive number, or 0 for none")
    _check_choice("loss", experiment.loss, tuple(LOSSES))
    _check_choice("schedule", experiment.schedule, SCHEDULES)
    _check_choice("eval.inference", experiment.eval.inference, INFERENCE_MODES)
    if experiment.init_new_tail and not experiment.init_from:
        raise InputError("config.init_new_tail: found True, expected config.init_from to name the weights besides")


def _check_choice(name: str, found: str, choices: tuple[str, ...]) -> None:
    if found not in choices:
        expected = " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
        raise InputError(f"config.{name}: found {found!r}, expected {expected}")
