"""The released PyTorch checkpoint's key names, and the one table that maps them to this model's parameters.

Everything here works on plain dictionaries of NumPy arrays; nothing imports PyTorch. SPEC.md §3 lists the keys.
"""

import itertools
import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from msnlan_jax.errors import InputError
from msnlan_jax.network import (
    KERNEL_SIZES,
    RGB_MEAN,
    MSNLANConfig,
    Parameters,
    abstract_parameters,
    check_arrays,
    check_keys,
    shuffle_factors,
)
from msnlan_jax.network.attention import NORM_FLOOR

FLOATS = ("float32", "float16", "bfloat16", "float64")
_EMBEDDINGS = {
    "grid": "down_sample",
    "query": "stoL.conv_match_1",
    "key": "stoL.conv_match_2",
    "value": "stoL.conv_assembly",
}


def layer_table(config: MSNLANConfig) -> dict[str, str]:
    """Return PyTorch layer → layer here, in the released order, for every layer that has parameters.

    Source: SPEC.md §3.
    """
    half, n_blocks = config.n_groups // 2, config.n_blocks
    table = {"fusion": "fusion_before", "head.0": "head"}
    for g in range(config.n_groups + 1):
        if g == half:
            for i in range(len(KERNEL_SIZES)):
                for ours, theirs in _EMBEDDINGS.items():
                    prefix = f"body.{g}.atten{i + 1}.{theirs}"
                    table[f"{prefix}.0"] = f"attention.branches.{i}.{ours}.conv"
                    table[f"{prefix}.1"] = f"attention.branches.{i}.{ours}.prelu"
            table |= {f"body.{g}.fusion": "attention.fusion"}
            table |= _channel_attention(f"body.{g}.CA", "attention")
            continue
        group = f"groups_before.{g}" if g < half else f"groups_after.{g - half - 1}"
        for n in range(n_blocks):
            torch_block, block = f"body.{g}.body.{n}", f"{group}.blocks.{n}"
            table |= {f"{torch_block}.branch{i + 1}.0": f"{block}.convs.{i}" for i in range(3)}
            table |= {f"{torch_block}.fusion": f"{block}.fusion"}
            table |= _channel_attention(f"{torch_block}.CCA", block)
        table[f"body.{g}.body.{n_blocks}"] = f"{group}.conv"
    table[f"body.{config.n_groups + 1}"] = "body_conv"
    table |= {f"tail.0.{2 * i}": f"upsampler.{i}" for i in range(len(shuffle_factors(config.scale)))}
    table["tail.1"] = "tail"
    return table | {f"fusion_list.{i}": f"fusions_after.{i}" for i in range(half - 1)}


def _channel_attention(theirs: str, ours: str) -> dict[str, str]:
    attention = f"{ours}.channel_attention"
    return {f"{theirs}.conv_du.0": f"{attention}.squeeze", f"{theirs}.conv_du.2": f"{attention}.excite"}


def key_table(config: MSNLANConfig) -> dict[str, str]:
    """Return PyTorch key → parameter path here, in the released order: one row a parameter."""
    table = {}
    for theirs, ours in layer_table(config).items():
        if ours.endswith(".prelu"):
            table[f"{theirs}.weight"] = f"{ours}.negative_slope"
        else:
            table[f"{theirs}.weight"] = f"{ours}.kernel"
            table[f"{theirs}.bias"] = f"{ours}.bias"
    return table


def constants(config: MSNLANConfig) -> dict[str, np.ndarray]:
    """Return what a released checkpoint holds that is not a parameter here: the mean shifts and the norm floors."""
    identity = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    values = {"sub_mean.weight": identity, "sub_mean.bias": -RGB_MEAN}
    values |= {"add_mean.weight": identity, "add_mean.bias": RGB_MEAN}
    middle = config.n_groups // 2
    floor = np.array([NORM_FLOOR], np.float32)
    return values | {f"body.{middle}.atten{i + 1}.stoL.escape_NaN": floor for i in range(len(KERNEL_SIZES))}


