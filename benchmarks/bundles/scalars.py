"""The scalar part of a kernel's program, run to learn which bundles run how often and which copies are made."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.bundles.program import Instruction, Program, UnknownTripsError

Value = int | None  # None is what only the chip knows
STEPS = 50_000_000  # bundles that are run at most, lest a misread loop never ends

_WORD = 1 << 32
_DMA = re.compile(r"^dma\.(\w+)_to_(\w+)$")
_GRANULES = re.compile(r"/\*size_in_granules=\*/(%\w+|\d+)")
_COMPARE = {"eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt}
_COMPARE["ge"] = operator.ge


def _unsigned(function: Callable[[int, int], int]) -> Callable[[int, int], int]:
    return lambda a, b: function(a % _WORD, b % _WORD)


_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "sadd.s32": operator.add,
    "ssub.s32": operator.sub,
    "smul.u32": operator.mul,
    "sshll.u32": lambda a, b: a << b,
    "sshrl.u32": _unsigned(operator.rshift),
    "sshra.s32": operator.rshift,
    "sand.u32": operator.and_,
    "sor.u32": operator.or_,
    "sxor.u32": operator.xor,
    "smin.s32": min,
    "smax.s32": max,
    "smin.u32": _unsigned(min),
    "smax.u32": _unsigned(max),
}
_ARITHMETIC |= {f"scmp.{name}.s32.totalorder": test for name, test in _COMPARE.items()}
_ARITHMETIC |= {f"scmp.{name}.u32.totalorder": _unsigned(test) for name, test in _COMPARE.items()}


class Machine:
    """Registers and spilled values of a chip's core; a bundle reads all before it writes any."""

    def __init__(self, core: int) -> None:
        self.core = core
        self.registers: dict[str, Value] = {}
        self.spilled: dict[str, Value] = {}

    def value(self, operand: str) -> Value:
        """Return an operand's value."""
        if operand[0] in "-0123456789":
            return _signed(int(operand))
        found = self.registers.get(_register(operand)) if operand[0] in "!%" else None
        return found if operand[0] != "!" or found is None else int(not found)

    def runs(self, instruction: Instruction) -> Value:
        """Return whether its predicate has an instruction run."""
        return self.value(instruction.predicate) if instruction.predicate else 1

    def run(self, bundle: Sequence[Instruction]) -> None:
        """Run those instructions of a bundle that give scalars."""
        registers: dict[str, Value] = {}
        spilled: dict[str, Value] = {}
        for instruction in bundle:
            runs = self.runs(instruction)
            if runs == 0:
                continue
            if instruction.opcode == "sst":
                spilled[instruction.operands[0]] = self.value(instruction.operands[1]) if runs else None
            elif instruction.name and instruction.opcode != "sphi":  # whose values share a register
                registers[_register("%" + instruction.name)] = self._result(instruction) if runs else None
        self.registers |= registers
        self.spilled |= spilled

    def _result(self, instruction: Instruction) -> Value:
        opcode, operands = instruction.opcode, instruction.operands
        if opcode == "sld":
            return self.core if "core id" in instruction.text else self.spilled.get(operands[0])
        values = [self.value(operand) for operand in operands]
        if opcode in ("smov", "pmov") or opcode.startswith("int_to_ptr"):
            return values[-1]
        if opcode == "pneg":
            return None if values[0] is None else int(not values[0])
        if opcode in ("por", "pand", "pnand"):
            decisive = int(opcode == "por")
            known = decisive if decisive in values else None if None in values else 1 - decisive
            return known if opcode != "pnand" or known is None else 1 - known
        if opcode == "scalar_select":
            return None if values[0] is None else values[1] if values[0] else values[2]
        numbers = [value for value in values if value is not None]
        if opcode not in _ARITHMETIC or len(numbers) < len(values):
            return None
        return _signed(int(_ARITHMETIC[opcode](*numbers)))


