"""Trying a reader on damaged inputs: it takes each or refuses it in a line, and does nothing more.

`pytest --fuzz=10000` says how many there are to be of each kind; by default there are a few.
"""

import contextlib
import dataclasses
import faulthandler
import re
import resource
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from msnlan_jax.errors import InputError

# What a reader of data has no business with; Python tells of each before it happens.
_ACTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect")


@dataclasses.dataclass
class Findings:
    """What became of the inputs; `faults` has a line for each that was neither read nor refused in a line."""

    accepted: int = 0
    refused: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)
    kinds: Counter[str] = dataclasses.field(default_factory=Counter)

    def __str__(self) -> str:
        tried = self.accepted + self.refused + len(self.faults)
        kinds = "".join(f"\n  {count:6d} × {kind}" for kind, count in self.kinds.most_common(40))
        return f"{tried} tried: {self.accepted} taken, {self.refused} refused, {len(self.faults)} faults{kinds}"


class Hang(BaseException):
    """Raised by the alarm; no `except Exception` holds it up."""


def try_each(inputs: Iterable[bytes], path: Path, read: Callable[[Path], Any], *, seconds: float = 10.0) -> Findings:
    """Write each input to `path`, read it, and see that it is taken or refused.

    A refusal is an InputError or a FileNotFoundError of one line that names the file or its folder. A fault is any
    other exception, a warning, a refusal only because memory ran out, a reader that is not done after `seconds`, and
    one that starts a program. A reader that Python cannot interrupt ends the process; its input is then in `path`.
    """
    findings = Findings()
    with limited_memory(), _alarm(), warnings.catch_warnings(), _watch() as acts:
        warnings.simplefilter("error")
        for number, data in enumerate(inputs):
            path.write_bytes(data)
            _try(number, lambda: read(path), path, seconds, findings)
            for act in acts:
                _note(findings, number, f"ran {act}")
            acts.clear()
    print(findings)
    return findings


def _try(number: int, read: Callable[[], Any], path: Path, seconds: float, findings: Findings) -> None:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(10 * seconds, exit=True)
    try:
        read()
        findings.accepted += 1
    except (InputError, FileNotFoundError) as error:
        message = str(error)
        if "\n" in message or not message or str(path.parent) not in message:
            _note(findings, number, f"refused in {message[:200]!r}, expected one line that names the file")
        elif re.search(r"MemoryError|allocate|bad_alloc", message):
            _note(findings, number, f"took more memory than there is: {message[:200]}")
        else:
            findings.refused += 1
    except Hang:
        _note(findings, number, f"not done after {seconds} s")
    except Exception as error:  # whatever it is, it is a fault
        frame = traceback.extract_tb(error.__traceback__)[-1]
        _note(findings, number, f"{type(error).__name__} in {Path(frame.filename).name}: {str(error)[:100]}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()


def _note(findings: Findings, number: int, what: str) -> None:
    findings.faults.append(f"input {number}: {what}")
    findings.kinds[re.sub(r"0x[0-9a-f]+|\d+|'[^']*'", "…", what)] += 1


@contextlib.contextmanager
def limited_memory(more: int = 1 << 30) -> Iterator[None]:
    """Let this process map no more than so many bytes besides what it has, so that a claim of terabytes shows."""
    if not Path("/proc/self/statm").exists():  # elsewhere the limit is not kept, and the size not told
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


_watched: list[list[str]] = []  # a hook stays for as long as Python runs


@contextlib.contextmanager
def _watch() -> Iterator[list[str]]:
    """Note what is run in the block."""
    acts: list[str] = []
    if not _watched:
        _watched.append(acts)
        sys.addaudithook(lambda event, arguments: _watched[0].append(event) if event in _ACTS else None)
    _watched[0] = acts
    try:
        yield acts
    finally:
        _watched[0] = []