def infer_config(state: Mapping[str, np.ndarray], source: str) -> MSNLANConfig:
    """Read scale, C, G and N off the keys and shapes of a released checkpoint.

    Args:
        state: PyTorch key → array.
        source: file name for messages.

    Raises:
        InputError: when the keys are not MSNLAN's.
    """

    def indices(pattern: str) -> list[int]:
        return [int(match[1]) for key in state if (match := re.match(pattern, key))]

    middle = indices(r"body\.(\d{1,9})\.atten")
    blocks = indices(r"body\.\d{1,9}\.body\.(\d{1,9})\.branch")
    widths = Counter(v.shape[0] for k, v in state.items() if k.endswith(".branch1.0.bias") and v.ndim == 1)
    tail = state.get("tail.0.0.weight")
    for key, found in (
        ("body.{G/2}.atten1.down_sample.0.weight", middle),
        ("body.0.body.0.branch1.0.weight", blocks),
        ("body.0.body.0.branch1.0.bias", widths),
    ):
        if not found:
            raise InputError(f"{source}: not an MSNLAN checkpoint: key {key} is missing; found {_some(state)}")
    if tail is None or tail.ndim != 4:
        raise InputError(f"{source}: key tail.0.0.weight is missing or not a convolution's; found {_some(state)}")
    n_feats = widths.most_common(1)[0][0]
    factor = {4 * n_feats: 2, 9 * n_feats: 3}.get(tail.shape[0])
    if factor is None:
        raise InputError(
            f"{source}: key tail.0.0.weight: found shape {tail.shape}, "
            f"expected {4 * n_feats} (×2, ×4) or {9 * n_feats} (×3) output channels"
        )
    scale = 4 if any(key.startswith("tail.0.2.") for key in state) else factor
    try:
        config = MSNLANConfig(scale, n_feats, 2 * max(middle), max(blocks) + 1)
    except InputError as error:
        raise InputError(f"{source}: not an MSNLAN checkpoint: {error}") from None
    check_size(config, {key: value.shape for key, value in state.items()}, source)
    return config


def check_size(config: MSNLANConfig, shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Refuse a network that is far larger than what there is of it, before anything of its size is made.

    Args:
        config: what is claimed.
        shapes: of the arrays that there are.
        source: file name for messages.

    Raises:
        InputError: when there are fewer arrays than blocks, or none is as wide as the network.
    """
    if config.n_groups * config.n_blocks > len(shapes):
        raise InputError(
            f"{source}: says it holds {config.n_groups} groups of {config.n_blocks} blocks, found {len(shapes)} arrays"
        )
    if config.n_feats > max(itertools.chain.from_iterable(shapes.values()), default=0):
        raise InputError(f"{source}: says it has {config.n_feats} channels, found no array as wide")


def from_torch(state: Mapping[str, np.ndarray], source: str) -> tuple[MSNLANConfig, Parameters]:
    """Convert a released checkpoint, refusing anything that is not exactly one.

    Args:
        state: PyTorch key → array, of float32 or of another precision, which is converted.
        source: file name for messages.

    Returns:
        The inferred configuration, and parameter path → float32 array for `parameters.to_model`.

    Raises:
        InputError: naming the key that is missing, unexpected, misshapen, not of floating-point numbers, not finite, or
            a constant other than the released model's.
    """
    config = infer_config(state, source)
    table, fixed = key_table(config), constants(config)
    note = f"read as ×{config.scale}, C={config.n_feats}, G={config.n_groups}, N={config.n_blocks}"
    check_keys(state, (*table, *fixed), source=source, note=note)
    _, ours = abstract_parameters(config)
    expected = {key: torch_shape(ours[path].shape) for key, path in table.items()}
    expected |= {key: value.shape for key, value in fixed.items()}
    check_arrays(state, expected, dtypes=FLOATS, source=source, note=note)
    for key, value in fixed.items():
        if not np.array_equal(state[key], value.astype(state[key].dtype)):
            found, wanted = ([round(float(x), 4) for x in array.ravel()] for array in (state[key], value))
            raise InputError(f"{source}: key {key}: found {found}, expected the released constant {wanted}")
    return config, {path: _from_torch_layout(state[key].astype(np.float32), path) for key, path in table.items()}


def to_torch(config: MSNLANConfig, parameters: Parameters) -> dict[str, np.ndarray]:
    """Convert parameters to a released checkpoint, the exact inverse of `from_torch`, in the released key order."""
    fixed = constants(config)
    state = {key: fixed[key] for key in ("sub_mean.weight", "sub_mean.bias")}
    for key, path in key_table(config).items():
        state[key] = _to_torch_layout(parameters[path])
        if key == "fusion.bias":
            state |= {name: fixed[name] for name in ("add_mean.weight", "add_mean.bias")}
        floor = key.replace("down_sample.1.weight", "stoL.escape_NaN")
        if floor in fixed:
            state[floor] = fixed[floor]
    return state


def torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape in PyTorch of a parameter of `shape` here: OIHW for HWIO, (1,) for a scalar slope."""
    return {4: (*shape[:1:-1], *shape[:2]), 0: (1,)}.get(len(shape), shape)


def _from_torch_layout(value: np.ndarray, path: str) -> np.ndarray:
    if path.endswith(".negative_slope"):
        return value.reshape(())
    return np.ascontiguousarray(value.transpose(2, 3, 1, 0)) if value.ndim == 4 else value


def _to_torch_layout(value: np.ndarray) -> np.ndarray:
    if value.ndim == 4:
        return np.ascontiguousarray(value.transpose(3, 2, 0, 1))
    return value.reshape(torch_shape(value.shape))


def _some(state: Mapping[str, np.ndarray]) -> str:
    return ", ".join(list(state)[:3]) + ("…" if len(state) > 3 else "") if state else "no keys"
