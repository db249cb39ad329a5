"""Decode pictures once, for training: `python -m data.prepare --input DIR --output DIR [--scale 2,3,4] [--also_half]`.

Writes `HR/<name>.npy` and `LR_bicubic/X<scale>/<name>x<scale>.npy`, uint8 RGB, which `--config.data.dir` takes like
any folder of pictures. LR pictures that are there are kept, of whatever kind they are; those that are missing are made
as MATLAB does. `prepared.json` says which. What is there already, not older than its picture and made from it, is
kept, so that an interrupted run goes on where it stopped; LR arrays of which nothing says that are written anew.

With `--also_half` every picture comes at half its size besides, as `<name>_half`: photographs that are a little
blurred, noisy or compressed make poor targets, and are sharper and cleaner so.
"""

import functools
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from etils import epath
from tqdm import tqdm

from data.arrays import SUFFIX, write_picture
from data.folders import Choice, add_choice, find_pairs, read_choice
from msnlan_jax.errors import InputError
from msnlan_jax.pictures import Pair, RGBPicture, describe_lr, imresize, read_pair, read_rgb
from msnlan_jax.runtime import command, files, lock

RECORD = "prepared.json"
_LONGEST = 255  # bytes of a file's name on usual disks
_MISSING = ", missing ones made by bicubic"
Target = tuple[epath.Path, RGBPicture]


class Counts(NamedTuple):
    """How many pictures were written, and how many were there; and what is wrong with the others, by name."""

    written: int
    kept: int
    broken: list[str]


class _Record(NamedTuple):
    """What `prepared.json` holds: by scale ("X4") where LR pictures come from, and names of those that were made, where
    others were read."""

    origins: dict[str, str]
    made: dict[str, set[str]]


def prepare(
    folder: epath.PathLike,
    output: epath.PathLike,
    scales: tuple[int, ...],
    *,
    also_half: bool = False,
    choice: Choice | None = None,
) -> Counts:
    """Write every picture of a data set and its LR pictures as arrays, in all of `folders.find_pairs`'s layouts.

    Args:
        folder: the data set's; of DIV2K, the training part.
        output: folder to write to; what is there and not older than its picture is kept.
        scales: factors of the LR pictures.
        also_half: whether to write every picture at half its size besides, as `<name>_half`.
        choice: which folders hold the pictures, where that is not to be found.

    Raises:
        FileNotFoundError, InputError: as `folders.find_pairs`; when a file cannot be written; when `output` is
            `folder`, whose pictures the arrays would hide, or holds LR pictures from elsewhere; and when there are
            other HR pictures for one scale than for another.
    """
    if files.absolute(folder) == files.absolute(output):
        raise InputError(f"--output: found the input folder {output}, expected another folder")
    found = [find_pairs(folder, scale, split="train", may_lack_lr=True, choice=choice) for scale in scales]
    for scale, pairs in zip(scales, found, strict=True):
        if [pair.hr for pair in pairs] != [pair.hr for pair in found[0]]:
            raise InputError(
                f"--scale: found other HR pictures for ×{scale}, in {pairs[0].hr.parent}, than for ×{scales[0]}, in "
                f"{found[0][0].hr.parent}, expected one of these scales"
            )
    output = files.prepare_output_dir(output, "--output")
    with lock.holding(output, "--output"):
        _record(output, dict(zip(scales, found, strict=True)))
        tasks = [dict(zip(scales, pairs, strict=True)) for pairs in zip(*found, strict=True)]
        results = _prepare_pictures(tasks, output, also_half)
    broken = [result for result in results if isinstance(result, str)]
    return Counts(results.count(True), results.count(False), broken)


def _prepare_pictures(tasks: Sequence[dict[int, Pair]], output: epath.Path, also_half: bool) -> list[bool | str]:
    """Write what is missing of every picture; return of each what `_prepare_picture` does."""
    pool = ThreadPoolExecutor(os.cpu_count())  # decoding and resizing release the interpreter for most of their time
    try:
        done = pool.map(lambda pairs: _prepare_picture(pairs, output, also_half), tasks)
        return list(tqdm(done, "preparing", len(tasks), unit="picture"))
    finally:
        pool.shutdown(cancel_futures=True)


def read_record(folder: epath.PathLike) -> dict[str, str]:
    """Return where the LR pictures of prepared arrays come from, by scale ("X4"); nothing of any other folder."""
    return _read_record(folder).origins


