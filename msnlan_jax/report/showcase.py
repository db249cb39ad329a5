"""Choosing what a report shows: the most telling pictures, and the part of each where the methods differ most."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import RGBPicture
from msnlan_jax.scoring import Scores

CROP = 96


class Crop(NamedTuple):
    """A square part of a picture, in HR pixels; cut off where the picture ends."""

    x: int
    y: int
    size: int

    def of(self, image: RGBPicture) -> RGBPicture:
        """Return the part of a picture."""
        return image[self.y : self.y + self.size, self.x : self.x + self.size]


@dataclasses.dataclass(frozen=True)
class Sample:
    """One picture by every method.

    Attributes:
        dataset: the set it is of.
        name: the picture's.
        hr: the true picture.
        methods: name → reconstruction of the same size; the report's own method is the last.
        scores: name → scores of the whole picture.
        crop: the part to enlarge.
    """

    dataset: str
    name: str
    hr: RGBPicture
    methods: Mapping[str, RGBPicture]
    scores: Mapping[str, Scores]
    crop: Crop


class Showcase:
    """Collects the pictures of an evaluation, and keeps the few in which the methods differ most.

    Args:
        limit: how many to keep.
        crops: picture name → part to show; "" for all others. Where nothing is given, the part is chosen.
    """

    def __init__(self, limit: int, crops: Mapping[str, Crop] | None = None):
        self._limit, self._crops = limit, dict(crops or {})
        self._kept: list[tuple[float, int, Sample]] = []
        self._count = 0

    @property
    def samples(self) -> list[Sample]:
        """The kept pictures, in the order in which they came."""
        return [sample for _, _, sample in sorted(self._kept, key=lambda kept: kept[1])]

    def add(
        self,
        dataset: str,
        name: str,
        hr: RGBPicture,
        methods: Mapping[str, RGBPicture],
        scores: Mapping[str, Scores],
    ) -> None:
        """Take a picture, and let go of the least telling one if there are too many."""
        crop, spread = most_different(hr, list(methods.values()))
        crop = wanted_crop(self._crops, name) or crop
        if name in self._crops:
            spread = np.inf  # asked for by name
        self._kept.append((spread, self._count, Sample(dataset, name, hr, methods, scores, crop)))
        self._count += 1
        if len(self._kept) > self._limit:
            self._kept.remove(min(self._kept, key=lambda kept: kept[:2]))


def most_different(hr: RGBPicture, methods: list[RGBPicture], side: int = CROP) -> tuple[Crop, float]:
    """Return the window in which the methods' squared errors differ most, and by how much a pixel.

    Args:
        hr: the true picture.
        methods: reconstructions of the same size; of a single one, the window with the largest error.
        side: of the window, HR pixels; less where the picture is smaller.
    """
    h, w = (min(side, size) for size in hr.shape[:2])
    sums = []
    for image in methods:
        error = np.square(image.astype(np.float64) - hr).sum(axis=2)
        total = np.pad(error, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        sums.append(total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w])
    spread = np.max(sums, axis=0) - (np.min(sums, axis=0) if len(sums) > 1 else 0.0)
    top, left = np.unravel_index(np.argmax(spread), spread.shape)
    return Crop(int(left), int(top), side), float(spread[top, left]) / (h * w)


def parse_crops(values: Iterable[str], names: Collection[str]) -> dict[str, Crop]:
    """Read `--crop` flags, `x,y,size` or `NAME:x,y,size`, in HR pixels from the top left corner.

    Args:
        values: as typed.
        names: the pictures there are.

    Returns:
        Picture name → crop, "" for all.

    Raises:
        InputError: on anything else, or a name that is no picture's.
    """
    crops = {}
    for value in values:
        name, _, numbers = value.rpartition(":")
        try:
            crop = Crop(*map(int, numbers.split(",")))
        except (TypeError, ValueError):
            raise InputError(f"--crop: found {value}, expected x,y,size or NAME:x,y,size") from None
        if min(crop.x, crop.y) < 0 or crop.size < 8:
            raise InputError(f"--crop: found {value}, expected x and y of at least 0 and a size of at least 8")
        if name and name not in names:
            raise InputError(f"--crop: found {name}, expected one of {', '.join(sorted(names))}")
        crops[name] = crop
    return crops


def wanted_crop(crops: Mapping[str, Crop], name: str) -> Crop | None:
    """Return the part that was asked for of a picture, if any."""
    return crops.get(name, crops.get(""))


def check_crops(crops: Mapping[str, Crop], sizes: Mapping[str, tuple[int, int]]) -> None:
    """Refuse a part that is outside its picture.

    Args:
        crops: from `parse_crops`.
        sizes: picture name → height and width.

    Raises:
        InputError: naming the flag and the picture.
    """
    for name, (h, w) in sizes.items():
        wanted = wanted_crop(crops, name)
        if wanted is not None and (wanted.x >= w or wanted.y >= h):
            raise InputError(f"--crop: found {wanted.x},{wanted.y}, expected inside {name}, {w}×{h}")
