"""Validation during training, with the code that `eval.py` scores by, each process taking its share of the pictures."""

import functools
import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils

from msnlan_jax.inference import Options, Programs
from msnlan_jax.pictures import Pair, RGBPicture, read_pair
from msnlan_jax.report import side_by_side
from msnlan_jax.runtime import StopSignal, distributed
from msnlan_jax.scoring import Protocol, ScoredPicture, Scores, Share, mean_scores, score_bicubic, score_network

Sets = Mapping[str, Sequence[Pair]]


def validate(
    network: nnx.Module, sets: Sets, scale: int, mode: str, *, programs: Programs, stop: StopSignal
) -> tuple[dict[str, float], dict[str, RGBPicture]] | None:
    """Score a network on every set.

    Args:
        network: what to score, on all of this process's devices.
        sets: name → pictures.
        scale: up-scaling factor.
        mode: of inference: whole, chop or tile.
        programs: the run's, so that later validations find what earlier ones have compiled.
        stop: looked at after every picture.

    Returns:
        `psnr` (the first set's) and, for every set, `psnr/<set>` and `ssim/<set>`; and the side-by-side picture of
        the first of each set. None when it was given up, because the run was asked to stop.

    Raises:
        InputError: when a picture cannot be scored, here or in another process.
    """
    # A score is not to depend on validations before, as a run that goes on has had none.
    programs.forget_sizes()
    # No limit: scores are to be the same whatever else is in memory.
    options, protocol = Options(mode, memory_limit=math.inf), Protocol(scale)
    scores: dict[str, list[Scores]] = {name: [] for name in sets}
    strips: dict[str, RGBPicture] = {}

    def score() -> bool:
        share = _share(sets, scale)
        for picture in score_network(network, sets, protocol, options, programs=programs, share=share):
            scores[picture.dataset].append(picture.sr.scores)
            if picture.name == sets[picture.dataset][0].name:
                strips[f"{picture.dataset}/{picture.name}"] = _strip(picture, protocol)
            if stop.requested:
                return False
        return True

    if not distributed.on_every(score):
        return None
    values: dict[str, float] = {}
    for name, pairs in sets.items():
        mean = mean_scores(_gather(scores[name], len(pairs)))
        values |= {f"psnr/{name}": mean.psnr, f"ssim/{name}": mean.ssim}
    return {"psnr": next(iter(values.values()))} | values, strips


def _share(sets: Sets, scale: int) -> Share:
    """Return this process's share, with the sizes of the other processes' pictures."""
    if jax.process_count() == 1:
        return Share()
    return Share.of_process({name: {pair.name: _size(pair, scale) for pair in pairs} for name, pairs in sets.items()})


@functools.cache
def _size(pair: Pair, scale: int) -> tuple[int, int]:
    """Read how high and wide a true picture is, once in a run."""
    h, w, _ = read_pair(pair, scale)[1].shape
    return h, w


def _strip(picture: ScoredPicture, protocol: Protocol) -> RGBPicture:
    """Show a picture beside bicubic's."""
    bicubic = score_bicubic(picture, protocol)
    assert bicubic is not None  # the LR picture is known
    methods = {"bicubic": bicubic, "MSNLAN": picture.sr}
    images = {name: made.rounded for name, made in methods.items()}
    return side_by_side(picture.hr, images, {name: made.scores for name, made in methods.items()})


def _gather(share: Sequence[Scores], n_pictures: int) -> list[Scores]:
    """Bring together what all processes have scored."""
    if jax.process_count() == 1:
        return list(share)
    mine = np.full((-(-n_pictures // jax.process_count()), 2), np.nan)
    for row, scores in enumerate(share):
        mine[row] = scores.psnr, scores.ssim
    # Sent as the 4-byte words they consist of: JAX would round float64 to float32.
    words = np.asarray(multihost_utils.process_allgather(mine.view(np.uint32)))
    rows = words.view(np.float64).transpose(1, 0, 2).reshape(-1, 2)[:n_pictures]
    return [Scores(float(psnr), float(ssim)) for psnr, ssim in rows]
