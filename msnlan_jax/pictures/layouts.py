"""How data sets of super-resolution are laid out: the words that folders and pictures are named by, in one table.

`docs/folders.md` shows whole layouts; here is what they are made of. A folder's name says whose pictures it holds (the
true ones, HR, or the small ones, LR), at which scale, and of which part of the set; a picture's name may say so at its
end. Reading names asks nothing of any disk.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import files

# Words of folders. Those of `_SURE` say it alone, wherever in the name: HR, GT_sub, GTmod12, DIV2K_train_HR, lq, LRx4,
# LRbicx4, DIV2K_valid_LR_unknown. The others are words of every day, and say it beside a folder of the other kind.
_SURE = {"hr": r"(hr|gt|hq)(s|x|sub|mod)?", "lr": r"l[rq][a-z]*"}
_UNSURE = {
    "hr": r"targets?|originals?|truth|groundtruth|labels?|clean|references?|refs?|high|highres|hires|large|sharp",
    "lr": r"inputs?|degraded?|low|lowres|lores|small|(bicubic|bi|bd|dn|down)x?|blur|blurred|blurry|noisy|"
    r"downsampled?|downscaled?",
}
_KINDS = ("bicubic", "unknown", "mild", "difficult", "wild")
_RESULTS = ("sr",)  # what some method made: neither
_SPLITS = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "test", "testing"),
}
# What a folder may be called that only sorts: Test/4, train/x4, Test_x4, image_SRF_4.
_SORTING = {"image", "srf", "x", "sub", *_SPLITS["train"], *_SPLITS["valid"]}
_SCALES = "2345678"

# Words that are written as one: trainHR, HRtrain, high_resolution, LowQuality.
_JOINTS = (
    (re.compile(r"(?<=[a-z])(?=[A-Z][a-z]|HR|GT|HQ|LR|LQ)"), " "),
    (re.compile(r"(?i)(?<![a-z])(hr|gt|hq|lr|lq)(?=(train|valid|val|test)(?![a-z]))"), r"\1 "),
    (re.compile(r"(?i)(?<![a-z])(train|valid|val|test)(?=(hr|gt|hq|lr|lq)(?![a-z]))"), r"\1 "),
    (re.compile(r"(?i)(?<![a-z])(high|hi|low|lo)[ _-]*(res|resolution|quality)(?![a-z])"), r"\1res"),
)

# Ends of pictures' names: x4, _x4, _4x, x4m (DIV2K's mild), _HR, .HR, (HR), _LR, _LR4, _LR_bicubic, _HR_x4, _LRBI_x4,
# _SRF_4_HR, _HR_001, or HR after a small letter; or HR_ before.
_STEM = re.compile(
    r"(?is)(?:(?P<first>hr|gt|hq|lr|lq)[_-])?"
    r"(?P<base>.+?)"
    r"(?:[_-]?srf[_-]?(?P<srf>\d))?"
    r"(?:(?:[_-]|\.| ?[( ]|(?-i:(?<=[a-z])(?=[A-Z])))"
    r"(?P<role>hr|gt|hq|l[rq](?:bic|bicubic|bi|bd|dn|blur|unknown)?)(?P<lr>\d)?\)?"
    r"(?:[_-](?:bicubic|bic|unknown|mild|difficult|wild|blur|bi|bd|dn))?(?P<number>[_-]\d+)?)?"
    r"(?:[_-]?x(?P<x>\d)(?:[mdw]\d?)?|[_-](?P<times>\d)x)?"
)


@dataclasses.dataclass(frozen=True)
class FolderName:
    """What a folder's name says.

    Attributes:
        role: "hr", "lr", "sr" (results of a method) or "".
        is_sure: whether it has that role whatever lies beside it.
        scale: factor, if it says one.
        split: "train", "valid" (or test) or "".
        whose: what stands before the role, as "div2k" in DIV2K_train_HR.
        is_sub: whether it holds parts cut from the pictures, as BasicSR's GT_sub.
        only_sorts: whether it says nothing else than scale or split.
    """

    role: str
    is_sure: bool
    scale: int | None
    split: str
    whose: str
    is_sub: bool
    only_sorts: bool


@dataclasses.dataclass(frozen=True)
class PictureName:
    """What a picture's name says: what is pictured, nothing for HR or LR alone; "hr", "lr" or ""; and the scale."""

    base: str
    role: str
    scale: int | None


