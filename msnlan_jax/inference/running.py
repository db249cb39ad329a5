"""Pictures under way: their batches are dealt out to all devices, and each is put together as its outputs come."""

import collections
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Num

from msnlan_jax.inference import tiling
from msnlan_jax.inference.dealing import Call, Fetch, calls_ahead, deal
from msnlan_jax.inference.planning import Plan, scale_of, shared_bytes
from msnlan_jax.inference.programs import ArraySize, Batch, Forward, Programs
from msnlan_jax.inference.tiling import CHOP_ARRAYS, Image, Part, Pixels, Tiling
from msnlan_jax.network import MSNLAN, parameters
from msnlan_jax.pictures import DEEP_LEVEL, AnyPicture, imresize, to_rgb

# Pixels clipped and rounded at a time, because each step makes a copy in float32.
_ROUNDED_PIXELS = 2**18
_GRAY = np.array([0.299, 0.587, 0.114])

# How a picture is turned: whether transposed, and whether its rows and its columns are reversed.
Turn = tuple[bool, bool, bool]


@dataclasses.dataclass(frozen=True)
class Request:
    """A picture to run.

    Attributes:
        image: as `upscale` takes it, for a result that is rounded likewise; or RGB in float, for one in float.
        plan: from `plan_picture`, for this network and size.
        tag: whatever the caller wants to find it by.
    """

    image: AnyPicture | Image
    plan: Plan
    tag: Any = None


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """A picture that another process runs, in its place among the others, so that those after it are padded as if it
    were run here.

    Attributes:
        size: LR height and width.
        plan: from `plan_picture`.
    """

    size: ArraySize
    plan: Plan


