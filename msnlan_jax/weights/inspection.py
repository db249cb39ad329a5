"""Looking into weights: what any checkpoint file holds, and whether ours and PyTorch's network agree on a picture."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.network import MSNLANConfig, count_parameters, parameters
from msnlan_jax.pictures import RGBPicture
from msnlan_jax.runtime import compiler_options, files, machine
from msnlan_jax.weights import loading, torch_files, torch_keys, wrappers
from msnlan_jax.weights.damage import reading, shown
from msnlan_jax.weights.safetensors_files import is_safetensors, read_header
from msnlan_jax.weights.workdir import read_config

_SHOWN = 8


class Difference(NamedTuple):
    """How two networks' outputs on one picture differ: in units of 0..255, relative to the output (L2 norms), and as
    PSNR in dB, infinite for equal ones."""

    largest: float
    mean: float
    relative: float
    psnr: float


class Inspection(NamedTuple):
    """What a file holds, in lines, and why it cannot be used, in one that names it; None when it can."""

    lines: list[str]
    refusal: str | None


class Entry(NamedTuple):
    """A tensor in a file, without its values."""

    shape: tuple[int, ...]
    dtype: str


def verify(source: epath.PathLike, picture: RGBPicture) -> Difference:
    """Run the weights in this package and in the PyTorch reference, both in float32, and compare the outputs.

    Args:
        source: anything that `load_model` takes.
        picture: LR picture, 0..255.

    Raises:
        FileNotFoundError, InputError: as `loading.read_weights`, or when PyTorch is not installed, or the picture too
            large for it.
    """
    try:
        import torch

        from msnlan_jax.network import torch_reference
    except ImportError:
        raise InputError("--verify: needs PyTorch: pip install -e '.[torch]'") from None
    config, values = loading.read_weights(source)
    h, w = picture.shape[:2]
    needed, free = torch_reference.MSNLAN.estimate_bytes(config, h, w), machine.free_bytes()
    if needed > free:
        raise InputError(
            f"--picture: found {w}×{h} pixels, whose attention takes PyTorch about {needed / machine.GB:.1f} GB, "
            f"expected a smaller one: {free / machine.GB:.1f} GB are free"
        )
    network = torch_reference.MSNLAN(config)
    state = torch_keys.to_torch(config, values)
    network.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()})
    lr = picture.astype(np.float32)
    with torch.no_grad():
        theirs = network(torch.from_numpy(lr.transpose(2, 0, 1)[None].copy()))[0].numpy().transpose(1, 2, 0)
    graph, _ = parameters.abstract_parameters(config)
    run = jax.jit(lambda values, x: parameters.merge(graph, values)(x), compiler_options=compiler_options())
    difference = np.abs(np.asarray(run(values, lr[None])[0]) - theirs).astype(np.float64)
    square = float(np.mean(np.square(difference)))
    psnr = 10 * math.log10(255**2 / square) if square > 0 else math.inf
    relative = float(np.linalg.norm(difference) / np.linalg.norm(theirs))
    return Difference(float(difference.max()), float(difference.mean()), relative, psnr)


def inspect(source: epath.PathLike) -> Inspection:
    """Say what a file or training workdir holds, as far as it can be read; nothing in it is run.

    Raises:
        FileNotFoundError: when there is no such file or folder.
        InputError: when it is neither, or empty.
    """
    path = loading.locate(source)
    if not path.exists():
        raise FileNotFoundError(f"{source}: no such file or workdir, expected a checkpoint")
    if path.is_dir() and (path / "config.json").exists():
        return _inspect_workdir(path)
    if path.is_dir():
        raise InputError(f"{path}: found no config.json, expected a training workdir, or a checkpoint file")
    data = files.read_bytes(path, "checkpoint")
    read = _read_safetensors if is_safetensors(data) else _read_torch
    lines = [f"{path}: {'safetensors' if is_safetensors(data) else torch_format(data)}, {len(data):,} bytes"]
    entries: dict[str, Entry] = {}
    try:
        entries, notes = read(path, data)
        lines += [*notes, *_describe(entries)]
        found = loading.read_file(path)
    except InputError as error:
        return Inspection([*lines, *_unknown(entries)], str(error))
    return Inspection([*lines, *found.notes, f"usable: an MSNLAN, {_sizes(found.config)}"], None)


def torch_format(data: bytes) -> str:
    """Say which of PyTorch's formats a file is in."""
    return f"PyTorch, {'zip' if data.startswith(b'PK') else 'pre-1.6'} format"


