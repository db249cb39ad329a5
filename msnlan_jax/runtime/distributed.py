"""Starting a job of several hosts, and stopping it at one step on all of them."""

import argparse
import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from msnlan_jax.errors import InputError

T = TypeVar("T")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `initialize` takes."""
    parser.add_argument("--coordinator_address", help="several hosts: host:port of process 0")
    parser.add_argument("--num_processes", type=int, help="several hosts: how many processes there are")
    parser.add_argument("--process_id", type=int, help="several hosts: this process's number, from 0")


def initialize(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the job's other processes, if there are any; call it before anything else touches JAX.

    On TPU, SLURM (`srun`) and Open MPI (`mpirun`) JAX finds the others by itself; elsewhere all three arguments are
    needed, and without them the process is alone.

    Args:
        coordinator_address: host:port of process 0.
        num_processes: how many processes there are.
        process_id: this one's number, from 0.

    Raises:
        InputError: when only some of the arguments are given, or the processes do not find each other.
    """
    arguments = (coordinator_address, num_processes, process_id)
    if any(argument is not None for argument in arguments):
        if any(argument is None for argument in arguments):
            raise InputError("flags: expected --coordinator_address, --num_processes and --process_id together")
    elif not _in_cluster():
        return
    try:
        jax.distributed.initialize(*arguments)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"flags: the processes did not find each other: {error}") from None


def on_first(task: Callable[[], T]) -> T | None:
    """Do something in the job's first process only, and return its result there; what fails there ends all of them.

    Raises:
        Exception: what `task` raised.
        InputError: in the other processes, when it raised anything.
    """
    return on_every(lambda: task() if jax.process_index() == 0 else None, "the job's first process")


def on_every(task: Callable[[], T], others: str = "another process of the job") -> T:
    """Do something in every process, and return the result; what fails in one ends all of them.

    Raises:
        Exception: what `task` raised.
        InputError: in the other processes, when it raised anything in one, which is called `others`.
    """
    result: list[T] = []
    error = None
    try:
        result.append(task())
    except Exception as raised:  # whatever it is, the other processes are not to wait for this one
        error = raised
    failed = any_process(error is not None)
    if error is not None:
        raise error
    if failed:
        raise InputError(f"{others} has found an error, and tells it")
    return result[0]


def any_process(condition: bool) -> bool:
    """Whether a condition holds in any of the job's processes; each has to ask."""
    if jax.process_count() == 1:
        return condition
    return bool(multihost_utils.process_allgather(np.asarray(condition)).any())


def _in_cluster() -> bool:
    """Whether JAX can find out by itself who the other processes are."""
    for variable in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        if os.environ.get(variable, "1") != "1":
            return True
    has_chips = any(Path(device).exists() for device in ("/dev/accel0", "/dev/vfio/0"))
    return has_chips and importlib.util.find_spec("libtpu") is not None


class StopSignal:
    """Whether the run was asked to stop: by SIGTERM, as schedulers do before they take a machine, or by Ctrl-C."""

    def __init__(self) -> None:
        self._signal: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of signals instead of dying of them; a second Ctrl-C interrupts at once."""
        # With several processes, JAX's own service takes SIGTERM, and has all of them stop at one step; Ctrl-C is
        # passed on to it.
        signals = (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._note) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def reached(self, step: int) -> bool:
        """Whether to stop after `step`; with several processes, true on all of them at one step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.requested

    @property
    def requested(self) -> bool:
        """Whether this process alone has been told to stop."""
        return self._signal is not None and jax.process_count() == 1

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
