"""The one exception type for what a user can mend."""

import contextlib
from collections.abc import Iterator
from os import PathLike


class InputError(ValueError):
    """Bad input: one line that names the file, field or flag, what was found and what was expected.

    The commands print it without a traceback and exit with code 2; any other exception is a bug of ours and
    keeps its traceback.
    """


@contextlib.contextmanager
def naming(source: str | PathLike[str]) -> Iterator[None]:
    """Say of which file an InputError in the block is."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
