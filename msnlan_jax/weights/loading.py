"""Everything that `--weights` takes."""

import dataclasses

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.network import MSNLAN, Compute, MSNLANConfig, parameters
from msnlan_jax.pictures import Bicubic
from msnlan_jax.runtime import command, files
from msnlan_jax.weights import bundled, checkpoints, safetensors_files, torch_files, torch_keys, wrappers

BUNDLED = ("bicubic", *(name for name in bundled.NAMES if bundled.find(name)))
_SUFFIXES = f"{', '.join(torch_files.READ_SUFFIXES)} or .safetensors"
WEIGHTS_HELP = (
    f"{_SUFFIXES} file, training workdir, or bundled: {', '.join(BUNDLED)} ({bundled.default_weights()} by default)"
)


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
        source: a PyTorch checkpoint, a `.safetensors` file, a training workdir (its best checkpoint), or the name of
            bundled weights: "small" or "bicubic".
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
    return parameters.to_model(config, values, Compute(dtype, precision, attention=attention))


def _bundled(name: str, scale: int | None) -> epath.Path:
    if not (found := bundled.find(name)):
        raise FileNotFoundError(f"{name}: found no bundled weights, expected {name}_x4.safetensors inside the package")
    if scale is not None and scale not in found:
        raise InputError(f"{name}: found weights for ×{', ×'.join(map(str, found))}, expected ×{scale}")
    return found[max(found) if scale is None else scale]


def locate(source: epath.PathLike, scale: int | None = None) -> epath.Path:
    """Return the file or folder of a source, of bundled weights that for `scale`; errors as `load_model`."""
    return _bundled(str(source), scale) if str(source) in bundled.NAMES else files.to_path(source)


def read_weights(source: epath.PathLike, scale: int | None = None) -> tuple[MSNLANConfig, parameters.Parameters]:
    """Read the configuration and parameters of a file, a workdir or bundled weights, of which `scale` chooses among
    several; errors as `load_model`.

    Where the network is a part of what a file holds, or of another precision, a line on standard output says so.
    """
    path = locate(source, scale)
    if path.is_dir():
        return checkpoints.read_best(path)
    if str(source) == "bicubic":
        raise InputError("bicubic: found no parameters, expected a network's weights")
    if not path.exists():
        raise FileNotFoundError(
            f"{source}: no such file or workdir, nor bundled weights ({', '.join(BUNDLED)}); "
            f"expected a {_SUFFIXES} file or a training workdir"
        )
    found = read_file(path)
    if found.notes:
        command.say(f"{path}: {'; '.join(found.notes)}")
    return found.config, found.parameters


@dataclasses.dataclass(frozen=True)
class Found:
    """A network read from a file: what it is, its parameters by path, and what is to be told of how it was stored."""

    config: MSNLANConfig
    parameters: parameters.Parameters
    notes: list[str]


def read_file(path: epath.Path) -> Found:
    """Read a network from a file.

    Raises:
        FileNotFoundError: when there is no such file.
        InputError: when it cannot be read, or does not hold exactly one network of this kind.
    """
    name = str(path)
    if path.name.lower().endswith(torch_files.READ_SUFFIXES):
        data = files.read_bytes(path, "PyTorch checkpoint")
        picked = wrappers.pick(torch_files.read_torch(path, data), name)
        arrays = torch_files.to_arrays(path, picked.entries, len(data))
    elif path.suffix.lower() == ".safetensors":
        arrays, metadata = safetensors_files.read_safetensors(path, files.read_bytes(path, "safetensors file"))
        if (stored := metadata.get("msnlan_config")) is not None:
            return Found(*safetensors_files.from_own(arrays, stored, name), [])
        picked = wrappers.pick(arrays, name)
        arrays = picked.entries
    else:
        raise InputError(f"{path}: found suffix {path.suffix!r}, expected {_SUFFIXES}")
    others = sorted({array.dtype.name for array in arrays.values()} - {"float32"})
    converted = [f"{' and '.join(others)} made float32"] if others else []
    return Found(*torch_keys.from_torch(arrays, name), [*picked.notes, *converted])
