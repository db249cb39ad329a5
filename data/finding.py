"""The walk over folders by which `folders` finds sets of pictures."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from etils import epath

from data.choosing import Clip, Source, find_clips, find_sources, make_offer, pair_up, split_by_size
from data.doubles import refuse_small
from data.search import MADE, Search, Sub, named_by, subfolders
from msnlan_jax.errors import InputError
from msnlan_jax.pictures import Pair, read_folder_name, read_picture_name, split_mixed
from msnlan_jax.runtime import files

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
        if files.identity(folder) in self._seen:  # by a link
            return []
        self._seen.add(files.identity(folder))
        subs, above = subfolders(folder), named_by(folder)
        if self._choice.hr_dir:
            places = (folder, above.path.parent) if above.name.role == "hr" else (folder,)
            path = self._choice.locate("hr_dir", places)
            beside = subs if path.is_relative_to(folder) else subfolders(path.parent)
            return [self._of_hr(folder, Sub(path, read_folder_name(path.name)), beside)]
        hr, own = self._choose_hr(folder, subs), self._search.pictures(folder)
        lr = next((sub for sub in subs if sub.name.role == "lr" and self._search.is_of_part(sub.name)), None)
        if hr and own and not lr:
            if is_root:
                raise InputError(
                    f"{folder}: found pictures, and HR pictures in {hr.path.name} besides, "
                    f"expected {self._choice.flag}hr_dir to name one of these folders ('.' or {hr.path.name})"
                )
            hr = None  # among photos
        if hr:
            return [self._of_hr(folder, hr, subs)]
        if is_root and above.name.role and (own or above.name.role == "hr") and (beside := _beside(folder, above)):
            return [self._of_hr(folder, Sub(folder, above.name), beside)]
        if own and is_root and not lr and (clip := self._as_clip(folder)):
            return [clip]
        if own and is_root and not lr and (beside := self._lr_beside(folder, own)):
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
        if any(sub.name.role == "hr" and self._search.is_of_part(sub.name) for sub in subs):
            return True
        return depth < _DEEPEST and any(self._is_paired(sub, depth + 1) for sub in subs if sub.name.only_sorts)

    def unused_lr(self, folder: epath.Path, pairs: Sequence[Pair]) -> Sub | None:
        """Return a folder of LR pictures in a folder of sets that none of its pairs are of, unless for other scales."""
        if self._choice.lr_dir:
            return None
        used = {files.identity(above) for pair in pairs if pair.lr for above in pair.lr.parents}
        for sub in subfolders(folder):
            is_unused = sub.name.role == "lr" and self._search.fits(sub.name) and files.identity(sub.path) not in used
            if is_unused and any(source.scale in (None, self._search.scale) for source in self._sources(sub)):
                return sub
        return None

    def _lr_beside(self, folder: epath.Path, own: Sequence[epath.Path]) -> list[Sub]:
        """Return the folders of LR pictures beside a set's, if they hold such of its pictures, as Set5_LR of Set5."""
        path = files.absolute(folder)
        siblings = subfolders(path.parent)
        names = {sub.path.name.lower() for sub in siblings if sub.name.role != "lr"}
        stems = {path.stem for path in own}
        found = []
        for sub in siblings:
            of = max((name for name in names if name in sub.path.name.lower()), key=len, default=path.name.lower())
            if sub.name.role == "lr" and self._search.is_of_part(sub.name) and of == path.name.lower():
                sources = [source for source in self._sources(sub) if _is_sorted(source.path, sub.path)]
                pictures = [picture for source in sources for picture in source.pictures]
                if any({picture.stem, read_picture_name(picture.stem).base} & stems for picture in pictures):
                    found.append(sub if folder.name != path.name else Sub(folder.parent / sub.path.name, sub.name))
        return found  # by paths such as the given one

    def _as_clip(self, folder: epath.Path) -> Group | None:
        """Pair the pictures of a clip that was given itself, as HR/000, if LR pictures of it lie beside the HR ones."""
        path = files.absolute(folder)
        for above in list(path.parents)[:2]:
            subs = subfolders(above.parent) if read_folder_name(above.name).role == "hr" else []
            hr = next((sub for sub in subs if sub.path.name == above.name and sub.name.role == "hr"), None)
            if hr is None:
                continue
            clip = path.relative_to(above).parts
            search = dataclasses.replace(self._search, split=hr.name.split or self._search.split)
            sources = self._sources_of(search, path, hr, subs)
            if any(source.clip[-len(clip) :] == clip for source in sources):
                return self._of_hr(folder, hr, subs, clip)
        return None

    def _sources(self, sub: Sub) -> list[Source]:
        return [source for source in find_sources(self._search, sub) if source.pictures]

    def _is_paired(self, sub: Sub, depth: int = 0) -> bool:
        if any(read_picture_name(path.stem).role == "lr" for path in self._search.pictures(sub.path)):
            return True
        return self.has_layout(sub.path, depth)

    def _go_on(self, folder: epath.Path, subs: Sequence[Sub], has_own: bool) -> list[Sub]:
        """Return the folders below to look into: to train on, all but those left for scores or of other scales."""
        paired = [sub for sub in subs if sub.name.only_sorts and self._is_paired(sub)]
        of_split = [sub for sub in paired if self._search.is_of_part(sub.name)]
        right = [sub for sub in of_split if self._search.fits(sub.name)]
        if of_split and not right:
            names = ", ".join(sub.path.name for sub in of_split)
            raise InputError(f"{folder}: found pairs in {names}, expected a folder for ×{self._search.scale}")
        if self._search.split != "train":
            return [] if has_own else right
        others = [sub for sub in subs if sub.name.only_sorts and not self._search.is_of_part(sub.name)]  # photos/val
        return [sub for sub in subs if not sub.name.role and sub not in others and (sub not in paired or sub in right)]

    def _choose_hr(self, folder: epath.Path, subs: Sequence[Sub]) -> Sub | None:
        found = [sub for sub in subs if sub.name.role == "hr" and self._search.is_of_part(sub.name)]
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

    def _of_hr(self, folder: epath.Path, hr: Sub, subs: Sequence[Sub], only: Clip | None = None) -> Group:
        """Pair the pictures of a folder of HR ones, or of the clips in it, with those of the folders beside it."""
        search = dataclasses.replace(self._search, split=hr.name.split or self._search.split)
        places = list(find_clips(search, hr.path)) if only is None else [(only, folder)]
        if not places:
            there = _name_others(hr.path)
            raise InputError(f"{hr.path}: found no pictures{there}, expected {expected_pictures(search.split)}")
        sources = self._sources_of(search, places[0][1], hr, subs)
        offer = make_offer(search, folder, sources, is_sub=hr.name.is_sub)
        others = [sub.path for sub in subs if not sub.name.role and not hr.path.is_relative_to(sub.path)]
        found: list[Pair] = []
        for clip, where in places:
            pictures, lr = split_mixed(search.pictures(where), search.scale)
            own = [Source(where, search.scale, hr.name.is_sub, lr, clip)] if lr and not offer.chosen else []
            pairs = pair_up(search, folder, pictures, offer._replace(sources=[*offer.sources, *own]), clip)
            if not self._choice.lr_dir:
                refuse_small(folder, pairs, [other.joinpath(*clip) for other in others], search, self._choice.flag)
            above = "".join(f"{part}_" for part in clip) if only is None else ""
            found += [dataclasses.replace(pair, name=f"{above}{pair.name}") for pair in pairs]
        return Group(folder, found)

    def _sources_of(self, search: Search, where: epath.Path, hr: Sub, subs: Sequence[Sub]) -> list[Source]:
        """Return the LR pictures in the folders beside one of HR ones."""
        others = {sub.name.whose for sub in subs if sub.name.role == "hr"} - {hr.name.whose}
        beside = [
            sub
            for sub in subs
            if (sub.name.role == "lr" or (sub.name.only_sorts and sub.name.scale and sub.path != hr.path))
            and not (sub.name.whose and sub.name.whose in others)
        ]
        of_split = [sub for sub in beside if search.is_of_part(sub.name)]
        others_lr = [sub for sub in beside if sub.name.role == "lr" and not hr.name.split]
        if others_lr and not of_split and not self._choice.lr_dir:
            raise InputError(
                f"{where}: found LR pictures in {others_lr[0].path.name} beside it, by its name not for the same ones, "
                f"expected {self._choice.flag}lr_dir to name those that are, or {MADE}"
            )
        return [source for sub in of_split for source in find_sources(search, sub)]

    def _of_pictures(self, folder: epath.Path, pictures: Sequence[epath.Path], subs: Sequence[Sub]) -> list[Pair]:
        """Pair the pictures of a folder with each other, or with those of folders of LR ones in it."""
        beside = [sub for sub in subs if sub.name.role == "lr"]
        sources = [source for sub in beside for source in find_sources(self._search, sub)]
        hr, lr = split_mixed(pictures, self._search.scale)
        if not lr:
            hr, lr = split_by_size(pictures, self._search.scale)
        sources += [Source(folder, self._search.scale, False, lr)] if lr else []
        return pair_up(self._search, folder, hr, make_offer(self._search, folder, sources))


def expected_pictures(split: str) -> str:
    """Say where pictures are looked for."""
    here = "here or below" if split == "train" else "here"
    return f"some {here}, or in a folder HR, GTmod12, DIV2K_{split}_HR or gt, or another of docs/folders.md"


def _name_others(folder: epath.Path) -> str:
    """Say which folders there are where pictures were looked for."""
    names = [sub.path.name for sub in subfolders(folder)]
    return f" but folders {', '.join(names[:4])}{', …' if len(names) > 4 else ''}" if names else ""


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


def _is_sorted(path: epath.Path, folder: epath.Path) -> bool:
    """Whether a folder in another, or that itself, is by its name a part of it, not a set of its own."""
    names = [read_folder_name(part) for part in path.relative_to(folder).parts]
    return all(name.only_sorts or name.role == "lr" for name in names)
