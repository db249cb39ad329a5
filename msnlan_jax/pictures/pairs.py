"""Pairs of low- and high-resolution pictures, read and checked."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.pictures.images import RGBPicture, read_rgb
from msnlan_jax.pictures.layouts import read_folder_name
from msnlan_jax.pictures.resize import imresize
from msnlan_jax.runtime import files


@dataclasses.dataclass(frozen=True)
class Pair:
    """A picture's files.

    Attributes:
        name: what the picture is called in results.
        hr: the high-resolution file.
        lr: the low-resolution file; None when it is to be made from `hr` by MATLAB's bicubic.
        note: what else there is to say of where LR pictures come from, such as that those there are for another scale.
    """

    name: str
    hr: epath.Path
    lr: epath.Path | None = None
    note: str = ""


def read_pair(
    pair: Pair, scale: int, read: Callable[[epath.Path], RGBPicture] = read_rgb
) -> tuple[RGBPicture, RGBPicture]:
    """Read a pair as RGB; the HR picture is cropped at the bottom and right to the LR size × scale.

    Args:
        pair: the files.
        scale: up-scaling factor.
        read: what reads a file.

    Returns:
        LR `[H,W,3]` and HR `[sH,sW,3]`, uint8 0..255.

    Raises:
        FileNotFoundError: when a file is missing.
        InputError: when a picture is broken, or the sizes are not one picture's at this scale.

    Source: SPEC.md §6.
    """
    hr = read(pair.hr)
    if pair.lr is None:
        h, w = (size // scale * scale for size in hr.shape[:2])
        if 0 in (h, w):
            raise InputError(f"{pair.hr}: found {hr.shape[0]}×{hr.shape[1]} pixels, expected at least {scale}×{scale}")
        return imresize(hr[:h, :w], 1 / scale), hr[:h, :w]
    lr = read(pair.lr)
    return lr, crop_to(hr, (lr.shape[0] * scale, lr.shape[1] * scale), scale, f"{pair.lr} ×{scale}", str(pair.hr))


def crop_to(hr: RGBPicture, size: tuple[int, int], scale: int, what: str, source: str) -> RGBPicture:
    """Crop an HR picture at the bottom and right to `size`, if that is its size modulo the scale or modulo 12.

    Modulo 12 is the custom of sets prepared for ×2, ×3 and ×4 at once.

    Args:
        hr: the picture.
        size: height and width wanted.
        scale: up-scaling factor.
        what: what has `size`, for messages.
        source: the HR file, for messages.

    Raises:
        InputError: when the sizes do not belong together.
    """
    h, w = hr.shape[:2]
    if not fits_size((h, w), size, scale):
        raise InputError(
            f"{source}: found {h}×{w} pixels, expected {size[0]}×{size[1]} (the size of {what}), "
            f"with at most a remainder by {scale} or by 12 more"
        )
    return hr[: size[0], : size[1]]


def fits_size(hr_size: tuple[int, int], size: tuple[int, int], scale: int) -> bool:
    """Whether `crop_to` can crop a picture of one height and width to another."""
    h, w = hr_size
    return any(np.array_equal(size, (h - h % multiple, w - w % multiple)) for multiple in (1, scale, 12))


def describe_lr(datasets: Mapping[str, Sequence[Pair]]) -> str:
    """Say where the LR pictures of data sets come from: "read from LR_bicubic/X4", "made by bicubic".

    Folders are said as from the set's; where sets differ, each is named.
    """
    by_text: dict[str, list[str]] = {}
    for name, pairs in datasets.items():
        by_text.setdefault(_describe_set(pairs), []).append(name)
    if len(by_text) == 1:
        return next(iter(by_text))
    return "; ".join(f"{text} ({', '.join(names)})" for text, names in by_text.items())


def _describe_set(pairs: Sequence[Pair]) -> str:
    folders = list(dict.fromkeys(_folder_of(pair.hr, pair.lr) for pair in pairs if pair.lr is not None))
    made = sum(pair.lr is None for pair in pairs)
    said = [f"read from {', '.join(folders)}"] if folders else []
    if made:
        said.append("made by bicubic" + (f" for {made} of {len(pairs)}" if folders else ""))
    notes = list(dict.fromkeys(pair.note for pair in pairs if pair.note))
    return ", ".join(said) + (f" ({'; '.join(notes)})" if notes else "")


def _folder_of(hr: epath.Path, lr: epath.Path) -> str:
    """Return an LR file's folder, from the one that holds the HR file's folder too; its name where it is that.

    Of clips, as HR/000 and LR/000, the folder above is said: there may be hundreds.
    """
    folder, beside = lr.parent, hr.parent
    while folder != beside and folder.name == beside.name and _is_clip(folder.name):
        folder, beside = folder.parent, beside.parent
    if folder == hr.parent:
        path = files.absolute(folder)
        return f"{path.parent.name}/{path.name}" if path.name.isdigit() else str(path.name)
    root = next((above for above in folder.parents if hr.is_relative_to(above)), None)
    return str(folder) if root is None else folder.relative_to(root).as_posix()


def _is_clip(name: str) -> bool:
    said = read_folder_name(name)
    return not said.role and (name.isdigit() or not said.only_sorts)
