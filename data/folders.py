"""Finding the data sets of a folder, and their pictures, by the words of `pictures.layouts`."""

import argparse
from collections.abc import Sequence

from etils import epath

from data.doubles import refuse_doubles
from data.finding import Finder, Group, expected_pictures
from data.search import MADE, Choice, Search, subfolders
from msnlan_jax.errors import InputError
from msnlan_jax.pictures import Pair, read_folder_name, set_name
from msnlan_jax.runtime import files

_USES = {"train": "train on", "valid": "score"}
__all__ = ["MADE", "Choice", "add_choice", "find_datasets", "find_pairs", "has_layout", "read_choice"]


def find_pairs(
    folder: epath.PathLike,
    scale: int,
    *,
    split: str = "valid",
    arrays: bool = False,
    may_lack_lr: bool = False,
    choice: Choice | None = None,
) -> list[Pair]:
    """Return the pictures of one data set, in any of the layouts of docs/folders.md, by name.

    LR pictures that are there are used, or refused by name; where there are none for this scale, pairs have no LR
    file, and `read_pair` makes the picture. To train on, sets and photos in folders below are taken too, and called
    `<folder>_<name>`.

    Args:
        folder: the data set's, or one of its folders of HR pictures.
        scale: up-scaling factor.
        split: "train" or "valid".
        arrays: also find `.npy` files, as `data.prepare` writes them.
        may_lack_lr: whether single LR pictures may be missing; their pairs have no LR file.
        choice: which folders hold the pictures, where that is not to be found.

    Raises:
        FileNotFoundError: when the folder, or the LR picture of one HR picture, is missing.
        InputError: when it holds no pictures, or two of the same name, or LR pictures alone; and when there are two
            folders, or files, of HR or LR pictures to choose from, as far as their names, or names and sizes, tell.
    """
    folder = epath.Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder, expected a data set")
    if not folder.is_dir():
        raise InputError(f"{folder}: found a file, expected a folder with a data set")
    groups = Finder(Search(scale, split, arrays, may_lack_lr, choice or Choice())).find(folder)
    if not groups:
        others = [sub.path.name for sub in subfolders(folder) if sub.name.split not in ("", split)]
        there = f" but those in {', '.join(others)}, which are not to {_USES[split]}" if others else ""
        raise InputError(f"{folder}: found no pictures{there}, expected {expected_pictures(split)}")
    if split != "train" and len(groups) > 1:
        one, two = (group.folder.relative_to(folder) for group in groups[:2])
        raise InputError(f"{folder}: found a data set in {one} and another in {two}, expected one of these folders")
    pairs = [pair for group in groups for pair in _named(group, folder if split == "train" else group.folder)]
    first: dict[str, Pair] = {}
    for pair in pairs:
        if pair.name in first:
            root = groups[0].pairs[0].hr.parent if len(groups) == 1 else folder
            both = sorted(str(path.relative_to(root)) for path in (first[pair.name].hr, pair.hr))
            raise InputError(
                f"{root}: found two pictures called {pair.name}, {' and '.join(both)}, expected different names"
            )
        first[pair.name] = pair
    if choice is None or not choice.hr_dir:
        refuse_doubles(folder, pairs, (choice or Choice()).flag)
    return pairs


