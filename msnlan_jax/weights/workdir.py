"""A run's `config.json`: to whom a workdir belongs."""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import files
from msnlan_jax.weights.damage import reading

_AT_START = ("init_from", "init_new_tail")


def claim_workdir(workdir: epath.PathLike, config: Mapping[str, Any]) -> list[str]:
    """Write a workdir's `config.json`, unless the run that is there contradicts it.

    The scale, the network's sizes, and whether parameters are averaged decide what a checkpoint holds; everything
    else may change when a run is continued.

    Returns:
        What has changed since the run began, as `field: before → now`.

    Raises:
        InputError: naming the field that contradicts the run that is there, or when it cannot be written.
    """
    path = epath.Path(workdir) / "config.json"
    changes = []
    if path.exists():
        before, now = _flatten(read_config(workdir)), _flatten(config)
        for name in now:
            old, new = before.get(name), now[name]
            if name == "scale" or name.startswith("model."):
                contradicts = old != new
            else:
                contradicts = name == "ema_decay" and bool(old) != bool(new)
            if contradicts:
                raise InputError(f"config.{name}: found {new}, expected {old} as in {path}, or a new --workdir")
            if old != new:
                changes.append(f"{name}: {old} → {new}" + (", which only a new run heeds" if name in _AT_START else ""))
    files.write_bytes(path, json.dumps(dict(config), indent=1).encode() + b"\n")
    return changes


def read_config(workdir: epath.PathLike) -> dict[str, Any]:
    """Read a workdir's `config.json`.

    Raises:
        FileNotFoundError: when the folder has none.
        InputError: when it cannot be parsed.
    """
    path = epath.Path(workdir) / "config.json"
    data = files.read_bytes(path, "training workdir's configuration")
    with reading(path, "configuration"):
        config = json.loads(data)
    if not isinstance(config, dict) or not isinstance(config.get("model", {}), dict):
        raise InputError(f"{path}: damaged: expected a run's configuration")
    return config


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
