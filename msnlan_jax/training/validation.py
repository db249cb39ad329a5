"""Validation during training, with the code that `eval.py` scores by, each process taking its share of the pictures."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils

from msnlan_jax import inference
from msnlan_jax.pictures import Bicubic, Pair, RGBPicture
from msnlan_jax.report import side_by_side
from msnlan_jax.scoring import Scores, evaluation, metrics

Sets = Mapping[str, Sequence[Pair]]


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """Validation was given up, because the run was asked to stop."""


def validate(
    network: nnx.Module, sets: Sets, scale: int, mode: str, *, stop_requested: Callable[[], bool] = lambda: False
) -> tuple[dict[str, float], dict[str, RGBPicture]]:
    """Score a network on every set.

    Args:
        network: what to score, on this process's devices.
        sets: name → pictures.
        scale: up-scaling factor.
        mode: of inference: whole, chop or tile.
        stop_requested: asked after every picture.

    Returns:
        `psnr` (the first set's) and, for every set, `psnr/<set>` and `ssim/<set>`; and the side-by-side picture of
        the first of each set.

    Raises:
        Interrupted: when a stop was requested.
    """
    # No limit: scores are to be the same whatever else is in memory.
    upscale = functools.partial(inference.upscale, network, inference=mode, memory_limit=math.inf)
    values: dict[str, float] = {}
    strips: dict[str, RGBPicture] = {}
    for name, pairs in sets.items():

        def look(
            picture: str,
            lr: RGBPicture,
            hr: RGBPicture,
            sr: RGBPicture,
            ours: Scores,
            name: str = name,
            first: str = pairs[0].name,
        ) -> None:
            if picture == first:
                plain = inference.upscale(Bicubic(scale), lr)
                scores = {"bicubic": metrics.score(plain, hr, scale), "MSNLAN": ours}
                strips[f"{name}/{picture}"] = side_by_side(hr, {"bicubic": plain, "MSNLAN": sr}, scores)
            if stop_requested():
                raise Interrupted

        share = pairs[jax.process_index() :: jax.process_count()]
        scores = _gather(evaluation.evaluate(upscale, share, scale, on_picture=look), len(pairs))
        values |= {f"psnr/{name}": scores.psnr, f"ssim/{name}": scores.ssim}
    return {"psnr": next(iter(values.values()))} | values, strips


def _gather(share: evaluation.DatasetScores, n_pictures: int) -> evaluation.DatasetScores:
    """Bring together what all processes have scored."""
    if jax.process_count() == 1:
        return share
    mine = np.full((-(-n_pictures // jax.process_count()), 2), np.nan)
    for row, scores in enumerate(share.images.values()):
        mine[row] = scores.psnr, scores.ssim
    # Sent as the 4-byte words they consist of: JAX would round float64 to float32.
    words = np.asarray(multihost_utils.process_allgather(mine.view(np.uint32)))
    rows = words.view(np.float64).transpose(1, 0, 2).reshape(-1, 2)[:n_pictures]
    return evaluation.DatasetScores({str(i): Scores(float(psnr), float(ssim)) for i, (psnr, ssim) in enumerate(rows)})
