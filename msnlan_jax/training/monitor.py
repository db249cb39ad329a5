"""What a run leaves for people to look at: a bar, metrics and timings, TensorBoard events, and a plot of the curves."""

import time
from collections.abc import Mapping

import jax
from etils import epath
from jax.experimental import multihost_utils
from tqdm import tqdm

from msnlan_jax.pictures import RGBPicture
from msnlan_jax.training.curves import draw_curves
from msnlan_jax.training.metrics_log import MetricsLog
from msnlan_jax.training.tensorboard import Events


class Monitor:
    """Writes into a workdir on the job's first process, and nothing on the others.

    `metrics.jsonl` holds what the seed and the data determine, and so is the same file, byte for byte, however often
    the run was interrupted. What depends on the machine goes to `timing.jsonl`.

    Args:
        workdir: the run's folder.
        start: step after which the run goes on.
        total_steps: of the whole run.
        batch_size: pictures per step.
    """

    def __init__(self, workdir: epath.PathLike, start: int, total_steps: int, batch_size: int):
        self._is_first = jax.process_index() == 0
        self._workdir, self._batch_size = epath.Path(workdir), batch_size
        self._bar = tqdm(total=total_steps, initial=start, desc="training", unit="step", disable=not self._is_first)
        if self._is_first:
            self._metrics = MetricsLog(self._workdir / "metrics.jsonl", start)
            self._timing = MetricsLog(self._workdir / "timing.jsonl", start)
            self._events = Events(self._workdir / "tensorboard", start, self.say)
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave out of the rate what has passed since the last call."""
        self._clock, self._steps = time.perf_counter(), 0

    def count_step(self) -> None:
        """Note that a step was started."""
        self._bar.update()
        self._steps += 1

    def has(self, step: int, name: str) -> bool:
        """Whether the metrics hold a value of this name at this step; the same answer in every process."""
        found = self._is_first and any(line["step"] == step and name in line for line in self._metrics.lines)
        return found if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(found))

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Record a training line and the rate since the last one."""
        rate = self._steps * self._batch_size / (time.perf_counter() - self._clock)
        self._write(step, values, {"images_per_second": rate})
        self._bar.set_postfix_str(
            f"loss {values['loss']:.3f}, rate {values['learning_rate']:.2e}, {rate:.1f} images/s"
            + (f", {values['skipped']} skipped" if values["skipped"] else "")
        )
        self.restart_clock()

    def timing(self, step: int, values: Mapping[str, float]) -> None:
        """Record seconds or bytes that belong to no line of training."""
        self._write(step, {}, values)

    def validation(self, step: int, values: Mapping[str, float], strips: Mapping[str, RGBPicture]) -> None:
        """Record scores, show pictures in TensorBoard, and draw the curves anew."""
        self._write(step, values, {})
        if self._is_first:
            draw_curves(self._workdir / "curves.png", self._metrics.lines)
            self._events.pictures(step, strips)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._is_first:
            tqdm.write(text)

    def close(self) -> None:
        """Finish the bar and the event file."""
        self._bar.close()
        if self._is_first:
            self._events.close()

    def _write(self, step: int, metrics: Mapping[str, float], timing: Mapping[str, float]) -> None:
        if not self._is_first:
            return
        for log, values in ((self._metrics, metrics), (self._timing, timing)):
            if values:
                log.write(step, values)
                self._events.scalars(step, values)
