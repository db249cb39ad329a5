"""What the processes of a job tell each other while their devices are busy, by the service that JAX started them with.

Collective operations would wait for the programs under way. A process that fails says so, and no other waits for it.
"""

import collections
import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax

from msnlan_jax.errors import InputError

T = TypeVar("T")

_FAILED, _FINISHED = "msnlan_jax/failed", "msnlan_jax/finished"  # the first a folder: it can be listed, without waiting
# How often it is looked whether another process has failed.
_LOOK_MILLISECONDS = 500
# So many items of a process may wait for the first one, which holds them in its memory.
_UNTAKEN = 2
# A message is cut into parts of so many bytes: the service's own need not take more than 4 MiB.
_PART_BYTES = 2 * 2**20
_asked: collections.Counter[str] = collections.Counter()


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """End all processes of the job when one of them fails or is terminated in this block; all have to use it, and only
    once, in their main threads.

    Raises:
        InputError: when another process has failed, as soon as this one waits for it, at the latest at the end.
        SystemExit: on SIGTERM.
    """
    if jax.process_count() == 1:
        yield
        return

    def end(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)  # of which JAX would else only take note
    try:
        yield
        if jax.process_index() == 0:
            _client().key_value_set(_FINISHED, "")
        else:
            _wait(_FINISHED)
    except BaseException:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # when the first process is gone, so are all
            _client().key_value_set(f"{_FAILED}/{jax.process_index()}", "")
        raise


def least(name: str, value: float) -> float:
    """Return the least value that a process of the job has; each has to ask, equally often by each name.

    Raises:
        InputError: when another process fails, within `ending_together`.
    """
    if jax.process_count() == 1:
        return value
    folder = f"msnlan_jax/{name}/{_asked[name]}"
    _asked[name] += 1
    _client().key_value_set(f"{folder}/{jax.process_index()}", repr(value))
    return min(float(_wait(f"{folder}/{process}")) for process in range(jax.process_count()))


def bring_together(
    own: Iterable[T], owners: Iterable[int], encode: Callable[[T], bytes], decode: Callable[[bytes], T]
) -> Iterator[T]:
    """Bring what all processes of the job make to its first one.

    Args:
        own: what this process makes, in order.
        owners: the number of the process that makes each item, in the order in which they are wanted.
        encode: an item as bytes.
        decode: the reverse.

    Yields:
        Every process's items in the first process; nothing in the others, which have to be run to the end too.

    Raises:
        InputError: when another process fails, within `ending_together`.
    """
    if jax.process_count() == 1:
        yield from own
    elif jax.process_index() == 0:
        yield from _receive(iter(own), owners, decode)
    else:
        _send(encode(item) for item in own)


def _receive(own: Iterator[T], owners: Iterable[int], decode: Callable[[bytes], T]) -> Iterator[T]:
    received: collections.Counter[int] = collections.Counter()
    for owner in owners:
        if owner == 0:
            yield next(own)
            continue
        key = _key(owner, received[owner])
        keys = [f"{key}/{part}" for part in range(int(_wait(f"{key}/made")))]
        message = b"".join(map(_wait, keys))
        for taken in (f"{key}/made", *keys):
            _client().key_value_delete(taken)
        _client().key_value_set(f"{key}/taken", "")
        received[owner] += 1
        yield decode(message)


def _send(messages: Iterable[bytes]) -> None:
    sent = taken = 0

    def wait_until_taken(count: int) -> None:
        nonlocal taken
        while taken < count:
            key = f"{_key(jax.process_index(), taken)}/taken"
            _wait(key)
            _client().key_value_delete(key)
            taken += 1

    for message in messages:
        wait_until_taken(sent + 1 - _UNTAKEN)
        key, starts = _key(jax.process_index(), sent), range(0, len(message), _PART_BYTES)
        for part, start in enumerate(starts):
            _client().key_value_set_bytes(f"{key}/{part}", message[start : start + _PART_BYTES])
        _client().key_value_set(f"{key}/made", str(len(starts)))
        sent += 1
    wait_until_taken(sent)


def _key(process: int, number: int) -> str:
    return f"msnlan_jax/items/{process}/{number}"


def _wait(key: str) -> bytes:
    """Return what a process has set, as soon as it is there, unless one has failed."""
    while True:
        try:
            value: bytes = _client().blocking_key_value_get_bytes(key, _LOOK_MILLISECONDS)
            return value
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise InputError(f"a process of the job is gone: {error}") from None
        if _client().key_value_dir_get(_FAILED):
            raise InputError("another process of the job has found an error, and tells it")


def _client() -> Any:
    """The job's key–value store, which Orbax uses likewise; it has no public name."""
    from jax._src import distributed

    return distributed.global_state.client
