"""The training loop and what belongs to it: the step, the recipe, validation and logs."""

from msnlan_jax.training.config import (
    check_config,
    compute_config,
    model_config,
)
from msnlan_jax.training.loop import (
    train,
)
from msnlan_jax.training.step import (
    Loader,
    init_state,
    make_step,
)

__all__ = [
    "Loader",
    "check_config",
    "compute_config",
    "init_state",
    "make_step",
    "model_config",
    "train",
]
