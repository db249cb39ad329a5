"""Running a network, or reading another method's pictures, on data sets: scores, and what the report shows."""

import dataclasses
import functools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from flax import nnx

from msnlan_jax.errors import InputError
from msnlan_jax.inference import Options, Programs, plan_picture, predict, upscale
from msnlan_jax.pictures import Bicubic, Pair, RGBPicture, imresize, write_image
from msnlan_jax.report import writing
from msnlan_jax.report.comparison import Compared
from msnlan_jax.report.rows import BICUBIC
from msnlan_jax.report.showcase import Showcase
from msnlan_jax.report.strips import side_by_side
from msnlan_jax.scoring import DatasetScores, Distance, ScoredPicture, Scores, evaluation, metrics

ROUNDINGS = ("uint8", "none")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How pictures are scored.

    Attributes:
        scale: up-scaling factor.
        channel: "y" as papers do, or "rgb".
        border: pixels left out on every side; the scale by default.
        rounding: "uint8" as papers do, or "none": clipped to 0..255 only.
        lpips: computes the perceptual distance too, if given.
    """

    scale: int
    channel: str = "y"
    border: int | None = None
    rounding: str = "uint8"
    lpips: Distance | None = None

    def __post_init__(self) -> None:
        if self.rounding not in ROUNDINGS:
            raise InputError(f"rounding: found {self.rounding!r}, expected one of {', '.join(ROUNDINGS)}")

    @property
    def cut(self) -> int:
        """Pixels left out on every side."""
        return self.scale if self.border is None else self.border

    def score(self, sr: ScoredPicture, hr: RGBPicture, border: int) -> Scores:
        """Score one picture."""
        scores = metrics.score(sr, hr, border, self.channel)
        if self.lpips is None:
            return scores
        inside = slice(border, -border or None)
        return dataclasses.replace(scores, lpips=self.lpips(_uint8(sr)[inside, inside], hr[inside, inside]))

    def as_json(self) -> dict[str, Any]:
        """Return what stands beside every number."""
        return writing.protocol(
            self.scale, channel=self.channel, border=self.border, rounding=self.rounding, lpips=self.lpips is not None
        )


@dataclasses.dataclass
class Outcome:
    """Scores by data set, of the method and of bicubic; and which pictures, `set/name`, were not run as asked for."""

    datasets: dict[str, DatasetScores] = dataclasses.field(default_factory=dict)
    bicubic: dict[str, DatasetScores] = dataclasses.field(default_factory=dict)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)


def score_network(
    model: nnx.Module,
    method: str,
    datasets: Mapping[str, Sequence[Pair]],
    protocol: Protocol,
    *,
    options: Options,
    programs: Programs,
    showcase: Showcase,
    compared: Sequence[Compared] = (),
    save_to: epath.Path | None = None,
) -> Outcome:
    """Run a network, and bicubic beside it, on every data set.

    Args:
        model: from `load_model`.
        method: what it is called in the report.
        datasets: name → pairs.
        protocol: how to score.
        options: how to run the pictures.
        programs: those that they share.
        showcase: takes the pictures for the report.
        compared: other methods, whose pictures are shown too where they left them.
        save_to: folder for `images/<set>/<name>x4.png` and `strips/<set>/<name>.png`.

    Raises:
        FileNotFoundError, InputError: as `evaluation.evaluate`.
    """
    found: list[str] = []
    is_rounded = protocol.rounding == "uint8"

    def run(lr: RGBPicture) -> ScoredPicture:
        plan = plan_picture(model, lr.shape, options, programs=programs, float_result=not is_rounded)
        if plan.mode != options.mode:
            found.extend(plan.notes)
        return _enlarge(model, lr, plan.options, programs, is_rounded)

    bicubic = functools.partial(
        _enlarge, Bicubic(protocol.scale), options=Options(), programs=programs, is_rounded=is_rounded
    )
    outcome = Outcome()
    for dataset, pairs in datasets.items():
        baseline = DatasetScores()
        result = DatasetScores()

        def add(name: str, lr: RGBPicture, hr: RGBPicture, sr: ScoredPicture, ours: Scores) -> None:
            start = time.perf_counter()
            plain = bicubic(lr)
            baseline.seconds += time.perf_counter() - start  # noqa: B023 - called within this turn of the loop
            baseline.images[name] = protocol.score(plain, hr, protocol.cut)  # noqa: B023
            pictures = {BICUBIC: _uint8(plain)} | ({} if method == BICUBIC else {method: _uint8(sr)})
            scores = {BICUBIC: baseline.images[name], method: ours}  # noqa: B023
            _show(showcase, dataset, name, hr, pictures, scores, compared)  # noqa: B023
            _save(save_to, dataset, name, hr, pictures, scores, protocol.scale)  # noqa: B023
            if found:
                outcome.notes[f"{dataset}/{name}"] = "; ".join(found)  # noqa: B023
                found.clear()

        result = evaluation.evaluate(
            run, pairs, protocol.scale, border=protocol.cut, score=protocol.score, on_picture=add, title=dataset
        )
        outcome.datasets[dataset] = result
        if method != BICUBIC:
            outcome.bicubic[dataset] = baseline
    return outcome


def score_pictures(
    sr_dir: epath.PathLike,
    hr_dir: epath.PathLike,
    dataset: str,
    method: str,
    protocol: Protocol,
    *,
    showcase: Showcase,
    compared: Sequence[Compared] = (),
    save_to: epath.Path | None = None,
) -> Outcome:
    """Score pictures made elsewhere, and bicubic beside them where the true size is a multiple of the scale.

    Arguments and errors as `score_network` and `evaluation.score_folder`.
    """
    baseline = DatasetScores()

    def add(name: str, hr: RGBPicture, sr: RGBPicture, ours: Scores) -> None:
        pictures, scores = {method: sr}, {method: ours}
        if all(side % protocol.scale == 0 for side in hr.shape[:2]):
            start = time.perf_counter()
            plain = imresize(imresize(hr, 1 / protocol.scale), float(protocol.scale))
            baseline.seconds += time.perf_counter() - start
            baseline.images[name] = scores[BICUBIC] = protocol.score(plain, hr, protocol.cut)
            pictures = {BICUBIC: plain, **pictures}
        _show(showcase, dataset, name, hr, pictures, scores, compared)
        _save(save_to, dataset, name, hr, pictures, scores, protocol.scale)

    result = evaluation.score_folder(
        sr_dir,
        hr_dir,
        protocol.scale,
        border=protocol.cut,
        score=protocol.score,
        check=showcase.check,
        on_picture=add,
    )
    complete = len(baseline.images) == len(result.images)
    return Outcome({dataset: result}, {dataset: baseline} if complete else {})


def _show(
    showcase: Showcase,
    dataset: str,
    name: str,
    hr: RGBPicture,
    pictures: Mapping[str, RGBPicture],
    scores: Mapping[str, Scores],
    compared: Sequence[Compared],
) -> None:
    """Hand a picture to the showcase, other methods' between bicubic's and ours."""
    found, all_scores = dict(pictures), dict(scores)
    ours = list(pictures)[-1]
    for other in compared:
        picture = other.picture(dataset, name, hr.shape)
        stored = other.result["datasets"].get(dataset, {}).get("images", {}).get(name)
        if picture is not None and stored is not None and other.name not in found:
            found[other.name] = picture
            psnr, ssim = (math.nan if stored[key] is None else float(stored[key]) for key in ("psnr", "ssim"))
            all_scores[other.name] = Scores(psnr, ssim, stored.get("lpips"))
    found[ours] = found.pop(ours)  # to the end
    showcase.add(dataset, name, hr, found, all_scores)


def _save(
    folder: epath.Path | None,
    dataset: str,
    name: str,
    hr: RGBPicture,
    pictures: Mapping[str, RGBPicture],
    scores: Mapping[str, Scores],
    scale: int,
) -> None:
    if folder is not None:
        ours = list(pictures.values())[-1]
        write_image(folder / "images" / dataset / f"{name}x{scale}.png", ours)
        write_image(folder / "strips" / dataset / f"{name}.png", side_by_side(hr, pictures, scores))


def _enlarge(
    model: nnx.Module, lr: RGBPicture, options: Options, programs: Programs, is_rounded: bool
) -> ScoredPicture:
    if is_rounded:
        return upscale(model, lr, options=options, programs=programs)
    return np.clip(predict(model, lr.astype(np.float32), options, programs=programs), 0, 255)


def _uint8(image: ScoredPicture) -> RGBPicture:
    return image if image.dtype == np.uint8 else np.round(image).astype(np.uint8)
