"""The walk over folders by which `folders` finds sets of pictures."""

from collections.abc import Sequence
from typing import NamedTuple

from etils import epath

from data.choosing import Source, find_sources, pair_up, split_by_size
from data.search import Search, Sub, identity, named_by, subfolders
from msnlan_jax.errors import InputError
from msnlan_jax.pictures import Pair, read_folder_name, read_picture_name, split_mixed

_DEEPEST = 4  # folders that only sort: Canon/Test/4


class Group(NamedTuple):
    """Pictures that lie together, and the folder of their set."""

    folder: epath.Path
    pairs: Sequence[Pair]


class Finder:
    """Finds the pictures of a data set.

    Args:
        search: what is looked for.
    """

    def __init__(self, search: Search):
        self._search, self._choice = search, search.choice
        self._seen: set[str] = set()

    def find(self, folder: epath.Path, *, is_root: bool = True) -> list[Group]:
        """Return the pictures of a folder; several groups where it holds several sets.

        Raises:
            FileNotFoundError, InputError: as `folders.find_pairs`.
        """
        if identity(folder) in self._seen:  # by a link
            return []
        self._seen.add(identity(folder))
        subs, above = subfolders(folder), named_by(folder)
        if self._choice.hr_dir:
            path = self._choice.locate("hr_dir", (folder, above.path.parent))
            beside = subs if path.is_relative_to(folder) else subfolders(path.parent)
            return [self._of_hr(folder, Sub(path, read_folder_name(path.name)), beside)]
        hr, own = self._choose_hr(folder, subs), self._search.pictures(folder)
        lr = next((sub for sub in subs if sub.name.role == "lr" and sub.name.split in ("", self._search.split)), None)
        if hr and own and not lr:
            if is_root:
                raise InputError(
                    f"{folder}: found pictures, and HR pictures in {hr.path.name} besides, "
                    f"expected {self._choice.flag}hr_dir to name one of these folders ('.' or {hr.path.name})"
                )
            hr = None  # among photos
        if hr:
            return [self._of_hr(folder, hr, subs)]
        if own and above.name.role and is_root and (beside := _beside(folder, above)):
            return [self._of_hr(folder, Sub(folder, above.name), beside)]
        if lr and not own:
            raise InputError(f"{lr.path}: found a folder of LR pictures, expected one of their HR pictures beside it")
        groups = [Group(folder, self._of_pictures(folder, own, subs))] if own else []
        below = self._go_on(folder, subs, bool(own))
        return groups + [group for sub in below for group in self.find(sub.path, is_root=False)]

    def is_dataset(self, folder: epath.Path) -> bool:
        """Whether a folder is a data set to score."""
        return bool(self._search.pictures(folder)) or self.has_layout(folder)

    def has_layout(self, folder: epath.Path, depth: int = 0) -> bool:
        """Whether a folder holds one of HR pictures, or pairs, as those in SelfExSR's image_SRF_4."""
        subs = subfolders(folder)
        if any(sub.name.role == "hr" and sub.name.split in ("", self._search.split) for sub in subs):
            return True
        return depth < _DEEPEST and any(self._is_paired(sub, depth + 1) for sub in subs if sub.name.only_sorts)

    def _is_paired(self, sub: Sub, depth: int = 0) -> bool:
        if any(read_picture_name(path.stem).role == "lr" for path in self._search.pictures(sub.path)):
            return True
        return self.has_layout(sub.path, depth)

    def _go_on(self, folder: epath.Path, subs: Sequence[Sub], has_own: bool) -> list[Sub]:
        """Return the folders below to look into: to train on, all but those left for scores or of other scales."""
        paired = [sub for sub in subs if sub.name.only_sorts and self._is_paired(sub)]
        of_split = [sub for sub in paired if sub.name.split in ("", self._search.split)]
        right = [sub for sub in of_split if self._search.fits(sub.name)]
        if of_split and not right:
            names = ", ".join(sub.path.name for sub in of_split)
            raise InputError(f"{folder}: found pairs in {names}, expected a folder for ×{self._search.scale}")
        if self._search.split != "train":
            return [] if has_own else right
        return [sub for sub in subs if not sub.name.role and (sub not in paired or sub in right)]

    def _choose_hr(self, folder: epath.Path, subs: Sequence[Sub]) -> Sub | None:
        found = [sub for sub in subs if sub.name.role == "hr" and sub.name.split in ("", self._search.split)]
        if len(found) > 1:
            found = [sub for sub in found if self._search.pictures(sub.path)] or found[:1]
            found = [sub for sub in found if not sub.name.is_sub] or found
        if len(found) > 1:
            one, two = (sub.path.name for sub in found[:2])
            raise InputError(
                f"{folder}: found two folders of HR pictures, {one} and {two}, "
                f"expected {self._choice.flag}hr_dir to name one"
            )
        return found[0] if found else None

    def _of_hr(self, folder: epath.Path, hr: Sub, subs: Sequence[Sub]) -> Group:
        """Pair the pictures of a folder of HR ones with those of the folders beside it."""
        where = hr.path
        if not self._search.pictures(where):
            below = [sub for sub in subfolders(where) if sub.name.only_sorts and self._search.fits(sub.name)]
            below = [sub for sub in below if self._search.pictures(sub.path)]
            if len(below) != 1:
                raise InputError(f"{where}: found no pictures, expected {expected_pictures(self._search.split)}")
            where = below[0].path
        pictures, lr = split_mixed(self._search.pictures(where), self._search.scale)
        others = {sub.name.whose for sub in subs if sub.name.role == "hr"} - {hr.name.whose}
        beside = [
            sub
            for sub in subs
            if (sub.name.role == "lr" or (sub.name.only_sorts and sub.name.scale and sub.path != hr.path))
            and sub.name.split in ("", hr.name.split or self._search.split)
            and not (sub.name.whose and sub.name.whose in others)
        ]
        sources = [source for sub in beside for source in find_sources(self._search, sub)]
        sources += [Source(where, self._search.scale, hr.name.is_sub, lr)] if lr else []
        return Group(folder, pair_up(self._search, folder, pictures, sources, is_sub=hr.name.is_sub))

    def _of_pictures(self, folder: epath.Path, pictures: Sequence[epath.Path], subs: Sequence[Sub]) -> list[Pair]:
        """Pair the pictures of a folder with each other, or with those of folders of LR ones in it."""
        beside = [sub for sub in subs if sub.name.role == "lr"]
        sources = [source for sub in beside for source in find_sources(self._search, sub)]
        hr, lr = split_mixed(pictures, self._search.scale)
        if not lr:
            hr, lr = split_by_size(pictures, self._search.scale)
        sources += [Source(folder, self._search.scale, False, lr)] if lr else []
        return pair_up(self._search, folder, hr, sources)


def expected_pictures(split: str) -> str:
    """Say where pictures are looked for."""
    here = "here or below" if split == "train" else "here"
    return f"some {here}, or in a folder HR, GTmod12, DIV2K_{split}_HR or gt, or another of docs/folders.md"


def _beside(folder: epath.Path, above: Sub) -> list[Sub]:
    """Return the folders beside one of HR pictures that was given itself; raises InputError where it is of LR."""
    siblings = subfolders(above.path.parent)
    role = next((sub.name.role for sub in siblings if sub.path.name == above.path.name), "")
    if role == "lr":
        raise InputError(f"{folder}: found a folder of LR pictures, expected their HR pictures' folder, or the set's")
    if role != "hr":
        return []
    if folder.name != above.path.name:
        return siblings
    return [Sub(folder.parent / sub.path.name, sub.name) for sub in siblings]  # as the path was given