def _inspect_workdir(path: epath.Path) -> Inspection:
    lines = [f"{path}: training workdir"]
    try:
        stored = read_config(path)
        lines.append(f"config: ×{stored.get('scale')}, {json.dumps(stored.get('model'))}")
        folder = path / "checkpoints"
        steps = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []
        lines.append(f"checkpoints at steps {', '.join(map(str, steps))}" if steps else "no checkpoints")
        config, values = loading.read_weights(path)
    except InputError as error:
        return Inspection(lines, str(error))
    lines += _describe({key: Entry(value.shape, value.dtype.name) for key, value in values.items()})
    return Inspection([*lines, f"usable: an MSNLAN, {_sizes(config)}"], None)


def _read_torch(path: epath.Path, data: bytes) -> tuple[dict[str, Entry], list[str]]:
    torch = torch_files.import_torch(path)
    entries, notes = {}, []
    for key, value in torch_files.read_torch(path, data).items():
        if isinstance(value, torch.Tensor):
            entries[key] = Entry(tuple(value.shape), str(value.dtype).removeprefix("torch."))
        else:
            notes.append(f"{key}: {type(value).__name__}")
    return entries, _few(notes)


def _read_safetensors(path: epath.Path, data: bytes) -> tuple[dict[str, Entry], list[str]]:
    """Read the header alone, so that a file cut short still says what it was to hold."""
    with reading(path, "safetensors file"):
        header = read_header(data)
        metadata = dict(header.pop("__metadata__", {}))
        entries = {
            shown(key): Entry(tuple(map(int, value["shape"])), shown(str(value["dtype"])))
            for key, value in header.items()
        }
        size = 8 + int.from_bytes(data[:8], "little")
        size += max((int(value["data_offsets"][1]) for value in header.values()), default=0)
        notes = [shown(f"metadata {key}: {value}") for key, value in metadata.items()]
    if size != len(data):
        notes.append(f"damaged: found {len(data):,} bytes, expected {size:,} as its header says")
    return entries, _few(notes)


def _describe(entries: Mapping[str, Entry]) -> list[str]:
    dtypes = Counter(entry.dtype for entry in entries.values())
    count = sum(math.prod(entry.shape) for entry in entries.values())
    kinds = ", ".join(f"{number} {dtype}" for dtype, number in dtypes.most_common())
    return [f"{len(entries)} tensors ({kinds}), {count:,} numbers"] if entries else ["no tensors"]


def _unknown(entries: Mapping[str, Entry]) -> list[str]:
    """Return what differs from the MSNLAN that the keys resemble most, or the keys where they resemble none."""
    try:
        shapes = {key: entry.shape for key, entry in wrappers.pick(entries, "").entries.items()}
        with reading("", "checkpoint"):
            # Shapes are enough to tell the sizes; the values may be unreadable.
            state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
        config = torch_keys.infer_config(state, "")
        torch_keys.check_size(config, shapes, "")
    except InputError:
        return _few([f"key {key}: {' × '.join(map(str, e.shape)) or 'a number'}" for key, e in entries.items()])
    expected = [*torch_keys.key_table(config), *torch_keys.constants(config)]
    lines = [f"read as an MSNLAN, {_name(config)}"]
    lines += _few([f"unknown key {key}" for key in shapes if key not in expected])
    missing = [key for key in expected if key not in shapes]
    lines += _few([f"missing key {key}" for key in missing])
    if 2 * len(missing) > len(expected):  # too little is there to make a network of the size that it names
        return lines
    _, ours = parameters.abstract_parameters(config)
    fitting = {key: torch_keys.torch_shape(ours[path].shape) for key, path in torch_keys.key_table(config).items()}
    fitting |= {key: value.shape for key, value in torch_keys.constants(config).items()}
    wrong = [key for key, shape in fitting.items() if shapes.get(key, shape) != shape]
    return lines + _few([f"key {key}: found shape {shapes[key]}, expected {fitting[key]}" for key in wrong])


def _few(lines: list[str]) -> list[str]:
    return lines[:_SHOWN] + ([f"… and {len(lines) - _SHOWN} more like these"] if len(lines) > _SHOWN else [])


def _name(config: MSNLANConfig) -> str:
    return f"×{config.scale}, C={config.n_feats}, G={config.n_groups}, N={config.n_blocks}"


def _sizes(config: MSNLANConfig) -> str:
    count = count_parameters(parameters.abstract_model(config))
    return f"{_name(config)}, {count:,} parameters (24 of them the fixed mean colours)"


def built_in_picture() -> RGBPicture:
    """Return a part of a photo inside scikit-image's wheel, to verify with where no picture is given."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[100:148, 200:248])
