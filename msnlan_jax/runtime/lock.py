"""A folder that one job at a time writes into.

On a local disk the system keeps the lock, and drops it whenever the process ends, however it does. An object store has
no locks: there an object says who is at work, and is written anew every so often for as long as that is so.
"""

import contextlib
import ctypes
import dataclasses
import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import command, files

NAME = ".lock"
BEAT_SECONDS = 20.0
_SILENT_BEATS = 3.5  # after which a job is taken to be dead
_IN_USE = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def holding(folder: epath.PathLike, flag: str) -> Iterator[None]:
    """Keep other jobs from writing into a folder that is there, for as long as the block runs; reading stays free.

    Args:
        folder: local or remote.
        flag: that names it, for messages.

    Raises:
        InputError: naming the host and process of the job that holds it, or when the lock cannot be written.
    """
    path = epath.Path(folder) / NAME
    with contextlib.ExitStack() as stack:
        if files.is_remote(path) or not stack.enter_context(_system_lock(path, flag)):
            stack.enter_context(_heartbeat(path, flag))
        yield


@contextlib.contextmanager
def _system_lock(path: epath.Path, flag: str) -> Iterator[bool]:
    """Hold a lock of the system's, or yield False where the disk has none."""
    import fcntl  # POSIX's alone

    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    try:
        try:
            # Not flock, which processes that were forked would go on holding.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                yield False
                return
            if error.errno not in _IN_USE:
                raise InputError(f"{path}: cannot be locked: {error.strerror or error}") from None
            raise _refusal(path, flag, _Holder.read(os.read(descriptor, 10_000))) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, _Holder.this().encode())
        yield True
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _heartbeat(path: epath.Path, flag: str) -> Iterator[None]:
    """Hold a lock that lasts while it is written anew; where another job has taken it, the block is interrupted."""
    _wait_for_silence(path, flag)
    mine = _Holder.this()
    files.write_bytes(path, mine.encode())
    time.sleep(BEAT_SECONDS / 10)  # another job may have found it free at the same moment: the last one to write has it
    if (holder := _read(path)) != mine:
        raise _refusal(path, flag, holder or _UNKNOWN)
    stop, worker = threading.Event(), threading.get_ident()

    def beat() -> None:
        count = 0
        while not stop.wait(BEAT_SECONDS):
            count += 1
            with contextlib.suppress(Exception):  # a store that is out of reach for a while ends nothing
                if _is_anothers(path, mine):  # as after this job was suspended, and taken to be dead
                    _interrupt(worker)
                    return
                files.write_bytes(path, dataclasses.replace(mine, beat=count).encode())

    thread = threading.Thread(target=beat, name="lock", daemon=True)
    thread.start()
    try:
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=BEAT_SECONDS)
            with contextlib.suppress(Exception):  # others wait for a minute then
                if not _is_anothers(path, mine):
                    path.unlink()
    except _TakenOver:
        raise InputError(
            f"{flag}: {path.parent} was taken over by {_read(path) or _UNKNOWN}, as this job was silent for too long; "
            "stopped"
        ) from None


class _TakenOver(BaseException):
    """Raised in the midst of a job whose folder is another's now; no `except Exception` holds it up."""


def _interrupt(thread: int) -> None:
    """Raise _TakenOver in a thread; at a signal, the training would write one more checkpoint, over the other job's."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_TakenOver))


def _is_anothers(path: epath.Path, mine: "_Holder") -> bool:
    holder = _read(path)
    return holder is not None and holder.job != mine.job


def _wait_for_silence(path: epath.Path, flag: str) -> None:
    """Return once it is sure that no job holds the lock."""
    if (first := _read(path)) is None:
        return
    seconds = BEAT_SECONDS * _SILENT_BEATS
    told = f"{flag}: {path.parent} was left by {first}, or is in use"
    command.say(f"{told}; looking for {seconds:.0f} s whether it still is")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(BEAT_SECONDS / 4, 5))
        now = _read(path)
        if now is None:
            return
        if now != first:
            raise _refusal(path, flag, now)


def _read(path: epath.Path) -> "_Holder | None":
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return _Holder.read(data) if data else None


def _refusal(path: epath.Path, flag: str, holder: "_Holder") -> InputError:
    return InputError(f"{flag}: {path.parent} is in use by {holder}; expected a folder that no other job writes into")


@dataclasses.dataclass(frozen=True)
class _Holder:
    """Who holds a lock."""

    host: str
    process: int
    since: str
    job: str
    beat: int = 0

    @classmethod
    def this(cls) -> "_Holder":
        """This process."""
        return cls(socket.gethostname(), os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S"), uuid.uuid4().hex)

    @classmethod
    def read(cls, data: bytes) -> "_Holder":
        """What a lock says; a damaged one is held by nobody known."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError, RecursionError):
            return dataclasses.replace(_UNKNOWN, job=data[:100].hex())

    def encode(self) -> bytes:
        """What a lock is to say."""
        return json.dumps(dataclasses.asdict(self)).encode()

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


_UNKNOWN = _Holder("a host that is not told", 0, "a while ago", "")
