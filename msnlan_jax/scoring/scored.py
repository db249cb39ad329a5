"""A scored picture: what comes out of scoring, one by one, for whoever shows, saves or averages it."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from msnlan_jax.pictures import RGBPicture
from msnlan_jax.scoring.metrics import Scores, SRPicture


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """A picture as one method makes it.

    Attributes:
        image: RGB 0..255, uint8, or floats where the protocol does not round.
        scores: against the true picture.
        seconds: spent on making it, without reading, compiling and scoring.
    """

    image: SRPicture
    scores: Scores
    seconds: float = 0.0

    @property
    def rounded(self) -> RGBPicture:
        """The picture as it is saved and shown, uint8."""
        return to_uint8(self.image)


@dataclasses.dataclass(frozen=True)
class ScoredPicture:
    """One picture of a data set, reconstructed and scored.

    Attributes:
        dataset: the set it is of.
        name: the picture's.
        number: which of its set it is, from 1.
        n_pictures: how many there are in the set; the one of this number ends it.
        hr: the true picture, uint8 `[sH,sW,3]`.
        sr: the reconstruction.
        lr: what it was made of, uint8 `[H,W,3]`; None where that is not known.
        bicubic: the baseline; None where there is none.
        notes: how it was run, where that is not as asked for.
    """

    dataset: str
    name: str
    number: int
    n_pictures: int
    hr: RGBPicture
    sr: Reconstruction
    lr: RGBPicture | None = None
    bicubic: Reconstruction | None = None
    notes: tuple[str, ...] = ()


def to_uint8(image: SRPicture) -> RGBPicture:
    """Return a picture of values 0..255 rounded to uint8, itself where it is."""
    return image if image.dtype == np.uint8 else np.round(image).astype(np.uint8)


def mean_scores(scores: Iterable[Scores]) -> Scores:
    """Return the scores of a data set: the mean of its pictures' (SPEC.md §6).

    PSNR is infinite where one picture's is. SSIM leaves out pictures too small for it (NaN), LPIPS those without. Of
    nothing the mean is NaN.
    """
    every = list(scores)
    lpips = [values.lpips for values in every if values.lpips is not None]
    return Scores(
        _mean([values.psnr for values in every]),
        _mean([values.ssim for values in every if not math.isnan(values.ssim)]),
        _mean(lpips) if lpips else None,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
