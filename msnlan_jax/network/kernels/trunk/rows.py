"""What the trunk's kernels do with maps in fast memory: loops over rows, borders, sums over pictures, copies."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from msnlan_jax.network.kernels.chip import LANES, SUBLANES
from msnlan_jax.network.kernels.trunk.packing import CHANNELS, Packing


class Rows:
    """A packing's maps, a few rows at a time.

    Attributes:
        packing: the maps' layout.
        step: rows taken together.
    """

    def __init__(self, packing: Packing):
        self.packing = packing
        self.step = 2 if packing.rows % 2 == 0 else 1

    def each(self, body: Callable[[Any], None]) -> None:
        """Run `body(row)` for all rows in order."""
        jax.lax.fori_loop(0, self.packing.rows // self.step, lambda i, _: body(i * self.step), None)

    def sum(self, body: Callable[[Any, Any], Any], start: Any) -> Any:
        """Run `body(row, total)`, which returns the new total, for all rows in order."""
        return jax.lax.fori_loop(0, self.packing.rows // self.step, lambda i, c: body(i * self.step, c), start)

    def read(self, ref: Any, row: Any) -> Float[Array, "n pairs sublanes lanes"]:
        """Read rows in float32."""
        value: Array = ref[pl.ds(row, self.step)].astype(jnp.float32)
        return value

    def read_inner(self, padded: Any, row: Any) -> Float[Array, "positions lanes"]:
        """Read rows of a map with borders, as the operand of a product."""
        return self.flat(padded[pl.ds(row + 1, self.step), 1 : self.packing.pairs + 1])

    def write(self, ref: Any, row: Any, value: Array) -> None:
        """Write rows."""
        ref[pl.ds(row, self.step)] = value.astype(ref.dtype).reshape(self.step, *ref.shape[1:])

    def write_inner(self, padded: Any, row: Any, value: Array) -> None:
        """Write rows of a map with borders."""
        shape = (self.step, self.packing.pairs, SUBLANES, LANES)
        padded[pl.ds(row + 1, self.step), 1 : self.packing.pairs + 1] = value.astype(padded.dtype).reshape(shape)

    def flat(self, value: Array) -> Float[Array, "positions lanes"]:
        """Return rows as a matrix."""
        return value.reshape(self.step * self.packing.pairs * SUBLANES, LANES)

    def unflat(self, value: Array) -> Float[Array, "n pairs sublanes lanes"]:
        """Undo `flat`."""
        return value.reshape(self.step, self.packing.pairs, SUBLANES, LANES)

    def mask(self, value: Float[Array, "n pairs sublanes lanes"], row: Any) -> Float[Array, "n pairs sublanes lanes"]:
        """Return rows with zeros where they are padding."""
        if not self.packing.is_padded:
            return value
        inside = [self.packing.is_inside(row + i)[None] for i in range(self.step)]
        return jnp.where(jnp.concatenate(inside), value, 0.0)

    def fill_borders(self, padded: Any) -> None:
        """Fill the rows above and below every strip from its neighbours; those of a whole picture stay zero."""
        pictures = self.packing.pictures
        if pictures == SUBLANES:
            return
        shape = (self.packing.pairs, SUBLANES, LANES)
        sublane = jax.lax.broadcasted_iota(jnp.int32, shape, 1)
        inner = slice(1, self.packing.pairs + 1)
        for border, row, shift, is_there in (
            (0, self.packing.rows, pictures, sublane >= pictures),
            (self.packing.rows + 1, 1, SUBLANES - pictures, sublane < SUBLANES - pictures),
        ):
            rolled = pltpu.roll(padded[row, inner].astype(jnp.float32), shift, 1)
            padded[border, inner] = jnp.where(is_there, rolled, 0.0).astype(padded.dtype)

    def sum_pictures(self, value: Float[Array, "sublanes lanes"]) -> Float[Array, "sublanes lanes"]:
        """Add the columns and strips of each picture; every one of them holds the sum."""
        value = value + pltpu.roll(value, CHANNELS, 1)
        shift = self.packing.pictures
        while shift < SUBLANES:
            value = value + pltpu.roll(value, shift, 0)
            shift *= 2
        return value


def clear_borders(padded: Any) -> None:
    """Write zeros around a map."""
    rows, columns, *tile = padded.shape
    for row in (0, rows - 1):
        padded[row] = jnp.zeros((columns, *tile), padded.dtype)
    for column in (0, columns - 1):
        padded[:, column : column + 1] = jnp.zeros((rows, 1, *tile), padded.dtype)


def interior(padded: Any) -> Any:
    """Return the reference to what lies within a map's borders."""
    rows, columns = padded.shape[:2]
    return padded.at[1 : rows - 1, 1 : columns - 1]


Copies = tuple[Any, ...]


def start(copies: Copies) -> None:
    """Have copies between memories begin."""
    for copy in copies:
        copy.start()


def wait(copies: Copies) -> None:
    """Wait until they are done."""
    for copy in copies:
        copy.wait()


def dot(a: Array, b: Array) -> Array:
    """Return a product in float32."""
    return jnp.dot(a, b, preferred_element_type=jnp.float32)


def dot_positions(a: Float[Array, "positions m"], b: Float[Array, "positions n"]) -> Float[Array, "m n"]:
    """Return the product over positions, in float32."""
    # Transposed in float32, which the unit for that does alone: in bfloat16 the multipliers would have to help.
    return dot(a.astype(jnp.float32).T.astype(a.dtype), b)
