"""The arithmetic of a traced function: multiplications and additions of its matrix products and convolutions."""

import collections
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax


def traced_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Return the floating-point operations of matrix products and convolutions, per device, as the program is written.

    Loops count as often as they run; positions that a convolution reads from its padding count too.
    """
    return sum(flops_by(lambda _: "", function, *arguments, padding=True).values())


def flops_by(
    region: Callable[[str], str], function: Callable[..., Any], *arguments: Any, padding: bool = False
) -> dict[str, float]:
    """Return the operations of each region of a function, per device, by the scopes of its operations.

    Args:
        region: returns the region of a path of named scopes.
        function: what is traced.
        arguments: its arguments or their shapes.
        padding: whether products with the zeros of a convolution's padding, and with those between its dilated
            elements, count.
    """
    # A jitted function may have options for its compiler, which cannot be nested.
    traced = (function if hasattr(function, "trace") else jax.jit(function)).trace(*arguments)
    total: dict[str, float] = collections.defaultdict(float)
    for name, flops in _operations(traced.jaxpr.jaxpr, f"jit({traced.fun_name})", padding):
        total[region(name)] += flops
    return dict(total)


def _operations(jaxpr: Any, scope: str, padding: bool) -> Iterator[tuple[str, float]]:
    """Yield the scope and the operations of every product in a program."""
    for equation in jaxpr.eqns:
        name, out = equation.primitive.name, equation.outvars
        path = f"{scope}/{equation.source_info.name_stack}"
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            yield path, 2.0 * math.prod(out[0].aval.shape) * depth
        elif name == "conv_general_dilated":
            yield path, _convolution(equation, padding)
        elif inner := [list(_operations(part, path, padding)) for part in _inner(equation.params)]:
            times = equation.params.get("length", 1) if name == "scan" else 1
            if name == "cond":
                inner = [max(inner, key=lambda found: sum(flops for _, flops in found))]
            yield from ((where, times * flops) for found in inner for where, flops in found)


def _convolution(equation: Any, padding: bool) -> float:
    image, kernel = (value.aval.shape for value in equation.invars)
    out = equation.outvars[0].aval.shape
    parameters = equation.params
    lhs, rhs, result = parameters["dimension_numbers"]
    windows = zip(*(parameters[key] for key in _WINDOW), strict=True)
    pairs = 1
    for d, (stride, pads, spread, step) in enumerate(windows, 2):
        pairs *= _pairs(out[result[d]], kernel[rhs[d]], image[lhs[d]], stride, pads, spread, step, padding)
    return 2.0 * int(out[result[0]]) * int(out[result[1]]) * int(kernel[rhs[1]]) * pairs


_WINDOW = ("window_strides", "padding", "lhs_dilation", "rhs_dilation")


def _pairs(
    outs: int, taps: int, ins: int, stride: int, pads: Sequence[int], spread: int, step: int, padding: bool
) -> int:
    """Return how many pairs of an output and a kernel's element there are along an axis, with an input to multiply."""
    if padding:
        return outs * taps
    reads = (o * stride + t * step - pads[0] for o in range(outs) for t in range(taps))
    return sum(0 <= at <= (ins - 1) * spread and at % spread == 0 for at in reads)


def _inner(parameters: dict[str, Any]) -> Iterator[Any]:
    """Yield the programs within an equation."""
    for value in parameters.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if hasattr(part, "jaxpr") and hasattr(part.jaxpr, "eqns"):
                yield part.jaxpr
            elif hasattr(part, "eqns"):
                yield part
