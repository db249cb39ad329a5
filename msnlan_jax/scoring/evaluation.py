"""Scoring super-resolved pictures against the true ones, one data set at a time."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence

from etils import epath
from tqdm import tqdm

from msnlan_jax.errors import InputError, naming
from msnlan_jax.pictures import Pair, RGBPicture, crop_to, list_images, read_pair, read_rgb
from msnlan_jax.scoring import metrics
from msnlan_jax.scoring.metrics import ScoredPicture, Scores

Upscale = Callable[[RGBPicture], ScoredPicture]
OnPicture = Callable[[str, RGBPicture, RGBPicture, ScoredPicture, Scores], None]
Score = Callable[[ScoredPicture, RGBPicture, int], Scores]


@dataclasses.dataclass
class DatasetScores:
    """Scores of a data set.

    Attributes:
        images: picture name → scores.
        seconds: time spent up-scaling, compilation included.
    """

    images: dict[str, Scores] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    @property
    def psnr(self) -> float:
        """Mean of the pictures' PSNRs, dB."""
        return _mean([scores.psnr for scores in self.images.values()])

    @property
    def ssim(self) -> float:
        """Mean of the pictures' SSIMs, those too small for one left out."""
        return _mean([scores.ssim for scores in self.images.values() if not math.isnan(scores.ssim)])

    @property
    def lpips(self) -> float | None:
        """Mean of the pictures' LPIPS distances; None when they were not computed."""
        values = [scores.lpips for scores in self.images.values() if scores.lpips is not None]
        return _mean(values) if values else None


def check_pairs(
    pairs: Iterable[Pair], scale: int, border: int | None = None, check: Callable[[str, RGBPicture], None] | None = None
) -> None:
    """Read every picture once, so that a broken one is found before hours of work.

    Args:
        pairs: the pictures.
        scale: up-scaling factor.
        border: pixels left out on every side; by default the scale.
        check: called with name and HR picture, to refuse what else will not do.

    Raises:
        FileNotFoundError, InputError: as `read_pair` and `check`, or when nothing is left inside the border.
    """
    for pair in pairs:
        _, hr = read_pair(pair, scale)
        if check is not None:
            check(pair.name, hr)
        least = scale if border is None else border
        if min(hr.shape[:2]) <= 2 * least:
            found = f"{hr.shape[0]}×{hr.shape[1]}"
            raise InputError(f"{pair.hr}: found {found} pixels, expected more than the border of {least} on every side")


def evaluate(
    upscale: Upscale,
    pairs: Sequence[Pair],
    scale: int,
    *,
    border: int | None = None,
    score: Score = metrics.score,
    on_picture: OnPicture | None = None,
    title: str = "",
) -> DatasetScores:
    """Up-scale the LR picture of every pair and score it.

    Args:
        upscale: LR uint8 RGB → SR uint8 RGB, `scale` times as large.
        pairs: the data set.
        scale: up-scaling factor.
        border: pixels left out on every side; by default the scale.
        score: how a picture is scored, given SR, HR and border.
        on_picture: called with name, LR, HR and SR picture and scores as each is done.
        title: what the progress bar is called; without one there is no bar.

    Raises:
        FileNotFoundError, InputError: as `read_pair`.

    Source: SPEC.md §6.
    """
    result = DatasetScores()
    with tqdm(pairs, desc=title, unit="picture", disable=not title) as bar:
        for pair in bar:
            lr, hr = read_pair(pair, scale)
            start = time.perf_counter()
            with naming(pair.lr or pair.hr):
                sr = upscale(lr)
            result.seconds += time.perf_counter() - start
            with naming(pair.hr):
                scores = result.images[pair.name] = score(sr, hr, scale if border is None else border)
            if on_picture is not None:
                on_picture(pair.name, lr, hr, sr, scores)
            bar.set_postfix_str(f"{result.psnr:.3f} dB")
    return result


def score_folder(
    sr_dir: epath.PathLike,
    hr_dir: epath.PathLike,
    scale: int,
    *,
    border: int | None = None,
    score: Score = metrics.score,
    check: Callable[[str, RGBPicture], None] | None = None,
    on_picture: Callable[[str, RGBPicture, RGBPicture, Scores], None] | None = None,
) -> DatasetScores:
    """Score pictures made by any method: for each HR picture, `<name>.*`, `<name>x4*` or `<name>_*` in `sr_dir`.

    Args:
        sr_dir: super-resolved pictures.
        hr_dir: true pictures, cropped at the bottom and right to the size of theirs.
        scale: up-scaling factor.
        border: pixels left out on every side; by default the scale.
        score: how a picture is scored, given SR, HR and border.
        check: called with name and HR picture of all before any is scored, to refuse what else will not do.
        on_picture: called with name, HR and SR picture and scores as each is done.

    Raises:
        FileNotFoundError: when a folder, or the picture of one name, is missing.
        InputError: when a folder is empty, or a picture is broken, ambiguous or of the wrong size.
    """
    hr_files, sr_files = (_pictures(folder) for folder in (hr_dir, sr_dir))
    if len({path.stem for path in hr_files}) < len(hr_files):
        raise InputError(f"{hr_dir}: found two pictures of one name, expected different names")
    matches = {hr: _match(hr, [path.stem for path in hr_files], sr_files, scale) for hr in hr_files}

    def read(hr_path: epath.Path) -> tuple[RGBPicture, RGBPicture]:
        sr = read_rgb(matches[hr_path])
        return sr, crop_to(read_rgb(hr_path), sr.shape[:2], scale, str(matches[hr_path]), str(hr_path))

    for path in hr_files:
        _, hr = read(path)  # a broken picture is found before any is scored
        if check is not None:
            check(path.stem, hr)
    result = DatasetScores()
    for path in tqdm(hr_files, desc="scoring", unit="picture"):
        sr, hr = read(path)
        with naming(path):
            scores = result.images[path.stem] = score(sr, hr, scale if border is None else border)
        if on_picture is not None:
            on_picture(path.stem, hr, sr, scores)
    return result


def _match(hr: epath.Path, stems: Sequence[str], sr_files: Sequence[epath.Path], scale: int) -> epath.Path:
    """Return the SR picture of an HR picture, by name."""
    name = hr.stem
    # A longer HR name, as in "0801" and "0801_b", owns the files that begin with it.
    longer = tuple(stem for stem in stems if stem != name and stem.startswith(name))
    matches = [path for path in sr_files if path.stem == name] or [
        path
        for path in sr_files
        if path.stem.startswith((f"{name}x{scale}", f"{name}_")) and not (longer and path.stem.startswith(longer))
    ]
    folder = sr_files[0].parent
    if not matches:
        raise FileNotFoundError(f"{folder}: found no picture {name}.* or {name}x{scale}.*, expected one as for {hr}")
    if len(matches) > 1:
        names = ", ".join(path.name for path in matches)
        raise InputError(f"{folder}: found {names}, expected one picture for {hr}")
    return matches[0]


def _pictures(folder: epath.PathLike) -> list[epath.Path]:
    if not (found := list_images(folder)):
        raise InputError(f"{folder}: found no pictures, expected at least one")
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
