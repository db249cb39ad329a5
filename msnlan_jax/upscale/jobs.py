"""Which pictures a command line means, and where each result goes."""

import dataclasses
import os
from collections.abc import Iterator, Sequence

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import IMAGE_SUFFIXES, WRITTEN_SUFFIXES, check_suffix
from msnlan_jax.runtime import absolute, files, prepare_output_dir

FORMATS = ("png", "jpg", "webp", "tif", "bmp", "same")


@dataclasses.dataclass(frozen=True)
class Job:
    """One picture to read and one to write."""

    source: epath.Path
    target: epath.Path


@dataclasses.dataclass(frozen=True)
class Output:
    """Where results go: a file, or a folder.

    Attributes:
        path: as the user gives it.
        is_folder: whether it is a folder, there or not; else it is one only if it is there, or its name has no suffix.
    """

    path: epath.Path
    is_folder: bool = False

    @property
    def means_folder(self) -> bool:
        """Whether results of one picture go into it."""
        return self.is_folder or self.path.is_dir() or (not self.path.suffix and not self.path.exists())


def list_jobs(
    inputs: Sequence[epath.Path], output: Output | None, scale: str, form: str = "png"
) -> tuple[list[Job], list[epath.Path]]:
    """Pair pictures with the files to write.

    One picture goes to the file `output`; without it to `<name>_x4.png` beside the picture. Several, or a folder,
    go below the folder `output`, by the names they have, sub-folders kept; without it pictures again go beside
    themselves and a folder to `<folder>_x4`.

    Args:
        inputs: pictures and folders.
        output: file or folder.
        scale: as it is written into names, such as "4" or "2.5".
        form: one of FORMATS; "same" keeps each picture's, where it can be written.

    Returns:
        The pairs, and the files in folders that are passed over, being no pictures.

    Raises:
        FileNotFoundError: when an input is missing.
        InputError: when a folder holds no pictures, two results would share a name, or `output` is no such file or
            folder.
    """
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder, expected a picture or a folder of pictures")
    if len(inputs) == 1 and not inputs[0].is_dir() and output is not None and not output.means_folder:
        check_suffix_flag(output.path)
        return [Job(inputs[0], output.path)], []
    if output is not None and output.path.suffix.lower() in WRITTEN_SUFFIXES and not output.means_folder:
        what = f"{len(inputs)} inputs" if len(inputs) > 1 else "a folder of pictures"
        raise InputError(f"--output: found {output.path} for {what}, expected a folder")
    jobs: list[Job] = []
    passed_over: list[epath.Path] = []
    for path in inputs:
        if path.is_dir():
            folder = _beside(path, scale) if output is None else output.path
            # Results of an earlier run below the input must not be enlarged again.
            pictures, others = list_tree(path, skip=folder)
            if not pictures:
                raise InputError(f"{path}: found no pictures, expected at least one")
            jobs += [Job(file, _target(file, folder / file.parent.relative_to(path), form, scale)) for file in pictures]
            passed_over += others
        else:
            folder = path.parent if output is None else output.path
            jobs.append(Job(path, _target(path, folder, form, scale)))
    # Results of an earlier run that lie beside their pictures must not be enlarged again.
    targets = {files.identity(job.target) for job in jobs}
    # Nor is a picture twice that is named twice, or lies in a folder that is named too.
    jobs = [job for job in dict.fromkeys(jobs) if files.identity(job.source) not in targets]
    by_target: dict[str, epath.Path] = {}
    for job in jobs:
        if (length := len(os.fsencode(job.target.name))) > files.LONGEST_NAME:
            raise InputError(
                f"{job.source}: found a name that becomes {length} bytes long, {job.target.name}, expected at most "
                f"{files.LONGEST_NAME}"
            )
        other = by_target.setdefault(str(job.target), job.source)
        if other != job.source:
            hint = ", or --format same" if other.suffix.lower() != job.source.suffix.lower() else ""
            raise InputError(
                f"{other}: would become {job.target} as {job.source} would, expected different names{hint}"
            )
    if output is not None:
        prepare_output_dir(output.path, "--output")
    return jobs, passed_over


def check_suffix_flag(output: epath.Path) -> None:
    """Refuse an output file whose name says no format."""
    try:
        check_suffix(output)
    except InputError:
        raise InputError(
            f"--output: found {output}, expected a name that ends in {', '.join(WRITTEN_SUFFIXES)}"
        ) from None


def list_tree(folder: epath.Path, skip: epath.Path | None = None) -> tuple[list[epath.Path], list[epath.Path]]:
    """Return the pictures in a folder and all below it, by name, and what else there is: files of other kinds, pipes
    and devices.

    A folder that links lead to twice is entered once; hidden files and the folder `skip` are passed over.
    """
    found = sorted(_files_below(folder, skip), key=lambda path: path.parts)
    pictures = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and files.is_regular(path)]
    return pictures, sorted(set(found) - set(pictures))


def _files_below(folder: epath.Path, skip: epath.Path | None) -> Iterator[epath.Path]:
    """Yield what is in a folder and all below it but folders, each of which is entered once."""
    skipped = None if skip is None else files.identity(skip)
    entered = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop(0)
        if (real := files.identity(current)) in entered:
            continue
        entered.add(real)
        for path in sorted(current.iterdir(), key=lambda path: path.name):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                waiting += [path] if files.identity(path) != skipped else []
            else:
                yield path


def _target(source: epath.Path, folder: epath.Path, form: str, scale: str) -> epath.Path:
    """Where a result goes: by the picture's own name, marked with the scale where that is the picture's own folder."""
    mark = f"_x{scale}" if absolute(folder) == absolute(source.parent) else ""
    suffix = f".{form}"
    if form == "same":
        suffix = source.suffix.lower()
        suffix = suffix if suffix in WRITTEN_SUFFIXES else ".jpg" if suffix in (".jfif", ".jpe") else ".png"
    return folder / f"{source.stem}{mark}{suffix}"


def _beside(folder: epath.Path, scale: str) -> epath.Path:
    named = folder if folder.name not in ("", "..") else absolute(folder)  # "." has no name of its own
    return named.with_name(f"{named.name}_x{scale}")
