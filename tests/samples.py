"""Small pictures, networks and configurations, made on the spot."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from configs import base
from msnlan_jax.network import parameters
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.pictures.images import write_image
from msnlan_jax.training import Experiment, read_experiment
from msnlan_jax.weights.checkpoints import Checkpoints
from msnlan_jax.weights.workdir import claim_workdir

SIZES = {"n_feats": 16, "n_groups": 2, "n_blocks": 1}


def noise(seed: int, *shape: int) -> np.ndarray:
    """Return a random uint8 picture."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save_noise(folder: Path, sizes: dict[str, tuple[int, ...]]) -> None:
    """Write random pictures: file name → shape."""
    for seed, (name, shape) in enumerate(sizes.items()):
        write_image(folder / name, noise(seed, *shape))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiny_config(scale: int) -> MSNLANConfig:
    return MSNLANConfig(scale, **SIZES)


def tiny_parameters(scale: int, seed: int = 0) -> parameters.Parameters:
    """Return random parameters of a tiny network; drawing them in NumPy is faster than initialising a network."""
    random = np.random.default_rng(seed)
    _, leaves = parameters.abstract_parameters(tiny_config(scale))
    return {path: random.uniform(-0.1, 0.1, leaf.shape).astype(np.float32) for path, leaf in leaves.items()}


def save_workdir(path: Path, *runs: tuple[int, parameters.Parameters, float | None]) -> Path:
    """Make a tiny ×2 network's workdir with the checkpoints of (step, parameters, PSNR)."""
    path.mkdir()
    claim_workdir(path, {"scale": 2, "model": SIZES})
    checkpoints = Checkpoints(path)
    for step, values, psnr in runs:
        params = {key: jnp.asarray(value) for key, value in values.items()}
        checkpoints.save(step, {"params": params, "opt_state": {"count": jnp.zeros((), int)}})
        if psnr is not None:
            checkpoints.add_score(step, psnr)
    checkpoints.close()
    return path


def assert_same_arrays(found: parameters.Parameters, expected: parameters.Parameters) -> None:
    """Compare float32 parameters bit for bit."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == np.float32
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def training_config(**fields: Any) -> ConfigDict:
    """Return the configuration of a short training of a tiny ×2 network, with other values for some fields."""
    config = base.get_config()
    config.model.update(SIZES)
    config.update(
        {
            "scale": 2,
            "data": {"source": "photos"},
            "total_steps": 4,
            "batch_size": 2,
            "patch_size": 8,
            "log_every": 1,
            "eval_every": 4,
            "checkpoint_every": 2,
        }
    )
    config.update(fields)
    return config


def experiment(**fields: Any) -> Experiment:
    """Return what such a configuration says."""
    return read_experiment(training_config(**fields))


class FakeLoader:
    """Feeds random LR patches, and HR patches that repeat their pixels.

    Args:
        experiment: what to feed.
        process: this process's number and how many there are.
        spoil: steps (from 0) whose HR patches are NaN.
    """

    resident = ()

    def __init__(self, experiment: Experiment, process: tuple[int, int] = (0, 1), spoil: Sequence[int] = ()):
        self.experiment, self.process, self.spoil = experiment, process, spoil

    def batches(self, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        experiment, (index, count) = self.experiment, self.process
        share = experiment.batch_size // count
        for step in range(start, experiment.total_steps):
            lr = noise(step, experiment.batch_size, experiment.patch_size, experiment.patch_size, 3)
            lr = lr[index * share : (index + 1) * share]
            hr = lr.repeat(experiment.scale, axis=1).repeat(experiment.scale, axis=2).astype(np.float32)
            yield lr, hr * np.float32("nan" if step in self.spoil else 1)

    def crops(self, resident, batch):
        return batch


class Nearest(nnx.Module):
    """Up-scales by repeating pixels: every output pixel depends on one input pixel only."""

    def __init__(self, scale: int):
        self.scale = scale

    def __call__(self, x):
        return x.repeat(self.scale, axis=1).repeat(self.scale, axis=2)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return the content of every file under a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
