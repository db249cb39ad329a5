"""The sampling plan: which image, crop and flip each sample of a step takes, a pure function of (seed, step)."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8

from msnlan_jax.pictures import RGBPicture

Patches = UInt8[np.ndarray, "_b _h _w 3"]


@dataclasses.dataclass(frozen=True)
class Samples:
    """What one step reads.

    Attributes:
        image: which picture.
        top: first LR row of the crop.
        left: first LR column of the crop.
        flips: whether to flip horizontally, flip vertically, and transpose, each with probability ½.
    """

    image: Int[np.ndarray, " b"]
    top: Int[np.ndarray, " b"]
    left: Int[np.ndarray, " b"]
    flips: Bool[np.ndarray, "b 3"]

    def of_process(self, index: int, count: int) -> "Samples":
        """Return the slice that one of `count` processes reads; their number divides the batch."""
        share = len(self.image) // count
        part = slice(index * share, (index + 1) * share)
        return Samples(self.image[part], self.top[part], self.left[part], self.flips[part])


def plan_step(seed: int, step: int, batch_size: int, sizes: Int[np.ndarray, "n 2"], patch_size: int) -> Samples:
    """Return the samples of one step.

    Args:
        seed: the run's.
        step: from 0.
        batch_size: samples.
        sizes: LR height and width of every picture, at least `patch_size`.
        patch_size: side of the LR crop.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, step]))
    image = random.integers(len(sizes), size=batch_size)
    top, left = (random.integers(sizes[image, axis] - patch_size + 1) for axis in (0, 1))
    return Samples(image, top, left, random.random((batch_size, 3)) < 0.5)


def cut(
    pictures: Sequence[tuple[RGBPicture, RGBPicture]], samples: Samples, patch_size: int, scale: int
) -> tuple[Patches, Patches]:
    """Cut the planned crops out of LR and HR pictures and flip them.

    Returns:
        LR `[B,p,p,3]` and HR `[B,sp,sp,3]`, uint8 0..255.
    """
    lr, hr = (np.empty((len(samples.image), side, side, 3), np.uint8) for side in (patch_size, patch_size * scale))
    for i, image in enumerate(samples.image):
        for picture, factor, patches in ((pictures[image][0], 1, lr), (pictures[image][1], scale, hr)):
            y, x, side = samples.top[i] * factor, samples.left[i] * factor, patch_size * factor
            _flip(picture[y : y + side, x : x + side], samples.flips[i], patches[i])
    return lr, hr


def _flip(patch: RGBPicture, flips: Bool[np.ndarray, " 3"], into: RGBPicture) -> None:
    horizontal, vertical, transpose = flips
    pixels = _pixels(np.ascontiguousarray(patch))[:: -1 if vertical else 1, :: -1 if horizontal else 1]
    _pixels(into)[...] = pixels.T if transpose else pixels


def _pixels(patch: RGBPicture) -> np.ndarray:
    """View a patch as `[H,W]`: NumPy moves whole pixels twice as fast as single bytes."""
    return patch.view("V3")[..., 0]
