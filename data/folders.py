"""Finding the pictures of a data set in the folder layouts that are common in super-resolution."""

import re
from collections.abc import Sequence

from etils import epath

from data.arrays import SUFFIX
from msnlan_jax.errors import InputError
from msnlan_jax.pictures import IMAGE_SUFFIXES, Pair, list_images
from msnlan_jax.runtime import files

# Folders of pairs, which are passed over among photos: LR pictures would be trained on as if they were HR ones.
_OF_PAIRS = re.compile(r"(?i)(^|[^a-z])(lr|hr|gt|sr)(x\d|[^a-z]|$)|^(LRbicx|GTmod)")


def _hr_dirs(split: str) -> tuple[str, ...]:
    return ("HR", "GTmod12", f"DIV2K_{split}_HR")


def _lr_dirs(split: str, scale: int) -> tuple[str, ...]:
    return (
        f"LR_bicubic/X{scale}",
        f"LR_bicubic/x{scale}",
        f"LRbicx{scale}/x{scale}",
        f"LRbicx{scale}",
        f"DIV2K_{split}_LR_bicubic/X{scale}",
        f"DIV2K_{split}_LR_bicubic/x{scale}",
    )


def find_pairs(
    folder: epath.PathLike, scale: int, *, split: str = "valid", arrays: bool = False, may_lack_lr: bool = False
) -> list[Pair]:
    """Return the pictures of one data set, in any of the layouts, by name.

    `HR` + `LR_bicubic/X4/<name>x4.png` (EDSR), `GTmod12` + `LRbicx4[/x4]/<name>[x4].png` (BasicSR),
    `DIV2K_<split>_HR` + `DIV2K_<split>_LR_bicubic/X4/<name>x4.png`, or a bare folder of HR pictures, to train on with
    those in folders below it, which are called `<folder>_<name>`; folders of pairs are passed over there. Where there
    is no LR folder for this scale, pairs have no LR file, and `read_pair` makes the picture.

    Args:
        folder: the data set's.
        scale: up-scaling factor.
        split: "train" or "valid".
        arrays: also find `.npy` files, as `data.prepare` writes them.
        may_lack_lr: whether single LR pictures may be missing; their pairs have no LR file.

    Raises:
        FileNotFoundError: when the folder, or the LR picture of one HR picture, is missing.
        InputError: when it holds no pictures, or two of the same name.
    """
    folder = epath.Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder, expected a data set")
    hr_dir = next((folder / name for name in _hr_dirs(split) if (folder / name).is_dir()), folder)
    is_tree = hr_dir == folder and split == "train"
    hr_files = _list_tree(folder, arrays) if is_tree else _list_pictures(hr_dir, arrays)
    if not hr_files:
        here, layouts = "here or below" if is_tree else "here", ", ".join(_hr_dirs(split))
        raise InputError(f"{hr_dir}: found no pictures, expected some {here}, or in a folder {layouts}")
    stems = ["_".join(path.relative_to(hr_dir).with_suffix("").parts) for path in hr_files]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        both = " and ".join(
            str(path.relative_to(hr_dir)) for path, stem in zip(hr_files, stems, strict=True) if stem == twice[0]
        )
        raise InputError(f"{hr_dir}: found two pictures called {twice[0]}, {both}, expected different names")
    lr_dir = None
    if hr_dir != folder:
        lr_dir = next((folder / name for name in _lr_dirs(split, scale) if (folder / name).is_dir()), None)
    if lr_dir is None:
        return [Pair(stem, path) for stem, path in zip(stems, hr_files, strict=True)]
    lr_files = {path.stem: path for path in _list_pictures(lr_dir, arrays)}
    # One style of names for the whole folder: with pictures "im" and "imx2", the LR of "im" may be either.
    suffixed = sum(f"{stem}x{scale}" in lr_files for stem in stems) >= sum(stem in lr_files for stem in stems)
    suffix = f"x{scale}" if suffixed else ""
    pairs = []
    for path in hr_files:
        lr = lr_files.get(f"{path.stem}{suffix}")
        if lr is None and not may_lack_lr:
            raise FileNotFoundError(
                f"{lr_dir}/{path.stem}{suffix}{path.suffix}: no such file, expected the LR of {path}"
            )
        pairs.append(Pair(path.stem, path, lr))
    return pairs


def find_datasets(root: epath.PathLike, names: Sequence[str], scale: int) -> dict[str, list[Pair]]:
    """Return name → pairs of the data sets under `root`.

    Args:
        root: a folder with one folder per data set, or a data set itself.
        names: which of them; when empty, or its own name, `root` itself if it is a data set, else all that are there.
        scale: up-scaling factor.

    Raises:
        FileNotFoundError: when `root` is missing.
        InputError: when a name is not there, or nothing is, or pictures lie beside data sets and no names are given.
    """
    root = epath.Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder, expected data sets")
    own_name = files.absolute(root).name
    present = sorted(
        path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "." and _is_dataset(path)
    )
    if _is_dataset(root) and list(names) in ([], [own_name]) and own_name not in present:
        beside = [name for name in present if not _OF_PAIRS.search(name)]
        if beside and not names and not _has_layout(root):
            raise InputError(
                f"{root}: found pictures beside the data sets in folders {', '.join(beside)}, expected --datasets to "
                f"name some of these, or --datasets={own_name} for the pictures"
            )
        return {own_name: find_pairs(root, scale)}
    if not present:
        expected = f"a folder {names[0]} in it" if names else "some"
        raise InputError(f"{root}: found no data sets{'' if names else ' or pictures'}, expected {expected}")
    for name in names:
        if name not in present:
            raise InputError(f"{root}: found no data set {name}, expected one of {', '.join(present)}")
    return {name: find_pairs(root / name, scale) for name in names or present}


def _list_tree(folder: epath.Path, arrays: bool) -> list[epath.Path]:
    """Return the pictures in a folder and all below it, but those of pairs; hidden ones are passed over."""
    found = _list_pictures(folder, arrays)
    for path in sorted(folder.iterdir()):
        # An object store would be asked of every picture whether it is a folder.
        is_picture = path.suffix.lower() in (*IMAGE_SUFFIXES, SUFFIX)
        if not (is_picture or path.name[0] == "." or _OF_PAIRS.search(path.name)) and path.is_dir():
            found += _list_tree(path, arrays)
    return found


def _list_pictures(folder: epath.Path, arrays: bool) -> list[epath.Path]:
    found = [path for path in folder.glob(f"*{SUFFIX}") if path.name[0] != "."] if arrays else []
    return sorted([*list_images(folder), *found], key=lambda path: path.name)


def _is_dataset(folder: epath.Path) -> bool:
    return _has_layout(folder) or bool(list_images(folder))


def _has_layout(folder: epath.Path) -> bool:
    return any((folder / name).is_dir() for name in _hr_dirs("valid"))
