"""What a compiled program's text says: its instructions, how often each runs, and what they move.

Every loop's body counts as often as it runs.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
PALLAS = 'custom_call_target="tpu_custom_call"'

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "f64": 8}
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(\S+) = (.*?[\])}]) ([a-z][a-z0-9-]*)\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?(\S+) \(.*\) -> .* \{$")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\](?:\{([^}]*)\})?")


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of an instruction's result.

    Attributes:
        dtype: of its elements, as in "bf16".
        shape: its sides.
        bytes: of its elements.
        padded_bytes: of its tiles, as they lie in memory.
        in_hbm: whether it lies there and not in the chip's vector memory.
    """

    dtype: str
    shape: tuple[int, ...]
    bytes: int
    padded_bytes: int
    in_hbm: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a compiled program.

    Attributes:
        name: as in "fusion.12".
        opcode: as in "fusion".
        shape: the text of its result's type.
        operands: names of its arguments.
        line: its whole text.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    line: str

    @property
    def cycles(self) -> int:
        """The compiler's estimate for one run, 0 where it has none."""
        found = re.search(r'"estimated_cycles":"?(\d+)', self.line)
        return int(found.group(1)) if found else 0

    @property
    def op_name(self) -> str:
        """The path of named scopes that it comes from."""
        found = re.search(r'op_name="([^"]*)"', self.line)
        return found.group(1) if found else ""

    @property
    def arrays(self) -> list[Array]:
        """The arrays of its result."""
        return [_array(*found) for found in _ARRAY.findall(self.shape)]

    @property
    def bytes(self) -> int:
        """Size of its result."""
        return sum(array.bytes for array in self.arrays)

    @property
    def has_known_trips(self) -> bool:
        """Whether the compiler knows how often this loop's body runs."""
        return '"known_trip_count"' in self.line

    @property
    def is_pallas(self) -> bool:
        """Whether it runs a Pallas kernel, of whose cycles the compiler says nothing here."""
        return self.opcode == "custom-call" and PALLAS in self.line

    def called(self, role: str) -> str:
        """Return the name of a computation that it runs, as in "body"."""
        found = re.search(rf"\b{role}=%?([^\s,}}]+)", self.line)
        return found.group(1) if found else ""


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program: the instructions of each computation by name, and the computation that runs first."""

    computations: Mapping[str, Mapping[str, Instruction]]
    entry: str

    def walk(self) -> Iterator[tuple[Instruction, int, str]]:
        """Yield every scheduled instruction, how often it runs, and its computation; a fusion is one.

        Raises:
            ValueError: the program does not tell how often a loop runs.
        """
        yield from self._visit(self.entry, 1)

    def scope(self, instruction: Instruction, computation: str) -> str:
        """Return the path of named scopes that an instruction belongs to.

        One that the compiler added, such as a copy, has none: it belongs to the first that uses its result, however
        indirectly, or else to the one that made what it takes.
        """
        inside = self.computations[computation]
        users, makers = self._links[computation]
        for links in (users, makers):
            pending, seen = collections.deque([instruction.name]), {instruction.name}
            while pending:
                name = pending.popleft()
                if found := inside[name].op_name:
                    return found
                pending.extend(other for other in links.get(name, ()) if other not in seen)
                seen.update(links.get(name, ()))
        return ""

    def trips(self, loop: Instruction) -> int:
        """Return how often a loop's body runs each time that the loop does.

        Raises:
            ValueError: the program does not tell.
        """
        if known := re.search(r'"known_trip_count":\{"n":"?(\d+)', loop.line):
            return int(known.group(1))
        # Counters run from 0 up to the condition's constant.
        condition = self.computations.get(loop.called("condition"), {}).values()
        limits = [int(n) for i in condition for n in re.findall(r"\bconstant\((\d+)\)", i.line)]
        if not limits:
            raise ValueError(f"{loop.name}: the program does not tell how often the loop runs")
        return max(limits)

    @functools.cached_property
    def _links(self) -> dict[str, tuple[dict[str, list[str]], dict[str, list[str]]]]:
        """Of each computation, what uses each of its instructions, and what each uses."""
        links: dict[str, tuple[dict[str, list[str]], dict[str, list[str]]]] = {}
        for name, inside in self.computations.items():
            users: dict[str, list[str]] = {}
            makers = {i.name: [operand for operand in i.operands if operand in inside] for i in inside.values()}
            for user, operands in makers.items():
                for operand in operands:
                    users.setdefault(operand, []).append(user)
            links[name] = users, makers
        return links

    def _visit(self, name: str, times: int) -> Iterator[tuple[Instruction, int, str]]:
        for instruction in self.computations.get(name, {}).values():
            yield instruction, times, name
            if instruction.opcode == "while":
                yield from self._visit(instruction.called("body"), times * self.trips(instruction))
            elif instruction.opcode == "call":
                yield from self._visit(instruction.called("to_apply"), times)
            elif instruction.opcode == "conditional":
                for branches in re.findall(r"(?:branch_computations=\{|true_computation=)([^},]+)", instruction.line):
                    yield from self._visit(branches.strip().lstrip("%"), times)


def read_module(text: str) -> Module:
    """Return the program of a text."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry = current = ""
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = head.group(2)
            entry = current if head.group(1) else entry
            computations[current] = {}
        elif (found := _INSTRUCTION.match(line)) and current:
            name, shape, opcode = found.groups()
            operands = re.findall(r"%([\w.-]+)", _until_closed(line, found.end()))
            computations[current][name] = Instruction(name, opcode, shape, tuple(operands), line)
    return Module(computations, entry)


def collectives(module: Module) -> dict[str, dict[str, int]]:
    """Return how many collectives of each kind run, and the bytes of their results."""
    found: dict[str, dict[str, int]] = {}
    for instruction, times, _ in module.walk():
        kind = instruction.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            entry = found.setdefault(kind, {"count": 0, "bytes": 0})
            entry["count"] += times
            entry["bytes"] += instruction.bytes * times
    return found


def _until_closed(line: str, start: int) -> str:
    """Return what follows up to the parenthesis that closes the one before."""
    depth = 1
    for found in re.finditer(r"[()]", line[start:]):
        depth += 1 if found.group() == "(" else -1
        if not depth:
            return line[start : start + found.start()]
    return line[start:]


def _array(dtype: str, dims: str, layout: str) -> Array:
    shape = [int(d) for d in dims.split(",") if d]
    element = _BYTES.get(dtype, 0)
    order, _, rest = layout.partition(":")
    padded = list(shape)
    if tile := re.match(r"T\(([\d,]+)\)", rest):
        sides = [int(n) for n in tile.group(1).split(",")]
        for axis, side in zip((int(n) for n in order.split(",") if n), reversed(sides), strict=False):
            padded[axis] = -(-padded[axis] // side) * side
    size, padded_size = (element * math.prod(sides) for sides in (shape, padded))
    return Array(dtype, tuple(shape), size, padded_size, not re.search(r"S\([1-9]", rest))
