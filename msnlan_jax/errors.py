"""The one exception type for what a user can mend."""


class InputError(ValueError):
    """Bad input: one line that names the file, field or flag, what was found and what was expected.

    The commands print it without a traceback and exit with code 2; any other exception is a bug of ours and
    keeps its traceback.
    """
