"""The text of a kernel's final instruction bundles, as libtpu dumps it, read into a program."""

import dataclasses
import re
from collections.abc import Iterator

_START = re.compile(r"^ *(?:0x)?([0-9a-f]+) +(L[BHE]|P[BF]|CT)? *:(?: |>)*\{", re.MULTILINE)
_REGION = re.compile(r"Start(?:/End empty)? region (\d+)")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_INSTRUCTION = re.compile(r"^(?:%(\w+) = )?([\w.-]+)(.*)$", re.DOTALL)
_PREDICATE = re.compile(r"\((!?%\w+)(?:, *(%\w+))?\)")
_OPERAND = re.compile(r"!?%\w+|\[[^\]]*\]|-?\b\d+\b")
_TARGET = re.compile(r"target = \$region(\d+)")


class UnknownTripsError(ValueError):
    """How often a part of a kernel runs cannot be read from its text."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a bundle.

    Attributes:
        name: of its result, as in `s55_s1`: value 55, in register s1.
        opcode: as in "sadd.s32".
        predicate: the operand that has it run, as in "!%p3_p1"; empty where it always runs.
        otherwise: the operand, in the result's own register, that stays where it does not run.
        operands: as in "%s55_s1", "7", "[smem:[#allocation3_spill]]".
        text: all of it.
    """

    name: str
    opcode: str
    predicate: str
    otherwise: str
    operands: tuple[str, ...]
    text: str


@dataclasses.dataclass(frozen=True)
class Program:
    """The bundles of a kernel, the address at which each of its regions starts, and how many of them are loops."""

    bundles: tuple[tuple[Instruction, ...], ...]
    starts: dict[str, int]
    loops: int

    def target(self, branch: Instruction) -> int:
        """Return the address to which a branch leads; a region of which nothing is left is the program's end."""
        found = _TARGET.search(branch.text)
        if not found:
            raise UnknownTripsError(f"where {branch.text.strip()!r} leads")
        return self.starts.get(found.group(1), len(self.bundles))

    def branches(self) -> Iterator[tuple[int, int]]:
        """Yield each branch's address and its target's."""
        for address, bundle in enumerate(self.bundles):
            for instruction in bundle:
                if instruction.opcode == "sbr.rel":
                    yield address, self.target(instruction)
                elif instruction.opcode.startswith(("sbr", "scall")):
                    raise UnknownTripsError(f"bundle {address:#x}: where {instruction.text.strip()!r} leads")


def read_program(text: str) -> Program:
    """Return the program of a dump."""
    heads = list(_START.finditer(text))
    bundles: list[tuple[Instruction, ...]] = []
    starts: dict[str, int] = {}
    ends = [*(head.start() for head in heads[1:]), len(text)]
    for head, end in zip(heads, ends, strict=False):
        if int(head.group(1), 16) != len(bundles):
            raise ValueError(f"found bundle {head.group(1)} after {len(bundles)} others")
        body, _, marks = text[head.end() : end].rpartition("}")
        starts |= dict.fromkeys(_REGION.findall(marks), len(bundles))
        bundles.append(tuple(_instruction(part) for part in body.split(";;") if part.strip()))
    if not bundles:
        raise ValueError("found no bundles")
    return Program(tuple(bundles), starts, sum(head.group(2) == "LB" for head in heads))


def _instruction(text: str) -> Instruction:
    found = _INSTRUCTION.match(_COMMENT.sub("", text).strip())
    if not found:
        raise ValueError(f"found {text!r}, expected an instruction")
    name, opcode, rest = found.groups()
    predicate, otherwise = found.groups() if (found := _PREDICATE.search(rest)) else ("", "")
    operands = _OPERAND.findall(_PREDICATE.sub("", rest, count=1))
    return Instruction(name or "", opcode, predicate, otherwise or "", tuple(operands), text)
