"""The arithmetic of a compiled program's instructions: multiplications and additions of products and convolutions."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

from benchmarks.hlo import Array, Instruction, Module

_LABELS = re.compile(r"dim_labels=\w+_(\w+)->(\w+)")
_EXACT = re.compile(r"operand_precision=\{[^}]*highest")


@dataclasses.dataclass(frozen=True)
class Product:
    """A matrix product or a convolution.

    Attributes:
        flops: multiplications and additions, those with a convolution's padding included.
        dtype: of its operands, as in "bf16"; "tf32" for float32 that may be rounded to it.
    """

    flops: float
    dtype: str


def products(module: Module, instruction: Instruction, computation: str) -> Iterator[Product]:
    """Yield the products that an instruction computes, those in the fusion that it is included.

    Of the library calls, cuDNN's convolutions and cuBLAS's products are read; of kernels that the program only names,
    such as Pallas kernels, nothing is known.
    """
    inside = module.computations[computation]
    if instruction.opcode == "fusion":
        called = instruction.called("calls")
        for inner in module.computations.get(called, {}).values():
            yield from products(module, inner, called)
    elif instruction.opcode in ("dot", "convolution") or "__cublas$" in instruction.line:
        yield _product(instruction, inside)
    elif "__cudnn$conv" in instruction.line:
        yield _convolution(instruction, inside)


def _product(instruction: Instruction, inside: Mapping[str, Instruction]) -> Product:
    if instruction.opcode == "convolution":
        return _convolution(instruction, inside)
    left, out = _array(inside, instruction.operands[0]), instruction.arrays[0]
    if instruction.opcode == "dot":
        found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.line)
        axes = found.group(1) if found else ""
    else:
        found = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.line)
        axes = found.group(1).replace('"', "") if found else ""
    depth = math.prod(left.shape[int(axis)] for axis in axes.split(",") if axis)
    return Product(2.0 * math.prod(out.shape) * depth, _dtype(left, instruction))


def _convolution(instruction: Instruction, inside: Mapping[str, Instruction]) -> Product:
    """Of the convolution and its two gradients, which cuDNN gives the same labels: those of the convolution."""
    first, second = (_array(inside, name) for name in instruction.operands[:2])
    kernel, out = second, instruction.arrays[0]
    if "convBackwardInput" in instruction.line:
        out = first
    elif "convBackwardFilter" in instruction.line:
        kernel, out = out, second
    found = _LABELS.search(instruction.line)
    assert found, instruction.line
    per_position = math.prod(kernel.shape) / kernel.shape[found.group(1).index("o")]
    return Product(2.0 * math.prod(out.shape) * per_position, _dtype(first, instruction))


def _array(inside: Mapping[str, Instruction], name: str) -> Array:
    return inside[name].arrays[0]


def _dtype(operand: Array, instruction: Instruction) -> str:
    return "tf32" if operand.dtype == "f32" and not _EXACT.search(instruction.line) else operand.dtype
