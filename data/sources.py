"""Where training pictures come from, as the configuration says."""

import os
from concurrent.futures import ThreadPoolExecutor

from ml_collections import ConfigDict

from data import folders, photos
from data.arrays import open_picture
from msnlan_jax.errors import InputError
from msnlan_jax.images import RGBPicture
from msnlan_jax.pairs import Pair, read_pair

SOURCES = ("photos", "folder")


def training_pairs(config: ConfigDict) -> list[Pair]:
    """Return the pictures to train on.

    Raises:
        FileNotFoundError: when `data.dir` is missing.
        InputError: on an unknown source, or a folder without pictures.
    """
    if config.data.source == "photos":
        if config.data.dir:
            raise InputError("config.data.source: found photos although config.data.dir is given, expected folder")
        return photos.training_pairs()
    if config.data.source == "folder":
        if not config.data.dir:
            raise InputError(
                "config.data.dir: found none, expected a folder of pictures, as config.data.source is folder"
            )
        return folders.find_pairs(config.data.dir, config.scale, split="train", arrays=True)
    raise InputError(f"config.data.source: found {config.data.source!r}, expected one of {', '.join(SOURCES)}")


def validation_sets(config: ConfigDict) -> dict[str, list[Pair]]:
    """Return name → pictures to validate on: benchmark sets, or a built-in photo; errors as `folders.find_datasets`."""
    if not config.eval.data_dir:
        return {"held_out": photos.held_out_pairs()}
    names = [name.strip() for name in config.eval.datasets.split(",") if name.strip()]
    return folders.find_datasets(config.eval.data_dir, names, config.scale)


def open_pictures(config: ConfigDict) -> list[tuple[RGBPicture, RGBPicture]]:
    """Return every LR and HR picture to train on: `.npy` files mapped into memory, others decoded.

    Raises:
        FileNotFoundError: when a file is missing.
        InputError: when a picture is broken, or smaller than a patch, or does not belong to its LR picture.
    """
    pairs = training_pairs(config)
    # Decoding and resizing release the interpreter for most of their time.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = list(pool.map(lambda pair: read_pair(pair, config.scale, open_picture), pairs))
    for pair, (lr, _) in zip(pairs, pictures, strict=True):
        if min(lr.shape[:2]) < config.patch_size:
            raise InputError(
                f"{pair.hr}: found {lr.shape[0]}×{lr.shape[1]} LR pixels, "
                f"expected at least config.patch_size = {config.patch_size} on each side"
            )
    return pictures