@dataclasses.dataclass(frozen=True)
class Matches:
    """Which LR pictures belong to which HR ones.

    Attributes:
        lr: HR file → LR file; without those that lack one.
        names: HR file → what the picture is called.
        left: LR files of no HR picture.
        suffix: what LR names have that HR names lack, as "x4".
    """

    lr: Mapping[epath.Path, epath.Path]
    names: Mapping[epath.Path, str]
    left: Sequence[epath.Path]
    suffix: str = ""


def read_folder_name(name: str) -> FolderName:
    """Say what a folder's name means."""
    for joint, parted in _JOINTS:
        name = joint.sub(parted, name)
    words = re.findall(r"[a-z]+|\d+", name.lower())
    split = next((part for part, known in _SPLITS.items() if any(word in known for word in words)), "")
    role, is_sure, place = _read_role(words)
    whose = "".join(word for word in words[:place] if word not in _SORTING and not word.isdigit()) if role else ""
    scale = _read_scale(words)
    only_sorts = not role and all(word in _SORTING or (word in _SCALES and scale) for word in words)
    is_sub = any(re.fullmatch("(hr|gt|hq|lr|lq)?sub", word) for word in words)
    return FolderName(role, is_sure, scale, split, whose, is_sub, only_sorts and bool(scale or split))


def read_picture_name(stem: str) -> PictureName:
    """Say what a picture's name, without its suffix, means."""
    found = _STEM.fullmatch(stem)
    if found is None:  # an empty name
        return PictureName(stem, "", None)
    role = (found["role"] or found["first"] or "").lower()
    scale = next((int(found[group]) for group in ("srf", "lr", "x", "times") if found[group]), None)
    # DRealSR calls its small pictures x1.
    base = found["base"] + (found["number"] or "")
    if re.fullmatch("(?i)hr|gt|hq|l[rq]", base) and not role:
        return PictureName("", "lr" if base[0] in "lL" else "hr", None if scale == 1 else scale)  # baby/HR, baby/LRx4
    return PictureName(base, role and ("lr" if role[0] == "l" else "hr"), None if scale == 1 else scale)


def set_name(folder: epath.PathLike) -> str:
    """Return what to call the data set whose pictures lie in a folder: Set5 for Set5/HR and Set5/image_SRF_4."""
    path = files.absolute(folder)
    name, said = path.name, read_folder_name(path.name)
    while path.parent != path and (said.role in ("hr", "lr") or said.only_sorts):
        if said.role != "hr" and said.scale is None and path.name == name:
            break  # a folder called train is a set of its own
        path = path.parent
        said = read_folder_name(path.name)
    return str(path.name or name)


def split_mixed(found: Sequence[epath.Path], scale: int) -> tuple[list[epath.Path], list[epath.Path]]:
    """Tell HR from LR pictures where both lie in one folder, as in SelfExSR's and RealSR's.

    Returns:
        HR files and LR files of this scale; of the latter none where no name says that it is one.

    Raises:
        InputError: when a picture is neither, nor a method's result for one of them; when all are LR; and when there
            are LR pictures, but none at this scale.
    """
    said = {path: read_picture_name(path.stem) for path in found}
    if not any(name.role == "hr" and not name.base for name in said.values()):  # a photo that is called lr
        said = {path: name if name.base else PictureName(path.stem, "", None) for path, name in said.items()}
    if not any(name.role == "lr" for name in said.values()):
        return list(found), []
    fits = {path: name for path, name in said.items() if name.scale in (None, scale) or not name.role}
    lr = [path for path, name in fits.items() if name.role == "lr"]
    hr = [path for path, name in fits.items() if name.role == "hr"]
    plain = [path for path, name in fits.items() if not name.role]
    if not hr:
        hr, plain = plain, []
    first = next(path for path, name in said.items() if name.role == "lr")
    if not lr:
        scales = count_scales(name.scale for name in said.values() if name.role == "lr" and name.scale)
        raise InputError(f"{first}: found LR pictures for {scales} only, expected some for ×{scale}")
    if not hr:
        raise InputError(f"{first}: found by its name an LR picture, expected its HR picture beside it")
    # Sets of results hold every method's picture: img_001_SRF_4_SRCNN.png.
    bases = tuple(f"{said[path].base}_" for path in hr)
    for path in plain:
        if not path.stem.startswith(bases):
            raise InputError(f"{path}: found neither _HR nor _LR in its name, expected one as in {hr[0].name}")
    return hr, lr


