"""Reading and writing PyTorch checkpoint files; the only library file that needs PyTorch, and only when called."""

import io
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import files
from msnlan_jax.weights.safetensors_files import is_safetensors

SUFFIXES = (".pt", ".pth")


def read_torch(path: epath.PathLike) -> dict[str, np.ndarray]:
    """Read a `state_dict`, in the zip format or the one before PyTorch 1.6, without running code from it.

    Returns:
        Key → array, as stored.

    Raises:
        FileNotFoundError: when there is no such file.
        InputError: when PyTorch is not installed, the file is damaged, or it holds anything but a flat dictionary of
            tensors. A pickle that asks for code is refused (`weights_only=True`, always).
    """
    data = files.read_bytes(path, "PyTorch checkpoint")
    if is_safetensors(data):
        raise InputError(f"{path}: found a safetensors file, expected a name that ends in .safetensors")
    torch, state = import_torch(path), unpickle(path, data)
    if not isinstance(state, Mapping):
        raise InputError(f"{path}: found a {type(state).__name__}, expected a state_dict (key → tensor)")
    for key, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise InputError(
                f"{path}: key {key}: found a {type(value).__name__}, expected a tensor, as in a state_dict"
            )
        if value.layout != torch.strided or value.is_quantized:
            raise InputError(f"{path}: key {key}: found a sparse or quantised tensor, expected a dense one")
        if value.dtype == torch.bfloat16:  # NumPy has no such type
            raise InputError(f"{path}: key {key}: found bfloat16, expected float32")
    return {str(key): value.detach().numpy() for key, value in state.items()}


def unpickle(path: epath.PathLike, data: bytes) -> Any:
    """Return what a PyTorch file holds, whatever it is; nothing in it is run.

    Args:
        path: the file, for messages.
        data: its content.

    Raises:
        InputError: as `read_torch`.
    """
    torch = import_torch(path)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise InputError(f"{path}: refused: it asks to run {code[1]}, expected tensors only") from None
        reason = f"{type(error).__name__}: {error}".splitlines()[0].split(". ")[0].removesuffix(": ")
        raise InputError(f"{path}: not a readable PyTorch checkpoint, damaged or cut short: {reason}") from None


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
