"""Results of other methods, read from their `results.json`, to stand beside ours."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import IMAGE_SUFFIXES, RGBPicture, read_rgb
from msnlan_jax.runtime import files

_ALWAYS_SHOWN = ("bicubic", "HR")


@dataclasses.dataclass(frozen=True)
class Compared:
    """Another method's results.

    Attributes:
        name: what it is called in the report.
        result: the content of its `results.json`.
        folder: where that lies; its pictures are looked for in `images/<set>/` there.
    """

    name: str
    result: Mapping[str, Any]
    folder: epath.Path

    def picture(self, dataset: str, name: str, shape: tuple[int, ...]) -> RGBPicture | None:
        """Return its picture; None where it left none, or one of another size. Pictures of an earlier run in the same
        folder are not its own.

        Raises:
            InputError: when the picture is broken.
        """
        if not self.result["has_images"]:
            return None
        for stem in (f"{name}x{self.result['scale']}", name):
            for suffix in IMAGE_SUFFIXES:
                path = self.folder / "images" / dataset / f"{stem}{suffix}"
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
    path = files.absolute(folder)
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
        file = epath.Path(path)
        file = file / "results.json" if file.is_dir() else file
        result = _read(file)
        if result["scale"] != scale:
            raise InputError(f"--compare: found {file} for ×{result['scale']}, expected ×{scale}")
        found[name] = Compared(name, result, file.parent)
    return list(found.values())


def _read(path: epath.Path) -> dict[str, Any]:
    data = files.read_bytes(path, "results.json")
    try:
        result = json.loads(data)
        for dataset in result["datasets"].values():
            numbers = [dataset, *dataset["images"].values()]
            scores = [value for row in numbers for value in (row["psnr"], row["ssim"], row.get("lpips"))]
            if not all(isinstance(value, int | float | None) for value in scores):
                raise TypeError("a score is no number")
        if not isinstance(result.setdefault("protocol", {}), dict):
            raise TypeError("the protocol is no object")
        # Hand-made files need not say whether there are pictures.
        return {"has_images": True, **result, "scale": int(result["scale"])}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a results.json of eval.py: {type(error).__name__}: {error}") from None
