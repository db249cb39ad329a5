"""Scoring pictures that lie in a folder, made by any method."""

import dataclasses
from collections.abc import Iterator, Sequence

from etils import epath
from tqdm import tqdm

from msnlan_jax.errors import InputError, naming
from msnlan_jax.pictures import (
    RGBPicture,
    crop_to,
    list_images,
    read_folder_name,
    read_picture_name,
    read_rgb,
    split_mixed,
)
from msnlan_jax.runtime import files
from msnlan_jax.scoring.protocol import Protocol, check_size
from msnlan_jax.scoring.scored import Reconstruction, ScoredPicture
from msnlan_jax.scoring.sharing import Share


@dataclasses.dataclass(frozen=True)
class Match:
    """What one picture is called, and its files: `hr` the true one, `sr` a method's."""

    name: str
    hr: epath.Path
    sr: epath.Path

    def read(self, scale: int) -> tuple[RGBPicture, RGBPicture]:
        """Return SR and HR, the latter cropped at the bottom and right to the size of the former.

        Raises:
            InputError: when a picture is broken, or they are not of one size.
        """
        sr = read_rgb(self.sr)
        return sr, crop_to(read_rgb(self.hr), sr.shape[:2], scale, str(self.sr), str(self.hr))


def match_folders(sr_dir: epath.PathLike, hr_dir: epath.PathLike, scale: int) -> list[Match]:
    """Find the SR picture of each HR picture: `<name>.*`, or else `<name>x4*` or `<name>_*`.

    Where LR pictures lie among the HR ones, as in SelfExSR's folders, they are passed over, and pictures are called
    what both have in common.

    Raises:
        FileNotFoundError: when a folder, or the picture of one name, is missing.
        InputError: when a folder is empty or of LR pictures, or a picture ambiguous.
    """
    found, sr_files = (_pictures(folder) for folder in (hr_dir, sr_dir))
    said = read_folder_name(files.absolute(hr_dir).name)
    if said.role == "lr" and said.is_sure:
        raise InputError(f"{hr_dir}: found a folder of LR pictures, expected their HR pictures'")
    hr_files, lr_files = split_mixed(found, scale)
    names = {path: read_picture_name(path.stem).base if lr_files else path.stem for path in hr_files}
    if len(set(names.values())) < len(names):
        raise InputError(f"{hr_dir}: found two pictures of one name, expected different names")
    return [Match(name, hr, _match(name, hr, list(names.values()), sr_files, scale)) for hr, name in names.items()]


def check_matches(matches: Sequence[Match], scale: int, border: int | None = None) -> dict[str, tuple[int, int]]:
    """Read every picture once, so that a broken one is found before any is scored; arguments, result and errors as
    `check_pairs` and `Match.read`."""
    return {match.name: check_size(match.read(scale)[1], match.hr, scale, border) for match in matches}


def score_matches(
    matches: Sequence[Match],
    protocol: Protocol,
    *,
    dataset: str = "",
    share: Share | None = None,
    show_progress: bool = False,
) -> Iterator[ScoredPicture]:
    """Score pictures made by any method.

    Args:
        matches: from `match_folders`.
        protocol: how to score.
        dataset: what the data set is called.
        share: of a job's process; by default all pictures.
        show_progress: draw a bar.

    Yields:
        Each picture of the share as it is scored.

    Raises:
        InputError: as `Match.read` and `metrics.score`, naming the file.
    """
    bar = tqdm(matches, desc="scoring", unit="picture", disable=not show_progress)
    for number, match in enumerate(bar, 1):
        if share is not None and share.owner(number) != share.index:
            continue
        sr, hr = match.read(protocol.scale)
        with naming(match.hr):
            scores = protocol.score(sr, hr)
        made = Reconstruction(sr, scores)
        yield ScoredPicture(dataset, match.name, number, len(matches), hr, made)


def _match(name: str, hr: epath.Path, stems: Sequence[str], sr_files: Sequence[epath.Path], scale: int) -> epath.Path:
    """Return the SR picture of an HR picture, by name."""
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
