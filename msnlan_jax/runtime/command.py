"""What all commands share: one-line errors with exit code 2, and a compilation cache."""

import argparse
import contextlib
import ctypes
import io
import logging
import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from tqdm import tqdm

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import files, machine

# glibc's options by number (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
# What tells on standard error of what is handled here: Orbax how it works and what it raises besides; readers of
# pictures what is odd in a file.
_TALKATIVE = ("absl", "asyncio", "imagecodecs", "tifffile", "PIL")
# Categories of characters: controls, halves of a pair, which stand for bytes that are no text, and ends of lines.
_ESCAPED = ("Cc", "Cs", "Zl", "Zp")
# Characters that turn the direction of those after them, so that a name, or the rest of a line, reads as another.
_TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
# How XLA calls an array that does not fit.
_NO_MEMORY = "RESOURCE_EXHAUSTED"


def run(main: Callable[[], None]) -> None:
    """Run a command; a user's mistake ends in one line on standard error and exit code 2."""
    prepare_streams()
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.unraisablehook = _report_unraisable
    quiet_tensorflow()  # which etils imports for gs:// paths
    keep_memory()
    try:
        use_compilation_cache()
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (InputError, OSError) as error:
        fail(str(error))
    except Exception as error:
        if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
            free = f"{machine.free_bytes() / machine.GB:.1f} GB"
            fail(f"memory: found too little ({free} are free now): {str(error) or 'an array could not be made'}")
        if (reason := files.remote_failure(error)) is None:
            raise
        remote = [argument for argument in sys.argv[1:] if files.is_remote(argument)]
        fail(f"{' '.join(remote) or 'object store'}: {reason}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def prepare_streams() -> None:
    """Let standard output and standard error take any text: characters that their encoding lacks are escaped, and what
    goes to a stream that is closed is dropped."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # or the next file that is opened would be the standard output
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = (stream or Path(os.devnull).open("w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """Return text, names of files in it, as a terminal may get it: control characters and bytes that are no text are
    escaped, or the name of a file could clear the screen."""
    return "".join(
        c.encode("unicode_escape", "backslashreplace").decode()
        if unicodedata.category(c) in _ESCAPED or unicodedata.bidirectional(c) in _TURNING
        else c
        for c in text
    )


def say(text: str) -> None:
    """Print a line, above the bars that there may be."""
    tqdm.write(printable(text))


def quiet_tensorflow() -> None:
    """Have TensorFlow, once it is imported, tell warnings only, and not announce oneDNN at every start."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def keep_memory() -> None:
    """Have glibc keep what is freed: XLA on CPU asks for a program's memory anew at every run, and pages that come new
    from the system cost about a third of the attention's time. Other C libraries are left as they are."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        set_option = ctypes.CDLL(None).mallopt
        # Large arrays are not mapped apart; where so much is refused, as by older versions, those up to 32 MiB.
        if set_option(_MMAP_THRESHOLD, 2**31 - 1) or set_option(_MMAP_THRESHOLD, 2**25):
            set_option(_TRIM_THRESHOLD, 2**31 - 1)
            set_option(_ARENA_MAX, 1)


class _Once:
    """An action of a flag that refuses to be called twice."""

    option_strings: Sequence[str]

    def __call__(self, parser: Any, namespace: Any, values: Any, flag: str | None = None) -> None:
        if flag is not None and self in parser.given:
            parser.error(f"{self.option_strings[-1]}: found it twice, expected it once")
        parser.given.append(self)
        super().__call__(parser, namespace, values, flag)  # type: ignore[misc]


class _Store(_Once, argparse._StoreAction):
    pass


class _StoreTrue(_Once, argparse._StoreTrueAction):
    pass


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and that refuses a flag given twice, of which one would be lost.

    It knows arguments of `type="path"`, a file or a folder, with `~` as the home folder.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self.given: list[_Once] = []
        super().__init__(*args, **options)
        self.register("type", "path", _read_path)
        for name, kind in ((None, _Store), ("store", _Store), ("store_true", _StoreTrue)):
            self.register("action", name, kind)

    def error(self, message: str) -> NoReturn:
        """End the program with what is wrong."""
        fail(f"{message} (--help lists the flags)")


def _read_path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("found nothing, expected a path")
    try:
        return files.expand_home(text)
    except InputError as error:  # argparse names the flag
        raise argparse.ArgumentTypeError(str(error)) from None


def fail(message: str) -> NoReturn:
    """End the program with one line and exit code 2."""
    with contextlib.suppress(OSError):  # a standard error that is full, or that nobody reads
        print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(2)


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Report an error outside any call, but not those of Orbax's other reads, which go on after one has failed."""
    if not str(unraisable.exc_value).startswith(("Event loop is closed", "Encountered error while reading array")):
        sys.__unraisablehook__(unraisable)


def use_compilation_cache() -> None:
    """Keep compiled programs in a per-user folder, unless JAX_COMPILATION_CACHE_DIR says another."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        try:
            base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        except RuntimeError:  # no home, as in some containers
            return
        jax.config.update("jax_compilation_cache_dir", str(base / "msnlan_jax" / "xla"))
