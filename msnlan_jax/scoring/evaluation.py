"""Up-scaling the pictures of data sets and scoring them, one after the other."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from flax import nnx
from tqdm import tqdm

from msnlan_jax.errors import naming
from msnlan_jax.inference import (
    Options,
    Programs,
    log_notes,
    plan_picture,
    predict_as_planned,
    upscale_as_planned,
)
from msnlan_jax.pictures import Bicubic, Pair, RGBPicture, imresize, read_pair
from msnlan_jax.scoring.metrics import Scores, SRPicture
from msnlan_jax.scoring.protocol import Protocol, check_size
from msnlan_jax.scoring.scored import Reconstruction, ScoredPicture, mean_scores

Upscale = Callable[[RGBPicture], SRPicture]


def check_pairs(pairs: Iterable[Pair], scale: int, border: int | None = None) -> dict[str, tuple[int, int]]:
    """Read every picture once, so that a broken one is found before hours of work.

    Args:
        pairs: the pictures.
        scale: up-scaling factor.
        border: pixels left out on every side; by default the scale.

    Returns:
        Picture name → height and width of the HR picture.

    Raises:
        FileNotFoundError, InputError: as `read_pair`, or when nothing is left inside the border.
    """
    return {pair.name: check_size(read_pair(pair, scale)[1], pair.hr, scale, border) for pair in pairs}


def evaluate(
    upscale: Upscale, pairs: Sequence[Pair], protocol: Protocol, *, dataset: str = "", show_progress: bool = False
) -> Iterator[ScoredPicture]:
    """Up-scale the LR picture of every pair and score it.

    Args:
        upscale: LR uint8 RGB → SR RGB 0..255, as many times as large as the protocol's scale.
        pairs: the data set.
        protocol: how to score.
        dataset: what it is called.
        show_progress: draw a bar.

    Yields:
        Each picture as it is done.

    Raises:
        FileNotFoundError, InputError: as `read_pair` and `metrics.score`, naming the file.

    Source: SPEC.md §6.
    """

    def make(lr: RGBPicture) -> _Made:
        began = time.perf_counter()
        return _Made(upscale(lr), time.perf_counter() - began)

    return _score(make, pairs, protocol, dataset, show_progress)


def score_network(
    model: nnx.Module,
    datasets: Mapping[str, Sequence[Pair]],
    protocol: Protocol,
    options: Options,
    *,
    programs: Programs | None = None,
    show_progress: bool = False,
) -> Iterator[ScoredPicture]:
    """Run a network on every data set and score what it makes.

    Args:
        model: from `load_model`.
        datasets: name → pairs.
        protocol: how to score.
        options: how to run the pictures.
        programs: those to run them by; by default they share their own.
        show_progress: draw a bar for each data set.

    Yields:
        Each picture as it is done, with notes where it was not run as asked for.

    Raises:
        FileNotFoundError, InputError: as `evaluate`.
    """
    make = functools.partial(_reconstruct, model, options, programs or Programs(), protocol)
    for dataset, pairs in datasets.items():
        yield from _score(make, pairs, protocol, dataset, show_progress)


def beside_bicubic(pictures: Iterable[ScoredPicture], protocol: Protocol) -> Iterator[ScoredPicture]:
    """Add the baseline, bicubic up-sampling, to scored pictures as they come: of the LR picture, or, where that is not
    known, of the one that MATLAB would make of the true picture, if its sides are multiples of the scale."""
    for picture in pictures:
        yield dataclasses.replace(picture, bicubic=score_bicubic(picture, protocol))


def score_bicubic(picture: ScoredPicture, protocol: Protocol) -> Reconstruction | None:
    """Return the baseline of one picture; see `beside_bicubic`."""
    if picture.lr is not None:
        made = _reconstruct(Bicubic(protocol.scale), Options(), Programs(), protocol, picture.lr)
    elif all(side % protocol.scale == 0 for side in picture.hr.shape[:2]):
        began = time.perf_counter()
        image = imresize(imresize(picture.hr, 1 / protocol.scale), float(protocol.scale))
        made = _Made(image, time.perf_counter() - began)
    else:
        return None
    return Reconstruction(made.image, protocol.score(made.image, picture.hr), made.seconds)


class _Made(NamedTuple):
    """A reconstruction that is not scored yet; see `Reconstruction` and `ScoredPicture`."""

    image: SRPicture
    seconds: float
    notes: tuple[str, ...] = ()


def _score(
    make: Callable[[RGBPicture], _Made], pairs: Sequence[Pair], protocol: Protocol, dataset: str, show_progress: bool
) -> Iterator[ScoredPicture]:
    """Make the pictures of one data set, and score them as they are asked for."""
    scores: list[Scores] = []
    with tqdm(pairs, desc=dataset, unit="picture", disable=not show_progress) as bar:
        for number, pair in enumerate(bar, 1):
            lr, hr = read_pair(pair, protocol.scale)
            with naming(pair.lr or pair.hr):
                made = make(lr)
            with naming(pair.hr):
                scores.append(protocol.score(made.image, hr))
            bar.set_postfix_str(f"{mean_scores(scores).psnr:.3f} dB")
            sr = Reconstruction(made.image, scores[-1], made.seconds)
            yield ScoredPicture(dataset, pair.name, number, len(pairs), hr, sr, lr, notes=made.notes)


def _reconstruct(model: nnx.Module, options: Options, programs: Programs, protocol: Protocol, lr: RGBPicture) -> _Made:
    """Enlarge a picture as the protocol rounds it."""
    is_rounded = protocol.rounding == "uint8"
    plan = plan_picture(model, lr.shape, options, programs=programs, float_result=not is_rounded)
    # What is not run as asked for is said with the picture, anything else in the log.
    notes = plan.notes if plan.mode != options.mode else ()
    if not notes:
        log_notes(plan)
    began, compiled_before = time.perf_counter(), programs.compile_seconds
    image: SRPicture
    if is_rounded:
        image = upscale_as_planned(model, lr, plan, programs=programs)
    else:
        image = np.clip(predict_as_planned(model, lr.astype(np.float32), plan, programs=programs), 0, 255)
    seconds = time.perf_counter() - began - (programs.compile_seconds - compiled_before)
    return _Made(image, seconds, notes)
