"""Training: one story from configuration to checkpoint.

State is `{"params": path → array, "opt_state": Adam's}`, a plain pytree; a step is one jitted program over a mesh of
all devices, with the batch split along its data axis.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict
from tqdm import tqdm

from msnlan_jax import losses, parameters
from msnlan_jax.checkpoints import Checkpoints
from msnlan_jax.errors import InputError
from msnlan_jax.inference import INFERENCE_MODES
from msnlan_jax.metrics_log import MetricsLog
from msnlan_jax.model import MSNLAN, MSNLANConfig

State = dict[str, Any]
Batches = Callable[[int], Iterator[tuple[np.ndarray, np.ndarray]]]
Validate = Callable[[nnx.Module], float]


def model_config(config: ConfigDict) -> MSNLANConfig:
    """Return the network that a configuration describes.

    Raises:
        InputError: naming the field whose value is not possible.
    """
    try:
        return MSNLANConfig(
            scale=config.scale, **config.model.to_dict(), dtype=config.dtype, precision=config.precision
        )
    except InputError as error:
        raise InputError(f"config: {error}") from None


def check_config(config: ConfigDict, n_devices: int) -> None:
    """Refuse impossible values before anything is read or written.

    Raises:
        InputError: naming the field, what was found and what was expected.
    """
    model_config(config)
    intervals = ("log_every", "eval_every", "checkpoint_every", "halve_every")
    for name in ("total_steps", "batch_size", "patch_size", "keep_checkpoints", *intervals):
        if config[name] < 1:
            raise InputError(f"config.{name}: found {config[name]}, expected at least 1")
    if config.batch_size % n_devices:
        raise InputError(
            f"config.batch_size: found {config.batch_size}, expected a multiple of the {n_devices} devices"
        )
    if not 0 < config.learning_rate < math.inf:
        raise InputError(f"config.learning_rate: found {config.learning_rate}, expected a positive number")
    for name in ("seed", "warmup_steps"):
        if config[name] < 0:
            raise InputError(f"config.{name}: found {config[name]}, expected at least 0")
    if not 0 < config.adam_b2 < 1:
        raise InputError(f"config.adam_b2: found {config.adam_b2}, expected a number between 0 and 1")
    if config.clip_norm < 0:
        raise InputError(f"config.clip_norm: found {config.clip_norm}, expected a positive number, or 0 for none")
    if config.eval.inference not in INFERENCE_MODES:
        expected = ", ".join(INFERENCE_MODES)
        raise InputError(f"config.eval.inference: found {config.eval.inference!r}, expected one of {expected}")
    learning_rate_schedule(config)


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
    """Return Adam with the configured schedule and, before it, the clipping of gradients."""
    # Both kinds of clipping have no state: a checkpoint of one is a checkpoint of the other.
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, optax.adam(learning_rate_schedule(config), b1=0.9, b2=config.adam_b2, eps=1e-8))


def train(config: ConfigDict, workdir: epath.PathLike, batches: Batches, validate: Validate) -> float:
    """Train a network, or go on from the newest checkpoint in `workdir`.

    Args:
        config: every field of `configs/base.py`.
        workdir: folder for `config.json`, `metrics.jsonl` and `checkpoints/`.
        batches: first step → iterator of LR and HR batches, uint8 0..255.
        validate: network → PSNR in dB; called every `eval_every` steps and at the end.

    Returns:
        The last PSNR.

    Raises:
        InputError: when a field's value is not possible, or the folder cannot be written.

    Source: SPEC.md §4.
    """
    check_config(config, jax.device_count())
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    replicated, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    schedule, optimizer = learning_rate_schedule(config), make_optimizer(config)
    graph, _ = parameters.abstract_parameters(model_config(config))
    # Numbers are reported in exact float32, whatever the training computes in.
    exact = dataclasses.replace(model_config(config), dtype="float32", precision="highest")
    exact_graph, _ = parameters.abstract_parameters(exact)
    checkpoints = Checkpoints(workdir, config.keep_checkpoints)
    start, state = restore_or_init(config, optimizer, checkpoints, replicated)
    step_function = make_step(graph, optimizer, mesh)
    if start:
        print(f"continuing after step {start} of {config.total_steps}, from {workdir}")
    log = MetricsLog(epath.Path(workdir) / "metrics.jsonl", last_step=start)
    psnr = float("nan")
    clock, pictures = time.perf_counter(), 0
    with tqdm(total=config.total_steps, initial=start, desc="training", unit="step") as bar:
        for step, (lr, hr) in enumerate(batches(start), start + 1):
            state, loss = step_function(state, *jax.device_put((lr, hr), split))
            pictures += config.batch_size
            is_last = step == config.total_steps
            if step % config.log_every == 0 or is_last:
                values = {"loss": float(loss)}  # waits for the step, so that the rate is true
                rate = pictures / (time.perf_counter() - clock)
                values |= {"images_per_second": rate, "learning_rate": float(schedule(step - 1))}
                log.write(step, values)
                bar.set_postfix_str(f"loss {values['loss']:.3f}, {rate:.1f} images/s")
                clock, pictures = time.perf_counter(), 0
            validates = step % config.eval_every == 0 or is_last
            if validates:
                try:
                    psnr = validate(parameters.merge(exact_graph, state["params"]))
                except BaseException:
                    checkpoints.save(step, state)
                    checkpoints.close()
                    raise
                log.write(step, {"psnr": psnr})
            if validates or step % config.checkpoint_every == 0:
                checkpoints.save(step, state, psnr if validates else None)
                clock, pictures = time.perf_counter(), 0
            bar.update()
    checkpoints.close()
    return psnr


def restore_or_init(
    config: ConfigDict, optimizer: optax.GradientTransformation, checkpoints: Checkpoints, sharding: NamedSharding
) -> tuple[int, State]:
    """Return the newest checkpoint's step and state, or step 0 and fresh parameters."""
    network = MSNLAN(model_config(config), rngs=nnx.Rngs(config.seed))
    _, values = parameters.split(network)
    state = jax.device_put({"params": values, "opt_state": optimizer.init(values)}, sharding)
    return checkpoints.restore_latest(state) or (0, state)


def make_step(
    graph: nnx.GraphDef, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh
) -> Callable[[State, jax.Array, jax.Array], tuple[State, jax.Array]]:
    """Return the compiled training step: state, LR and HR uint8 batches → state (donated) and loss."""

    def loss_of(values: parameters.Parameters, lr: jax.Array, hr: jax.Array) -> jax.Array:
        network: Any = parameters.merge(graph, values)
        return losses.l1(network(lr.astype(jnp.float32)), hr.astype(jnp.float32))

    def mean_over_devices(values: parameters.Parameters, lr: jax.Array, hr: jax.Array) -> tuple[jax.Array, Any]:
        return jax.lax.pmean(jax.value_and_grad(loss_of)(values, lr, hr), "data")

    # Each device sees its own pictures only: left to the compiler, the attention's loop over pictures would gather
    # the whole batch on every device.
    split = PartitionSpec("data")
    loss_and_gradients = jax.shard_map(
        mean_over_devices,
        mesh=mesh,
        in_specs=(PartitionSpec(), split, split),
        out_specs=PartitionSpec(),
        check_vma=False,
    )

    def step(state: State, lr: jax.Array, hr: jax.Array) -> tuple[State, jax.Array]:
        loss, gradients = loss_and_gradients(state["params"], lr, hr)
        updates, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}, loss

    return jax.jit(step, donate_argnums=0)
