"""Pictures as `.npy` files: decoded once, then mapped into memory, so that a crop reads its own pixels only."""

import io
import threading

import numpy as np
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import RGBPicture, read_rgb
from msnlan_jax.runtime import files

SUFFIX = ".npy"
# NumPy parses headers with `ast`, which fails at random in threads that run side by side (Python 3.11, issue 106905).
_one_at_a_time = threading.Lock()


def open_picture(path: epath.PathLike) -> RGBPicture:
    """Return a picture `[H,W,3]`, uint8 0..255: a local `.npy` file mapped into memory, others read as `read_rgb` does.

    Raises:
        FileNotFoundError: when there is no such file.
        InputError: when it is not a whole, readable picture.
    """
    path = epath.Path(path)
    if path.suffix != SUFFIX:
        return read_rgb(path)
    content = io.BytesIO(files.read_bytes(path, "picture")) if files.is_remote(path) else None
    try:
        with _one_at_a_time:
            array = np.load(content or path, mmap_mode=None if content else "r", allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file, expected a picture") from None
    except (EOFError, ValueError) as error:
        raise InputError(f"{path}: broken or unreadable array: {error}") from None
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise InputError(f"{path}: found {array.dtype} of shape {array.shape}, expected a picture: uint8 (H, W, 3)")
    return np.asarray(array)  # slicing a memmap costs more than slicing an array


def write_picture(path: epath.PathLike, picture: RGBPicture) -> None:
    """Write a picture as `.npy`, whole or not at all; errors as `files.write_bytes`."""
    buffer = io.BytesIO()
    np.save(buffer, picture, allow_pickle=False)
    files.write_bytes(path, buffer.getvalue())
