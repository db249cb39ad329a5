"""Bytes that a compiled program's instructions move to and from HBM."""

from collections.abc import Mapping

from benchmarks.hlo import Instruction, Module

_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "after-all"),
    *("opt-barrier", "add-dependency", "partition-id", "replica-id", "copy-done"),
}
_SLICES = ("dynamic-slice", "slice", "gather")

Computation = Mapping[str, Instruction]


def hbm_bytes(module: Module, instruction: Instruction, computation: str) -> int:
    """Return the bytes that one run of an instruction reads from HBM and writes there, tiles padded as they lie.

    Of an operand that a fusion only slices the slices count, of a result that it updates in place the update. What the
    compiler has placed in vector memory costs nothing here; the copies that bring it there do.
    """
    inside = module.computations[computation]
    if instruction.opcode in _FREE:
        return 0
    if instruction.opcode.endswith("-done"):  # of a slice, say, which its start has read
        return sum(array.padded_bytes * (1 + array.in_hbm) for array in instruction.arrays)
    if instruction.opcode == "copy-start":
        return _read(inside, instruction.operands[0]) + _write(instruction, first_only=True)
    if instruction.opcode.endswith("-start") and not instruction.opcode.startswith("all-reduce"):
        return 0
    fused = module.computations.get(instruction.called("calls"), {}) if instruction.opcode == "fusion" else {}
    if fused:
        parameters = {_number(i): i.name for i in fused.values() if i.opcode == "parameter"}
        read = sum(
            min(_read(inside, operand), _used(module, fused, parameters[n]) if n in parameters else 1 << 62)
            for n, operand in enumerate(instruction.operands)
        )
        return read + min(_write(instruction), _updated(fused, _root(fused)) or 1 << 62)
    if instruction.opcode in _SLICES:
        return _write(instruction) + sum(array.padded_bytes for array in instruction.arrays)
    if instruction.opcode == "dynamic-update-slice":
        return 2 * _padded(inside, instruction.operands[1])
    return sum(_read(inside, operand) for operand in instruction.operands) + _write(instruction)


def _padded(computation: Computation, name: str) -> int:
    return sum(array.padded_bytes for array in computation[name].arrays) if name in computation else 0


def _read(computation: Computation, name: str) -> int:
    """Return the bytes of an operand that lie in HBM."""
    arrays = computation[name].arrays if name in computation else []
    return sum(array.padded_bytes for array in arrays if array.in_hbm)


def _write(instruction: Instruction, first_only: bool = False) -> int:
    arrays = instruction.arrays[:1] if first_only else instruction.arrays
    return sum(array.padded_bytes for array in arrays if array.in_hbm)


def _number(parameter: Instruction) -> int:
    return int(parameter.line.partition("parameter(")[2].partition(")")[0])


def _root(fused: Computation) -> Instruction:
    return next((i for i in fused.values() if i.line.lstrip().startswith("ROOT ")), list(fused.values())[-1])


def _used(module: Module, fused: Computation, name: str) -> int:
    """Return how many bytes of a fusion's parameter it uses."""
    total = 0
    for user in fused.values():
        if name not in user.operands:
            continue
        if user.opcode in _SLICES:
            total += sum(array.padded_bytes for array in user.arrays)
        elif user.opcode == "bitcast":
            total += _used(module, fused, user.name)
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
            continue  # in place
        elif user.opcode == "fusion" and (inner := module.computations.get(user.called("calls"))):
            numbers = [n for n, operand in enumerate(user.operands) if operand == name]
            total += sum(
                _used(module, inner, i.name)
                for i in inner.values()
                if i.opcode == "parameter" and _number(i) in numbers
            )
        else:
            return _padded(fused, name)
    return total


def _updated(fused: Computation, root: Instruction) -> int:
    """Return the bytes that a fusion's result gets anew, where it is an array that is updated in place; else 0."""
    if root.opcode == "bitcast" and root.operands and root.operands[0] in fused:
        return _updated(fused, fused[root.operands[0]])
    if root.opcode == "dynamic-update-slice":
        return _padded(fused, root.operands[1])
    if root.opcode == "tuple":
        parts = [_updated(fused, fused[name]) or _padded(fused, name) for name in root.operands if name in fused]
        return sum(parts)
    return 0
