"""Reading and writing whole files, local or `gs://`, with errors that name the file."""

import hashlib
import os
import stat
import uuid
from pathlib import Path

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import machine

# Packages that reach object stores, whose errors have no class in common.
_CLIENTS = ("tensorflow", "gcsfs", "fsspec", "google", "aiohttp", "requests")
_MISSING = ("gcsfs", "fsspec", "google.cloud", "google-cloud", "Google Storage")  # in what is said where there is none


# Bytes that a file's name may have, on nearly every file system.
LONGEST_NAME = 255
# Files up to here are read without a look at what is free.
_SMALL_BYTES = 10**8


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path is in an object store, such as `gs://`, where files appear whole, and cannot grow."""
    return "://" in str(path)


def fit_name(name: str, ending: str) -> str:
    """Return a file's name with an ending; where file systems take none so long, its first part and a digest."""
    if len(os.fsencode(name + ending)) <= LONGEST_NAME:
        return name + ending
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    kept = os.fsencode(name)[: LONGEST_NAME - len(os.fsencode(ending)) - 13].decode(errors="ignore")
    return f"{kept}-{digest}{ending}"


def is_regular(path: epath.PathLike) -> bool:
    """Whether a path is a file with an end: no folder, pipe or device. Of remote ones it is not asked, as the store
    would be for every file."""
    return is_remote(path) or Path(path).is_file()


def identity(path: epath.PathLike) -> str:
    """Return what all paths to one file or folder have in common, whatever links they go through."""
    return str(path) if is_remote(path) else os.path.realpath(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """Return a path from the root; of a remote one, as it is."""
    path = to_path(path)
    return path if is_remote(path) else path.resolve()


def to_path(path: epath.PathLike) -> epath.Path:
    """Return a path, local or in an object store.

    Raises:
        InputError: on an address of another kind, as of a page in the web.
    """
    try:
        return epath.Path(path)
    except KeyError:  # by which etils looks up who serves it
        raise InputError(
            f"found the address {path}, expected a local path, or one in an object store as gs://"
        ) from None


def expand_home(text: str) -> str:
    """Return a path as a user types it, with `~` as the home folder, which a shell leaves in `--flag=~/x`.

    Raises:
        InputError: as `to_path`; where `~` is nobody's home, as a folder of that name would be made.
    """
    if is_remote(to_path(text)):
        return text
    expanded = os.path.expanduser(text)  # noqa: PTH111, which raises, and loses a last slash
    home = expanded.split("/")[0]
    if home.startswith("~") and home != expanded and not Path(home).exists():
        raise InputError(f"found {text}, expected a path: {home} is no home folder that is known here")
    return expanded


def remote_failure(error: BaseException) -> str | None:
    """Say in a line why an object store could not be used; None when the error is another one."""
    if isinstance(error, ImportError) and any(name in str(error) for name in _MISSING):
        return "found no client for gs://, expected the one that pip install -e '.[gcs]' brings"
    # What goes wrong in a function that TensorFlow calls comes as its error too, with the traceback in it.
    if type(error).__module__.split(".")[0] not in _CLIENTS or "Traceback (most recent" in str(error):
        return None
    return " ".join(str(error).split()) or type(error).__name__


def read_bytes(path: epath.PathLike, kind: str) -> bytes:
    """Return a file's content.

    Args:
        path: local or remote.
        kind: what the file should be, for the message, such as "picture".

    Raises:
        FileNotFoundError: when there is no such file.
        InputError: when it is a folder, a pipe, a device or empty, or larger than what memory is free, or its object
            store cannot be used.
    """
    path = to_path(path)
    try:
        if not is_remote(path):
            _check_readable(path, kind)
        data: bytes = path.read_bytes()  # asking first whether it is there would double what a remote file takes
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        if path.is_dir():  # of an object store
            raise InputError(f"{path}: found a folder, expected a {kind}") from None
        raise FileNotFoundError(f"{path}: no such file, expected a {kind}") from None
    except InputError:
        raise
    except Exception as error:
        if (reason := remote_failure(error) or _reason(error)) is None:
            raise
        raise InputError(f"{path}: cannot be read: {reason}") from None
    if not data:
        raise InputError(f"{path}: found an empty file, expected a {kind}")
    return data


def _check_readable(path: epath.Path, kind: str) -> None:
    """Refuse what would never end, as a pipe or a device, or fill the memory."""
    found = Path(path).stat()
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{path}: found a folder, expected a {kind}")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: found a pipe, a socket or a device, expected a {kind}")
    if found.st_size > _SMALL_BYTES and found.st_size > machine.free_bytes():
        raise InputError(f"{path}: found {found.st_size / 1e9:.1f} GB, expected a {kind} that fits into the memory")


def _reason(error: BaseException) -> str | None:
    """Say why the system refused; None when something else did."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else None


def write_bytes(path: epath.PathLike, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, making its folder if needed.

    Raises:
        InputError: when it cannot be written; whatever stood at `path` is untouched.
    """
    path = to_path(path)
    if is_remote(path):
        _write_remote(path, data)
        return
    # A name of its own, however long the file's is: two processes may write the same one.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {_reason(error)}") from None


def _write_remote(path: epath.Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except Exception as error:
        if (reason := remote_failure(error) or _reason(error)) is None:
            raise
        raise InputError(f"{path}: cannot be written: {reason}") from None


def append_bytes(path: epath.PathLike, data: bytes) -> None:
    """Append to a local file.

    Raises:
        InputError: when it cannot be written.
    """
    try:
        with epath.Path(path).open("ab") as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {_reason(error)}") from None


def prepare_output_dir(path: epath.PathLike, flag: str) -> epath.Path:
    """Make an output folder and prove that it can be written, before any work is spent on what goes there.

    Raises:
        InputError: naming the flag and the folder.
    """
    path = to_path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{flag}: {path} is a file, expected a folder")
    try:
        write_bytes(path / ".writable", b"-")
        (path / ".writable").unlink(missing_ok=True)  # another process may have proved it at once
    except (InputError, OSError) as error:
        reason = str(error).removeprefix(f"{path / '.writable'}: cannot be written: ")
        raise InputError(f"{flag}: found {path}, expected a folder that can be written: {reason}") from None
    return path
