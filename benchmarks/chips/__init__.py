"""Facts about TPUs, from public pages and from libtpu's dumps: a small file for each kind of chip, with its sources."""

import dataclasses
import json
import math
from pathlib import Path

from msnlan_jax.errors import InputError

__all__ = ["Chip", "names", "read_chip"]

_FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a kind of chip can do at most.

    Attributes:
        peak_tflops: of bfloat16, of the chip.
        clock_ghz: of its cores.
        cores: TensorCores, which share a program.
        multipliers: of a core.
        multiplier_side: a multiplier is a square array.
        rows_per_cycle: rows of bfloat16, or of float32 in one pass, that a multiplier takes each cycle.
        vmem_mib: vector memory of a core.
        hbm_gb: memory of the chip.
        hbm_gb_per_second: its bandwidth.
        ici_links: links to neighbours.
        ici_gb_per_second: of all links, both directions together.
        torus_multiple: an axis of a topology is closed to a ring where its size is a multiple of this.
        delay_slots: bundles that still run after a branch.
        granule_bytes: the unit in which libtpu's dumps give a copy's size.
        float32_push_cycles: cycles that a multiplier takes for a register of weights, 8 rows of float32.
        bfloat16_push_cycles: the same for 16 rows of bfloat16.
        sources: where each is from.
    """

    peak_tflops: float
    clock_ghz: float
    cores: int
    multipliers: int
    multiplier_side: int
    rows_per_cycle: int
    vmem_mib: int
    hbm_gb: float
    hbm_gb_per_second: float
    ici_links: int
    ici_gb_per_second: float
    torus_multiple: int
    delay_slots: int
    granule_bytes: int
    float32_push_cycles: int
    bfloat16_push_cycles: int
    sources: list[str]

    @property
    def flops_per_cycle(self) -> int:
        """At most, in bfloat16."""
        return 2 * self.cores * self.multipliers * self.multiplier_side**2 * self.rows_per_cycle

    @property
    def hbm_bytes_per_cycle(self) -> float:
        """At most."""
        return self.hbm_gb_per_second / self.clock_ghz

    def all_reduce_cycles(self, size: float, axes: tuple[int, ...]) -> float:
        """Return the cycles that the sum of `size` bytes over a topology takes at least, if nothing overlaps.

        Every chip sends and takes the bytes twice, but for its own part, over as many links as a corner has.
        """
        chips = math.prod(axes)
        links = sum(0 if axis == 1 else 2 if axis % self.torus_multiple == 0 else 1 for axis in axes)
        sending = self.ici_gb_per_second / 2 / self.ici_links * links
        return 2 * size * (chips - 1) / chips / sending * self.clock_ghz if links else 0.0


def names() -> list[str]:
    """Return the kinds of chips that are known."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def read_chip(topology: str) -> Chip:
    """Return the facts of a topology's chips, as of "v5e:2x2".

    Raises:
        InputError: no such kind of chip is known.
    """
    name = topology.partition(":")[0]
    path = _FOLDER / f"{name}.json"
    if not path.is_file():
        raise InputError(f"--topology: found {topology!r}, expected a chip of {', '.join(names())}, as in v5e:2x2")
    return Chip(**json.loads(path.read_text()))