def _signed(value: int) -> int:
    return (value + _WORD // 2) % _WORD - _WORD // 2


def _register(name: str) -> str:
    return name.rpartition("_")[2] if "_" in name else name.lstrip("!%")


def needed(program: Program) -> Sequence[Sequence[Instruction]]:
    """Return what of each bundle decides about branches and copies, the decided ones included."""
    makers: dict[str, list[Instruction]] = {}
    pending: list[Instruction] = []
    for bundle in program.bundles:
        for instruction in bundle:
            if instruction.name:
                makers.setdefault(instruction.name, []).append(instruction)
            if instruction.opcode == "sst":
                makers.setdefault(instruction.operands[0], []).append(instruction)
            if instruction.opcode == "sbr.rel" or _DMA.match(instruction.opcode):
                pending.append(instruction)
    kept: set[int] = set()
    while pending:
        instruction = pending.pop()
        if id(instruction) in kept:
            continue
        kept.add(id(instruction))
        if instruction.opcode == "sphi":
            registers = {_register("%" + name) for name in (instruction.name, *_reads(instruction))}
            if len(registers) > 1:
                raise UnknownTripsError(f"{instruction.text.strip()!r}: values of a loop in several registers")
        for name in _reads(instruction):
            pending += makers.get(name, [])
    return [[instruction for instruction in bundle if id(instruction) in kept] for bundle in program.bundles]


def _reads(instruction: Instruction) -> Iterator[str]:
    """Yield the names of what an instruction depends on."""
    if _DMA.match(instruction.opcode):
        operands: tuple[str, ...] = tuple(_GRANULES.findall(instruction.text))
    elif instruction.opcode == "sbr.rel":
        operands = ()
    elif instruction.opcode == "sld":
        operands = instruction.operands[:1]
    else:
        operands = instruction.operands
    for operand in (*operands, instruction.predicate, instruction.otherwise):
        if operand:
            yield operand.lstrip("!%")


def run(program: Program, delay_slots: int, core: int = 0) -> tuple[list[int], int, list[str]]:
    """Run a program's scalar part on one of a chip's cores.

    Returns:
        How often each bundle runs; the granules that are copied to and from HBM; the branches whose condition only the
        chip knows, taken as not taken.

    Raises:
        UnknownTripsError: a loop's end is such a condition, or the program is not understood.
    """
    bundles = needed(program)
    machine, times, unread = Machine(core), [0] * len(bundles), {}
    here = steps = granules = 0
    landing: Mapping[int, int] = {}  # from the last delay slot of a branch that is taken to where it leads
    while here < len(bundles):
        times[here] += 1
        if bundle := bundles[here]:
            for instruction in bundle:
                if instruction.opcode == "sbr.rel":
                    target, taken = program.target(instruction), machine.runs(instruction)
                    text = instruction.text.strip()
                    if taken is None and target <= here:
                        raise UnknownTripsError(f"bundle {here:#x}: only the chip knows when the loop ends: {text}")
                    if taken and landing:
                        raise UnknownTripsError(f"bundle {here:#x}: a branch that follows another at once: {text}")
                    if taken is None:
                        unread[here] = text
                    elif taken:
                        landing = {here + delay_slots: target}
                elif (copy := _DMA.match(instruction.opcode)) and machine.runs(instruction) != 0:
                    granules += copy.groups().count("hbm") * _size(machine, instruction)
            machine.run(bundle)
        here, landing = (landing[here], {}) if here in landing else (here + 1, landing)
        steps += 1
        if steps > STEPS:
            raise UnknownTripsError(f"the program has not ended after {STEPS:,} bundles")
    return times, granules, list(unread.values())


def _size(machine: Machine, copy: Instruction) -> int:
    found = _GRANULES.search(copy.text)
    size = machine.value(found.group(1)) if found else None
    if size is None:
        raise UnknownTripsError(f"{copy.text.strip()!r}: the size of a copy")
    return size
