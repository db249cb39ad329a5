"""How queries and keys lie in a TPU's tiles, and how grids are brought there and back."""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from msnlan_jax.network.kernels.chip import LANES, SUBLANES


@dataclasses.dataclass(frozen=True)
class Layout:
    """Queries in sublanes, a row padded to whole tiles, and keys in lanes.

    Rows of keys are so laid that a step from one to the next is one from a group of tiles to the next: a row fills a
    group of `parts` tiles, or, if it fits in half a tile, the second half of tiles holds the rows of the grid's lower
    half. Products with keys are had for `reach` more groups on either side, which hold the rows beyond each half.

    Attributes:
        k: patch side.
        h: rows of queries.
        w: columns of queries.
        hk: rows of keys.
        wk: columns of keys.
        d: features of queries and keys.
        c: features of values.
        block_rows: rows of queries in a block, where patches are not larger.
    """

    k: int
    h: int
    w: int
    hk: int
    wk: int
    d: int
    c: int
    block_rows: int

    @property
    def reach(self) -> int:
        """How far a patch reaches from its centre."""
        return self.k // 2

    @property
    def lag(self) -> int:
        """Rows that softmax is behind products: the reach, and even because rows go in pairs."""
        return self.reach + self.reach % 2

    @property
    def blocks(self) -> int:
        """Blocks of query rows."""
        return math.ceil(self.h / max(self.block_rows, self.reach + self.lag))

    @property
    def rows(self) -> int:
        """Rows of queries in a block; even, and so many that a block needs no more than its neighbours."""
        rows = max(math.ceil(self.h / self.blocks), self.reach + self.lag, 1)
        return rows + rows % 2

    @property
    def height(self) -> int:
        """Rows of queries, padded."""
        return self.blocks * self.rows

    @property
    def width(self) -> int:
        """Columns of queries, padded."""
        return math.ceil(self.w / SUBLANES) * SUBLANES

    @property
    def queries(self) -> int:
        """Queries in a block."""
        return self.rows * self.width

    @property
    def bands(self) -> int:
        """Rows of keys side by side in a tile; with zeros after each, so that rotations bring in nothing else."""
        return 2 if self.wk + self.reach <= LANES // 2 else 1

    @property
    def parts(self) -> int:
        """Tiles that a row of keys fills."""
        return 1 if self.bands == 2 else math.ceil((self.wk + self.reach) / LANES)

    @property
    def pitch(self) -> int:
        """Lanes that a row of keys takes."""
        return self.parts * LANES // self.bands

    @property
    def groups(self) -> int:
        """Groups of tiles that hold all keys."""
        return max(math.ceil(self.hk / self.bands), self.reach)

    @property
    def tiles(self) -> int:
        """Tiles that hold all keys."""
        return self.groups * self.parts

    @property
    def halo(self) -> int:
        """Further tiles on either side."""
        return self.reach * self.parts

    @property
    def all_tiles(self) -> int:
        """Tiles with those on either side."""
        return self.tiles + 2 * self.halo


def to_tiles(x: Float[Array, "b hk wk f"], at: Layout, *, halo: bool, fill: float = 0.0) -> Float[Array, "b n f 128"]:
    """Bring features of keys into tiles, with or without those on either side, and `fill` where there is no key."""
    b, hk, wk, f = x.shape
    reach = at.reach if halo else 0
    below = at.bands * at.groups - hk + reach
    x = jnp.pad(x, ((0, 0), (reach, below), (0, at.pitch - wk), (0, 0)), constant_values=fill)
    n = at.groups + 2 * reach
    x = jnp.concatenate([x[:, i * at.groups : i * at.groups + n] for i in range(at.bands)], axis=2)
    return x.reshape(b, n * at.parts, LANES, f).swapaxes(2, 3)


def from_tiles(x: Float[Array, "b n f 128"], at: Layout) -> Float[Array, "b hk wk f"]:
    """Bring features of keys back from tiles that have none on either side."""
    b, _, f, _ = x.shape
    x = x.swapaxes(2, 3).reshape(b, at.groups, at.bands, at.pitch, f).swapaxes(1, 2)
    return x.reshape(b, at.bands * at.groups, at.pitch, f)[:, : at.hk, : at.wk]


def pad_queries(x: Float[Array, "b h w f"], at: Layout) -> Float[Array, "b height width f"]:
    """Pad a grid of queries by zeros."""
    return jnp.pad(x, ((0, 0), (0, at.height - at.h), (0, at.width - at.w), (0, 0)))


def transpose_blocks(x: Float[Array, "b height width f"], at: Layout) -> Float[Array, "b blocks f queries"]:
    """Put features before queries, block by block."""
    return x.reshape(x.shape[0], at.blocks, at.queries, -1).swapaxes(2, 3)
