"""Files that cannot be read: whatever a reader raises of one becomes one line."""

import contextlib
import warnings
import zipfile
from collections.abc import Iterator

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import command, recognition

_LONGEST = 200
_TORCH_MEMORY = "DefaultCPUAllocator"  # in what PyTorch says when there is no memory


def refuse_others(path: epath.PathLike, data: bytes, kind: str) -> None:
    """Refuse what is often found in a checkpoint's place, and is not a damaged one.

    Raises:
        InputError: saying what it is.
    """
    if what := recognition.recognise(data):
        raise InputError(f"{path}: found {what}, expected a {kind}")


def check_sums(archive: zipfile.ZipFile) -> None:
    """Refuse an archive that has changed since it was written, which PyTorch does not look for; one that was written
    without checksums can be read after this.

    Raises:
        ValueError: naming the member.
    """
    if any(member.CRC for member in archive.infolist()):
        if damaged := archive.testzip():
            raise ValueError(f"the checksum of {shown(damaged)} is not that of its bytes")
        return
    for member in archive.infolist():  # torch.serialization.set_crc32_options(False) leaves zeros
        del member.CRC


@contextlib.contextmanager
def reading(path: epath.PathLike, kind: str) -> Iterator[None]:
    """Turn whatever the block raises into an InputError of one line, and keep its warnings to itself.

    Readers of damaged files raise anything: IndexError, RecursionError, AssertionError. The block is to hold the reader
    of the format alone, so that errors of ours stay errors, and to have seen that no size in the file is more than its
    bytes: that memory runs out is then no fault of the file's.

    Args:
        path: the file or folder, for the message.
        kind: what it should be, such as "PyTorch checkpoint".

    Raises:
        FileNotFoundError, InputError, MemoryError: as raised in the block.
        InputError: in place of anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (FileNotFoundError, InputError, MemoryError):
        raise
    except Exception as error:
        if _TORCH_MEMORY in str(error):
            raise MemoryError(reason(error)) from None
        raise InputError(f"{path}: not a readable {kind}, damaged or cut short: {reason(error)}") from None


def reason(error: Exception) -> str:
    """Return an exception's kind and the first sentence of what it says, fit for a line."""
    lines = f"{type(error).__name__}: {error}".splitlines()
    return shown(lines[0].split(". ")[0].removesuffix(": "))


def shown(text: str) -> str:
    """Return text out of a file as it can be printed: one line, not too long, without control characters."""
    text = text[: _LONGEST + 1]  # a key may be long, and be there a thousand times
    text = command.printable(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
