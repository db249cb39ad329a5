"""The built-in photos: colour photographs inside scikit-image's wheel, so that nothing is downloaded."""

from collections.abc import Sequence
from pathlib import Path

import skimage
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import Pair

TRAINING = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
HELD_OUT = ("astronaut.png",)


def training_pairs() -> list[Pair]:
    """Return the photos to train on."""
    return _pairs(TRAINING)


def held_out_pairs() -> list[Pair]:
    """Return the photo that is never trained on."""
    return _pairs(HELD_OUT)


def find_sets(names: Sequence[str]) -> dict[str, list[Pair]]:
    """Return name → pairs of the built-in sets: "photos" (all, and the default) and "held_out".

    Raises:
        InputError: on another name.
    """
    sets = {"photos": _pairs(HELD_OUT + TRAINING), "held_out": held_out_pairs()}
    for name in names:
        if name not in sets:
            raise InputError(
                f"--datasets: found {name}, expected photos or held_out, or the folder of sets in --data_dir"
            )
    return {name: sets[name] for name in names or ["photos"]}


def _pairs(names: tuple[str, ...]) -> list[Pair]:
    folder = epath.Path(Path(skimage.__file__).parent / "data")
    return [Pair(Path(name).stem, folder / name) for name in names]
