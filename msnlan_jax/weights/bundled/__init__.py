"""Trained weights that come with the package: one `<name>_x<scale>.safetensors` file a scale, in this folder."""

from collections.abc import Collection

from etils import epath

NAMES = ("small",)
FALLBACK = "bicubic"


def find(name: str, folder: epath.PathLike | None = None) -> dict[int, epath.Path]:
    """Return scale → file of the bundled weights called `name`, by scale; empty when none came with the package."""
    folder = _FOLDER if folder is None else epath.Path(folder)
    found = {scale: folder / f"{name}_x{scale}.safetensors" for scale in (2, 3, 4)}
    return {scale: path for scale, path in found.items() if path.exists()}


def default_weights(scale: int | None = None) -> str:
    """Return the name that `--weights` has by default: "small" where it exists for the scale, else "bicubic".

    Args:
        scale: the scale that is wanted; None when any will do.
    """
    scales = find(NAMES[0])
    return NAMES[0] if scales and (scale is None or scale in scales) else FALLBACK


def nearest_scale(scale: float, scales: Collection[int]) -> int:
    """Return the smallest of the scales that reaches `scale`, or the largest there is."""
    return min((s for s in scales if s >= scale), default=max(scales))


_FOLDER = epath.Path(__file__).parent
