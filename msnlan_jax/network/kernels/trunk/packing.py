"""How the trunk's kernels lay out features: two columns in the 128 lanes, sixteen strips of pictures in the sublanes.

A column's neighbour is then another tile, and a convolution rotates nothing (see `products`). Pictures that are fewer
than sixteen are cut into horizontal strips, which take the sublanes' place; a strip's border rows are its neighbours'.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from msnlan_jax.network.kernels.chip import LANES, SUBLANES

CHANNELS = LANES // 2


@dataclasses.dataclass(frozen=True)
class Packing:
    """How a batch of feature maps is packed.

    Attributes:
        batch: pictures B.
        height: rows H of each.
        width: columns W of each.
        cores: of the chip, among which tiles of pictures are dealt out.
    """

    batch: int
    height: int
    width: int
    cores: int = 1

    @property
    def pictures(self) -> int:
        """Pictures in a tile's sublanes, a power of two; beyond `batch` they are zero."""
        of_core = -(-self.batch // self.cores)
        return min(SUBLANES, 1 << (of_core - 1).bit_length())

    @property
    def tiles(self) -> int:
        """How many times the sublanes are filled."""
        return -(-self.batch // self.pictures)

    @property
    def strips(self) -> int:
        """Strips that each picture is cut into."""
        return SUBLANES // self.pictures

    @property
    def rows(self) -> int:
        """Rows of a strip; beyond the picture's last row they are padding."""
        return -(-self.height // self.strips)

    @property
    def pairs(self) -> int:
        """Pairs of columns; an odd width is padded by a column."""
        return -(-self.width // 2)

    @property
    def positions(self) -> int:
        """Positions of a picture."""
        return self.height * self.width

    @property
    def is_padded(self) -> bool:
        """Whether rows or columns are padding, which is to stay zero before every convolution."""
        return self.rows * self.strips > self.height or self.pairs * 2 > self.width

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of packed features."""
        return self.tiles, self.rows, self.pairs, SUBLANES, LANES

    def pack(self, x: Float[Array, "b h w c"]) -> Float[Array, "tiles rows pairs sublanes lanes"]:
        """Pack features; padding is zero."""
        padding = (
            self.tiles * self.pictures - self.batch,
            self.strips * self.rows - self.height,
            2 * self.pairs - self.width,
        )
        x = jnp.pad(x, [(0, n) for n in padding] + [(0, 0)])
        x = x.reshape(self.tiles, self.pictures, self.strips, self.rows, self.pairs, LANES)
        return x.transpose(0, 3, 4, 2, 1, 5).reshape(self.shape)

    def unpack(self, x: Float[Array, "tiles rows pairs sublanes lanes"]) -> Float[Array, "b h w c"]:
        """Undo `pack`."""
        x = x.reshape(self.tiles, self.rows, self.pairs, self.strips, self.pictures, LANES)
        x = x.transpose(0, 4, 3, 1, 2, 5)
        x = x.reshape(self.tiles * self.pictures, self.strips * self.rows, 2 * self.pairs, CHANNELS)
        return x[: self.batch, : self.height, : self.width]

    def is_inside(self, row: jax.Array) -> jax.Array:
        """Return where a row of every strip is picture, bool `[pairs, sublanes, lanes]`; for use within a kernel."""
        shape = (self.pairs, SUBLANES, LANES)
        pair, sublane, lane = (jax.lax.broadcasted_iota(jnp.int32, shape, axis) for axis in range(3))
        strip = jax.lax.div(sublane, jnp.int32(self.pictures))
        column = 2 * pair + (lane >= CHANNELS).astype(jnp.int32)
        return (strip * self.rows + row < self.height) & (column < self.width)
