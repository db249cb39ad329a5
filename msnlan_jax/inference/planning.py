"""What a picture takes, in memory and in time, and how it is run so that both suffice: the one estimate there is."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import jax
from flax import nnx

from msnlan_jax.errors import InputError
from msnlan_jax.inference.options import Options
from msnlan_jax.inference.programs import ArraySize, Programs
from msnlan_jax.inference.tiling import CHOP_ARRAYS, TILE_BATCH, chop_levels, count_chop, count_tiles
from msnlan_jax.network import KERNEL_SIZES, MSNLAN, MSNLANConfig, multiply_adds
from msnlan_jax.network.attention import limit_scores, smallest_block, split_rows, working_bytes
from msnlan_jax.runtime import GB, count_cores, limit_bytes

# The program: Python and JAX, and what compiling takes, of each residual block besides. By the peak memory of the
# bundled network in tiles, 1.29 GB, and of the published one on 64×48 pixels. It counts where it shares the memory with
# what it computes, so not with an accelerator.
_PROGRAM_BYTES = {"cpu": (0.8 * GB, 0.005 * GB)}
# Bytes that every pixel of the output takes at most, from the peak memory of runs at 1500×1000 to 6000×4000 LR pixels,
# ×4 and ×2:
_HELD_BYTES = 4  # held as uint8, with alpha; as uint16 twice that, as being written
_WRITTEN_BYTES = 12  # being written, Pillow's copy and the file included: 10 as PNG, TIFF or BMP of noise, 8 as JPEG
_WEBP_BYTES = 36  # the same as WebP: 35
_FLOAT_BYTES = 12  # held as float32
_BLENDED_BYTES = 64  # in the rows that are being blended, 42 to 65: sums, weights, their quotient, clipped, rounded
# How many float32 maps of C channels are alive at once around the attention, and in the tail, where each is s² times as
# large. By XLA for CPU the first is 60 at ×2 and at ×4, 256×256 and 512×512 pixels.
_FEATURE_MAPS, _TAIL_MAPS = 64, 4
# Multiply–adds a second. By `benchmarks.whole_image` a CPU core did 44·10⁹ at 96×128 pixels and 39·10⁹ at 192×256, in
# float32, with filters and exponentials in the time. The bundled network took 1.3 times the estimate for B100 at ×4 on
# two cores, compiling ten programs included. For accelerators it is a guess: a tenth of a large GPU's float32.
_CORE_RATE, _ACCELERATOR_RATE = 40e9, 3e12
# "auto" runs a picture whole if that takes at most so long.
_WHOLE_SECONDS = 60.0
# From when on the user is told that tiles would be faster: of "auto", and of "whole", which was asked for.
_SLOW_SECONDS = {"auto": 10.0, "whole": 3600.0}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a picture is run.

    Attributes:
        options: as asked for, but with the mode that is taken: "whole", "chop" or "tile".
        parts: how many tiles are run, 1 for a whole picture, and 8 times as many by the self-ensemble.
        seconds: how long that takes one device, compiling left out, by estimate; None for other networks than MSNLANs.
        score_bytes: how many bytes of attention scores the network holds at once, for its `Compute`, so that the memory
            suffices.
        notes: what the user should know; empty where all is as asked for.
        at_once: how many of the parts run at the same time, on devices that each have cores of their own.
        held_bytes: of memory that the picture takes, by estimate, without the network while it runs.
        running_bytes: what that takes, for each batch of tiles under way.
    """

    options: Options
    parts: int
    seconds: float | None = None
    score_bytes: int | None = None
    notes: tuple[str, ...] = ()
    at_once: int = 1
    held_bytes: float = 0.0
    running_bytes: float = 0.0

    @property
    def mode(self) -> str:
        """How the picture is run: "whole", "chop" or "tile"."""
        return self.options.mode

    @property
    def duration(self) -> str:
        """About how long it takes, as "40 s", "12 min" or "3 h"; empty where nobody knows."""
        if self.seconds is None:
            return ""
        seconds = self.seconds / self.at_once
        for size, unit in ((3600, "h"), (60, "min")):
            if seconds >= 1.5 * size:
                return f"{seconds / size:.0f} {unit}"
        return f"{max(1, round(seconds))} s"


class _Scaled(Protocol):
    @property
    def scale(self) -> int: ...


def scale_of(model: nnx.Module) -> int:
    """Return how many times as high and wide a network makes a picture: what its attribute `scale` says."""
    return cast(_Scaled, model).scale


