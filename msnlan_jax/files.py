"""Reading and writing whole files, local or `gs://`, with errors that name the file."""

import os

from etils import epath

from msnlan_jax.errors import InputError


def read_bytes(path: epath.PathLike, kind: str) -> bytes:
    """Return a file's content.

    Args:
        path: local or remote.
        kind: what the file should be, for the message, such as "picture".

    Raises:
        FileNotFoundError: when there is no such file.
        InputError: when it is a folder or empty.
    """
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, expected a {kind}")
    if path.is_dir():
        raise InputError(f"{path}: found a folder, expected a {kind}")
    data = path.read_bytes()
    if not data:
        raise InputError(f"{path}: found an empty file, expected a {kind}")
    return data


def write_bytes(path: epath.PathLike, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, making its folder if needed.

    Raises:
        InputError: when it cannot be written; whatever stood at `path` is untouched.
    """
    path = epath.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None


def append_bytes(path: epath.PathLike, data: bytes) -> None:
    """Append to a local file.

    Raises:
        InputError: when it cannot be written.
    """
    try:
        with epath.Path(path).open("ab") as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None


def prepare_output_dir(path: epath.PathLike, flag: str) -> epath.Path:
    """Make an output folder and prove that it can be written, before any work is spent on what goes there.

    Raises:
        InputError: naming the flag and the folder.
    """
    path = epath.Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{flag}: {path} is a file, expected a folder")
    try:
        write_bytes(path / ".writable", b"-")
        (path / ".writable").unlink(missing_ok=True)  # another process may have proved it at once
    except (InputError, OSError) as error:
        reason = str(error).rsplit(": ", 1)[-1]
        raise InputError(f"{flag}: found {path}, expected a folder that can be written: {reason}") from None
    return path
