"""How a picture is cut, run and put together again: whole, by the released chop, or by regular blended tiles.

Each way is a `Tiling`, which cuts batches from a picture, and is a generator from their outputs that yields, for every
tile, what of the picture is finished with it. So a large picture in tiles is never held in float32, and whoever shows
progress counts what comes. Who runs the batches, on how many devices, is not known here. Sizes are LR pixels.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from msnlan_jax.inference.programs import ArraySize, Batch

# Tiles in a batch; the chop has four by its geometry.
TILE_BATCH = 4
# The released chop: how far a corner reaches beyond the half, and below how many pixels it is not cut again.
_CHOP_SHAVE = 10
_CHOP_LIMIT, _CHOP_LIMIT_X4 = 4000, 3600
# The array sizes in which tiles of the chop are run, by scale, smallest first. Pictures of the common sizes, 481×321 or
# 512×512, are cut into tiles that nearly fill one of the first three; the last holds any tile below the chop's limit
# that is not very long. More waste would be slow, as attention takes time with the square of the area.
CHOP_ARRAYS = {
    2: ((40, 56), (56, 40), (56, 56), (72, 72)),
    3: ((48, 64), (64, 48), (64, 64), (72, 72)),
    4: ((40, 48), (48, 40), (56, 56), (72, 72)),
}

Image = Float[np.ndarray, "_h _w 3"]
# Pixels 0..255 of a picture to enlarge, uint8 or float.
Pixels = Num[np.ndarray, "_h _w 3"]


class Part(NamedTuple):
    """Finished pixels, neither clipped nor rounded, and the rows and columns of the output where they go.

    There are no rows where a tile only prepares what others finish.
    """

    rows: slice
    columns: slice
    pixels: Image


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How a picture is cut into tiles of one size, and put together of what the network makes of them.

    Attributes:
        size: of every tile.
        corners: each tile's first row and column, in the order in which they are run.
        join: from the output of every tile, in that order, to parts of the picture, as many as tiles.
    """

    size: ArraySize
    corners: Sequence[tuple[int, int]]
    join: Callable[[Iterable[Image]], Iterator[Part]]

    @property
    def batch_size(self) -> int:
        """How many tiles are run at once."""
        return min(TILE_BATCH, len(self.corners))

    @property
    def n_batches(self) -> int:
        """In how many batches they are run."""
        return -(-len(self.corners) // self.batch_size)

    def batches(self, lr: Pixels) -> Iterator[Batch]:
        """Cut a picture into batches of one size; the last is filled with its last tile."""
        h, w = self.size
        for first in range(0, len(self.corners), self.batch_size):
            chunk = self.corners[first : first + self.batch_size]
            padded = [*chunk, *[chunk[-1]] * (self.batch_size - len(chunk))]
            yield np.stack([lr[y : y + h, x : x + w] for y, x in padded]).astype(np.float32)

    def parts(self, outputs: Iterable[Batch]) -> Iterator[Part]:
        """Put the picture together of its batches' outputs."""
        yield from self.join(itertools.islice(itertools.chain.from_iterable(outputs), len(self.corners)))


def whole(h: int, w: int, scale: int) -> Tiling:
    """Run a picture at once: one part."""

    def join(outputs: Iterable[Image]) -> Iterator[Part]:
        for output in outputs:
            yield Part(slice(0, h * scale), slice(0, w * scale), output)

    return Tiling((h, w), [(0, 0)], join)


def chop(h: int, w: int, scale: int) -> Tiling:
    """Cut into four overlapping corners, and those again until they are small; stitch at the halves.

    Source: SPEC.md §5, the released geometry.
    """
    if not (levels := chop_levels(h, w, scale)):
        return whole(h, w, scale)
    # Rows and columns are cut equally often, each without regard to the other.
    cuts = list(itertools.product(*(_halve(sides, scale) for sides in zip((h, w), *levels, strict=True))))

    def join(outputs: Iterable[Image]) -> Iterator[Part]:
        for (row, column), output in zip(cuts, outputs, strict=True):
            rows, columns = ((cut.first - cut.start * scale, cut.last - cut.start * scale) for cut in (row, column))
            pixels = output[slice(*rows), slice(*columns)]
            yield Part(slice(row.first, row.last), slice(column.first, column.last), pixels)

    return Tiling(levels[-1], [(row.start, column.start) for row, column in cuts], join)


def chop_levels(h: int, w: int, scale: int) -> list[tuple[int, int]]:
    """Return the sizes of the corners into which the chop cuts h×w LR pixels, each of these, and so on; none where
    these are too few, and run whole, on which the released code breaks."""
    # The geometry, quirks included: a size already divisible by the scale still grows by the scale.
    tile_h, tile_w = (side // 2 + _CHOP_SHAVE for side in (h, w))
    tile_h, tile_w = tile_h + scale - tile_h % scale, tile_w + scale - tile_w % scale
    if tile_h > h or tile_w > w:
        return []
    limit = _CHOP_LIMIT_X4 if scale == 4 else _CHOP_LIMIT
    further = [] if tile_h * tile_w < limit else chop_levels(tile_h, tile_w, scale)
    return [(tile_h, tile_w), *further]


def count_chop(h: int, w: int, scale: int) -> int:
    """Return in how many tiles the chop runs a picture of h×w LR pixels."""
    return int(4 ** len(chop_levels(h, w, scale)))


def tile(h: int, w: int, scale: int, size: int, overlap: int) -> Tiling:
    """Cover with equal tiles (one compilation), blended linearly where they overlap.

    Only the rows of the output that are being blended are held: with the last of a row of tiles, what lies above the
    next row is finished.

    Args:
        h: the picture's height.
        w: its width.
        scale: the network's.
        size: side of a tile.
        overlap: what neighbouring tiles share at least.

    Source: our own; the paper's numbers are made by `chop`.
    """
    tile_h, tile_w = min(size, h), min(size, w)
    corners = list(itertools.product(_starts(h, tile_h, overlap), _starts(w, tile_w, overlap)))
    ramp_h, ramp_w = (_ramp(side * scale, overlap * scale) for side in (tile_h, tile_w))
    blend = (ramp_h[:, None] * ramp_w)[:, :, None]
    return Tiling((tile_h, tile_w), corners, functools.partial(_blend, h, w, scale, corners, blend))


def _blend(
    h: int, w: int, scale: int, corners: Sequence[tuple[int, int]], blend: np.ndarray, outputs: Iterable[Image]
) -> Iterator[Part]:
    """Blend tiles by their weights."""
    tile_h, tile_w = (side // scale for side in blend.shape[:2])
    total = np.zeros((tile_h * scale, w * scale, 3), np.float32)
    weight = np.zeros((tile_h * scale, w * scale, 1), np.float32)
    followers = [*(y for y, _ in corners[1:]), h]
    for (y, x), follower, output in zip(corners, followers, outputs, strict=True):
        columns = slice(x * scale, (x + tile_w) * scale)
        total[:, columns] += blend * output
        weight[:, columns] += blend
        done = (follower - y) * scale
        yield Part(slice(y * scale, follower * scale), slice(0, w * scale), total[:done] / weight[:done])
        if done:
            for rows in (total, weight):
                rows[:-done] = rows[done:]
                rows[-done:] = 0


def count_tiles(h: int, w: int, size: int, overlap: int) -> int:
    """Return in how many tiles a picture of h×w LR pixels is run."""
    return len(_starts(h, min(size, h), overlap)) * len(_starts(w, min(size, w), overlap))


class _Cut(NamedTuple):
    """A tile along one axis: its first LR pixel, and which output pixels come from it."""

    start: int
    first: int
    last: int


def _halve(sides: Sequence[int], scale: int) -> list[_Cut]:
    """Cut an axis in two again and again.

    Args:
        sides: the length, that of its two overlapping tiles, that of the two in each of these, and so on.
        scale: of the output.
    """
    length, *inner = sides
    if not inner:
        return [_Cut(0, 0, length * scale)]
    middle, found = length // 2 * scale, []
    for start, first, last in ((0, 0, middle), (length - inner[0], middle, length * scale)):
        for cut in _halve(inner, scale):
            begin = max(first, cut.first + start * scale)
            end = max(begin, min(last, cut.last + start * scale))
            found.append(_Cut(start + cut.start, begin, end))
    return found


def _starts(length: int, size: int, overlap: int) -> list[int]:
    """Where tiles begin: evenly stepped, the last one flush with the end."""
    return sorted({min(start, length - size) for start in range(0, max(1, length - overlap), max(1, size - overlap))})


def _ramp(size: int, overlap: int) -> Float[np.ndarray, " size"]:
    """Weights across a tile: 1 inside, falling linearly towards both ends over the overlap, never 0."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    return np.minimum(1.0, distance / max(overlap, 0.5)).astype(np.float32)