def plan_picture(
    model: nnx.Module,
    shape: tuple[int, ...],
    options: Options,
    *,
    programs: Programs | None = None,
    float_result: bool = False,
    sample_bytes: int = 1,
) -> Plan:
    """Choose how to run a picture within the memory and, for "auto", within about a minute where it can be.

    A whole picture that takes too much memory however little of its attention is held at once is run in tiles.

    Args:
        model: the network.
        shape: of the picture: LR height, LR width, and what else there may be.
        options: how it is to be run.
        programs: those that it will be run by, so that larger arrays which it would share are counted.
        float_result: whether all of the result is held in float32, as by `predict`.
        sample_bytes: 1 for a picture of 8 bits a channel, 2 for one of 16.

    Raises:
        InputError: when not even tiles would fit.
    """
    (h, w), limit = shape[:2], limit_bytes(options.memory_limit)
    programs = programs or Programs()
    output = Output(h, w, scale_of(model), 0, float_result or options.self_ensemble, sample_bytes)
    draft = functools.partial(_draft, model, h, w, options, limit, programs, output)
    if isinstance(model, MSNLAN) and options.mode in ("auto", "whole"):
        plan, needed = _whole_or_tiles(draft, h, w, options, limit)
    else:
        plan, needed = draft("whole" if options.mode == "auto" else options.mode)
    if needed > limit:
        raise InputError(
            f"memory: a picture of {w}×{h} pixels needs about {_gb(needed)} GB even in tiles, found {_gb(limit)} GB; "
            "expected a smaller picture, scale or tile, or a larger memory_limit"
        )
    return plan


def _whole_or_tiles(
    draft: Callable[[str], tuple[Plan, float]], h: int, w: int, options: Options, limit: float
) -> tuple[Plan, float]:
    """Return the plan for a network that is to run a picture whole if it can, and the bytes needed."""
    (whole, needed), (tiles, needed_in_tiles) = draft("whole"), draft("tile")
    assert whole.seconds is not None and tiles.seconds is not None
    is_auto, tiles_are_faster = options.mode == "auto", tiles.seconds < whole.seconds
    if needed > limit:
        reason = f"would need at least about {_gb(needed)} of {_gb(limit)} GB"
    elif is_auto and tiles_are_faster and whole.seconds > _WHOLE_SECONDS:
        reason = f"would take about {whole.duration} instead of {tiles.duration}; --inference whole insists"
    elif tiles_are_faster and whole.seconds >= _SLOW_SECONDS[options.mode]:
        note = f"whole, {w}×{h} takes about {whole.duration}; --inference tile takes {tiles.duration}"
        return dataclasses.replace(whole, notes=(note,)), needed
    else:
        return whole, needed
    side = options.tile_size
    note = f"in tiles of {min(side, w)}×{min(side, h)} pixels, as whole, {w}×{h} {reason}"
    return dataclasses.replace(tiles, notes=(note,)), needed_in_tiles


