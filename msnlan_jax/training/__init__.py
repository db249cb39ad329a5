"""The training loop and what belongs to it: the experiment, the step, validation and logs."""

from msnlan_jax.training.experiment import (
    Experiment,
    TrainingData,
    ValidationData,
    read_experiment,
)
from msnlan_jax.training.loop import (
    settle_implementation,
    train,
)
from msnlan_jax.training.step import (
    Loader,
    init_state,
    make_step,
)

__all__ = [
    "Experiment",
    "Loader",
    "TrainingData",
    "ValidationData",
    "init_state",
    "make_step",
    "read_experiment",
    "settle_implementation",
    "train",
]