def find_datasets(
    root: epath.PathLike, names: Sequence[str], scale: int, *, choice: Choice | None = None
) -> dict[str, list[Pair]]:
    """Return name → pairs of the data sets under `root`.

    Args:
        root: a folder with one folder per data set, or a data set itself, or its folder of HR pictures.
        names: which of them; when empty, or its own name, `root` itself if it is a data set, else all that are there.
        scale: up-scaling factor.
        choice: which folders of each set hold the pictures, where that is not to be found.

    Raises:
        FileNotFoundError: when `root` is missing.
        InputError: when a name is not there, or nothing is, or pictures lie beside data sets and no names are given;
            and as `find_pairs`.
    """
    root = epath.Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder, expected data sets")
    finder, below = Finder(Search(scale)), subfolders(root)
    present = [sub.path.name for sub in below if sub.name.role != "lr" and finder.is_dataset(sub.path)]
    own_name = set_name(root)
    is_own = not names or list(names) in ([own_name], [root.name])
    if is_own and own_name not in present and finder.is_dataset(root):
        beside = [name for name in present if not read_folder_name(name).role]
        if beside and not names and not has_layout(root):
            raise InputError(
                f"{root}: found pictures beside the data sets in folders {', '.join(beside)}, expected --datasets to "
                f"name some of these, or --datasets={own_name} for the pictures"
            )
        return {own_name: find_pairs(root, scale, choice=choice)}
    for name in names:
        if name not in present and (root / name).is_dir():
            find_pairs(root / name, scale, choice=choice)  # says why it is none
    if not present:
        expected = f"a folder {names[0]} in it" if names else "some"
        small = next((f" but LR ones in {sub.path.name}" for sub in below if sub.name.role == "lr"), "")
        raise InputError(f"{root}: found no data sets{'' if names else ' or pictures'}{small}, expected {expected}")
    for name in names:
        if name not in present:
            raise InputError(f"{root}: found no data set {name}, expected one of {', '.join(present)}")
    found = {name: find_pairs(root / name, scale, choice=choice) for name in names or present}
    if not names:
        found = _without_lr(found)
    _check_datasets(root, found, Search(scale, choice=choice or Choice()), are_named=bool(names))
    return found


def _without_lr(found: dict[str, list[Pair]]) -> dict[str, list[Pair]]:
    """Leave out folders whose pictures are the LR ones of another, as X4 beside DIV2K_train_HR."""
    lr = {name: {files.identity(pair.lr.parent) for pair in pairs if pair.lr} for name, pairs in found.items()}
    return {
        name: pairs
        for name, pairs in found.items()
        if not any(files.identity(pairs[0].hr.parent) in lr[other] for other in found if other != name)
    }


def _check_datasets(root: epath.Path, found: dict[str, list[Pair]], search: Search, *, are_named: bool) -> None:
    """Refuse sets that are the same pictures, or LR pictures beside them that are of none."""
    choice, pairs = search.choice, [pair for pairs in found.values() for pair in pairs]
    of: dict[str, str] = {}
    for name, own in found.items():
        where = files.identity(own[0].hr.parent)
        if choice.hr_dir and where in of:
            raise InputError(
                f"{choice.flag}hr_dir: found {own[0].hr.parent} for {of[where]} and for {name}, expected a folder in "
                "each set"
            )
        of[where] = name
    if not choice.hr_dir:
        refuse_doubles(root, pairs, choice.flag)
    if not are_named and (unused := Finder(search).unused_lr(root, pairs)):
        raise InputError(
            f"{root}: found LR pictures in {unused.path.name} that none of {', '.join(found)} has the names of, "
            f"expected {choice.flag}lr_dir to name those to use, or {MADE}"
        )


def add_choice(parser: argparse.ArgumentParser, besides: str = "") -> None:
    """Add the flags of a `Choice`; `besides` is what else the first is for."""
    of_lr = f"folder of LR pictures likewise; {MADE}: by bicubic, whatever lies there"
    parser.add_argument("--hr_dir", type="path", help=f"folder of HR pictures in a data set, or a path{besides}")
    parser.add_argument("--lr_dir", type="path", help=of_lr)


def read_choice(flags: argparse.Namespace) -> Choice:
    """Read the flags of `add_choice`."""
    return Choice(flags.hr_dir or "", flags.lr_dir or "")


def has_layout(folder: epath.PathLike, split: str = "valid") -> bool:
    """Whether a folder is a data set with a folder of HR pictures, or with pairs in folders such as image_SRF_4."""
    return Finder(Search(1, split)).has_layout(epath.Path(folder))


def _named(group: Group, root: epath.Path) -> list[Pair]:
    """Return a group's pairs, called by the folders that lead to it too."""
    above = "".join(f"{part}_" for part in group.folder.relative_to(root).parts) if group.folder != root else ""
    return [Pair(f"{above}{pair.name}", pair.hr, pair.lr, pair.note) for pair in group.pairs]
