"""How a picture is cut, run and put together again: whole, by the released chop, or by regular blended tiles.

Each way is a generator that yields, for every tile that it runs, what of the output is finished with it. So a large
picture in tiles is never held in float32, and whoever shows progress counts what comes. All take the compiled network,
the LR picture 0..255, and the network's scale; sizes are LR pixels.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from msnlan_jax.inference.programs import ArraySize, Forward

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


def whole(forward: Forward, lr: Pixels, scale: int) -> Iterator[Part]:
    """Run a picture at once: one part."""
    h, w = lr.shape[:2]
    yield Part(slice(0, h * scale), slice(0, w * scale), forward(lr[None].astype(np.float32))[0])


def chop(forward: Forward, lr: Pixels, scale: int) -> Iterator[Part]:
    """Cut into four overlapping corners, and those again until they are small; stitch at the halves.

    Source: SPEC.md §5, the released geometry.
    """
    h, w = lr.shape[:2]
    if not (levels := chop_levels(h, w, scale)):
        yield from whole(forward, lr, scale)
        return
    # Rows and columns are cut equally often, each without regard to the other.
    cuts = list(itertools.product(*(_halve(sides, scale) for sides in zip((h, w), *levels, strict=True))))
    corners = [(row.start, column.start) for row, column in cuts]
    for (row, column), output in zip(cuts, _run_tiles(forward, lr, corners, levels[-1]), strict=True):
        rows, columns = ((cut.first - cut.start * scale, cut.last - cut.start * scale) for cut in (row, column))
        pixels = output[slice(*rows), slice(*columns)]
        yield Part(slice(row.first, row.last), slice(column.first, column.last), pixels)


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


def tile(forward: Forward, lr: Pixels, scale: int, size: int, overlap: int) -> Iterator[Part]:
    """Cover with equal tiles (one compilation), blended linearly where they overlap.

    Only the rows of the output that are being blended are held: with the last of a row of tiles, what lies above the
    next row is finished.

    Args:
        forward: the compiled network.
        lr: the picture.
        scale: the network's.
        size: side of a tile.
        overlap: what neighbouring tiles share at least.

    Source: our own; the paper's numbers are made by `chop`.
    """
    h, w = lr.shape[:2]
    tile_h, tile_w = min(size, h), min(size, w)
    corners = list(itertools.product(_starts(h, tile_h, overlap), _starts(w, tile_w, overlap)))
    total = np.zeros((tile_h * scale, w * scale, 3), np.float32)
    weight = np.zeros((tile_h * scale, w * scale, 1), np.float32)
    ramp_h, ramp_w = (_ramp(side * scale, overlap * scale) for side in (tile_h, tile_w))
    blend = (ramp_h[:, None] * ramp_w)[:, :, None]
    followers = [*(y for y, _ in corners[1:]), h]
    for (y, x), follower, output in zip(
        corners, followers, _run_tiles(forward, lr, corners, (tile_h, tile_w)), strict=True
    ):
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


def _run_tiles(forward: Forward, lr: Pixels, corners: Sequence[tuple[int, int]], size: ArraySize) -> Iterator[Image]:
    """Yield the outputs of tiles of one size, run in batches of one size."""
    batch_size = min(TILE_BATCH, len(corners))
    for first in range(0, len(corners), batch_size):
        chunk = corners[first : first + batch_size]
        padded = [*chunk, *[chunk[-1]] * (batch_size - len(chunk))]
        batch = np.stack([lr[y : y + size[0], x : x + size[1]] for y, x in padded]).astype(np.float32)
        yield from forward(batch)[: len(chunk)]


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
