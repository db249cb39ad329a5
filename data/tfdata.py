"""The tf.data graph that feeds training."""

import atexit
from collections.abc import Iterator
from typing import Any

import numpy as np

from data import sources
from data.cpu_tensorflow import tf
from data.plan import Patches, cut, plan_step
from msnlan_jax.training import Experiment


class Batches:
    """Reads the pictures that an experiment names, and yields batches of them.

    What a step reads depends on the seed and the step number only, so that a resumed run sees the same batches.

    Args:
        experiment: what is trained.
        process_index: this process's number.
        process_count: how many processes share a batch.
        found: the pictures, where they have been looked for.

    Raises:
        FileNotFoundError, InputError: as `sources.open_pictures`.
    """

    resident = ()

    def __init__(
        self,
        experiment: Experiment,
        process_index: int = 0,
        process_count: int = 1,
        found: sources.TrainingSet | None = None,
    ):
        self._process = (process_index, process_count)
        self._experiment = experiment
        self._pictures = sources.open_pictures(experiment, found)
        self._sizes = np.array([lr.shape[:2] for lr, _ in self._pictures])

    def batches(self, start_step: int) -> Iterator[tuple[Patches, Patches]]:
        """Yield the LR and HR batches of steps `start_step`, `start_step` + 1, …, uint8 0..255."""
        under_way = [self._dataset(start_step).as_numpy_iterator()]

        # Its threads call into Python, and waiting for them once Python is shutting down would take for ever.
        def stop() -> None:
            under_way.clear()

        atexit.register(stop)
        try:
            while under_way and (batch := next(under_way[0], None)) is not None:
                yield batch
        finally:
            stop()
            atexit.unregister(stop)

    def _dataset(self, start_step: int) -> tf.data.Dataset:
        return (
            tf.data.Dataset.range(start_step, self._experiment.total_steps)
            .map(
                lambda step: tf.numpy_function(self._batch, [step], (tf.uint8, tf.uint8), stateful=False),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            .prefetch(tf.data.AUTOTUNE)
        )

    def _batch(self, step: int) -> tuple[Patches, Patches]:
        experiment = self._experiment
        samples = plan_step(experiment.seed, int(step), experiment.batch_size, self._sizes, experiment.patch_size)
        return cut(self._pictures, samples.of_process(*self._process), experiment.patch_size, experiment.scale)

    def crops(self, resident: Any, batch: Any) -> Any:
        """Return the batch as it is."""
        return batch