def _read_record(folder: epath.PathLike) -> _Record:
    path = epath.Path(folder) / RECORD
    if not path.exists():
        return _Record({}, {})
    try:
        origins = json.loads(path.read_bytes())
        made = {scale: set(names) for scale, names in origins.pop("made", {}).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        origins, made = None, {}
    if not isinstance(origins, dict) or not all(isinstance(value, str) for value in origins.values()):
        raise InputError(f"{path}: damaged, expected where LR pictures come from, by scale; prepare in another folder")
    return _Record(origins, made)


def _origin(pairs: list[Pair]) -> str:
    """Say where the LR pictures of a set come from; the same however many of them there are."""
    given = [pair for pair in pairs if pair.lr is not None]
    said = describe_lr({"": [Pair(pair.name, pair.hr, pair.lr) for pair in given or pairs]})
    return said + (_MISSING if given and len(given) < len(pairs) else "")


def _record(output: epath.Path, found: dict[int, list[Pair]]) -> None:
    """Note where LR pictures come from, and remove arrays of those that came from elsewhere, or it is not known where.

    Raises:
        InputError: where those that were prepared before were read from another folder, or made.
    """
    origins, made = _read_record(output)
    for scale, pairs in found.items():
        key, origin = f"X{scale}", _origin(pairs)
        if (old := origins.get(key, origin)).removesuffix(_MISSING) != origin.removesuffix(_MISSING):
            raise InputError(
                f"--output: found LR pictures {key} in {output} that were {old}, expected another folder for those "
                f"{origin}"
            )
    before = json.dumps([origins, made], default=sorted)
    for scale, pairs in found.items():
        key, origin = f"X{scale}", _origin(pairs)
        made_now = {pair.name for pair in pairs if pair.lr is None}
        is_known = key in origins and (_MISSING not in origins[key] or key in made)
        made_before = made_now if origin.startswith("made") else made.get(key, set())
        for pair in pairs:
            is_other = not is_known or (pair.name in made_now) != (pair.name in made_before)
            if is_other and not _is_too_long(target := _lr_target(output, pair, scale)):
                target.unlink(missing_ok=True)
        origins[key] = origin
        made.pop(key, None)
        if _MISSING in origin:
            made[key] = made_now
    if before != json.dumps([origins, made], default=sorted):
        content = origins | ({"made": made} if made else {})
        files.write_bytes(output / RECORD, json.dumps(content, indent=1, default=sorted).encode() + b"\n")


def _prepare_picture(pairs: dict[int, Pair], output: epath.Path, also_half: bool) -> bool | str:
    """Write what is missing of one picture; return whether there was anything, or what is wrong with it."""
    read = functools.cache(read_rgb)
    try:
        targets = _missing(pairs, output, read)
        if also_half:
            half = {scale: Pair(f"{pair.name}_half", pair.hr) for scale, pair in pairs.items()}
            targets += _missing(half, output, functools.cache(lambda path: imresize(read(path), 0.5)))
    except (InputError, OSError) as error:
        return str(error)
    for path, picture in targets:  # what ends these, as a full disk does, ends the run
        write_picture(path, picture)
    return bool(targets)


def _missing(pairs: dict[int, Pair], output: epath.Path, read: Callable[[epath.Path], RGBPicture]) -> list[Target]:
    """Return what is to be written of one picture, the HR picture last: only then is the picture found."""
    pair = next(iter(pairs.values()))
    hr_target = output / "HR" / f"{pair.name}{SUFFIX}"
    lr_targets = {scale: _lr_target(output, pair, scale) for scale in pairs}
    if not files.is_remote(output) and any(map(_is_too_long, lr_targets.values())):
        raise InputError(f"{pair.hr}: found a name too long for its LR array, expected at most {_LONGEST} bytes there")
    targets = [
        (target, read_pair(pairs[scale], scale, read)[0])
        for scale, target in lr_targets.items()
        if not _is_fresh(target, pairs[scale].lr or pair.hr)
    ]
    return targets if _is_fresh(hr_target, pair.hr) else [*targets, (hr_target, read(pair.hr))]


def _lr_target(output: epath.Path, pair: Pair, scale: int) -> epath.Path:
    return output / f"LR_bicubic/X{scale}/{pair.name}x{scale}{SUFFIX}"


def _is_too_long(path: epath.Path) -> bool:
    return len(os.fsencode(path.name)) > _LONGEST


def _is_fresh(target: epath.Path, source: epath.Path) -> bool:
    return bool(target.exists() and target.stat().mtime >= source.stat().mtime)


def main() -> None:
    """Prepare as the flags say."""
    parser = command.Parser("python -m data.prepare", description=__doc__)
    parser.add_argument(
        "--input", type="path", required=True, help="data set in any layout, or pictures, in folders too"
    )
    parser.add_argument("--output", type="path", required=True, help="folder for the arrays")
    parser.add_argument(
        "--scale", default="2,3,4", help="factors of the LR pictures; missing ones are made (%(default)s)"
    )
    add_choice(parser)
    parser.add_argument(
        "--also_half",
        action="store_true",
        help="every picture at half its size besides: photographs that are a little blurred are better targets so",
    )
    flags = parser.parse_args()
    scales, choice = _parse_scales(flags.scale), read_choice(flags)
    counts = prepare(flags.input, flags.output, scales, also_half=flags.also_half, choice=choice)
    for scale, origin in read_record(flags.output).items():
        command.say(f"LR {scale}: {origin}")
    print(f"{counts.written} pictures prepared, {counts.kept} were there: {flags.output}")
    if counts.broken:
        for message in counts.broken:
            command.say(f"skipped: {message}")
        total = counts.written + counts.kept + len(counts.broken)
        raise InputError(f"--input: skipped {len(counts.broken)} of {total} pictures, the first: {counts.broken[0]}")


def _parse_scales(text: str) -> tuple[int, ...]:
    scales = tuple(sorted({int(part) for part in text.split(",") if part.strip() in ("2", "3", "4")}))
    if not scales or len(scales) != len(text.split(",")):
        raise InputError(f"--scale: found {text!r}, expected some of 2,3,4")
    return scales


if __name__ == "__main__":
    command.run(main)
