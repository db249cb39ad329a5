"""Pictures as `.npy` files: decoded once, then mapped into memory, so that a crop reads its own pixels only."""

import io
import re
from typing import NamedTuple

import numpy as np
from etils import epath
from PIL import Image

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import RGBPicture, read_rgb
from msnlan_jax.runtime import files

SUFFIX = ".npy"
_MAGIC, _MOST_HEADER = b"\x93NUMPY", 10_000
_FIELD = r"""['"]{}['"]\s*:\s*{}\s*[,}}]"""


class _Header(NamedTuple):
    """What a file says of its array, and where the values begin."""

    kind: str
    is_fortran: bool
    shape: tuple[int, ...]
    offset: int


def open_picture(path: epath.PathLike) -> RGBPicture:
    """Return a picture `[H,W,3]`, uint8 0..255: a local `.npy` file mapped into memory, others read as `read_rgb` does.

    Raises:
        FileNotFoundError: when there is no such file.
        InputError: when it is not a whole, readable picture.
    """
    path = epath.Path(path)
    if path.suffix != SUFFIX:
        return read_rgb(path)
    if files.is_remote(path):
        content = files.read_bytes(path, "picture")
        header = _check(path, content[: len(_MAGIC) + 6 + _MOST_HEADER], len(content))
        values = np.frombuffer(content, np.uint8, offset=header.offset, count=int(np.prod(header.shape)))
        return values.reshape(header.shape, order="F" if header.is_fortran else "C")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, expected a picture")
    if not files.is_regular(path):  # a pipe would never end
        raise InputError(f"{path}: found no regular file, expected a picture")
    try:
        with path.open("rb") as file:
            header = _check(path, file.read(len(_MAGIC) + 6 + _MOST_HEADER), path.stat().length)
        mapped = np.memmap(path, np.uint8, "r", header.offset, header.shape, "F" if header.is_fortran else "C")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return np.asarray(mapped)  # slicing a memmap costs more than slicing an array


def read_size(path: epath.PathLike) -> tuple[int, int] | None:
    """Return height and width from the head of a picture's file; None where that tells of none."""
    path = epath.Path(path)
    try:
        if path.suffix == SUFFIX:
            return open_picture(path).shape[:2]
        if not files.is_regular(path):
            return None
        with path.open("rb") as file, Image.open(file) as opened:
            return opened.height, opened.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def write_picture(path: epath.PathLike, picture: RGBPicture) -> None:
    """Write a picture as `.npy`, whole or not at all; errors as `files.write_bytes`."""
    buffer = io.BytesIO()
    np.save(buffer, picture, allow_pickle=False)
    files.write_bytes(path, buffer.getvalue())


def _check(path: epath.Path, start: bytes, size: int) -> _Header:
    """Return the header of a picture's file that begins so and has so many bytes; raises InputError on any other."""
    if (header := _read_header(start)) is None:
        raise InputError(f"{path}: broken or unreadable array: found {size} bytes that are none in NumPy's format")
    shape = header.shape
    if header.kind not in ("|u1", "u1", "uint8") or len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
        raise InputError(
            f"{path}: found {_name_kind(header.kind)} of shape {shape}, expected a picture: uint8 (H, W, 3)"
        )
    needed = header.offset + shape[0] * shape[1] * shape[2]
    if size < needed:
        raise InputError(f"{path}: broken or unreadable array: found {size} bytes, expected {needed} for {shape}")
    return header


def _read_header(start: bytes) -> _Header | None:
    """Read NumPy's header (numpy.lib.format, versions 1 to 3); None where it is none.

    NumPy's own reader evaluates it as Python, which on damaged files raises whatever Python's parser does, warns
    besides, and fails at random in threads that run side by side (Python 3.11, issue 106905).
    """
    major = start[6] if len(start) > 6 and start.startswith(_MAGIC) else 0
    if major not in (1, 2, 3):
        return None
    begin = 10 if major == 1 else 12
    end = begin + int.from_bytes(start[8:begin], "little")
    if end > len(start):
        return None
    text = start[begin:end].decode("latin1").strip()
    values = []
    for name, pattern in (("descr", r"(['\"\[].*?)"), ("fortran_order", "(True|False)"), ("shape", r"\(([^()]*)\)")):
        if (found := re.search(_FIELD.format(name, pattern), text)) is None:
            return None
        values.append(found[1])
    sides = [side.strip() for side in values[2].split(",") if side.strip()]
    if not all(re.fullmatch(r"-?\d{1,18}L?", side) for side in sides):
        return None
    shape = tuple(int(side.rstrip("L")) for side in sides)
    return _Header(values[0].strip("'\""), values[1] == "True", shape, end)


def _name_kind(kind: str) -> str:
    """Return what NumPy calls a kind of numbers, as float32 for <f4; others as they stand."""
    if not re.fullmatch(r"[<>=|]?[iufc](1|2|4|8|16)", kind):
        return repr(kind[:40])
    try:
        return np.dtype(kind).name
    except TypeError:
        return repr(kind)
