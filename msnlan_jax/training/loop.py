"""Training: one story from experiment to checkpoint.

The state is a plain pytree; a step is one jitted program over a mesh of all devices of all processes, with the batch
split along its data axis. What a step does is in `step`, what a run leaves behind in `monitor`.
"""

import dataclasses
import time
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from msnlan_jax.errors import InputError
from msnlan_jax.inference import Programs
from msnlan_jax.network import MSNLAN, Compute, find_fault, parameters
from msnlan_jax.runtime import StopSignal, distributed
from msnlan_jax.training.experiment import Experiment
from msnlan_jax.training.layout import lay_out
from msnlan_jax.training.monitor import Monitor
from msnlan_jax.training.step import Loader, State, init_state, make_step, trained_stacks
from msnlan_jax.training.validation import Sets, validate
from msnlan_jax.weights import Checkpoints, read_start


def train(experiment: Experiment, workdir: epath.PathLike, loader: Loader, validation_sets: Sets) -> int:
    """Train a network, or go on from the newest whole checkpoint in `workdir`.

    SIGTERM and Ctrl-C end the run after the step under way, with a checkpoint; the same call goes on from there.

    Args:
        experiment: what is trained, on what and how; read for as many devices as there are.
        workdir: folder for `metrics.jsonl`, `timing.jsonl`, `curves.png`, `tensorboard/` and `checkpoints/`.
        loader: what feeds the steps.
        validation_sets: name → pictures; the first set's PSNR decides which checkpoint is best.

    Returns:
        The number of steps that the network has been trained for.

    Raises:
        InputError: when the weights to start from do not fit, too many steps in a row are not finite, or the folder
            cannot be written.

    Source: SPEC.md §4.
    """
    began = time.perf_counter()
    compute, fault = settle_implementation(experiment)
    was_chosen = compute != experiment.compute
    experiment = dataclasses.replace(experiment, compute=compute)
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    checkpoints = Checkpoints(workdir, experiment.keep_checkpoints)
    start, state = restore_or_init(experiment, checkpoints, mesh)
    monitor = Monitor(workdir, start, experiment.total_steps, experiment.batch_size)
    run = _Run(experiment, mesh, checkpoints, monitor, state)
    if fault:
        monitor.say(_without_kernels(fault))
    if start:
        monitor.say(f"continuing after step {start} of {experiment.total_steps}, from {workdir}")
    try:
        with run.stop.listening():
            # A run that was stopped or killed before its validation was done begins with that.
            lacks_score = start > 0 and experiment.validates_after(start) and not monitor.has(start, "psnr")
            is_stopping = lacks_score and not run.validate(start, validation_sets)
            if start < experiment.total_steps and not is_stopping:
                run.steps(start, loader, validation_sets, began, may_change=was_chosen and compute.uses_kernels)
    finally:
        monitor.close()
        checkpoints.close()
    return run.step


def settle_implementation(experiment: Experiment) -> tuple[Compute, str]:
    """Return how the network is to compute, "auto" decided, and what is wrong with its kernels where something is.

    On TPU and GPU kernels are taken if on this chip they compute what the plain layers do; in all processes or in none.
    """
    compute = experiment.compute
    if compute.implementation != "auto":
        return compute, ""
    kernels = dataclasses.replace(compute, implementation="kernels")
    if jax.default_backend() == "cpu" or not kernels.uses_kernels:
        return dataclasses.replace(compute, implementation="plain"), ""
    batch = experiment.batch_size // (jax.device_count() * experiment.accumulate)
    fault = find_fault(experiment.network.n_feats, kernels, batch, experiment.patch_size)
    if distributed.any_process(bool(fault)):
        return dataclasses.replace(compute, implementation="plain"), fault or "they fail in another process"
    return kernels, ""


def _without_kernels(fault: str) -> str:
    return f"kernels: {fault}; going on with the plain layers, which are slower"


