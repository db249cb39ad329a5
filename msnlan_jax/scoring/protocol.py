"""How pictures are scored, in one object that stands beside every number."""

import argparse
import dataclasses

import jax
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import RGBPicture
from msnlan_jax.runtime import command
from msnlan_jax.scoring import metrics
from msnlan_jax.scoring.metrics import Scores, SRPicture
from msnlan_jax.scoring.perceptual import Distance, load_lpips
from msnlan_jax.scoring.scored import to_uint8

ROUNDINGS = ("uint8", "none")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How pictures are scored; by default as papers do (SPEC.md §6).

    Attributes:
        scale: up-scaling factor.
        channel: "y" as papers do, or "rgb".
        border: pixels left out on every side; None for the scale.
        rounding: "uint8" as papers do, or "none": clipped to 0..255 only.
        lpips: computes the perceptual distance too, if given.

    Raises:
        InputError: on another channel or rounding.
    """

    scale: int
    channel: str = "y"
    border: int | None = None
    rounding: str = "uint8"
    lpips: Distance | None = None

    def __post_init__(self) -> None:
        for name, choices in (("channel", metrics.CHANNELS), ("rounding", ROUNDINGS)):
            if (value := getattr(self, name)) not in choices:
                raise InputError(f"{name}: found {value!r}, expected one of {', '.join(choices)}")

    @property
    def left_out(self) -> int:
        """Pixels left out on every side."""
        return self.scale if self.border is None else self.border

    def score(self, sr: SRPicture, hr: RGBPicture) -> Scores:
        """Score one picture; arguments and errors as `metrics.score`. LPIPS is of SR rounded to uint8."""
        border = self.left_out
        scores = metrics.score(sr, hr, border, self.channel)
        if self.lpips is None:
            return scores
        inside = slice(border, -border or None)
        return dataclasses.replace(scores, lpips=self.lpips(to_uint8(sr)[inside, inside], hr[inside, inside]))


def add_flags(parser: argparse._ActionsContainer) -> None:
    """Add the flags that say how pictures are scored to a command, or to a group of its flags."""
    parser.add_argument("--channel", choices=metrics.CHANNELS, default="y", help="luma, or all three (%(default)s)")
    parser.add_argument("--border", type=int, help="pixels left out on every side; by default the scale")
    parser.add_argument("--rounding", choices=ROUNDINGS, default="uint8", help="of SR (%(default)s)")
    parser.add_argument("--lpips", action="store_true", help="the perceptual distance too; needs pip install lpips")


def read_flags(flags: argparse.Namespace, scale: int) -> Protocol:
    """Return what the flags of `add_flags` say; LPIPS is left out where its library is not there, which is said."""
    distance = load_lpips() if flags.lpips else None
    if flags.lpips and distance is None and jax.process_index() == 0:
        command.say("LPIPS is left out: its library is not installed (pip install lpips)")
    return Protocol(scale, flags.channel, flags.border, flags.rounding, distance)


def check_size(hr: RGBPicture, source: epath.Path, scale: int, border: int | None) -> tuple[int, int]:
    """Return a true picture's height and width.

    Raises:
        InputError: when nothing of it is left inside the border, by default the scale.
    """
    (h, w), least = hr.shape[:2], scale if border is None else border
    if min(h, w) <= 2 * least:
        raise InputError(f"{source}: found {h}×{w} pixels, expected more than the border of {least} on every side")
    return h, w
