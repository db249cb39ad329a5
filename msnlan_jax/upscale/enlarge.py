"""Enlarging one picture to any size: by the network, and resizing to the exact scale."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from flax import nnx

from msnlan_jax.inference import (
    Options,
    Plan,
    Programs,
    Request,
    check_resizing,
    plan_picture,
    scale_of,
    upscale_each,
)
from msnlan_jax.pictures import AnyPicture, Bicubic, imresize
from msnlan_jax.runtime import machine
from msnlan_jax.weights import bundled, load_model


def load_for_scale(weights: str | None, scale: float | None) -> tuple[nnx.Module, str]:
    """Load the network that serves a scale best, and return it with its name.

    Args:
        weights: as `--weights`; None for the bundled ones.
        scale: any positive number; None for the network's own.

    Raises:
        FileNotFoundError, InputError: as `load_model`.
    """
    name = bundled.default_weights() if weights is None else weights
    if name == bundled.FALLBACK:
        return load_model(name, scale=4 if scale is None else max(1, math.ceil(scale))), name
    if scale is not None and (scales := bundled.find(name) if name in bundled.NAMES else {}):
        return load_model(name, scale=bundled.nearest_scale(scale, scales)), name
    return load_model(name), name


def final_size(model: nnx.Module, image: AnyPicture, scale: float | None) -> tuple[int, int]:
    """Return how high and wide `enlarge` makes a picture."""
    factor = scale_of(model) if scale is None else scale
    # Rounded first: 3 · 1.1 is a little more than 3.3.
    h, w = (max(1, math.ceil(round(side * factor, 6))) for side in image.shape[:2])
    return h, w


def check_memory(model: nnx.Module, image: AnyPicture, scale: float | None, options: Options, suffix: str) -> None:
    """Refuse a picture that cannot be resized and written within the memory, before any work is done; what the network
    takes is for `upscale` to know.

    Args:
        model: from `load_for_scale`.
        image: any of the kinds `upscale` takes.
        scale: any positive number; None for the network's own.
        options: how it is to be run.
        suffix: of the file to write, as some formats take more memory.

    Raises:
        InputError: saying what would be needed.
    """
    own = 1 if isinstance(model, Bicubic) else scale_of(model)
    h, w = final_size(model, image, scale)
    before = math.prod(image.shape[:2]) * own**2
    check_resizing(before, h * w, machine.limit_bytes(options.memory_limit), h, w, suffix, image.itemsize)


def plan_enlarging(
    model: nnx.Module, image: AnyPicture, scale: float | None, options: Options, programs: Programs
) -> Plan:
    """Choose how to run a picture; the notes also say what is left to do after the network.

    Args:
        model: from `load_for_scale`.
        image: any of the kinds `upscale` takes.
        scale: any positive number; None for the network's own.
        options: how it is to be run.
        programs: those that pictures share.

    Raises:
        InputError: as `plan_picture`.
    """
    if isinstance(model, Bicubic):
        return Plan(options, parts=1)
    plan = plan_picture(model, image.shape, options, programs=programs, sample_bytes=image.itemsize)
    own = scale_of(model)
    h, w = final_size(model, image, scale)
    if (h, w) == (image.shape[0] * own, image.shape[1] * own):
        return plan
    return dataclasses.replace(plan, notes=(*plan.notes, f"×{own} by the network, then to {w}×{h} bicubically"))


def enlarge(
    model: nnx.Module, image: AnyPicture, scale: float | None, plan: Plan, programs: Programs
) -> Iterator[AnyPicture]:
    """Enlarge a picture `scale` times, by the network's own scale and from there by MATLAB's bicubic.

    Arguments as `plan_enlarging`, and its plan.

    Yields:
        A picture after each of the plan's parts. The last is finished, ⌈size · scale⌉ pixels high and wide.

    Raises:
        InputError: as `upscale`.
    """
    for _, parts in enlarge_each(model, [Request(image, plan)], scale, programs, plan.options.memory_limit):
        yield from parts


def enlarge_each(
    model: nnx.Module,
    requests: Iterable[Request],
    scale: float | None,
    programs: Programs,
    memory_limit: float | None,
) -> Iterator[tuple[Any, Iterator[AnyPicture]]]:
    """Enlarge pictures on all devices at once, as `enlarge` does each of them.

    Args:
        model: from `load_for_scale`.
        requests: the pictures, by plans from `plan_enlarging`; the next ones are asked for while devices run those
            before.
        scale: any positive number; None for the network's own.
        programs: those of the plans.
        memory_limit: GB, that they were planned within.

    Yields:
        Each one's tag, and what `enlarge` yields of it, to be taken before the next.
    """
    if isinstance(model, Bicubic):
        for request in requests:
            yield request.tag, _resized(request.image, final_size(model, request.image, scale))
        return
    in_gray = ((request, _without_colours(request.image)) for request in requests)
    run = (dataclasses.replace(request, image=image, tag=request) for request, image in in_gray)
    for running in upscale_each(model, run, programs=programs, memory_limit=memory_limit):
        request = running.request.tag
        yield request.tag, _to_size(running.parts(), request, final_size(model, request.image, scale))


def _without_colours(image: AnyPicture) -> AnyPicture:
    """Return a picture in RGB that has no colours as gray: a network tints it here and there. Others as they are."""
    if image.ndim == 2 or image.shape[2] < 3 or not (image[:, :, :1] == image[:, :, 1:3]).all():
        return image
    return np.ascontiguousarray(image[:, :, 2:] if image.shape[2] == 4 else image[:, :, 0])


def _with_channels(result: AnyPicture, image: AnyPicture) -> AnyPicture:
    """Return a result with as many channels as the picture had."""
    if result.ndim == image.ndim and result.shape[2:] == image.shape[2:]:
        return result
    gray = result[:, :, None] if result.ndim == 2 else result
    return np.concatenate([gray[:, :, :1].repeat(3, axis=2), gray[:, :, 1:]], axis=2)


def _resized(image: AnyPicture, size: tuple[int, int]) -> Iterator[AnyPicture]:
    yield imresize(image, output_shape=size)


def _to_size(parts: Iterator[AnyPicture], request: Request, size: tuple[int, int]) -> Iterator[AnyPicture]:
    """Yield parts of a result, the last of the size and with the channels that are wanted."""
    for part, result in enumerate(parts, 1):
        if part == request.plan.parts:
            result = result if result.shape[:2] == size else imresize(result, output_shape=size)
            result = _with_channels(result, request.image)
        yield result
