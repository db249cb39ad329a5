"""What a compiled program's text says of its cost, and the arithmetic of a traced function.

Every loop's body counts as often as it runs.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "f64": 8}
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(\S+) = (.*?[\])}]) ([a-z][a-z0-9-]*)\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?(\S+) \(.*\) -> .* \{$")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a compiled program.

    Attributes:
        opcode: as in "fusion".
        shape: the text of its result's type.
        line: its whole text.
    """

    opcode: str
    shape: str
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
    def bytes(self) -> int:
        """Size of its result."""
        total = 0
        for dtype, dims in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", self.shape):
            total += _BYTES.get(dtype, 0) * math.prod(int(d) for d in dims.split(",") if d)
        return total


def walk(text: str) -> Iterator[tuple[Instruction, int]]:
    """Yield every scheduled instruction of a program and how often it runs; a fusion is one.

    A loop whose trip count the program does not tell counts once.
    """
    computations: dict[str, list[Instruction]] = {}
    entry = current = ""
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = head.group(2)
            entry = current if head.group(1) else entry
            computations[current] = []
        elif (found := _INSTRUCTION.match(line)) and current:
            computations[current].append(Instruction(found.group(3), found.group(2), line))

    def trips(loop: Instruction) -> int:
        if known := re.search(r'"known_trip_count":\{"n":"?(\d+)', loop.line):
            return int(known.group(1))
        # Counters run from 0 up to the condition's constant.
        condition = computations.get(_called(loop, "condition"), ())
        limits = [int(n) for i in condition for n in re.findall(r"\bconstant\((\d+)\)", i.line)]
        return max(limits, default=1)

    def visit(name: str, times: int) -> Iterator[tuple[Instruction, int]]:
        for instruction in computations.get(name, ()):
            yield instruction, times
            if instruction.opcode == "while":
                yield from visit(_called(instruction, "body"), times * trips(instruction))
            elif instruction.opcode == "call":
                yield from visit(_called(instruction, "to_apply"), times)
            elif instruction.opcode == "conditional":
                for branches in re.findall(r"(?:branch_computations=\{|true_computation=)([^},]+)", instruction.line):
                    yield from visit(branches.strip().lstrip("%"), times)

    yield from visit(entry, 1)


def _called(instruction: Instruction, role: str) -> str:
    """Return the name of a computation that an instruction runs."""
    found = re.search(rf"\b{role}=%?([^\s,}}]+)", instruction.line)
    return found.group(1) if found else ""


def cycles_by(text: str, region: Callable[[str], str]) -> dict[str, int]:
    """Return the estimated cycles of each region of a program, by the instructions' scopes."""
    total: collections.Counter[str] = collections.Counter()
    for instruction, times in walk(text):
        # A loop's own estimate is that of its body.
        if instruction.opcode not in ("while", "call", "conditional"):
            total[region(instruction.op_name)] += instruction.cycles * times
    return dict(total)


def collectives(text: str) -> dict[str, dict[str, int]]:
    """Return how many collectives of each kind run, and the bytes of their results."""
    found: dict[str, dict[str, int]] = {}
    for instruction, times in walk(text):
        kind = instruction.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            entry = found.setdefault(kind, {"count": 0, "bytes": 0})
            entry["count"] += times
            entry["bytes"] += instruction.bytes * times
    return found


def traced_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Return the floating-point operations of matrix products and convolutions, per device, as the program is written.

    Loops count as often as they run; positions that a convolution reads from its padding count too.
    """
    # A jitted function may have options for its compiler, which cannot be nested.
    traced = function if hasattr(function, "trace") else jax.jit(function)
    return _flops(traced.trace(*arguments).jaxpr.jaxpr)


def _flops(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        name, out = equation.primitive.name, equation.outvars
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2.0 * math.prod(out[0].aval.shape) * depth
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            total += 2.0 * math.prod(out[0].aval.shape) * math.prod(kernel) / features
        else:
            times = equation.params.get("length", 1) if name == "scan" else 1
            inner = [_flops(part) for part in _inner(equation.params)]
            total += times * (max(inner) if name == "cond" else sum(inner)) if inner else 0.0
    return total


def _inner(parameters: dict[str, Any]) -> Iterator[Any]:
    """Yield the programs within an equation."""
    for value in parameters.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if hasattr(part, "jaxpr") and hasattr(part.jaxpr, "eqns"):
                yield part.jaxpr
            elif hasattr(part, "eqns"):
                yield part
