"""`metrics.jsonl`: one JSON object a line, each with its `step`."""

import json
import math
from collections.abc import Mapping
from typing import Any

from etils import epath

from msnlan_jax.runtime import files


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
        self.lines: list[dict[str, Any]] = []
        if self._path.exists():
            for text in self._path.read_text().splitlines():
                try:
                    line = json.loads(text)
                    if line["step"] <= last_step:
                        self.lines.append(line)
                except (ValueError, TypeError, KeyError):
                    continue
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


def _encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"
