"""Results of other methods, read from their `results.json`, to stand beside ours."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from msnlan_jax.errors import InputError, naming
from msnlan_jax.pictures import IMAGE_SUFFIXES, RGBPicture, read_rgb
from msnlan_jax.report.results import Results, read_results
from msnlan_jax.runtime import absolute, files

_ALWAYS_SHOWN = ("bicubic", "HR")


@dataclasses.dataclass(frozen=True)
class Compared:
    """Another method's results.

    Attributes:
        name: what it is called in the report.
        results: what its `results.json` holds.
        folder: where that lies; its pictures are looked for in `images/<set>/` there.
    """

    name: str
    results: Results
    folder: epath.Path

    def picture(self, dataset: str, name: str, shape: tuple[int, ...]) -> RGBPicture | None:
        """Return its picture; None where it left none, or one of another size. Pictures of an earlier run in the same
        folder are not its own.

        Raises:
            InputError: when the picture is broken.
        """
        if not self.results.has_images:
            return None
        for mark in (f"x{self.results.scale}", ""):
            for suffix in IMAGE_SUFFIXES:
                path = self.folder / "images" / dataset / files.fit_name(name, f"{mark}{suffix}")
                if path.exists():
                    image = read_rgb(path)
                    return image if image.shape == shape else None
        return None


def check_name(name: str, flag: str, taken: Iterable[str] = ()) -> None:
    """Refuse to call a method what the report calls another.

    Args:
        name: of the method.
        flag: which gives the name.
        taken: names of others, besides those of what every report shows.

    Raises:
        InputError: naming the flag.
    """
    others = dict.fromkeys((*taken, *_ALWAYS_SHOWN))
    if name in others:
        raise InputError(f"{flag}: found the name {name}, expected another than {', '.join(others)}")


def method_name(folder: epath.PathLike, name: str | None = None) -> str:
    """Return what to call the method that made a folder's pictures: `name`, or as the folder, with the folder above it
    where that alone is another's; raises as `check_name`."""
    if name is not None:
        check_name(name, "--name")
        return name
    path = absolute(folder)
    return f"{path.parent.name}/{path.name}" if path.name in _ALWAYS_SHOWN else path.name


def read_compared(values: Iterable[str], scale: int, taken: Sequence[str] = ()) -> list[Compared]:
    """Read `--compare` flags, `NAME=results.json`.

    Args:
        values: as typed; a folder stands for the `results.json` in it.
        scale: up-scaling factor that is wanted.
        taken: names of other methods in the report.

    Raises:
        FileNotFoundError: when a file is missing.
        InputError: on anything but distinct names, not taken, and results of this scale.
    """
    found: dict[str, Compared] = {}
    for value in values:
        name, _, path = value.partition("=")
        if not name or not path or name in found:
            raise InputError(f"--compare: found {value}, expected NAME=results.json, each name once")
        check_name(name, "--compare", taken)
        with naming("--compare"):
            file = epath.Path(files.expand_home(path))
        file = file / "results.json" if file.is_dir() else file
        results = read_results(file)
        if results.scale != scale:
            raise InputError(f"--compare: found {file} for ×{results.scale}, expected ×{scale}")
        found[name] = Compared(name, results, file.parent)
    return list(found.values())


def check_output(compared: Iterable[Compared], output: epath.PathLike) -> None:
    """Refuse to write a report over results that it compares with; their pictures would become ours besides.

    Raises:
        InputError: naming the folder.
    """
    for other in compared:
        if files.identity(other.folder) == files.identity(output):
            raise InputError(
                f"--output: found {output}, which holds the results of {other.name} that --compare names, expected "
                "another folder"
            )


def check_pictures(compared: Iterable[Compared], sizes: Mapping[str, Mapping[str, tuple[int, int]]]) -> None:
    """Read other methods' pictures once, so that a broken one is found before hours of work.

    Args:
        compared: the methods.
        sizes: data set → picture name → height and width.

    Raises:
        InputError: naming the file.
    """
    for other in compared:
        for dataset, pictures in sizes.items():
            for name, size in pictures.items():
                other.picture(dataset, name, (*size, 3))
