"""What a picture takes, in memory and in time, and how it is run so that it fits: the one estimate that there is."""

import argparse
import dataclasses
import math
from collections.abc import Sequence

import jax
from flax import nnx

from msnlan_jax.errors import InputError
from msnlan_jax.inference.programs import CHOP_ARRAYS, ArraySize, chop_levels, largest_array
from msnlan_jax.inference.tiling import TILE_BATCH
from msnlan_jax.network import KERNEL_SIZES, MSNLAN, MSNLANConfig, multiply_adds
from msnlan_jax.network.attention import limit_scores, smallest_block, split_rows, working_bytes
from msnlan_jax.runtime import GB, count_cores, limit_bytes

# Python and JAX, and compiling each residual block, in the memory of a machine without accelerator.
_PROGRAM_BYTES = {"cpu": (0.45 * GB, 0.005 * GB)}
# Bytes an output pixel, from peak resident memory at 1500×1000 to 6000×4000 LR pixels, ×4 and ×2: the uint8 result 3,
# or 4 with alpha; with Pillow's copy and the file's bytes 10 while it is written as PNG, TIFF or BMP of noise, 8 as
# JPEG, but 35 as WebP; float32 12; and of the rows of tiles being blended 42 to 65: sums, weights, their quotient,
# clipped, rounded.
_UINT8_BYTES, _WRITTEN_BYTES, _FLOAT_BYTES, _BLENDED_BYTES = 4, 12, 12, 64
_WEBP_BYTES = 36
# float32 feature maps of C channels alive at once, in units of LR pixels: around the attention, or in the tail, where a
# map is s² times as large. By XLA for CPU it is 60 at ×2 and at ×4, 256×256 and 512×512 pixels.
_FEATURE_MAPS, _TAIL_MAPS = 64, 4
# Multiply–adds a second. By `benchmarks.whole_image` a CPU core did 44·10⁹ at 96×128 pixels and 39·10⁹ at 192×256, in
# float32, filters and exponentials included. For accelerators it is a guess: a tenth of a large GPU's float32.
_CORE_RATE, _ACCELERATOR_RATE = 40e9, 3e12
_LONG_HOURS = 1.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a picture is run.

    Attributes:
        inference: "whole", "chop" or "tile".
        score_bytes: for the network to compute with, so that the memory suffices.
        note: what the user should know; empty where all is as asked for.
    """

    inference: str
    score_bytes: int | None = None
    note: str = ""


def check_memory_limit(limit: float | None) -> None:
    """Refuse a limit that is no positive number of GB."""
    if limit is not None and not limit > 0:
        raise InputError(f"memory_limit: found {limit:g}, expected a positive number of GB")


def add_memory_limit(parser: argparse._ActionsContainer) -> None:
    """Add the flag --memory_limit: GB as a number, or nothing for what is free."""
    parser.add_argument(
        "--memory_limit",
        type=_gigabytes,
        metavar="GB",
        help="how much memory a picture may take, by estimate; whole pictures that cannot do with so little are tiled "
        "(by default most of what is free)",
    )


def plan(
    model: nnx.Module,
    h: int,
    w: int,
    *,
    inference: str,
    tile_size: int,
    memory_limit: float | None = None,
    runs: int = 1,
    float_result: bool = False,
) -> Plan:
    """Choose how to run a picture within the memory.

    Args:
        model: the network.
        h: LR height.
        w: LR width.
        inference: "whole", in tiles where memory does not allow it; "auto", there and where it would take hours;
            "chop" or "tile".
        tile_size: LR pixels.
        memory_limit: GB; None for most of what is free, infinity for none.
        runs: how often the network looks at the picture.
        float_result: whether all of the result is held in float32, as for the mean over several runs.

    Raises:
        InputError: when not even tiles would fit.
    """
    limit, scale = limit_bytes(memory_limit), model.scale  # type: ignore[attr-defined]
    tile = min(tile_size, h), min(tile_size, w)
    # Several runs are those of the self-ensemble, which also turns the picture.
    blended = max(tile[0] * w, tile[1] * h) if runs > 1 else tile[0] * w
    # A whole picture's float32 result is among the network's own maps; of other models nothing is known.
    outputs = {
        "whole": Output(h, w, scale, 0 if isinstance(model, MSNLAN) else h * w, float_result),
        "chop": Output(h, w, scale, 0, float_result),
        "tile": Output(h, w, scale, blended, float_result),
    }
    if not isinstance(model, MSNLAN):
        chosen = "whole" if inference == "auto" else inference
        if (needed := _program_bytes(0) + outputs[chosen].bytes()) > limit:
            raise _too_large(needed, limit, h, w)
        return Plan(chosen)
    config, own_bytes, note = model.config, model.compute.score_bytes, ""
    if inference in ("auto", "whole"):
        score_bytes, needed = _fit(config, own_bytes, _arrays(h, w, runs), 1, outputs["whole"], limit)
        hours = runs * estimate_seconds(config, h, w, own_bytes) / 3600
        if needed <= limit and hours < _LONG_HOURS:
            return Plan("whole", score_bytes)
        if needed > limit:
            reason = f"whole, {w}×{h} would need at least about {_gb(needed)} of {_gb(limit)} GB"
        elif inference == "whole":
            return Plan("whole", score_bytes, f"whole, {w}×{h} takes about {hours:.0f} h; inference 'tile' takes less")
        else:
            reason = f"whole, {w}×{h} would take about {hours:.0f} h; inference 'whole' insists"
        inference, note = "tile", f"in tiles of {tile[1]}×{tile[0]} pixels, as {reason}"
    if inference == "chop":
        tile = [(h, w), *chop_levels(h, w, scale)][-1]
    arrays = _arrays(*tile, runs, CHOP_ARRAYS[scale] if inference == "chop" else ())
    batch = 1 if tile == (h, w) else TILE_BATCH
    score_bytes, needed = _fit(config, own_bytes, arrays, batch, outputs[inference], limit)
    if needed > limit:
        raise _too_large(needed, limit, h, w)
    return Plan(inference, score_bytes, note)


@dataclasses.dataclass(frozen=True)
class Output:
    """What is made of a picture.

    Attributes:
        h: LR height.
        w: LR width.
        scale: of the network.
        blended: LR pixels whose output is held in float32 at a time, besides the batch that is run.
        float_result: whether all of it is, too.
    """

    h: int
    w: int
    scale: int
    blended: int
    float_result: bool = False

    def bytes(self, running: float = 0) -> float:
        """Return the bytes it takes at most: with `running` bytes for the network while it runs, or when written."""
        pixels, blended = self.h * self.w * self.scale**2, self.blended * self.scale**2
        held = _FLOAT_BYTES * pixels if self.float_result else 0
        return max(running + _UINT8_BYTES * pixels + held + _BLENDED_BYTES * blended, _WRITTEN_BYTES * pixels)


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
    features = 4 * config.n_feats * math.prod(array) * max(_FEATURE_MAPS, _TAIL_MAPS * config.scale**2)
    scores = working_bytes(*array, max(KERNEL_SIZES), score_bytes)
    return _program_bytes(config.n_groups * config.n_blocks) + output.bytes(batch * features + scores)


def estimate_seconds(config: MSNLANConfig, h: int, w: int, score_bytes: int | None = None) -> float:
    """Estimate how long a whole picture of h×w LR pixels takes: convolutions, and attention as it is streamed, with the
    rows of patches unfolded, and scores computed twice where not all keys fit into a block."""
    attention = 0
    for k in KERNEL_SIZES:
        hk, wk = h + k - 3, w + k - 3
        passes = 1 if split_rows(h, w, hk, wk, limit_scores(score_bytes))[1] == hk else 2
        attention += k * h * w * hk * wk * (passes * (config.n_feats // 2) + config.n_feats)
    rate = _CORE_RATE * count_cores() if jax.default_backend() == "cpu" else _ACCELERATOR_RATE
    return (multiply_adds(config, h, w).convolutions + attention) / rate


def check_resizing(before: int, after: int, limit: float, h: int, w: int, suffix: str = "") -> None:
    """Refuse to resize and write a picture, h×w at the end, that does not fit into `limit` bytes.

    Args:
        before: pixels of the picture that is resized.
        after: pixels at the end.
        limit: bytes.
        h: for the message.
        w: likewise.
        suffix: of the file to write.

    Raises:
        InputError: saying what would be needed.
    """
    resized = _UINT8_BYTES * (before + max(before, after) + after)  # between the passes it is at most the larger
    written = _WEBP_BYTES if suffix.lower() == ".webp" else _WRITTEN_BYTES
    if (needed := _program_bytes(0) + max(resized, written * after)) > limit:
        raise InputError(
            f"memory: a result of {w}×{h} pixels needs about {_gb(needed)} GB to be made and written, found "
            f"{_gb(limit)} GB; expected a smaller picture or scale, or a larger memory_limit"
        )


def _arrays(h: int, w: int, runs: int, ready: Sequence[ArraySize] = ()) -> list[ArraySize]:
    """Return the largest arrays in which a picture may be run, turned too where there are several runs."""
    return [largest_array(*size, ready) for size in ((h, w), (w, h))[: min(runs, 2)]]


def _fit(
    config: MSNLANConfig,
    own_bytes: int | None,
    arrays: Sequence[ArraySize],
    batch: int,
    output: Output,
    limit: float,
) -> tuple[int | None, float]:
    """Return for which score bytes, the network's own or these halved, the estimate fits, and the estimate; where none
    does, the smallest."""
    found = own_bytes
    least = max(smallest_block(w, max(KERNEL_SIZES)) for _, w in arrays)

    def needed() -> float:
        return max(estimate_bytes(config, array, batch, output, found) for array in arrays)

    while needed() > limit and limit_scores(found) > least:
        found = limit_scores(found) // 2
    return found, needed()


def _program_bytes(n_blocks: int) -> float:
    fixed, each = _PROGRAM_BYTES.get(jax.default_backend(), (0, 0))
    return fixed + each * n_blocks


def _gigabytes(text: str) -> float | None:
    try:
        limit = float(text) if text else None
    except ValueError:
        limit = math.nan
    if limit is not None and not 0 < limit < math.inf:
        raise argparse.ArgumentTypeError(f"found {text}, expected a positive number of GB")
    return limit


def _too_large(needed: float, limit: float, h: int, w: int) -> InputError:
    return InputError(
        f"memory: a picture of {w}×{h} pixels needs about {_gb(needed)} GB even in tiles, found {_gb(limit)} GB; "
        "expected a smaller picture, scale or tile, or a larger memory_limit"
    )


def _gb(count: float) -> str:
    return f"{count / GB:.1f}" if count >= GB else f"{count / GB:.2g}"
