"""`metrics.jsonl`: one JSON object a line, each with its `step`."""

import json
import math
from collections.abc import Mapping

from etils import epath

from msnlan_jax import files


class MetricsLog:
    """Appends lines, each on disk when `write` returns.

    Args:
        path: the file.
        last_step: lines of later steps, left by a run that was cut off, are dropped; half a line is too.
    """

    def __init__(self, path: epath.PathLike, last_step: int):
        self._path = epath.Path(path)
        kept = []
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= last_step:
                        kept.append(line + "\n")
                except (ValueError, TypeError, KeyError):
                    continue
        files.write_bytes(self._path, "".join(kept).encode())

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; a value that is no finite number becomes null."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"step": step} | finite) + "\n"
        with self._path.open("a") as file:
            file.write(line)
