"""Reading and writing PyTorch checkpoint files; the only library file that needs PyTorch, and only when called."""

import io
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import files
from msnlan_jax.weights import pickles
from msnlan_jax.weights.damage import reading, refuse_others
from msnlan_jax.weights.safetensors_files import is_safetensors
from msnlan_jax.weights.wrappers import flatten

SUFFIXES = (".pt", ".pth")
READ_SUFFIXES = (*SUFFIXES, ".ckpt", ".pth.tar", ".bin")
_KIND = "PyTorch checkpoint"


def read_torch(path: epath.PathLike, data: bytes) -> dict[str, Any]:
    """Read everything in a checkpoint, in the zip format or the one before PyTorch 1.6, running nothing of it.

    Args:
        path: the file, for messages.
        data: its content.

    Returns:
        Dotted name → tensor or anything else, as stored.

    Raises:
        InputError: when PyTorch is not installed, the file is damaged, or it holds anything but dictionaries. A pickle
            that asks for code is refused (`weights_only=True`, always).
    """
    if is_safetensors(data):
        raise InputError(f"{path}: found a safetensors file, expected a name that ends in .safetensors")
    refuse_others(path, data, _KIND)
    torch = import_torch(path)
    with reading(path, _KIND):
        pickles.check_claims(path, data)
        with torch.serialization.safe_globals([(stand_in, name) for name, stand_in in pickles.PASSED_OVER.items()]):
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(content, Mapping):
            kind = type(content).__name__
            raise InputError(f"{path}: found a {kind}, expected a state_dict (key → tensor), or one within others")
        return flatten(content)


def to_arrays(path: epath.PathLike, entries: Mapping[str, Any], limit: int) -> dict[str, np.ndarray]:
    """Return tensors as arrays of the numbers that they hold, in the precision in which they are stored.

    Args:
        path: the file, for messages.
        entries: key → tensor.
        limit: how many bytes they take at most; a tensor may claim to repeat a number for ever.

    Raises:
        InputError: naming the first key that holds no dense tensor of floating-point numbers.
    """
    torch = import_torch(path)
    arrays = {}
    for key, value in entries.items():
        if not isinstance(value, torch.Tensor):
            raise InputError(
                f"{path}: key {key}: found a {type(value).__name__}, expected a tensor, as in a state_dict"
            )
        with reading(path, _KIND):  # a parameter may come with attributes of its own, in the place of PyTorch's
            if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
                raise InputError(f"{path}: key {key}: found a sparse or quantised tensor, expected a dense one")
            limit -= value.numel() * value.element_size()
            if limit < 0:
                raise InputError(f"{path}: key {key}: found shape {tuple(value.shape)}, too large for the file's bytes")
            value = value.detach().resolve_conj().resolve_neg()
            if value.dtype == torch.bfloat16:  # which torch itself does not hand to NumPy
                arrays[key] = value.view(torch.int16).numpy().view(jnp.bfloat16)
            else:
                arrays[key] = value.numpy()
    return arrays


def write_torch(path: epath.PathLike, state: Mapping[str, np.ndarray]) -> None:
    """Write key → array as a `state_dict` that `torch.load(weights_only=True)` reads.

    Raises:
        InputError: when PyTorch is not installed or the file cannot be written.
    """
    torch = import_torch(path)
    buffer = io.BytesIO()
    torch.save({key: torch.from_numpy(np.array(value)) for key, value in state.items()}, buffer)
    files.write_bytes(path, buffer.getvalue())


def import_torch(path: epath.PathLike) -> ModuleType:
    """Return PyTorch.

    Raises:
        InputError: naming the file that needs it, when it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise InputError(f"{path}: PyTorch files need PyTorch: pip install -e '.[torch]'") from None
    return torch
