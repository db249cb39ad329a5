"""Bars that show how far scoring is."""

import itertools
from collections.abc import Iterable, Iterator, Mapping

from tqdm import tqdm

from msnlan_jax.runtime import command
from msnlan_jax.scoring.metrics import Scores
from msnlan_jax.scoring.scored import ScoredPicture, mean_scores


def with_bars(pictures: Iterable[ScoredPicture], n_pictures: Mapping[str, int]) -> Iterator[ScoredPicture]:
    """Draw a bar for each data set while its pictures come.

    Args:
        pictures: data set by data set.
        n_pictures: data set → how many there are.
    """
    coming = iter(pictures)
    for dataset, count in n_pictures.items():
        scores: list[Scores] = []
        with tqdm(itertools.islice(coming, count), desc=command.printable(dataset), total=count, unit="picture") as bar:
            for picture in bar:
                scores.append(picture.sr.scores)
                bar.set_postfix_str(f"{mean_scores(scores).psnr:.3f} dB")
                yield picture
