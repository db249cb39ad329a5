"""Safetensors files: the project's own single-file format, with the network's sizes inside."""

import dataclasses
import json
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.network import DTYPES, MSNLANConfig, parameters
from msnlan_jax.runtime import files
from msnlan_jax.weights import torch_keys

# safetensors.numpy cannot read bfloat16.
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}


def is_safetensors(data: bytes) -> bool:
    """Whether a file is a safetensors file, whatever its name says."""
    return data[8:9] == b"{"


def read_safetensors(path: epath.PathLike) -> tuple[MSNLANConfig, parameters.Parameters]:
    """Read a safetensors file: ours, or one that holds a released PyTorch `state_dict`.

    Raises:
        FileNotFoundError: when there is no such file.
        InputError: when it is damaged or its tensors are not exactly an MSNLAN's.
    """
    data = files.read_bytes(path, "safetensors file")
    try:
        tensors = safetensors.deserialize(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (safetensors.SafetensorError, ValueError) as error:
        raise InputError(f"{path}: not a readable safetensors file, damaged or cut short: {error}") from None
    arrays = {}
    for key, tensor in tensors:
        if tensor["dtype"] not in _DTYPES:
            raise InputError(f"{path}: key {key}: found {tensor['dtype']}, expected {' or '.join(_DTYPES)}")
        arrays[key] = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
    metadata = header.get("__metadata__", {})
    if "msnlan_config" not in metadata:
        return torch_keys.from_torch(arrays, str(path))
    try:
        stored = json.loads(metadata["msnlan_config"])
        config = MSNLANConfig(**{field.name: stored[field.name] for field in dataclasses.fields(MSNLANConfig)})
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: metadata msnlan_config is not a network's configuration: {error}") from None
    _, expected = parameters.abstract_parameters(config)
    parameters.check_arrays(
        arrays,
        {key: leaf.shape for key, leaf in expected.items()},
        dtypes=("float32", "bfloat16"),
        source=str(path),
        note=f"its metadata says {metadata['msnlan_config']}",
    )
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
