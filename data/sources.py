"""Where training pictures come from, as the configuration says."""

import os
from concurrent.futures import ThreadPoolExecutor

from etils import epath
from ml_collections import ConfigDict

from data import folders, photos
from data.arrays import open_picture
from msnlan_jax.errors import InputError
from msnlan_jax.pictures import Pair, RGBPicture, read_pair

SOURCES = ("photos", "folder", "div2k")
Pictures = list[tuple[RGBPicture, RGBPicture]]


def training_pairs(config: ConfigDict) -> list[Pair]:
    """Return the pictures to train on, where they are files of their own.

    Raises:
        FileNotFoundError: when `data.dir` is missing.
        InputError: on an unknown source, or a folder without pictures.
    """
    if config.data.source == "photos":
        if config.data.dir:
            raise InputError("config.data.source: found photos although config.data.dir is given, expected folder")
        return photos.training_pairs()
    if config.data.source not in SOURCES:
        raise InputError(f"config.data.source: found {config.data.source!r}, expected one of {', '.join(SOURCES)}")
    if not config.data.dir:
        raise InputError(
            f"config.data.dir: found none, expected a folder of pictures, as config.data.source is {config.data.source}"
        )
    return folders.find_pairs(config.data.dir, config.scale, split="train", arrays=True)


def _tfds_folder(config: ConfigDict) -> epath.Path | None:
    """Return the version's folder if the pictures to train on are in TFDS's own files."""
    if config.data.source == "folder" and config.data.dir:
        folder = epath.Path(config.data.dir)
        return folder if (folder / "dataset_info.json").exists() else None
    if config.data.source != "div2k":
        return None
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    root = epath.Path(config.data.dir or default).expanduser()
    if any((root / name).is_dir() for name in ("DIV2K_train_HR", "HR")):
        return None
    name = f"div2k/bicubic_x{config.scale}"
    versions = [path.parent for path in (root / name).glob("*/dataset_info.json")]
    if not versions:
        raise InputError(
            f"config.data.dir: found neither {name} nor DIV2K_train_HR in {root}, expected one of them; "
            f"`tfds build {name} --data_dir={root}` downloads and writes the former"
        )
    return max(versions, key=lambda path: [int(part) if part.isdigit() else -1 for part in path.name.split(".")])


def validation_sets(config: ConfigDict) -> dict[str, list[Pair]]:
    """Return name → pictures to validate on: benchmark sets, or a built-in photo.

    Raises:
        FileNotFoundError, InputError: as `folders.find_datasets`, and on sets without the folder they are in.
    """
    if not config.eval.data_dir:
        if config.eval.datasets:
            raise InputError(
                f"config.eval.datasets: found {config.eval.datasets}, expected config.eval.data_dir with it"
            )
        return {"held_out": photos.held_out_pairs()}
    names = [name.strip() for name in config.eval.datasets.split(",") if name.strip()]
    return folders.find_datasets(config.eval.data_dir, names, config.scale)


def open_pictures(config: ConfigDict) -> Pictures:
    """Return every LR and HR picture to train on: `.npy` files mapped into memory, others decoded.

    Raises:
        FileNotFoundError: when a file is missing.
        InputError: when a picture is broken, or smaller than a patch, or does not belong to its LR picture.
    """
    if folder := _tfds_folder(config):
        from data import tfds_sets

        pictures = tfds_sets.read_set(folder, config.scale)
        names = [f"{folder}, picture {number}" for number in range(len(pictures))]
    else:
        pairs = training_pairs(config)
        names = [str(pair.hr) for pair in pairs]
        # Decoding and resizing release the interpreter for most of their time.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            pictures = list(pool.map(lambda pair: read_pair(pair, config.scale, open_picture), pairs))
    for name, (lr, _) in zip(names, pictures, strict=True):
        if min(lr.shape[:2]) < config.patch_size:
            raise InputError(
                f"{name}: found {lr.shape[0]}×{lr.shape[1]} LR pixels, "
                f"expected at least config.patch_size = {config.patch_size} on each side"
            )
    return pictures
