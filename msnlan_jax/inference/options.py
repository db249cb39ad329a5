"""How the user wants pictures run, as one value, and as flags on a command line."""

import argparse
import dataclasses
import math

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import machine, relay

INFERENCE_MODES = ("whole", "chop", "tile")
TILE_SIZE = 64
TILE_OVERLAP = 16


@dataclasses.dataclass(frozen=True)
class Options:
    """How pictures are to be run.

    Attributes:
        mode: "whole", or tiled: "chop" (the released geometry) or "tile" (regular, blended). Attention sees only its
            tile, so tiling changes the numbers. "auto" is whole where that takes no longer than about a minute, else
            in tiles.
        tile_size: side of a tile in LR pixels, for "tile".
        tile_overlap: LR pixels that neighbouring tiles share, for "tile".
        self_ensemble: average over the 8 flips and transposes.
        memory_limit: GB that may be taken, by estimate; None for most of what is free, infinity for no limit.

    Raises:
        InputError: on an unknown mode, an impossible tile geometry, or a memory limit that is not positive.
    """

    mode: str = "whole"
    tile_size: int = TILE_SIZE
    tile_overlap: int = TILE_OVERLAP
    self_ensemble: bool = False
    memory_limit: float | None = None

    def __post_init__(self) -> None:
        if self.memory_limit is not None and not self.memory_limit > 0:
            raise InputError(f"memory_limit: found {self.memory_limit:g}, expected a positive number of GB")
        if self.mode not in ("auto", *INFERENCE_MODES):
            raise InputError(f"inference: found {self.mode!r}, expected one of auto, {', '.join(INFERENCE_MODES)}")
        if self.tile_size < 1:
            raise InputError(f"tile_size: found {self.tile_size}, expected at least 1")
        most = self.tile_size // 2
        if not 0 <= self.tile_overlap <= most:
            raise InputError(
                f"tile_overlap: found {self.tile_overlap} with a tile_size of {self.tile_size}, expected 0 to {most}"
            )

    def with_limit(self) -> "Options":
        """Return the same with the memory limit as a number. A command asks once: what its pictures leave with the C
        library would count as taken, and how a picture is run is not to depend on those before, nor on which of a job's
        processes runs it."""
        return dataclasses.replace(self, memory_limit=relay.least("memory", machine.limit_gb(self.memory_limit)))

    def to_json(self) -> dict[str, str | int | float | bool]:
        """Return what results say of how pictures were run: what was asked for, and only what had an influence."""
        found: dict[str, str | int | float | bool] = {"inference": self.mode, "self_ensemble": self.self_ensemble}
        if self.mode == "tile":
            found |= {"tile_size": self.tile_size, "tile_overlap": self.tile_overlap}
        if self.memory_limit is not None:
            found["memory_limit"] = self.memory_limit
        return found


def add_flags(parser: argparse._ActionsContainer, default: str) -> None:
    """Add the flags that say how pictures are run.

    Args:
        parser: of the command, or a group of its flags.
        default: of `--inference`; "auto" can be chosen only where it is the default.
    """
    modes = ("auto", *INFERENCE_MODES) if default == "auto" else INFERENCE_MODES
    text = {
        "auto": "auto by default: whole where that takes no longer than about a minute, else in tiles",
        "whole": "whole by default",
    }
    parser.add_argument("--inference", choices=modes, default=default, help=text[default])
    parser.add_argument("--tile_size", type=int, default=TILE_SIZE, help="LR pixels, for tiles (%(default)s)")
    parser.add_argument(
        "--tile_overlap", type=int, default=TILE_OVERLAP, help="LR pixels that neighbouring tiles share (%(default)s)"
    )
    parser.add_argument(
        "--memory_limit",
        type=_gigabytes,
        metavar="GB",
        help="how much memory a picture may take, by estimate; whole pictures that cannot do with so little are tiled "
        "(by default most of what is free)",
    )
    parser.add_argument("--self_ensemble", action="store_true", help="average over the 8 flips and transposes")


def read_flags(flags: argparse.Namespace) -> Options:
    """Return what the flags of `add_flags` say.

    Raises:
        InputError: as `Options`.
    """
    return Options(flags.inference, flags.tile_size, flags.tile_overlap, flags.self_ensemble, flags.memory_limit)


def _gigabytes(text: str) -> float | None:
    try:
        limit = float(text) if text else None
    except ValueError:
        limit = math.nan
    if limit is not None and not 0 < limit < math.inf:
        raise argparse.ArgumentTypeError(f"found {text}, expected a positive number of GB")
    return limit
