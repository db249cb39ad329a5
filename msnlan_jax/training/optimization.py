"""The optimiser and the learning rate, as an experiment says."""

import optax

from msnlan_jax.training.experiment import Experiment


def learning_rate_schedule(experiment: Experiment) -> optax.Schedule:
    """Return step → learning rate: linear warm-up, then halving (as released) or a cosine to zero."""
    highest, warmup_steps = experiment.learning_rate, experiment.warmup_steps
    if experiment.schedule == "halving":
        main = optax.exponential_decay(highest, experiment.halve_every, 0.5, staircase=True)
    else:
        main = optax.cosine_decay_schedule(highest, max(1, experiment.total_steps - warmup_steps))
    if not warmup_steps:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, highest, warmup_steps), main], [warmup_steps])


def make_optimizer(experiment: Experiment) -> optax.GradientTransformation:
    """Return Adam's direction, clipped before and decayed after: AdamW where `weight_decay` is above 0.

    The learning rate is not part of it: the training step multiplies by the schedule's value at the step's number, so
    that a step that was skipped does not shift the schedule.
    """
    # Clipping and decay have no state: switching one on or off does not invalidate checkpoints.
    clip = optax.clip_by_global_norm(experiment.clip_norm) if experiment.clip_norm else optax.identity()
    decay = optax.add_decayed_weights(experiment.weight_decay) if experiment.weight_decay else optax.identity()
    adam = optax.scale_by_adam(b1=experiment.adam_b1, b2=experiment.adam_b2, eps=1e-8)
    return optax.chain(clip, adam, decay)
