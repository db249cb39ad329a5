"""Everything that `--weights` takes, and the project's own single-file format: safetensors with the config inside."""

import dataclasses
import json
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.network import DTYPES, MSNLAN, Compute, MSNLANConfig, parameters
from msnlan_jax.pictures import Bicubic
from msnlan_jax.runtime import files
from msnlan_jax.weights import bundled, checkpoints, torch_files, torch_keys

BUNDLED = ("bicubic", *(name for name in bundled.NAMES if bundled.find(name)))
WEIGHTS_HELP = (
    f".pt, .pth or .safetensors file, training workdir, or bundled: {', '.join(BUNDLED)} "
    f"({bundled.default_weights()} by default)"
)
# safetensors.numpy cannot read bfloat16.
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
_TORCH_SUFFIXES = (".pt", ".pth")


def load_model(
    source: epath.PathLike,
    *,
    scale: int | None = None,
    dtype: str = "float32",
    precision: str = "highest",
    attention: str = "auto",
) -> MSNLAN | Bicubic:
    """Load a network, ready to be called: `[B,H,W,3]` float 0..255 → `[B,sH,sW,3]` float 0..255, not clipped.

    Args:
        source: a released `.pt`/`.pth`, a `.safetensors` file, a training workdir (its best checkpoint), or the
            name of bundled weights: "small" or "bicubic".
        scale: the scale that is wanted; by default the weights' own, and for bundled ones 4, or the largest there is.
        dtype: of the activations, "float32" or "bfloat16".
        precision: of products, "highest" for exact float32, or "default".
        attention: form of the patch attention, "auto" to choose by size.

    Returns:
        An `nnx.Module` in eval mode, with an attribute `scale`.

    Raises:
        FileNotFoundError: when there is no such file, folder or name.
        InputError: when the weights are damaged, not exactly an MSNLAN's, or of another scale.
    """
    if str(source) == "bicubic":
        return Bicubic(4 if scale is None else scale)
    config, values = read_weights(source, scale)
    if scale is not None and config.scale != scale:
        raise InputError(f"{source}: found weights for ×{config.scale}, expected ×{scale}")
    return parameters.to_model(config, values, Compute(dtype, precision, attention))


def _bundled(name: str, scale: int | None) -> epath.Path:
    if not (found := bundled.find(name)):
        raise FileNotFoundError(f"{name}: found no bundled weights, expected {name}_x4.safetensors inside the package")
    if scale is not None and scale not in found:
        raise InputError(f"{name}: found weights for ×{', ×'.join(map(str, found))}, expected ×{scale}")
    return found[max(found) if scale is None else scale]


def locate(source: epath.PathLike, scale: int | None = None) -> epath.Path:
    """Return the file or folder of a source, of bundled weights that for `scale`; errors as `load_model`."""
    return _bundled(str(source), scale) if str(source) in bundled.NAMES else epath.Path(source)


def read_weights(source: epath.PathLike, scale: int | None = None) -> tuple[MSNLANConfig, parameters.Parameters]:
    """Read the configuration and parameters of a file, a workdir or bundled weights, of which `scale` chooses among
    several; errors as `load_model`."""
    path = locate(source, scale)
    if path.is_dir():
        return checkpoints.read_best(path)
    if str(source) == "bicubic":
        raise InputError("bicubic: found no parameters, expected a network's weights")
    if not path.exists():
        raise FileNotFoundError(
            f"{source}: no such file or workdir, nor bundled weights ({', '.join(BUNDLED)}); "
            "expected a .pt, .pth or .safetensors file or a training workdir"
        )
    if path.suffix in _TORCH_SUFFIXES:
        return torch_keys.from_torch(torch_files.read_torch(path), str(source))
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    raise InputError(f"{source}: found suffix {path.suffix!r}, expected .pt, .pth or .safetensors")


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


def convert(
    source: epath.PathLike, output: epath.PathLike, *, to_torch: bool = False, dtype: str | None = None
) -> MSNLANConfig:
    """Convert any weights file to safetensors, or with `to_torch` to a released PyTorch checkpoint, bit for bit.

    Args:
        source: anything that `load_model` takes.
        output: file to write.
        to_torch: write a `state_dict` with the released keys.
        dtype: of what is stored in safetensors, as in `write_safetensors`.

    Returns:
        The configuration of the network converted.

    Raises:
        FileNotFoundError: when `source` is missing.
        InputError: when `source` is not exactly an MSNLAN's, or `output` has another suffix or cannot be written.
    """
    suffixes = _TORCH_SUFFIXES if to_torch else (".safetensors",)
    if epath.Path(output).suffix not in suffixes:
        raise InputError(f"--output: found {output}, expected a name that ends in {' or '.join(suffixes)}")
    config, values = read_weights(source)
    if to_torch:
        torch_files.write_torch(output, torch_keys.to_torch(config, values))
    else:
        write_safetensors(output, config, values, dtype=dtype)
    return config
