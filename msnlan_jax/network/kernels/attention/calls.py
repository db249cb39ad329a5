"""What both kernels' calls share: steps of the grid, and which blocks of arrays a step sees."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.typing import DTypeLike

from msnlan_jax.network.kernels import chip
from msnlan_jax.network.kernels.attention.layout import Layout
from msnlan_jax.network.kernels.attention.moves import Index
from msnlan_jax.network.kernels.chip import LANES

# Tiles in a loop's body: few would leave latencies uncovered, and many take long to compile.
_STEP = 4


@dataclasses.dataclass(frozen=True)
class Manner:
    """How a kernel is run.

    Attributes:
        precision: of products, "default" or "highest".
        interpret: run without a TPU.
    """

    precision: str
    interpret: bool

    def each(self, n: int, body: Callable[[Index], None]) -> None:
        """Do something n times: unrolled, for the compiler to schedule as a whole, where kernels are compiled."""
        if self.interpret:
            lax.fori_loop(0, n, lambda i, _: body(i), None)
        else:
            for i in range(n):
                body(i)

    def loop(self, n: int, body: Callable[[Index, Any], Any], carry: Any) -> Any:
        """As `fori_loop`, but some iterations at a time where kernels are compiled."""
        step = 1 if self.interpret else max(1, min(n, _STEP))

        def several(i: Index, carry: Any) -> Any:
            for j in range(step):
                carry = body(i * step + j, carry)
            return carry

        carry = lax.fori_loop(0, n // step, several, carry)
        for i in range(n - n % step, n):
            carry = body(i, carry)
        return carry

    def alternate(self, n: int, make: Callable[[Index, int], None], use: Callable[[Index, int], None]) -> None:
        """`make` every one of n, and `use` it, while the next one is made where kernels are compiled.

        By turns into and from two buffers, because the compiler does not see that two places of one are two places: it
        would let no product begin before what is stored near its operands has been read.
        """

        def one(i: Index, _: None) -> None:
            make(i, 0)
            use(i, 0)

        def two(i: Index, _: None) -> None:
            use(2 * i, 0)
            make(2 * i + 1, 1)
            use(2 * i + 1, 1)
            make(jnp.minimum(2 * i + 2, n - 1), 0)

        if self.interpret:
            lax.fori_loop(0, n, one, None)
        else:
            make(0, 0)
            lax.fori_loop(0, n // 2, two, None)
            if n % 2:
                use(n - 1, 0)


def steps(at: Layout) -> int:
    """Steps per image: products of a block are made in one, and the rest, which needs the rows below, in the next."""
    return at.blocks + 1


def image(*shape: int) -> pl.BlockSpec:
    """An image's whole array."""
    return pl.BlockSpec((1, *shape), lambda b, s: (b, *[0] * len(shape)))


def ahead(at: Layout, *shape: int) -> pl.BlockSpec:
    """The block whose products are made in a step."""
    return pl.BlockSpec((1, *shape), lambda b, s: (b, jnp.minimum(s, at.blocks - 1), *[0] * (len(shape) - 1)))


def behind(*shape: int) -> pl.BlockSpec:
    """The block that is done in a step."""
    return pl.BlockSpec((1, *shape), lambda b, s: (b, jnp.maximum(s - 1, 0), *[0] * (len(shape) - 1)))


def memory(dtype: DTypeLike, *shape: int) -> Any:
    """An array in fast memory."""
    return pltpu.VMEM(shape, jnp.dtype(dtype))


def ring(rows: int, at: Layout) -> Any:
    """Memory for rows of the L×L' matrix."""
    return memory(jnp.float32, rows, at.all_tiles, at.width, LANES)


def needed_bytes(scratch: Sequence[Any], windows: Sequence[Any]) -> int:
    """Fast memory for what a kernel keeps itself, and twice for the windows on arrays outside."""
    return sum(map(_padded_bytes, scratch)) + 2 * sum(map(_padded_bytes, windows)) + chip.RESERVE


def _padded_bytes(array: Any) -> int:
    """Bytes of whole tiles, which hold 128 lanes and 32 bytes of each."""
    itemsize: int = jnp.dtype(array.dtype).itemsize
    *outer, sublanes, lanes = array.shape
    column: int = math.ceil(sublanes * itemsize / 32) * 32 if sublanes > 1 else itemsize
    size: int = math.prod(outer) * column * math.ceil(lanes / LANES) * LANES
    return size
