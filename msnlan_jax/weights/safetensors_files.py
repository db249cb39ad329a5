"""Safetensors files: the project's own single-file format, with the network's sizes inside."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.network import DTYPES, MSNLANConfig, check_arrays, check_keys, parameters
from msnlan_jax.runtime import files
from msnlan_jax.weights import torch_keys
from msnlan_jax.weights.damage import reading, refuse_others, shown

# safetensors.numpy cannot read bfloat16.
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16, "BOOL": np.bool_}
_DTYPES |= {"F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2}
_DTYPES |= {f"{sign}{8 * size}": np.dtype(f"{sign.lower()}{size}") for sign in "IU" for size in (1, 2, 4, 8)}


def is_safetensors(data: bytes) -> bool:
    """Whether a file is a safetensors file, whatever its name says."""
    return data[8:9] == b"{"


def read_safetensors(path: epath.PathLike, data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read every array in a safetensors file; those of numbers that NumPy does not know as bytes.

    Args:
        path: the file, for messages.
        data: its content.

    Returns:
        Key → array as stored, and the metadata.

    Raises:
        InputError: when it is damaged, or another file.
    """
    if not is_safetensors(data):  # whose first bytes, a length, may be those of any other file
        refuse_others(path, data, "safetensors file")
        if data.startswith((b"PK\x03\x04", b"\x80")):
            raise InputError(
                f"{path}: found a PyTorch checkpoint, expected a safetensors file, or a name that ends in .pt"
            )
    with reading(path, "safetensors file"):
        tensors = safetensors.deserialize(data)
        metadata = read_header(data).get("__metadata__", {})
        arrays = {}
        for key, tensor in tensors:
            known = _DTYPES.get(tensor["dtype"])
            array = np.frombuffer(tensor["data"], known or np.uint8)
            arrays[shown(key)] = array.reshape(tensor["shape"]) if known else array
    return arrays, metadata


def read_header(data: bytes) -> dict[str, Any]:
    """Return what a safetensors file says of itself; anything may be raised where it is damaged."""
    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header


def from_own(
    arrays: Mapping[str, np.ndarray], stored_config: str, source: str
) -> tuple[MSNLANConfig, parameters.Parameters]:
    """Return the network that a file of ours holds.

    Args:
        arrays: parameter path → array.
        stored_config: the network's sizes, as its metadata tell them.
        source: file name for messages.

    Returns:
        The configuration, and parameter path → float32 array.

    Raises:
        InputError: when the arrays are not exactly such a network's.
    """
    try:
        stored = json.loads(stored_config)
        config = MSNLANConfig(**{field.name: stored[field.name] for field in dataclasses.fields(MSNLANConfig)})
    except (InputError, KeyError, TypeError, ValueError, RecursionError) as error:
        said = shown(str(error))
        raise InputError(f"{source}: metadata msnlan_config is not a network's configuration: {said}") from None
    torch_keys.check_size(config, {key: array.shape for key, array in arrays.items()}, source)
    note = f"its metadata says {shown(stored_config)}"
    check_keys(arrays, torch_keys.key_table(config).values(), source=source, note=note)
    _, expected = parameters.abstract_parameters(config)
    shapes = {key: leaf.shape for key, leaf in expected.items()}
    check_arrays(arrays, shapes, dtypes=("float32", "bfloat16"), source=source, note=note)
    return config, {key: value.astype(np.float32) for key, value in arrays.items()}


def write_safetensors(
    path: epath.PathLike, config: MSNLANConfig, values: Mapping[str, np.ndarray], *, dtype: str | None = None
) -> None:
    """Write parameters and the network's sizes into one file.

    Args:
        path: the file.
        config: the network's.
        values: parameter path → array.
        dtype: what to store, "bfloat16" (half the size, rounded to nearest) or "float32"; by default as given.

    Raises:
        InputError: on another dtype, or when the file cannot be written.
    """
    if dtype not in (None, *DTYPES):
        raise InputError(f"dtype: found {dtype!r}, expected {' or '.join(DTYPES)}")
    arrays = {
        key: np.asarray(value, None if dtype is None else jnp.dtype(dtype), order="C") for key, value in values.items()
    }
    files.write_bytes(path, safetensors.numpy.save(arrays, {"msnlan_config": json.dumps(dataclasses.asdict(config))}))