def match_names(hr: Sequence[epath.Path], lr: Sequence[epath.Path], scale: int) -> Matches:
    """Find the LR picture of each HR picture by its name.

    One style of names for all: with HR pictures "im" and "imx2", the LR picture of "im" may be called either.

    Raises:
        InputError: when two LR pictures belong to one HR picture.
    """
    said = {path: read_picture_name(path.stem) for path in (*hr, *lr)}
    fits = [path for path in lr if said[path].scale in (None, scale)]
    best: Matches | None = None
    for hr_is_plain, lr_is_plain in ((True, False), (True, True), (False, False), (False, True)):
        names = {path: path.stem if hr_is_plain else said[path].base for path in hr}
        if not hr_is_plain and len(set(names.values())) < len(names):
            continue
        by_name: dict[str, list[epath.Path]] = {}
        for path in lr if lr_is_plain else fits:
            by_name.setdefault(path.stem if lr_is_plain else said[path].base, []).append(path)
        pairs = {path: by_name[name][0] for path, name in names.items() if len(by_name.get(name, ())) == 1}
        if best is None or len(pairs) > len(best.lr):
            taken = set(pairs.values())
            best = Matches(pairs, names, [path for path in fits if path not in taken])
    assert best is not None
    for path in hr:
        meant = {path.stem, said[path].base}
        several = [other for other in best.left if meant & {other.stem, said[other].base}]
        several += [best.lr[path]] if path in best.lr else []
        if len(several) > 1:
            one, two = sorted(other.name for other in several)[:2]
            raise InputError(f"{several[0].parent}: found {one} and {two}, expected one LR picture of {path}")
    return dataclasses.replace(best, suffix=_common_suffix(best, lr))


def count_scales(scales: Iterable[int]) -> str:
    """Write scales: ×2, ×3."""
    return ", ".join(f"×{scale}" for scale in sorted(set(scales)))


def _common_suffix(matches: Matches, lr: Sequence[epath.Path]) -> str:
    """Return what the LR names add to the HR names, for messages."""
    if matches.lr:
        path, other = next(iter(matches.lr.items()))
        return other.stem.removeprefix(matches.names[path]) if other.stem.startswith(matches.names[path]) else ""
    ends = {path.stem.removeprefix(read_picture_name(path.stem).base) for path in lr}
    return ends.pop() if len(ends) == 1 else ""


def _read_role(words: Sequence[str]) -> tuple[str, bool, int]:
    """Return the role that the words of a name give, whether it is sure, and the place of the word that says so."""
    sure = [(role, i) for i, word in enumerate(words) for role in _SURE if re.fullmatch(_SURE[role], word)]
    # Of a name that tells of the pictures' story, such as "are_lr_pictures_kept", not every word counts.
    sure = [(role, i) for role, i in sure if i == 0 or sum(map(_is_open, words[i + 1 :])) <= 1]
    if sure:
        roles = {role for role, _ in sure}
        return (sure[0][0], True, sure[0][1]) if len(roles) == 1 else ("", True, 0)
    if any(word in _RESULTS for word in words):
        return "sr", True, 0
    unsure = [(role, i) for i, word in enumerate(words) for role in _UNSURE if re.fullmatch(_UNSURE[role], word)]
    unsure = [(role, i) for role, i in unsure if sum(map(_is_open, words)) <= 2]
    return (unsure[-1][0], False, unsure[-1][1]) if unsure else ("", False, 0)  # train_sharp_bicubic is LR


def _is_open(word: str) -> bool:
    """Whether a word of a folder's name is none of the table's."""
    return not (word in _SORTING or word.isdigit() or word in _KINDS)


def _read_scale(words: Sequence[str]) -> int | None:
    """Return the scale that the words of a name say: x4, 4x, SRF_4, LR4, LRx4, LRbicx4, or 4 alone."""
    for i, word in enumerate(words):
        if len(word) == 1 and word in _SCALES:
            before, after = (words[i - 1] if i else ""), (words[i + 1] if i + 1 < len(words) else "")
            says = (
                before in ("x", "srf")
                or re.fullmatch(r"l[rq][a-z]*|(hr|gt|hq|bicubic|bi|bd|dn|down)x", before)
                or after == "x"
            )
            if says or len(words) == 1:
                return int(word)
    return None
