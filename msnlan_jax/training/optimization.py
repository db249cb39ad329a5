"""The optimiser and the learning rate, as a configuration says."""

import optax
from ml_collections import ConfigDict

from msnlan_jax.errors import InputError


def learning_rate_schedule(config: ConfigDict) -> optax.Schedule:
    """Return step → learning rate: linear warm-up, then halving (as released) or a cosine to zero.

    Raises:
        InputError: on an unknown schedule.
    """
    warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    if config.schedule == "halving":
        main = optax.exponential_decay(config.learning_rate, config.halve_every, 0.5, staircase=True)
    elif config.schedule == "cosine":
        main = optax.cosine_decay_schedule(config.learning_rate, max(1, config.total_steps - config.warmup_steps))
    else:
        raise InputError(f"config.schedule: found {config.schedule!r}, expected halving or cosine")
    return optax.join_schedules([warmup, main], [config.warmup_steps]) if config.warmup_steps else main


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Return Adam's direction, clipped before and decayed after: AdamW where `weight_decay` is above 0.

    The learning rate is not part of it: the training step multiplies by the schedule's value at the step's number, so
    that a step that was skipped does not shift the schedule.
    """
    # Clipping and decay have no state: switching one on or off does not invalidate checkpoints.
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    decay = optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity()
    return optax.chain(clip, optax.scale_by_adam(b1=config.adam_b1, b2=config.adam_b2, eps=1e-8), decay)
