"""The cost of a kernel, loop by loop."""

import collections
import dataclasses
import re
from pathlib import Path

from benchmarks.bundles import scalars
from benchmarks.bundles.program import Program, UnknownTripsError, read_program
from benchmarks.chips import Chip

_FILE = re.compile(r"\d+-([\w.-]+?)-\d+-final_bundles\.txt$")
_MULTIPLIER = re.compile(r"^(vmatmul|vmatpush)(\S*)\.mxu(\d)$")


@dataclasses.dataclass(frozen=True)
class Loop:
    """What a loop costs without the loops within it; the first is what lies outside all loops.

    Attributes:
        first: address of its first bundle.
        last: address of its last bundle.
        depth: how many loops it is in, itself included.
        trips: how often it runs in all.
        bundles: how many bundles run in all.
        multiplier: cycles that its busiest multiplier needs in all.
    """

    first: int
    last: int
    depth: int
    trips: int
    bundles: int
    multiplier: int

    @property
    def cycles(self) -> int:
        """The larger of both."""
        return max(self.bundles, self.multiplier)


@dataclasses.dataclass(frozen=True)
class Count:
    """The cost of one run of a kernel.

    Attributes:
        loops: its parts.
        hbm_bytes: what its copies move to and from HBM.
        hbm_cycles: what they take at the chip's bandwidth.
        unread: branches whose condition only the chip knows; what they might pass over is counted.
    """

    loops: tuple[Loop, ...]
    hbm_bytes: int
    hbm_cycles: int
    unread: tuple[str, ...] = ()

    @property
    def cycles(self) -> int:
        """The larger of its loops' cycles together and of those that HBM needs."""
        return max(sum(loop.cycles for loop in self.loops), self.hbm_cycles)


def kernel_files(folder: Path) -> dict[str, Path]:
    """Return the dumped file of each instruction of HLO that has one, by its name; equal ones share a file."""
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*final_bundles.txt")):
        if found := _FILE.match(path.name):
            files[found.group(1)] = path
    for path in folder.glob("*deduplication-map.txt"):
        for part in path.read_text().split("key:")[1:]:
            key, _, _, *names = (line.strip() for line in part.splitlines())
            if key in files:
                files |= {name: files[key] for name in names if name}
    return files


def count_file(path: Path, chip: Chip) -> Count:
    """Return the count of the kernel whose final bundles a file holds.

    Raises:
        UnknownTripsError: naming the file, where a loop's trips cannot be read.
    """
    try:
        return count_kernel(path.read_text(), chip)
    except UnknownTripsError as error:
        raise UnknownTripsError(f"{path.name}: {error}") from None


def count_kernel(text: str, chip: Chip) -> Count:
    """Return the count of a kernel from the text of its final bundles, on the busiest of a chip's cores."""
    program = read_program(text)
    runs = [scalars.run(program, chip.delay_slots, core) for core in range(chip.cores)]
    counts = [_count_loops(program, times, chip) for times, _, _ in runs]
    loops = max(counts, key=lambda loops: sum(loop.cycles for loop in loops))
    moved = sum(granules for _, granules, _ in runs) * chip.granule_bytes
    unread = dict.fromkeys(branch for _, _, branches in runs for branch in branches)
    return Count(loops, moved, round(moved / chip.hbm_bytes_per_cycle), tuple(unread))


def _count_loops(program: Program, times: list[int], chip: Chip) -> tuple[Loop, ...]:
    spans = _loops(program, chip.delay_slots)
    own: dict[tuple[int, int], list[int]] = {span: [] for span in spans}
    for address in range(len(program.bundles)):
        inside = [span for span in spans if span[0] <= address <= span[1]]
        own[min(inside, key=lambda span: span[1] - span[0])].append(address)
    return tuple(
        Loop(
            first=span[0],
            last=span[1],
            depth=sum(other[0] <= span[0] and span[1] <= other[1] for other in spans) - 1,
            trips=times[addresses[0]] if addresses else 0,
            bundles=sum(times[address] for address in addresses),
            multiplier=_multiplier_cycles(program, addresses, times, chip),
        )
        for span, addresses in own.items()
    )


def _loops(program: Program, delay_slots: int) -> list[tuple[int, int]]:
    """Return the first and the last bundle of the whole and of every loop in it."""
    last = len(program.bundles) - 1
    ends: dict[int, int] = {}
    for address, target in program.branches():
        if target <= address:
            ends[target] = max(ends.get(target, 0), min(address + delay_slots, last))
    if len(ends) != program.loops:
        raise UnknownTripsError(f"found {len(ends)} branches back for {program.loops} loops")
    return [(0, last), *sorted(ends.items())]


def _multiplier_cycles(program: Program, addresses: list[int], times: list[int], chip: Chip) -> int:
    """Return the cycles of the busiest multiplier, which multiplies and takes weights at the same time."""
    busy: collections.Counter[tuple[str, str]] = collections.Counter()
    for address in addresses:
        for instruction in program.bundles[address]:
            if found := _MULTIPLIER.match(instruction.opcode):
                kind, form, unit = found.groups()
                packed = "bf16" in form or "8" in form
                if kind == "vmatmul":
                    cycles = (16 if packed else 8) // chip.rows_per_cycle
                else:
                    cycles = chip.bfloat16_push_cycles if packed else chip.float32_push_cycles
                busy[kind, unit] += cycles * times[address]
    return max(busy.values(), default=0)
