"""TensorBoard events of a run: a convenience, so that what goes wrong with them is said once and ends nothing."""

import contextlib
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from msnlan_jax.pictures import RGBPicture
from msnlan_jax.runtime import files


class Events:
    """Writes scalars and pictures, each handed to the file system before the call returns; a remote one gets scalars
    together with the next pictures.

    Args:
        folder: where the event file goes, local or remote.
        start: step after which the run goes on; what an earlier part of it has written for later steps is hidden.
        say: told once why there are no events, or no more of them.
    """

    def __init__(self, folder: epath.PathLike, start: int, say: Callable[[str], None]):
        self._say = say
        self._folder = epath.Path(folder)
        # Where files cannot grow, a local one grows, and each flush sends the whole of it.
        self._local = tempfile.TemporaryDirectory() if files.is_remote(folder) else None
        self._writer: Any = None
        try:
            from tensorboardX import event_file_writer

            written = Path(self._local.name if self._local else folder)
            written.mkdir(parents=True, exist_ok=True)
            self._writer = event_file_writer.EventsWriter(str(written / "events"))
        except Exception as error:  # remote file systems have errors of their own
            self._give_up(error)
        if start:
            self._write(start + 1, session_log={"status": 1})  # 1: a session starts

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers; those that are not finite are left out."""
        found = [{"tag": name, "simple_value": value} for name, value in values.items() if math.isfinite(value)]
        self._write(step, summary={"value": found})

    def pictures(self, step: int, strips: Mapping[str, RGBPicture]) -> None:
        """Write pictures, each under its name."""
        if self._writer is not None:
            from tensorboardX import summary

            for name, strip in strips.items():
                self._write(step, summary=summary.image(name, strip, dataformats="HWC"))
        self._flush()

    def close(self) -> None:
        """Finish the event file."""
        if self._writer is not None:
            with contextlib.suppress(Exception):  # nobody can do anything about it
                self._writer.close()
                self._send()
        if self._local is not None:
            self._local.cleanup()

    def _write(self, step: int, **content: Any) -> None:
        if self._writer is not None:
            from tensorboardX.proto import event_pb2

            try:
                self._writer.write_event(event_pb2.Event(wall_time=time.time(), step=step, **content))
            except Exception as error:  # remote file systems have errors of their own
                self._give_up(error)
            if self._local is None:
                self._flush()

    def _flush(self) -> None:
        if self._writer is not None:
            try:
                self._writer.flush()
                self._send()
            except Exception as error:
                self._give_up(error)

    def _send(self) -> None:
        for path in Path(self._local.name).iterdir() if self._local else ():
            files.write_bytes(self._folder / path.name, path.read_bytes())

    def _give_up(self, error: Exception) -> None:
        self.close()
        self._writer = None
        self._say(f"no TensorBoard events from here on: {error}")