class _Run:
    """A run under way."""

    def __init__(self, experiment: Experiment, mesh: Mesh, checkpoints: Checkpoints, monitor: Monitor, state: State):
        self.experiment, self.mesh, self.state = experiment, mesh, state
        self.checkpoints, self.monitor = checkpoints, monitor
        self.programs, self.stop, self.layout = Programs(), StopSignal(), lay_out(experiment.network)
        self.step = int(jax.device_get(state["counters"]["step"]))

    def steps(self, start: int, loader: Loader, sets: Sets, began: float, *, may_change: bool) -> None:
        """Take the steps from `start` to the last, or until the run is asked to stop; `may_change` as in `compile`."""
        experiment, monitor = self.experiment, self.monitor
        resident = replicate(loader.resident, self.mesh)
        compiled: Any = None
        for step, batch in enumerate(loader.batches(start), start + 1):
            shared = share_batch(batch, self.mesh)
            if compiled is None:
                compile_began = time.perf_counter()
                compiled = self.compile(loader, resident, shared, may_change=may_change)
                compile_seconds = time.perf_counter() - compile_began
                monitor.restart_clock()
            with jax.transfer_guard("disallow"):
                self.state, metrics = compiled(self.state, resident, shared)
            self.step = step
            monitor.count_step()
            if step == start + 1:
                jax.block_until_ready(metrics)
                to_first = time.perf_counter() - began
                monitor.timing(step, {"compile_seconds": compile_seconds, "seconds_to_first_step": to_first})
                monitor.say(f"first step after {to_first:.1f} s, of which compiling took {compile_seconds:.1f} s")
            is_stopping = self.stop.reached(step)
            validates = experiment.validates_after(step)
            if step % experiment.log_every == 0 or validates or is_stopping:
                self._log(metrics, shown=step % experiment.log_every == 0 or step == experiment.total_steps)
            if validates and not is_stopping:
                is_stopping = not self.validate(step, sets)
            elif is_stopping or step % experiment.checkpoint_every == 0:
                self.save(step)
            if is_stopping:
                monitor.say(f"stopping after step {step}, as asked; the same command goes on from there")
                return

    def compile(self, loader: Loader, resident: Any, batch: Any, *, may_change: bool) -> Any:
        """Compile the step; where that fails with kernels, whose parts were proved, it `may_change` to plain layers."""
        compiled, fault = None, ""
        try:
            compiled = self._lower(loader, resident, batch).compile()
        except Exception as error:  # whatever the compiler has against it
            if not may_change:
                raise
            fault = f"the whole step: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if may_change and distributed.any_process(bool(fault)):
            self.monitor.say(_without_kernels(fault or "the whole step cannot be compiled in another process"))
            plain = dataclasses.replace(self.experiment.compute, implementation="plain")
            self.experiment = dataclasses.replace(self.experiment, compute=plain)
            compiled = self._lower(loader, resident, batch).compile()
        return compiled

    def _lower(self, loader: Loader, resident: Any, batch: Any) -> Any:
        graph, _ = parameters.abstract_parameters(self.experiment.network, self.experiment.compute)
        step: Any = make_step(graph, self.experiment, self.mesh, loader)
        return step.lower(self.state, resident, batch)

    def validate(self, step: int, sets: Sets) -> bool:
        """Save the network and score it; False when the run was asked to stop before all was scored."""
        self.save(step)
        experiment = self.experiment
        # Numbers are reported in exact float32, whatever the training computes in.
        exact = dataclasses.replace(experiment.compute, dtype="float32", precision="highest", implementation="plain")
        graph, _ = parameters.abstract_parameters(experiment.network, exact)
        values = self.layout.unstack(_copy(trained_stacks(self.state)))
        network = parameters.merge(graph, jax.device_put(values))
        mode = experiment.eval.inference
        found = validate(network, sets, experiment.scale, mode, programs=self.programs, stop=self.stop)
        if found is None:
            return False
        values, strips = found
        # Before the metrics: a run killed between the two finds no score there when it goes on, and validates again.
        self.checkpoints.add_score(step, values["psnr"])
        self.monitor.validation(step, values, strips)
        scores = ", ".join(f"{name[5:]} {value:.3f} dB" for name, value in values.items() if name.startswith("psnr/"))
        self.monitor.say(f"step {step}: validation ×{experiment.scale}: {scores} (PSNR on luma)")
        self.monitor.restart_clock()
        return True

    def save(self, step: int) -> None:
        """Save a checkpoint, unless it is there."""
        state = self.state
        if self.layout.is_stacked:
            state = replicate(self.layout.as_stored(_copy(state)), self.mesh)
        self.checkpoints.save(step, state)

    def _log(self, metrics: Any, *, shown: bool) -> None:
        """Record a step, and end a run whose steps come to nothing."""
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        in_a_row = values.pop("skipped_in_a_row")
        if shown:
            self.monitor.training(self.step, values)
        if in_a_row >= self.experiment.max_skipped_in_a_row:
            good = self.step - in_a_row
            self.save(self.step)
            raise InputError(
                f"training: loss or gradient not finite in the last {in_a_row} steps (config.max_skipped_in_a_row); "
                f"stopped after step {self.step}, with the parameters of step {good} kept in its checkpoint"
            )


def restore_or_init(experiment: Experiment, checkpoints: Checkpoints, mesh: Mesh) -> tuple[int, State]:
    """Return the newest whole checkpoint's step and state, or step 0 and parameters fresh or from `init_from`."""
    network, layout = experiment.network, lay_out(experiment.network)
    _, drawn = parameters.split(MSNLAN(network, rngs=nnx.Rngs(experiment.seed)))
    values = jax.device_get(drawn)
    fresh = jax.device_get(init_state(experiment, values))
    sharding = NamedSharding(mesh, PartitionSpec())
    stored = jax.tree.map(
        lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding), layout.as_stored(fresh)
    )
    if (restored := checkpoints.restore_latest(stored)) is not None:
        step, state = restored
        return step, replicate(layout.as_trained(jax.device_get(state)), mesh)
    if experiment.init_from:
        values = read_start(experiment.init_from, network, values, new_tail=experiment.init_new_tail)
        return 0, replicate(init_state(experiment, values), mesh)
    return 0, replicate(fresh, mesh)


def _copy(state: Any) -> Any:
    """Fetch arrays that every device has, as copies: others may share memory that the next step overwrites."""
    return jax.tree.map(np.array, state)


def replicate(values: Any, mesh: Mesh) -> Any:
    """Put arrays, the same in every process, on every device."""
    sharding = NamedSharding(mesh, PartitionSpec())

    def put(value: Any) -> jax.Array:
        here = np.asarray(value)
        return jax.make_array_from_callback(here.shape, sharding, lambda index: here[index])

    return jax.tree.map(put, values)


def share_batch(batch: Any, mesh: Mesh) -> Any:
    """Put this process's share of a batch on its devices, as a part of the job's batch."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return jax.tree.map(lambda part: jax.make_array_from_process_local_data(sharding, part), batch)