class Running:
    """A picture under way, for `upscale_each`."""

    def __init__(self, request: Request, scale: int, forward: Forward, programs: Programs) -> None:
        self.request = request
        self._scale, self._forward, self._programs = scale, forward, programs
        (h, w), plan = request.image.shape[:2], request.plan
        self._turns = _turns(plan)
        self._tilings = {transposed: _tiling(plan, h, w, scale, transposed) for transposed, *_ in self._turns}
        self._seconds = self._elsewhere = 0.0
        self._result: AnyPicture | Image | None = None
        self._parts: Iterator[AnyPicture | Image] = iter(())

    @property
    def seconds(self) -> float:
        """How long the host has been busy with it or waited for it, without compiling; what it did meanwhile for others
        is theirs."""
        return self._seconds

    def parts(self) -> Iterator[AnyPicture | Image]:
        """Yield the result after each of the plan's parts, finished with the last: one array all the time, in which
        pixels that are not finished are undefined."""
        return self._parts

    def finish(self) -> AnyPicture | Image:
        """Run what is left, and return the result."""
        collections.deque(self._parts, maxlen=0)
        assert self._result is not None
        return self._result

    def calls(self) -> Iterator[Call]:
        """Yield the calls that the picture takes."""
        image, plan = self.request.image, self.request.plan
        lr = to_rgb(image) if image.dtype in (np.uint8, np.uint16) else image
        if image.dtype == np.uint16:
            lr = lr / np.float32(DEEP_LEVEL)
        for turn in self._turns:
            for batch in self._tilings[turn[0]].batches(np.ascontiguousarray(_turned(lr, *turn))):
                start = functools.partial(self._start, batch)
                yield Call(start, id(self), plan.held_bytes, plan.running_bytes)

    def take(self, outputs: Iterator[Batch]) -> None:
        """Say where the outputs of its calls will come from."""
        n_batches = sum(self._tilings[transposed].n_batches for transposed, *_ in self._turns)
        self._parts = self._timed(self._put_together(self._watched(itertools.islice(outputs, n_batches))))

    def _start(self, batch: Batch, device: int) -> Fetch:
        began, compiled_before = time.perf_counter(), self._programs.compile_seconds
        fetch = self._forward.start(batch, device)
        self._seconds += time.perf_counter() - began - (self._programs.compile_seconds - compiled_before)

        def fetch_timed() -> np.ndarray:
            began = time.perf_counter()
            output = fetch()
            self._seconds += time.perf_counter() - began
            return output

        return fetch_timed

    def _put_together(self, outputs: Iterator[Batch]) -> Iterator[AnyPicture | Image]:
        image, scale = self.request.image, self._scale
        h, w = image.shape[:2]
        if is_rounded := image.dtype in (np.uint8, np.uint16):
            result = np.empty((h * scale, w * scale, *image.shape[2:]), image.dtype)
            channels = result.reshape(h * scale, w * scale, -1)
            if channels.shape[2] in (2, 4):
                channels[:, :, -1] = imresize(image[:, :, -1], scale)
            colours = channels[:, :, : 3 if channels.shape[2] >= 3 else 1]
        else:
            result = colours = np.empty((h * scale, w * scale, 3), np.float32)
        for part in self._joined(outputs):
            target = colours[part.rows, part.columns]
            if is_rounded:
                _round_into(target, part.pixels)
            else:
                target[:] = part.pixels
            self._result = result
            yield result

    def _joined(self, outputs: Iterator[Batch]) -> Iterator[Part]:
        """Yield the parts of the output as they are finished, as many as planned."""
        if len(self._turns) == 1:
            return self._tilings[False].parts(outputs)
        return self._average(outputs)

    def _average(self, outputs: Iterator[Batch]) -> Iterator[Part]:
        """Yield the mean over the picture turned in eight ways: all of it with the last part, and nothing before."""
        (h, w), scale = self.request.image.shape[:2], self._scale
        total, done = np.zeros((h * scale, w * scale, 3), np.float32), 0
        for turn in self._turns:
            turned_total, tiles = _turned(total, *turn), self._tilings[turn[0]]
            for part in tiles.parts(itertools.islice(outputs, tiles.n_batches)):
                turned_total[part.rows, part.columns] += part.pixels
                done += 1
                if done < self.request.plan.parts:
                    yield Part(slice(0), slice(0), total[:0, :0])
        total /= np.float32(8)
        yield Part(slice(0, h * scale), slice(0, w * scale), total)

    def _timed(self, results: Iterator[AnyPicture | Image]) -> Iterator[AnyPicture | Image]:
        """Count the time that putting together takes, and not what passes where the outputs come from."""
        while True:
            began, self._elsewhere = time.perf_counter(), 0.0
            result = next(results, None)
            self._seconds += time.perf_counter() - began - self._elsewhere
            if result is None:
                return
            yield result

    def _watched(self, outputs: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            began = time.perf_counter()
            output = next(outputs, None)
            self._elsewhere += time.perf_counter() - began
            if output is None:
                return
            yield output


def upscale_each(
    model: nnx.Module,
    requests: Iterable[Request | Elsewhere],
    *,
    programs: Programs | None = None,
    memory_limit: float | None = None,
) -> Iterator[Running]:
    """Run pictures by a network on all devices at once, each batch of tiles on the next device.

    The results are those of one device, bit for bit: a batch holds the same tiles, and runs by the same program.

    Args:
        model: as in `upscale`.
        requests: the pictures; the next ones are asked for while devices run those before.
        programs: those that they were planned with.
        memory_limit: GB, that they were planned within.

    Yields:
        Every picture in its turn, before it is finished; what is left of it is run when the next is asked for.

    Raises:
        Exception: what `requests` raises, after the pictures before.
    """
    programs = programs or Programs()
    arriving = iter(requests)
    waiting: collections.deque[Running] = collections.deque()
    started: collections.deque[Running] = collections.deque()
    is_open, scale = True, scale_of(model)

    @functools.cache
    def forward(score_bytes: int | None, mode: str) -> Forward:
        return _forward_as_planned(model, score_bytes, mode, programs)

    def arrive() -> bool:
        nonlocal is_open
        while is_open:
            is_open = False  # unless the next one comes
            if (request := next(arriving, None)) is None:
                return False
            is_open = True
            plan = request.plan
            run = forward(plan.score_bytes, plan.mode)
            if isinstance(request, Elsewhere):
                for transposed in dict.fromkeys(transposed for transposed, *_ in _turns(plan)):
                    tiles = _tiling(plan, *request.size, scale, transposed)
                    run.remember(tiles.batch_size, *tiles.size)
                continue
            running = Running(request, scale, run, programs)
            running.take(outputs)
            waiting.append(running)
            started.append(running)
            return True
        return False

    def calls() -> Iterator[Call]:
        while waiting or arrive():
            yield from waiting.popleft().calls()

    n_devices = programs.devices_of(model)
    outputs = deal(calls(), n_devices, calls_ahead(n_devices), shared_bytes(model, memory_limit))
    while started or arrive():
        running = started.popleft()
        yield running
        running.finish()
    collections.deque(outputs, maxlen=0)  # raises what the next picture, asked for in advance, has failed of


def _forward_as_planned(model: nnx.Module, score_bytes: int | None, mode: str, programs: Programs) -> Forward:
    """Return a network, compiled, that computes as planned."""
    if isinstance(model, MSNLAN) and score_bytes != model.compute.score_bytes:
        compute = dataclasses.replace(model.compute, score_bytes=score_bytes)
        model = parameters.to_model(model.config, parameters.split(model)[1], compute)
    return programs.forward(model, CHOP_ARRAYS.get(scale_of(model), ()) if mode == "chop" else ())


def _turns(plan: Plan) -> list[Turn]:
    either = (False, True)
    return list(itertools.product(either, either, either)) if plan.options.self_ensemble else [(False, False, False)]


def _tiling(plan: Plan, h: int, w: int, scale: int, transposed: bool) -> Tiling:
    """Return how a picture is cut, as it is or transposed."""
    h, w = (w, h) if transposed else (h, w)
    if plan.mode == "tile":
        return tiling.tile(h, w, scale, plan.options.tile_size, plan.options.tile_overlap)
    cut: Callable[[int, int, int], Tiling] = tiling.whole if plan.mode == "whole" else tiling.chop
    return cut(h, w, scale)


def _turned(image: Pixels, transpose: bool, flip_rows: bool, flip_columns: bool) -> Num[np.ndarray, "_h _w 3"]:
    """Return a view of a picture, turned."""
    turned = image.transpose(1, 0, 2) if transpose else image
    return turned[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _round_into(target: AnyPicture, sr: Image) -> None:
    """Clip and round a part of the output, 0..255, to three channels or to one of gray, in the target's units."""
    level = DEEP_LEVEL if target.dtype == np.uint16 else 1
    rows = max(1, _ROUNDED_PIXELS // max(1, sr.shape[1]))
    for first in range(0, len(sr), rows):
        strip = sr[first : first + rows]
        colours = strip if target.shape[2] == 3 else (strip @ _GRAY)[:, :, None]
        target[first : first + rows] = np.round(np.clip(colours, 0, 255) * level)
