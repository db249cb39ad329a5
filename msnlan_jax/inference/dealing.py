"""Calls of compiled programs, dealt out to devices in turn and fetched in order, a bounded number under way."""

import collections
import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable, Iterator

import jax
import numpy as np

Fetch = Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Call:
    """A call to make.

    Attributes:
        start: makes it on the device of this number, without waiting, and returns what waits for its output.
        picture: what it is made for.
        held_bytes: what the picture takes in memory from its first call to its last.
        running_bytes: what this call takes besides, from its start until its output is fetched.
    """

    start: Callable[[int], Fetch]
    picture: Hashable = None
    held_bytes: float = 0.0
    running_bytes: float = 0.0


def calls_ahead(n_devices: int) -> int:
    """Return how many calls may be under way while the host does something else.

    One on each device. An accelerator has the next one waiting, in its own order, so that it is not idle until the host
    looks; devices that are the host's own cores would run both at once. One such device has none: it and the host would
    wait for each other, and take the memory of two pictures.
    """
    if jax.default_backend() == "cpu":
        return n_devices if n_devices > 1 else 0
    return 2 * n_devices


def deal(calls: Iterable[Call], n_devices: int, ahead: int, room: float = math.inf) -> Iterator[np.ndarray]:
    """Make calls on devices in turn.

    The next call is asked for and made before an output is handed over, so that devices are busy while it is used; the
    next picture is read while they are.

    Args:
        calls: to make, in this order.
        n_devices: how many devices there are.
        ahead: how many calls may be under way when an output is handed over.
        room: bytes that calls under way and their pictures may take together; a single one is made in any case.

    Yields:
        Their outputs, in the same order.

    Raises:
        Exception: what `calls` or a call raises, after the outputs of all those before.
    """
    under_way: collections.deque[tuple[Call, Fetch]] = collections.deque()
    error: Exception | None = None
    arriving = iter(calls)
    number = 0

    def fetch() -> np.ndarray:
        try:
            return under_way.popleft()[1]()
        except BaseException:
            under_way.clear()  # whose outputs would be taken for the one that is lost
            raise

    while error is None:
        done = []
        try:
            if (call := next(arriving, None)) is None:
                break
            while under_way and (len(under_way) >= max(1, ahead) or taken(call, *(c for c, _ in under_way)) > room):
                done.append(fetch())
            under_way.append((call, call.start(number % n_devices)))
            number += 1
        except Exception as raised:  # whatever it is, what was made before it is not lost
            error = raised
        yield from done
        while len(under_way) > ahead:
            yield fetch()
    while under_way:
        yield fetch()
    if error is not None:
        raise error


def taken(*calls: Call) -> float:
    """Return the bytes that calls take at once, and their pictures."""
    held = {call.picture: call.held_bytes for call in calls}
    return sum(held.values()) + sum(call.running_bytes for call in calls)
