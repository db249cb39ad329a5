"""The loader that keeps the whole set in accelerator memory, and cuts crops inside the step; without TensorFlow."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt8

from data import sources
from data.plan import plan_step
from msnlan_jax.errors import InputError
from msnlan_jax.training import Experiment

# Of a device's memory; training needs the rest.
LARGEST_SHARE = 0.8


class Rows(NamedTuple):
    """Pictures one below the other, as wide as the widest: rows and columns, unlike bytes, can be counted in int32."""

    lr: UInt8[Array | np.ndarray, "_h _w 3"]
    hr: UInt8[Array | np.ndarray, "_sh _sw 3"]


class Crops(NamedTuple):
    """Where the samples of a batch lie in `Rows.lr`, and how they are flipped (as `plan.Samples.flips`)."""

    top: Int[Array | np.ndarray, " b"]
    left: Int[Array | np.ndarray, " b"]
    flips: Bool[Array | np.ndarray, "b 3"]


class Batches:
    """Reads the pictures that an experiment names, and yields which crops the steps take of them.

    The crops are those of `tfdata.Batches`, bit for bit.

    Args:
        experiment: what is trained.
        process_index: this process's number.
        process_count: how many processes share a batch.
        found: the pictures, where they have been looked for.

    Raises:
        FileNotFoundError, InputError: as `sources.open_pictures`; and when a device's memory cannot hold the set.
    """

    def __init__(
        self,
        experiment: Experiment,
        process_index: int = 0,
        process_count: int = 1,
        found: sources.TrainingSet | None = None,
    ):
        self._experiment, self._process = experiment, (process_index, process_count)
        pictures = sources.open_pictures(experiment, found)
        self._sizes = np.array([lr.shape[:2] for lr, _ in pictures])
        self._first_rows = np.concatenate([[0], np.cumsum(self._sizes[:-1, 0])])
        self._check_memory()
        rows, columns = self._sizes[:, 0].sum(), self._sizes[:, 1].max()
        self.resident = Rows(
            np.zeros((rows, columns, 3), np.uint8),
            np.zeros((rows * experiment.scale, columns * experiment.scale, 3), np.uint8),
        )
        lr_rows, hr_rows = self.resident
        for first, (lr, hr) in zip(self._first_rows, pictures, strict=True):
            for stack, picture, start in ((lr_rows, lr, first), (hr_rows, hr, first * experiment.scale)):
                stack[start : start + picture.shape[0], : picture.shape[1]] = picture

    def batches(self, start_step: int) -> Iterator[Crops]:
        """Yield the crops of steps `start_step`, `start_step` + 1, …"""
        experiment = self._experiment
        for step in range(start_step, experiment.total_steps):
            samples = plan_step(experiment.seed, step, experiment.batch_size, self._sizes, experiment.patch_size)
            mine = samples.of_process(*self._process)
            top = self._first_rows[mine.image] + mine.top
            yield Crops(top.astype(np.int32), mine.left.astype(np.int32), mine.flips)

    def crops(self, resident: Rows, batch: Crops) -> tuple[UInt8[Array, "b p p 3"], UInt8[Array, "b sp sp 3"]]:
        """Return LR and HR patches, 0..255; traced inside the step."""
        patch, scale = self._experiment.patch_size, self._experiment.scale
        return _cut(resident.lr, batch, 1, patch), _cut(resident.hr, batch, scale, patch * scale)

    def _check_memory(self) -> None:
        """Refuse a set that leaves a device no room to train."""
        limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
        size = 3 * (1 + self._experiment.scale**2) * int(self._sizes[:, 0].sum()) * int(self._sizes[:, 1].max())
        if limit and size > LARGEST_SHARE * limit:
            raise InputError(
                f"config.data.loader: found memory with pictures of {size / 2**30:.1f} GiB, expected at most "
                f"{LARGEST_SHARE:.0%} of the device's {limit / 2**30:.1f} GiB; tfdata reads them from the host"
            )


def _cut(
    rows: UInt8[Array | np.ndarray, "_h _w 3"], batch: Crops, factor: int, side: int
) -> UInt8[Array, "b side side 3"]:
    def cut_one(top: Array, left: Array, flips: Array) -> Array:
        patch = jax.lax.dynamic_slice(jnp.asarray(rows), (top * factor, left * factor, 0), (side, side, 3))
        patch = jnp.where(flips[0], patch[:, ::-1], patch)
        patch = jnp.where(flips[1], patch[::-1], patch)
        return jnp.where(flips[2], patch.swapaxes(0, 1), patch)

    return jax.vmap(cut_one)(jnp.asarray(batch.top), jnp.asarray(batch.left), jnp.asarray(batch.flips))
