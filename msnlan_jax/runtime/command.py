"""What all commands share: one-line errors with exit code 2, and a compilation cache."""

import argparse
import contextlib
import ctypes
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import jax

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import files

# glibc's options by number (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def run(main: Callable[[], None]) -> None:
    """Run a command; a user's mistake ends in one line on standard error and exit code 2."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax tells how it works, and what it raises besides
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _report_unraisable
    quiet_tensorflow()  # which etils imports for gs:// paths
    keep_memory()
    try:
        use_compilation_cache()
        main()
    except (InputError, OSError) as error:
        fail(str(error))
    except Exception as error:
        if (reason := files.remote_failure(error)) is None:
            raise
        remote = [argument for argument in sys.argv[1:] if files.is_remote(argument)]
        fail(f"{' '.join(remote) or 'object store'}: {reason}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


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


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End the program with what is wrong."""
        fail(f"{message} (--help lists the flags)")


def fail(message: str) -> NoReturn:
    """End the program with one line and exit code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Report an error outside any call, but not those of Orbax's other reads, which go on after one has failed."""
    if not str(unraisable.exc_value).startswith(("Event loop is closed", "Encountered error while reading array")):
        sys.__unraisablehook__(unraisable)


def use_compilation_cache() -> None:
    """Keep compiled programs in a per-user folder, unless JAX_COMPILATION_CACHE_DIR says another."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        base = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(base / "msnlan_jax" / "xla"))
