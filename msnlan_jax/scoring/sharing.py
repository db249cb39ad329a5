"""Which pictures each process of a job scores, and how they come together again in its first one."""

import dataclasses
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from msnlan_jax.runtime import relay
from msnlan_jax.scoring.metrics import Scores
from msnlan_jax.scoring.progress import with_bars
from msnlan_jax.scoring.scored import Reconstruction, ScoredPicture


@dataclasses.dataclass(frozen=True)
class Share:
    """Which pictures of each data set a process of a job takes: of `count` processes every `count`-th.

    Attributes:
        index: the process's number, and that of its first picture from 0.
        count: how many processes there are.
        sizes: data set → picture name → height and width of the true picture, as by `check_pairs`; those of other
            processes decide how this one's are padded. A single process needs none.
    """

    index: int = 0
    count: int = 1
    sizes: Mapping[str, Mapping[str, tuple[int, int]]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_process(cls, sizes: Mapping[str, Mapping[str, tuple[int, int]]]) -> "Share":
        """Return the share of this process."""
        return cls(jax.process_index(), jax.process_count(), sizes)

    def owner(self, number: int) -> int:
        """Return the process that takes the picture of a number, from 1, in its set."""
        return (number - 1) % self.count


def bring_together(
    pictures: Iterable[ScoredPicture], share: Share, n_pictures: Mapping[str, int], *, show_progress: bool = False
) -> Iterator[ScoredPicture]:
    """Bring the pictures that all processes of the job score to its first one, as they come, in their usual order.

    Args:
        pictures: of this process's share.
        share: which that is.
        n_pictures: data set → how many there are.
        show_progress: draw a bar for each data set, in the first process.

    Yields:
        In the first process all pictures, those of the others without `lr`; in the others none, but they have to be run
        to the end too.

    Raises:
        InputError: when another process fails, within `relay.ending_together`.
    """
    owners = (share.owner(number) for count in n_pictures.values() for number in range(1, count + 1))
    every = relay.bring_together(pictures, owners, to_bytes, from_bytes)
    return with_bars(every, n_pictures) if show_progress and share.index == 0 else every


def to_bytes(picture: ScoredPicture) -> bytes:
    """Return a scored picture, without the one that it was made of, as bytes for `from_bytes`."""
    made = {"sr": picture.sr} | ({} if picture.bicubic is None else {"bicubic": picture.bicubic})
    facts: dict[str, Any] = {
        name: getattr(picture, name) for name in ("dataset", "name", "number", "n_pictures", "notes")
    }
    for name, it in made.items():
        facts[name] = {"scores": dataclasses.asdict(it.scores), "seconds": it.seconds}
    arrays: dict[str, Any] = {"hr": picture.hr} | {name: it.image for name, it in made.items()}
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)
    return buffer.getvalue()


def from_bytes(message: bytes) -> ScoredPicture:
    """Return what `to_bytes` was given."""
    with np.load(io.BytesIO(message)) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
        for name in {"sr", "bicubic"} & facts.keys():
            scores = Scores(**facts[name]["scores"])
            facts[name] = Reconstruction(arrays[name], scores, facts[name]["seconds"])
        return ScoredPicture(hr=arrays["hr"], **facts | {"notes": tuple(facts["notes"])})