def _draft(
    model: nnx.Module,
    h: int,
    w: int,
    options: Options,
    limit: float,
    programs: Programs,
    output: "Output",
    mode: str,
) -> tuple[Plan, float]:
    """Return how a picture is run by one mode, and the bytes needed; these are above the limit if it does not fit."""
    options, scale = dataclasses.replace(options, mode=mode), scale_of(model)
    # The self-ensemble also runs the picture turned, four times each way.
    turns = ((h, w), (w, h)) if options.self_ensemble else ((h, w),)
    tile, parts, blended = (h, w), 1, 0
    ready: Sequence[ArraySize] = ()
    if mode == "chop":
        tile, parts = (chop_levels(h, w, scale) or [tile])[-1], count_chop(h, w, scale)
        ready = CHOP_ARRAYS.get(scale, ())
    elif mode == "tile":
        side = options.tile_size
        tile, parts = (min(side, h), min(side, w)), count_tiles(h, w, side, options.tile_overlap)
        blended = max(min(side, height) * width for height, width in turns)
    elif not isinstance(model, MSNLAN):
        blended = h * w  # the float32 result, which for a whole picture is among the network's own maps
    parts *= 8 if options.self_ensemble else 1
    output = dataclasses.replace(output, blended=blended)
    if not isinstance(model, MSNLAN):
        return Plan(options, parts, held_bytes=output.bytes()), _program_bytes(0) + output.bytes()
    arrays = [programs.largest_array(*size, ready) for size in (tile, tile[::-1])[: len(turns)]]
    batch = 1 if tile == (h, w) else TILE_BATCH
    score_bytes, needed = _fit(model.config, model.compute.score_bytes, arrays, batch, output, limit)
    running = max(running_bytes(model.config, array, batch, score_bytes) for array in arrays)
    plan = Plan(
        options,
        parts,
        parts * estimate_seconds(model.config, *tile, score_bytes),
        score_bytes,
        at_once=1 if jax.default_backend() == "cpu" else min(programs.n_devices, -(-parts // batch)),
        held_bytes=max(0.0, needed - running - program_bytes(model)),
        running_bytes=running,
    )
    return plan, needed


@dataclasses.dataclass(frozen=True)
class Output:
    """What is made of a picture.

    Attributes:
        h: LR height.
        w: LR width.
        scale: of the network.
        blended: LR pixels whose output is held in float32 at a time, besides the batch that is run.
        float_result: whether all of it is, too.
        sample_bytes: 1 for 8 bits a channel, 2 for 16.
    """

    h: int
    w: int
    scale: int
    blended: int
    float_result: bool = False
    sample_bytes: int = 1

    def bytes(self, running: float = 0) -> float:
        """Return the bytes it takes at most: with `running` bytes for the network while it runs, or when written."""
        pixels, blended = self.h * self.w * self.scale**2, self.blended * self.scale**2
        held = _FLOAT_BYTES * pixels if self.float_result else 0
        held += self.sample_bytes * _HELD_BYTES * pixels
        return max(running + held + _BLENDED_BYTES * blended, self.sample_bytes * _WRITTEN_BYTES * pixels)


def estimate_bytes(
    config: MSNLANConfig, array: ArraySize, batch: int, output: Output, score_bytes: int | None = None
) -> float:
    """Estimate the peak memory of up-scaling a picture: attention, feature maps, the result, and the program.

    Args:
        config: the network's.
        array: LR height and width of what is run at once, the picture or a tile, with padding.
        batch: tiles run at once.
        output: what is made of the picture.
        score_bytes: as in `Compute`.
    """
    running = running_bytes(config, array, batch, score_bytes)
    return _program_bytes(config.n_groups * config.n_blocks) + output.bytes(running)


def running_bytes(config: MSNLANConfig, array: ArraySize, batch: int, score_bytes: int | None = None) -> float:
    """Estimate what a network takes while it runs a batch: attention, and feature maps; arguments as
    `estimate_bytes`."""
    features = 4 * config.n_feats * math.prod(array) * max(_FEATURE_MAPS, _TAIL_MAPS * config.scale**2)
    return batch * features + working_bytes(*array, max(KERNEL_SIZES), score_bytes)


def shared_bytes(model: nnx.Module, memory_limit: float | None) -> float:
    """Return the bytes that everything under way at once may take together, beside the program: what pictures are
    planned within, or most of what is free where that is without limit.

    Each picture is planned as if it were alone, so that its result does not depend on how many devices there are. Those
    of a CPU share the memory, so fewer pictures are under way at once; accelerators have their own.
    """
    if jax.default_backend() != "cpu":
        return math.inf
    limit = limit_bytes(None if memory_limit is None or math.isinf(memory_limit) else memory_limit)
    return limit - program_bytes(model)


def program_bytes(model: nnx.Module) -> float:
    """Estimate what the program itself takes, where it shares the memory with what it computes."""
    return _program_bytes(model.config.n_groups * model.config.n_blocks if isinstance(model, MSNLAN) else 0)


def estimate_seconds(config: MSNLANConfig, h: int, w: int, score_bytes: int | None = None) -> float:
    """Estimate how long h×w LR pixels at once take: convolutions, and attention as it is streamed, with the rows of
    patches unfolded, and scores computed twice where `score_bytes` do not hold all keys of a row of queries."""
    attention = 0
    for k in KERNEL_SIZES:
        hk, wk = h + k - 3, w + k - 3
        passes = 1 if split_rows(h, w, hk, wk, limit_scores(score_bytes))[1] == hk else 2
        attention += k * h * w * hk * wk * (passes * (config.n_feats // 2) + config.n_feats)
    rate = _CORE_RATE * count_cores() if jax.default_backend() == "cpu" else _ACCELERATOR_RATE
    return (multiply_adds(config, h, w).convolutions + attention) / rate


def check_resizing(
    before: int, after: int, limit: float, h: int, w: int, suffix: str = "", sample_bytes: int = 1
) -> None:
    """Refuse to resize and write a picture, h×w at the end, that does not fit into `limit` bytes.

    Args:
        before: pixels of the picture that is resized.
        after: pixels at the end.
        limit: bytes.
        h: for the message.
        w: likewise.
        suffix: of the file to write.
        sample_bytes: 1 for 8 bits a channel, 2 for 16.

    Raises:
        InputError: saying what would be needed.
    """
    resized = _HELD_BYTES * (before + max(before, after) + after)  # between the passes it is at most the larger
    written = _WEBP_BYTES if suffix.lower() == ".webp" else _WRITTEN_BYTES
    if (needed := _program_bytes(0) + sample_bytes * max(resized, written * after)) > limit:
        raise InputError(
            f"memory: a result of {w}×{h} pixels needs about {_gb(needed)} GB to be made and written, found "
            f"{_gb(limit)} GB; expected a smaller picture or scale, or a larger memory_limit"
        )


def _fit(
    config: MSNLANConfig,
    score_bytes: int | None,
    arrays: Sequence[ArraySize],
    batch: int,
    output: Output,
    limit: float,
) -> tuple[int | None, float]:
    """Return for which score bytes, the network's own or these halved, the estimate fits, and the estimate; where none
    does, the smallest."""
    found = score_bytes
    least = max(smallest_block(w, max(KERNEL_SIZES)) for _, w in arrays)

    def needed() -> float:
        return max(estimate_bytes(config, array, batch, output, found) for array in arrays)

    while needed() > limit and limit_scores(found) > least:
        found = limit_scores(found) // 2
    return found, needed()


def _program_bytes(n_blocks: int) -> float:
    fixed, each = _PROGRAM_BYTES.get(jax.default_backend(), (0, 0))
    return fixed + each * n_blocks


def _gb(count: float) -> str:
    return f"{count / GB:.1f}" if count >= GB else f"{count / GB:.2g}"
