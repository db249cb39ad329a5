"""Reading pairs of pictures that TensorFlow Datasets has written: its DIV2K, and those of `tfds_builders`."""

from etils import epath

from data.cpu_tensorflow import tfds
from msnlan_jax.errors import InputError
from msnlan_jax.pictures import RGBPicture, crop_to


def read_set(folder: epath.PathLike, scale: int, split: str = "train") -> list[tuple[RGBPicture, RGBPicture]]:
    """Return every LR and HR picture of a split, in the order they are stored.

    Args:
        folder: a data set's version, such as `<data_dir>/div2k/bicubic_x4/2.0.0`, local or `gs://`.
        scale: up-scaling factor.
        split: as TFDS names it.

    Raises:
        InputError: when the set has other features or splits, or its pictures are not pairs at this scale.
    """
    try:
        builder = tfds.builder_from_directory(str(folder))
        features, splits = set(builder.info.features), set(builder.info.splits)
    except Exception as error:  # whatever its parsers raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder}: broken or unreadable TFDS data set: {reason}") from None
    if not {"lr", "hr"} <= features:
        raise InputError(f"{folder}: found features {', '.join(sorted(features))}, expected lr and hr")
    if split not in splits:
        raise InputError(f"{folder}: found splits {', '.join(sorted(splits))}, expected {split}")
    try:
        examples = list(tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False)))
    except Exception as error:  # whatever TensorFlow's decoders raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder}: broken or unreadable pictures: {reason}") from None
    pictures = []
    for number, example in enumerate(examples):
        lr, hr = example["lr"], example["hr"]
        size = (lr.shape[0] * scale, lr.shape[1] * scale)
        pictures.append((lr, crop_to(hr, size, scale, f"its LR picture ×{scale}", f"{folder}, picture {number}")))
    return pictures
