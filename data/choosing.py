"""Which LR pictures belong to the HR pictures of a set, if any do."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from etils import epath

from data.arrays import open_picture
from data.search import MADE, Search, Sub, named_by, subfolders
from msnlan_jax.errors import InputError
from msnlan_jax.pictures import Pair, count_scales, fits_size, match_names, read_folder_name, read_picture_name
from msnlan_jax.runtime import files

_DEEPEST = 4  # folders below one of LR pictures that are looked into: LR/LRBI/Set5/x4
Clip = tuple[str, ...]
Place = tuple[Clip, epath.Path]


class Source(NamedTuple):
    """LR pictures that lie together.

    Attributes:
        path: where.
        scale: what they are for, as far as names say it.
        is_sub: whether they are parts of larger ones.
        pictures: their files.
        clip: folders that lead to them, without those whose names say whose pictures they hold, or only sort.
    """

    path: epath.Path
    scale: int | None
    is_sub: bool
    pictures: Sequence[epath.Path]
    clip: Clip = ()


class Offer(NamedTuple):
    """What LR pictures there are to choose from for a set.

    Attributes:
        sources: they.
        is_sub: whether those that are parts of larger ones are wanted.
        chosen: the folder that the user names, if one is: then they are in it.
    """

    sources: Sequence[Source]
    is_sub: bool = False
    chosen: epath.Path | None = None


def make_offer(search: Search, folder: epath.Path, sources: Sequence[Source], *, is_sub: bool = False) -> Offer:
    """Return what was found for a set, or what is in the folder that the user names instead.

    Args:
        search: what is looked for.
        folder: the set's, from which that folder may be named.
        sources: the LR pictures that were found.
        is_sub: whether the HR pictures are parts of larger ones.
    """
    if search.choice.lr_dir in ("", MADE):
        return Offer(sources, is_sub)
    chosen = search.choice.locate("lr_dir", (folder, folder.parent))
    found = find_sources(search, Sub(chosen, named_by(chosen).name))
    return Offer(list(found), read_folder_name(chosen.name).is_sub, chosen)


def find_sources(
    search: Search, sub: Sub, scale: int | None = None, above: Sequence[str] = (), clip: Clip = ()
) -> Iterator[Source]:
    """Yield the folders of pictures in a folder of LR ones, or itself; a link to a folder above is passed over."""
    above = (*above, files.identity(sub.path))
    scale = sub.name.scale or scale
    pictures, below = search.pictures(sub.path), subfolders(sub.path)
    if pictures or not below:
        yield Source(sub.path, scale, sub.name.is_sub, pictures, clip)
    for other in below:
        if len(above) <= _DEEPEST and search.is_of_part(other.name) and files.identity(other.path) not in above:
            yield from find_sources(search, other, scale, above, lengthen(clip, other, "lr"))


def find_clips(search: Search, folder: epath.Path, above: Sequence[str] = (), clip: Clip = ()) -> Iterator[Place]:
    """Yield the folders of pictures in a folder of HR ones, or itself, where it has some of its own."""
    above = (*above, files.identity(folder))
    if search.pictures(folder):
        yield clip, folder
        return
    for sub in subfolders(folder) if len(above) <= _DEEPEST else ():
        if sub.name.role in ("", "hr") and search.fits(sub.name) and files.identity(sub.path) not in above:
            yield from find_clips(search, sub.path, above, lengthen(clip, sub, "hr"))


def lengthen(clip: Clip, sub: Sub, role: str) -> Clip:
    """Return what leads to a folder in another, as of `Source.clip`."""
    return clip if sub.name.only_sorts or sub.name.role == role else (*clip, sub.path.name)


def pair_up(search: Search, folder: epath.Path, hr: Sequence[epath.Path], offer: Offer, clip: Clip = ()) -> list[Pair]:
    """Pair HR pictures with LR ones, or with none where there are none for this scale.

    Args:
        search: what is looked for.
        folder: the set's, for messages.
        hr: the HR pictures.
        offer: the LR pictures that there are.
        clip: folders that lead to the HR pictures, as of `Source.clip`.

    Raises:
        FileNotFoundError: when an HR picture lacks its LR one, if none may.
        InputError: when there are two sources, or two pictures, to choose from; or those there are do not fit.
    """
    source, note = _choose(search, folder, offer, clip)
    if source is None:
        return [Pair(path.stem, path, None, note) for path in hr]
    found = match_names(hr, source.pictures, search.scale)
    lacking = [path for path in hr if path not in found.lr]
    if lacking and search.may_lack_lr and found.left:
        raise InputError(
            f"{found.left[0]}: found the LR picture of no HR picture, and none of {lacking[0]}, "
            "expected names that belong together"
        )
    if lacking and not search.may_lack_lr:
        missing = f"{found.names[lacking[0]]}{found.suffix}{lacking[0].suffix}"
        raise FileNotFoundError(f"{source.path}/{missing}: no such file, expected the LR of {lacking[0]}")
    if found.left:
        note = f"{len(found.left)} without HR, as {found.left[0].name}"
    pairs = [Pair(found.names[path] or path.stem, path, found.lr.get(path), note) for path in hr]
    if source.scale is None:
        _check_scale(next((pair for pair in pairs if pair.lr), None), search.scale)
    return pairs


def split_by_size(pictures: Sequence[epath.Path], scale: int) -> tuple[list[epath.Path], list[epath.Path]]:
    """Tell pictures "ax4" that are small versions of a picture "a" or "a_HR" beside them from those that are not.

    Returns:
        HR files and LR files of this scale.

    Raises:
        InputError: when all small versions are of other scales, or one of these pictures is broken.
    """
    said = {path: read_picture_name(path.stem) for path in pictures}
    by_stem = {name.base: path for path, name in said.items() if name.role == "hr"}
    by_stem |= {path.stem: path for path in pictures}
    small = {}
    for path, name in said.items():
        if name.scale and not name.role and name.base in by_stem:
            lr, hr = open_picture(path), open_picture(by_stem[name.base])
            if fits_size(hr.shape[:2], (lr.shape[0] * name.scale, lr.shape[1] * name.scale), name.scale):
                small[path] = name.scale
    fitting = [path for path, its_scale in small.items() if its_scale == scale]
    if small and not fitting:
        path, its_scale = next(iter(small.items()))
        raise InputError(f"{path}: found an LR picture for ×{its_scale}, expected one for ×{scale}")
    return [path for path in pictures if path not in small], fitting


def _choose(search: Search, folder: epath.Path, offer: Offer, clip: Clip) -> tuple[Source | None, str]:
    """Return the LR pictures to take, if any, and what is to be said of others."""
    choice, scale = search.choice, search.scale
    if choice.lr_dir == MADE:
        return None, "as asked"
    told = [(source, _scale_of(source, scale)) for source in _of_clip(search, offer.sources, clip)]
    fits = [source for source, its_scale in told if its_scale in (None, scale)]
    fits = [source for source in fits if source.is_sub == offer.is_sub] or fits
    if len(fits) > 1:
        one, two = (_within(source.path, folder) for source in fits[:2])
        raise InputError(
            f"{folder}: found LR pictures for ×{scale} in {one} and in {two}, "
            f"expected {choice.flag}lr_dir to name one, or {MADE}"
        )
    if fits:
        return fits[0], ""
    if offer.chosen is not None:
        scales = count_scales(its_scale for _, its_scale in told if its_scale)
        there = f"LR pictures for {scales} only" if scales else "no LR pictures"
        raise InputError(f"{choice.flag}lr_dir: found {there} in {offer.chosen}, expected some for ×{scale}")
    return None, ", ".join(f"{_within(_above_clip(source), folder)} is for ×{its_scale}" for source, its_scale in told)


def _of_clip(search: Search, sources: Sequence[Source], clip: Clip) -> Sequence[Source]:
    """Return the LR pictures of a clip; those that belong to none where there are none of clips.

    Raises:
        FileNotFoundError: when there are some of other clips only, if none may lack its LR pictures.
    """
    if not clip:
        return sources
    mine = [source for source in sources if source.clip[-len(clip) :] == clip] or [s for s in sources if not s.clip]
    others = [source for source in sources if source.pictures and source.scale in (None, search.scale)]
    if others and not mine and not search.may_lack_lr:
        lacking = "/".join(clip)
        raise FileNotFoundError(f"{others[0].path.parent}/{lacking}: no such folder, expected the LR of {lacking}")
    return mine


def _above_clip(source: Source) -> epath.Path:
    """Return the folder that holds LR pictures of all clips, where those of one lie in a folder of their own."""
    path = source.path
    for part in reversed(source.clip):
        path = path.parent if path.name == part else path
    return path


def _scale_of(source: Source, scale: int) -> int | None:
    """Return the scale that LR pictures are for, if their folder says it, or all their names; the one that is wanted
    where some are for that."""
    if source.scale is not None:
        return source.scale
    said = {read_picture_name(path.stem).scale for path in source.pictures}
    if scale in said:
        return scale
    return min(each for each in said if each) if said and None not in said else None


def _check_scale(pair: Pair | None, scale: int) -> None:
    """Refuse a set whose LR pictures, of which no name says it, are by their size for another scale."""
    if pair is None or pair.lr is None:
        return
    try:
        hr, lr = open_picture(pair.hr), open_picture(pair.lr)
    except InputError:
        return  # found broken, and named, with the others
    others = [n for n in range(1, 9) if fits_size(hr.shape[:2], (lr.shape[0] * n, lr.shape[1] * n), n)]
    if others and scale not in others:
        raise InputError(
            f"{pair.lr}: found an LR picture for ×{others[0]}, {lr.shape[0]}×{lr.shape[1]} pixels where {pair.hr} has "
            f"{hr.shape[0]}×{hr.shape[1]}, expected one for ×{scale}"
        )


def _within(path: epath.Path, folder: epath.Path) -> str:
    """Write a path as from a folder, where it lies in it or beside it."""
    root = next((above for above in (folder, folder.parent) if path.is_relative_to(above)), None)
    return str(path) if root is None else path.relative_to(root).as_posix()
