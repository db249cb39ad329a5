"""Where training pictures come from, as the experiment says."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from etils import epath

from data import folders, photos
from data.arrays import open_picture
from data.prepare import read_record
from msnlan_jax.errors import InputError
from msnlan_jax.pictures import Pair, RGBPicture, describe_lr, read_pair
from msnlan_jax.training import Experiment, TrainingData, ValidationData

SOURCES = ("photos", "folder", "div2k")
Pictures = list[tuple[RGBPicture, RGBPicture]]


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Where the pictures to train on are.

    Attributes:
        pairs: files of their own.
        tfds: or the folder of TFDS's own files that they are in.
    """

    pairs: Sequence[Pair] = ()
    tfds: epath.Path | None = None


def find_training_set(experiment: Experiment) -> TrainingSet:
    """Find the pictures to train on; raises as `training_pairs`, and when TFDS has not written what it is to read."""
    folder = _tfds_folder(experiment)
    return TrainingSet(tfds=folder) if folder else TrainingSet(training_pairs(experiment))


def training_pairs(experiment: Experiment) -> list[Pair]:
    """Return the pictures to train on, where they are files of their own.

    Raises:
        FileNotFoundError: when `data.dir` is missing.
        InputError: on an unknown source, or a folder without pictures.
    """
    source, folder = experiment.data.source, experiment.data.dir
    choice = _choice(experiment.data, "config.data.")
    if source == "photos":
        if folder:
            raise InputError("config.data.source: found photos although config.data.dir is given, expected folder")
        _refuse_choice(choice, "config.data.source is photos")
        return photos.training_pairs()
    if source not in SOURCES:
        raise InputError(f"config.data.source: found {source!r}, expected one of {', '.join(SOURCES)}")
    if not folder:
        raise InputError(
            f"config.data.dir: found none, expected a folder of pictures, as config.data.source is {source}"
        )
    return folders.find_pairs(folder, experiment.scale, split="train", arrays=True, choice=choice)


def describe(experiment: Experiment, training: TrainingSet, validation: Mapping[str, Sequence[Pair]]) -> list[str]:
    """Say on what is trained and validated, and where the LR pictures come from."""
    if training.tfds:
        said = [f"training on the pairs in {training.tfds}, LR: as stored there"]
    else:
        origin = describe_lr({"": training.pairs})
        if experiment.data.dir and (before := read_record(experiment.data.dir).get(f"X{experiment.scale}")):
            origin += f", prepared from LR {before}"
        said = [f"training on {len(training.pairs)} pairs of pictures, LR: {origin}"]
    counts = ", ".join(f"{len(pairs)} of {name}" for name, pairs in validation.items())
    return [*said, f"validating on {counts}, LR: {describe_lr(validation)}"]


def _tfds_folder(experiment: Experiment) -> epath.Path | None:
    """Return the version's folder if the pictures to train on are in TFDS's own files."""
    if experiment.data.source == "folder" and experiment.data.dir:
        folder = epath.Path(experiment.data.dir)
        if not (folder / "dataset_info.json").exists():
            return None
        _refuse_choice(_choice(experiment.data, "config.data."), "config.data.dir holds a TFDS data set")
        return folder
    if experiment.data.source != "div2k":
        return None
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    root = epath.Path(experiment.data.dir or default).expanduser()
    if root.is_dir() and (experiment.data.hr_dir or folders.has_layout(root, "train")):
        return None
    name = f"div2k/bicubic_x{experiment.scale}"
    versions = [path.parent for path in (root / name).glob("*/dataset_info.json")]
    if not versions:
        raise InputError(
            f"config.data.dir: found neither {name} nor DIV2K_train_HR in {root}, expected one of them; "
            f"`tfds build {name} --data_dir={root}` downloads and writes the former"
        )
    _refuse_choice(_choice(experiment.data, "config.data."), f"{name} in {root} is a TFDS data set")
    return max(versions, key=lambda path: [int(part) if part.isdigit() else -1 for part in path.name.split(".")])


def _choice(section: TrainingData | ValidationData, flag: str) -> folders.Choice:
    return folders.Choice(section.hr_dir, section.lr_dir, flag)


def _refuse_choice(choice: folders.Choice, reason: str) -> None:
    """Refuse fields that would choose between folders where there are none."""
    for field in ("hr_dir", "lr_dir"):
        if value := getattr(choice, field):
            raise InputError(f"{choice.flag}{field}: found {value}, expected none, as {reason}")


def validation_sets(experiment: Experiment) -> dict[str, list[Pair]]:
    """Return name → pictures to validate on: benchmark sets, or a built-in photo.

    Raises:
        FileNotFoundError, InputError: as `folders.find_datasets`, and on sets without the folder they are in.
    """
    choice = _choice(experiment.eval, "config.eval.")
    if not experiment.eval.data_dir:
        if experiment.eval.datasets:
            raise InputError(
                f"config.eval.datasets: found {experiment.eval.datasets}, expected config.eval.data_dir with it"
            )
        _refuse_choice(choice, "config.eval.data_dir is not given")
        return {"held_out": photos.held_out_pairs()}
    return folders.find_datasets(experiment.eval.data_dir, experiment.eval.names, experiment.scale, choice=choice)


def open_pictures(experiment: Experiment, found: TrainingSet | None = None) -> Pictures:
    """Return every LR and HR picture to train on: `.npy` files mapped into memory, others decoded.

    Args:
        experiment: what is trained.
        found: from `find_training_set`, where it was called.

    Raises:
        FileNotFoundError: when a file is missing.
        InputError: when a picture is broken, or smaller than a patch, or does not belong to its LR picture.
    """
    found = found or find_training_set(experiment)
    if folder := found.tfds:
        from data import tfds_sets

        pictures = tfds_sets.read_set(folder, experiment.scale)
        names = [f"{folder}, picture {number}" for number in range(len(pictures))]
    else:
        pairs = found.pairs
        names = [str(pair.hr) for pair in pairs]
        # Decoding and resizing release the interpreter for most of their time.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            pictures = list(pool.map(lambda pair: read_pair(pair, experiment.scale, open_picture), pairs))
    for name, (lr, _) in zip(names, pictures, strict=True):
        if min(lr.shape[:2]) < experiment.patch_size:
            raise InputError(
                f"{name}: found {lr.shape[0]}×{lr.shape[1]} LR pixels, "
                f"expected at least config.patch_size = {experiment.patch_size} on each side"
            )
    return pictures
