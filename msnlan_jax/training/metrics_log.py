"""`metrics.jsonl`: one JSON object a line, each with its `step`."""

import json
import math
from collections.abc import Mapping
from typing import Any

from etils import epath

from msnlan_jax.runtime import command, files


class MetricsLog:
    """Appends lines, each on disk when `write` returns.

    Args:
        path: the file, local or remote.
        last_step: lines of later steps, left by a run that was cut off, are dropped; half a line is too.

    Attributes:
        lines: everything in the file.
    """

    def __init__(self, path: epath.PathLike, last_step: int):
        self._path = epath.Path(path)
        texts = self._path.read_bytes().split(b"\n") if self._path.exists() else []
        found = [_decode(text) for text in texts]
        self.lines = [line for line in found if line is not None and line["step"] <= last_step]
        # A run that is killed leaves half of its last line; any other that cannot be read is another's doing.
        if damaged := sum(line is None and bool(text) for line, text in zip(found[:-1], texts, strict=False)):
            command.say(f"{self._path}: {damaged} damaged line{'s' * (damaged > 1)} left out, {len(self.lines)} kept")
        self._rewrite()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; a value that is no finite number becomes null.

        Raises:
            InputError: when the file cannot be written.
        """
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.lines.append({"step": step} | finite)
        if files.is_remote(self._path):
            self._rewrite()
        else:
            files.append_bytes(self._path, _encode(self.lines[-1]))

    def _rewrite(self) -> None:
        files.write_bytes(self._path, b"".join(map(_encode, self.lines)))


def _decode(text: bytes) -> dict[str, Any] | None:
    """Return a line's content; None of one that `write` cannot have written."""
    try:
        line = json.loads(text.decode())
        numbers = [value for value in line.values() if value is not None]
        if type(line["step"]) is int and all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
            return dict(line)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        pass
    return None


def _encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"
