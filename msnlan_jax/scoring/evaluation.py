"""Up-scaling the pictures of data sets and scoring them: devices make the next ones while the host scores."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from flax import nnx

from msnlan_jax.errors import naming
from msnlan_jax.inference import Elsewhere, Options, Plan, Programs, Request, log_notes, plan_picture, upscale_each
from msnlan_jax.pictures import Pair, RGBPicture, imresize, read_pair
from msnlan_jax.scoring.metrics import SRPicture
from msnlan_jax.scoring.progress import with_bars
from msnlan_jax.scoring.protocol import Protocol, check_size
from msnlan_jax.scoring.scored import Reconstruction, ScoredPicture
from msnlan_jax.scoring.sharing import Share

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

    def make() -> Iterator[ScoredPicture]:
        for number, pair in enumerate(pairs, 1):
            lr, hr = read_pair(pair, protocol.scale)
            began = time.perf_counter()
            with naming(pair.lr or pair.hr):
                image = upscale(lr)
            seconds = time.perf_counter() - began
            yield _scored(_Place(dataset, pair, number, len(pairs)), image, seconds, lr, hr, protocol)

    return with_bars(make(), {dataset: len(pairs)}) if show_progress else make()


def score_network(
    model: nnx.Module,
    datasets: Mapping[str, Sequence[Pair]],
    protocol: Protocol,
    options: Options,
    *,
    programs: Programs | None = None,
    share: Share | None = None,
    show_progress: bool = False,
) -> Iterator[ScoredPicture]:
    """Run a network on every data set and score what it makes.

    All devices of this process run pictures at once, if the network's parameters are not put on some; they make the
    next ones while one is scored, and while the caller has it.

    Args:
        model: from `load_model`.
        datasets: name → pairs.
        protocol: how to score.
        options: how to run the pictures.
        programs: those to run them by; by default they share their own.
        share: of a job's process; by default all pictures. The results are those of a single process.
        show_progress: draw a bar for each data set.

    Yields:
        Each picture of the share as it is done, with notes where it was not run as asked for.

    Raises:
        FileNotFoundError, InputError: as `evaluate`.
    """
    programs, share, is_rounded = programs or Programs(), share or Share(), protocol.rounding == "uint8"

    def plan(shape: tuple[int, ...]) -> Plan:
        return plan_picture(model, shape, options, programs=programs, float_result=not is_rounded)

    def requests() -> Iterator[Request | Elsewhere]:
        for dataset, pairs in datasets.items():
            for number, pair in enumerate(pairs, 1):
                if share.owner(number) != share.index:
                    h, w = (side // protocol.scale for side in share.sizes[dataset][pair.name])
                    with naming(pair.lr or pair.hr):
                        yield Elsewhere((h, w), plan((h, w)))
                    continue
                lr, hr = read_pair(pair, protocol.scale)
                with naming(pair.lr or pair.hr):
                    planned = plan(lr.shape)
                image = lr if is_rounded else lr.astype(np.float32)
                yield Request(image, planned, (_Place(dataset, pair, number, len(pairs)), lr, hr))

    def make() -> Iterator[ScoredPicture]:
        for picture in upscale_each(model, requests(), programs=programs, memory_limit=options.memory_limit):
            place, lr, hr = picture.request.tag
            # What is not run as asked for is said with the picture, anything else in the log.
            planned = picture.request.plan
            notes = planned.notes if planned.mode != options.mode else ()
            if not notes:
                log_notes(planned)
            with naming(place.pair.lr or place.pair.hr):
                image = picture.finish()
            image = image if is_rounded else np.clip(image, 0, 255)
            yield _scored(place, image, picture.seconds, lr, hr, protocol, notes)

    n_pictures = {dataset: len(pairs) for dataset, pairs in datasets.items()}
    return with_bars(make(), n_pictures) if show_progress else make()


def beside_bicubic(pictures: Iterable[ScoredPicture], protocol: Protocol) -> Iterator[ScoredPicture]:
    """Add the baseline, bicubic up-sampling, to scored pictures as they come: of the LR picture, or, where that is not
    known, of the one that MATLAB would make of the true picture, if its sides are multiples of the scale."""
    for picture in pictures:
        yield dataclasses.replace(picture, bicubic=score_bicubic(picture, protocol))


def score_bicubic(picture: ScoredPicture, protocol: Protocol) -> Reconstruction | None:
    """Return the baseline of one picture; see `beside_bicubic`."""
    scale, (h, w), lr = protocol.scale, picture.hr.shape[:2], picture.lr
    if lr is None and (h % scale or w % scale):
        return None
    began = time.perf_counter()
    # By the host, whose devices are busy; a `Bicubic` network makes the same.
    image = imresize(imresize(picture.hr, 1 / scale) if lr is None else lr, float(scale))
    seconds = time.perf_counter() - began
    return Reconstruction(image, protocol.score(image, picture.hr), seconds)


class _Place(NamedTuple):
    """Where a picture is among all that are scored."""

    dataset: str
    pair: Pair
    number: int
    n_pictures: int


def _scored(
    place: _Place,
    image: SRPicture,
    seconds: float,
    lr: RGBPicture,
    hr: RGBPicture,
    protocol: Protocol,
    notes: tuple[str, ...] = (),
) -> ScoredPicture:
    """Score a picture."""
    with naming(place.pair.hr):
        scores = protocol.score(image, hr)
    sr = Reconstruction(image, scores, seconds)
    return ScoredPicture(place.dataset, place.pair.name, place.number, place.n_pictures, hr, sr, lr, notes=notes)
