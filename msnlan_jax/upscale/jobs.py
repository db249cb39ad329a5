"""Which pictures a command line means, and where each result goes."""

import dataclasses
from collections.abc import Sequence

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import IMAGE_SUFFIXES, check_suffix
from msnlan_jax.runtime import absolute, prepare_output_dir

FORMATS = ("png", "jpg", "webp", "tif", "bmp", "same")


@dataclasses.dataclass(frozen=True)
class Job:
    """One picture to read and one to write."""

    source: epath.Path
    target: epath.Path


def list_jobs(inputs: Sequence[epath.Path], output: epath.Path | None, scale: str, form: str = "png") -> list[Job]:
    """Pair pictures with the files to write.

    One picture goes to the file `output`; without it to `<name>_x4.png` beside the picture. Several, or a folder,
    go below the folder `output`, by the names they have, sub-folders kept; without it pictures again go beside
    themselves and a folder to `<folder>_x4`.

    Args:
        inputs: pictures and folders.
        output: file or folder.
        scale: as it is written into names, such as "4" or "2.5".
        form: one of FORMATS; "same" keeps each picture's.

    Raises:
        FileNotFoundError: when an input is missing.
        InputError: when a folder holds no pictures, two results would share a name, or `output` is no such file or
            folder.
    """
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder, expected a picture or a folder of pictures")
    if len(inputs) == 1 and not inputs[0].is_dir() and output is not None and not _means_folder(output):
        check_suffix_flag(output)
        return [Job(inputs[0], output)]
    if output is not None and output.suffix.lower() in IMAGE_SUFFIXES and not output.is_dir():
        what = f"{len(inputs)} inputs" if len(inputs) > 1 else "a folder of pictures"
        raise InputError(f"--output: found {output} for {what}, expected a folder")
    jobs = []
    for path in inputs:
        if path.is_dir():
            folder = _beside(path, scale) if output is None else output
            jobs += _folder_jobs(path, folder, form, scale)
        else:
            folder = path.parent if output is None else output
            jobs.append(Job(path, _target(path, folder, form, scale)))
    # Results of an earlier run that lie beside their pictures must not be enlarged again.
    targets = {str(absolute(job.target)) for job in jobs}
    jobs = [job for job in jobs if str(absolute(job.source)) not in targets]
    by_target: dict[str, epath.Path] = {}
    for job in jobs:
        other = by_target.setdefault(str(job.target), job.source)
        if other != job.source:
            hint = ", or --format same" if other.suffix.lower() != job.source.suffix.lower() else ""
            raise InputError(
                f"{other}: would become {job.target} as {job.source} would, expected different names{hint}"
            )
    if output is not None:
        prepare_output_dir(output, "--output")
    return jobs


def check_suffix_flag(output: epath.Path) -> None:
    """Refuse an output file whose name says no format."""
    try:
        check_suffix(output)
    except InputError:
        raise InputError(
            f"--output: found {output}, expected a name that ends in {', '.join(IMAGE_SUFFIXES)}"
        ) from None


def list_tree(folder: epath.Path, skip: epath.Path | None = None) -> list[epath.Path]:
    """Return the pictures in a folder and all below it, by name; hidden files and the folder `skip` are passed over."""
    found = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if skip is None or absolute(path) != absolute(skip):
                found += list_tree(path, skip)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            found.append(path)
    return found


def _folder_jobs(source: epath.Path, output: epath.Path, form: str, scale: str) -> list[Job]:
    # Results of an earlier run below the input must not be enlarged again.
    pictures = list_tree(source, skip=output)
    if not pictures:
        raise InputError(f"{source}: found no pictures, expected at least one")
    return [Job(path, _target(path, output / path.parent.relative_to(source), form, scale)) for path in pictures]


def _target(source: epath.Path, folder: epath.Path, form: str, scale: str) -> epath.Path:
    """Where a result goes: by the picture's own name, marked with the scale where that is the picture's own folder."""
    mark = f"_x{scale}" if absolute(folder) == absolute(source.parent) else ""
    return folder / f"{source.stem}{mark}{source.suffix.lower() if form == 'same' else f'.{form}'}"


def _beside(folder: epath.Path, scale: str) -> epath.Path:
    named = folder if folder.name not in ("", "..") else absolute(folder)  # "." has no name of its own
    return named.with_name(f"{named.name}_x{scale}")


def _means_folder(output: epath.Path) -> bool:
    return output.is_dir() or (not output.suffix and not output.exists())
