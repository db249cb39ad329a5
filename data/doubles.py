"""Pictures that lie there twice, large and small, in places or under names that the table of words does not know.

What is not known for an LR picture is taken for an HR one: it would be trained on and scored as such. So names are
compared with each other. Where those of two folders, or of two kinds of names in one, differ in one part only, and the
pictures of one are smaller by a factor of 2 to 8, the user is asked which they are.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, NoReturn

from etils import epath

from data.arrays import read_size
from data.search import MADE, Search
from msnlan_jax.errors import InputError
from msnlan_jax.pictures import Pair, fits_size, read_picture_name

_FACTORS = range(2, 9)
_NEAREST = 8  # names that are compared with a name
_COMPARED = 5  # pairs of pictures of which sizes are read


class _Change(NamedTuple):
    """What to put in the place of a part of a name to get the other name.

    Attributes:
        old: the part; where it is empty, the new one is added at the end, or at the beginning.
        new: what is there in the other name.
        is_before: whether the first such part is meant, not the last.
        numbers: the numbers in which alone they differ, if they do.
    """

    old: str
    new: str
    is_before: bool
    numbers: tuple[int, int] | None

    def apply(self, name: str) -> str:
        """Return the other name."""
        if not self.old:
            return self.new + name if self.is_before else name + self.new
        head, found, tail = name.partition(self.old) if self.is_before else name.rpartition(self.old)
        return head + self.new + tail if found else name


def refuse_doubles(root: epath.Path, pairs: Sequence[Pair], flag: str) -> None:
    """Check that no HR pictures are small versions of others.

    Args:
        root: the folder that all lie in.
        pairs: the pictures; those that have LR files are passed over.
        flag: as of `Choice`.

    Raises:
        InputError: when some are.
    """
    paths = {
        path.relative_to(root).with_suffix("").as_posix(): path
        for path in (pair.hr for pair in pairs if pair.lr is None)
        if path.is_relative_to(root)
    }
    in_folder: dict[str, list[str]] = {}
    for name in paths:
        in_folder.setdefault(_folder(name), []).append(name)
    for one, other, change in _candidates(sorted(paths), in_folder):
        here, there = in_folder[_folder(one)], in_folder[_folder(other)]
        found = [(name, twin) for name in here if (twin := change.apply(name)) != name and twin in paths]
        share = len(found) / (len(here) / 2 if there is here else max(len(here), len(there)))
        if share < 0.5:
            continue
        step = -(-len(found) // _COMPARED)
        factors = {_factor(paths[name], paths[twin]) for name, twin in found[::step]}
        if len(factors) == 1 and (factor := factors.pop()) and _is_telling(change, factor, share):
            _refuse(root, paths[one], paths[other], abs(factor), flag)


def refuse_small(
    folder: epath.Path, pairs: Sequence[Pair], others: Sequence[epath.Path], search: Search, flag: str
) -> None:
    """Check, where no pictures have LR ones, that no folders whose names say nothing hold small versions of them.

    Args:
        folder: the set's, for messages.
        pairs: its pictures.
        others: the folders.
        search: what is looked for.
        flag: as of `Choice`.

    Raises:
        InputError: when some do.
    """
    if any(pair.lr for pair in pairs):
        return
    hr = {stem: pair.hr for pair in pairs for stem in (read_picture_name(pair.hr.stem).base, pair.hr.stem)}
    for other in [path for path in others if path.is_dir()]:
        by_stem = [
            (path, {path.stem, read_picture_name(path.stem).base} & hr.keys()) for path in search.pictures(other)
        ]
        twins = [(hr[min(stems)], path) for path, stems in by_stem if stems]
        step = -(-len(twins) // _COMPARED) or 1
        if 2 * len(twins) >= len(pairs) and all(_is_small(path, of, search.scale) for of, path in twins[::step]):
            raise InputError(
                f"{folder}: found pictures in {other} of the names of those in {pairs[0].hr.parent.name}, which "
                f"are {search.scale} times as large, expected {flag}lr_dir to name LR pictures, or {MADE}"
            )


def _refuse(root: epath.Path, one: epath.Path, other: epath.Path, factor: int, flag: str) -> NoReturn:
    if one.parent == other.parent:
        raise InputError(
            f"{one.parent}: found {one.name} and {other.name}, one {factor} times as large as the other, expected HR "
            f"and LR pictures in two folders, for {flag}hr_dir and {flag}lr_dir to name"
        )
    two = " and in ".join(path.parent.relative_to(root).as_posix() for path in (one, other))
    raise InputError(
        f"{root}: found pictures of the same names in {two}, {factor} times as large in one, expected {flag}hr_dir to "
        f"name the folder of HR pictures, and {flag}lr_dir that of LR ones"
    )


def _is_telling(change: _Change, factor: int, share: float) -> bool:
    """Whether pictures that differ so in their names, and are so many times as large, are the same pictures.

    Numbers are counted from 1 in any folder; and a picture with "x4" that is larger was made from the other.
    """
    if change.numbers is not None:
        small, large = sorted(change.numbers)
        return share == 1 and small * abs(factor) == large
    if bool(change.old) == bool(change.new):
        return True
    longer_is_larger = (factor > 1) == bool(change.new)
    is_scale = read_picture_name(f"a{change.old or change.new}").scale is not None
    return not longer_is_larger or (share == 1 and not is_scale)


def _candidates(names: Sequence[str], in_folder: dict[str, list[str]]) -> Iterator[tuple[str, str, _Change]]:
    """Yield, for a few names of each folder, names that are like them, and what is different."""
    reverse = sorted(names, key=lambda name: name[::-1])
    at, reverse_at = ({name: i for i, name in enumerate(order)} for order in (names, reverse))
    for members in in_folder.values():
        tried = set()
        for one in {members[0], members[len(members) // 2], members[-1]}:
            for order, i in ((names, at[one]), (reverse, reverse_at[one])):
                for other in order[max(0, i - _NEAREST) : i + _NEAREST + 1]:
                    change = _difference(one, other)
                    if change is not None and change not in tried:
                        tried.add(change)
                        yield one, other, change


def _difference(one: str, other: str) -> _Change | None:
    """Return how two names differ, in whole words and numbers; None where they have nothing in common."""
    if one == other:
        return None
    begin = _count_equal(one, other)
    end = _count_equal(reversed(one[begin:]), reversed(other[begin:]))
    if begin + end < min(len(one), len(other)):
        while begin and (_is_one(one[begin - 1 : begin + 1]) or _is_one(other[begin - 1 : begin + 1])):
            begin -= 1
        while end and (_is_one(one[-end - 1 :][:2]) or _is_one(other[-end - 1 :][:2])):
            end -= 1
    old, new = one[begin : len(one) - end], other[begin : len(other) - end]
    numbers = (int(old), int(new)) if old.isdecimal() and new.isdecimal() else None
    folders = _folder(one), _folder(other)
    if one.removeprefix(folders[0]) == other.removeprefix(folders[1]):
        return _Change(*folders, True, numbers)
    if folders[0] != folders[1] or not one[:begin] + one[len(one) - end :]:
        return None
    return _Change(old, new, begin <= end, numbers)


def _folder(name: str) -> str:
    """Return what of a path leads to its last part."""
    return name[: name.rfind("/") + 1]


def _count_equal(one: Iterable[str], other: Iterable[str]) -> int:
    """Return how many characters two texts begin with are the same."""
    return sum(1 for _ in itertools.takewhile(lambda two: two[0] == two[1], zip(one, other, strict=False)))


def _is_one(two: str) -> bool:
    """Whether two characters belong to one word, or one number."""
    return len(two) == 2 and (two.isdecimal() or (two.isalpha() and two[0].isupper() == two[1].isupper()))


def _is_small(path: epath.Path, of: epath.Path, scale: int) -> bool:
    """Whether a picture has the size of another's LR one."""
    size, hr_size = read_size(path), read_size(of)
    return size is not None and hr_size is not None and fits_size(hr_size, (size[0] * scale, size[1] * scale), scale)


def _factor(one: epath.Path, other: epath.Path) -> int | None:
    """Return how many times as large the other picture is, negative where it is the smaller one; None where that is
    no whole number."""
    sizes = read_size(one), read_size(other)
    if sizes[0] is None or sizes[1] is None:
        return None
    small, large = sorted(size for size in sizes if size)
    factor = next((n for n in _FACTORS if fits_size(large, (small[0] * n, small[1] * n), n)), None)
    return -factor if factor and large == sizes[0] else factor
