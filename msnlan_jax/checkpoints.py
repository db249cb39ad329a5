"""Training checkpoints in a workdir; the only file that touches Orbax.

A workdir holds `config.json` and `checkpoints/<step>/`, each with the items `params` and `opt_state`.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from msnlan_jax import files, parameters
from msnlan_jax.errors import InputError
from msnlan_jax.model import MSNLANConfig

METRIC = "psnr"


class Checkpoints:
    """The checkpoints of one workdir: saved in the background, the last few and the best by PSNR kept.

    Args:
        workdir: the run's folder, made if needed.
        keep: how many of the newest to keep.
    """

    def __init__(self, workdir: epath.PathLike, keep: int = 2):
        policy = checkpoint_managers
        self._manager = ocp.CheckpointManager(
            _folder(workdir),
            options=ocp.CheckpointManagerOptions(
                best_fn=_metric,
                preservation_policy=policy.AnyPreservationPolicy(
                    [
                        policy.LatestN(keep),
                        policy.BestN(get_metric_fn=_metric, n=1, keep_checkpoints_without_metrics=False),
                    ]
                ),
            ),
        )

    def save(self, step: int, state: Mapping[str, Any], psnr: float | None = None) -> None:
        """Save `params` and `opt_state` after `step` steps, with the PSNR they reach, if it was measured."""
        items = {name: ocp.args.StandardSave(item) for name, item in state.items()}
        self._manager.save(step, args=ocp.args.Composite(**items), metrics=None if psnr is None else {METRIC: psnr})

    def restore_latest(self, like: Mapping[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Return the newest checkpoint's step and state, laid out as `like`; None when there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        items = {name: ocp.args.StandardRestore(item) for name, item in like.items()}
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # a damaged checkpoint may raise anything
            raise _damaged(self._manager.directory / str(step), error) from None
        return step, {name: restored[name] for name in like}

    def close(self) -> None:
        """Wait for saves under way to be whole on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def claim_workdir(workdir: epath.PathLike, config: Mapping[str, Any]) -> None:
    """Write a workdir's `config.json`, unless it is another network's.

    Raises:
        InputError: naming the field that differs from the run that is there, or when it cannot be written.
    """
    path = epath.Path(workdir) / "config.json"
    if path.exists():
        stored = read_config(workdir)
        for name, old, new in (
            ("scale", stored.get("scale"), config["scale"]),
            *((f"model.{key}", stored.get("model", {}).get(key), value) for key, value in config["model"].items()),
        ):
            if old != new:
                raise InputError(f"config.{name}: found {new}, expected {old} as in {path}, or a new --workdir")
    files.write_bytes(path, json.dumps(dict(config), indent=1).encode() + b"\n")


def read_config(workdir: epath.PathLike) -> dict[str, Any]:
    """Read a workdir's `config.json`.

    Raises:
        FileNotFoundError: when the folder has none.
        InputError: when it cannot be parsed.
    """
    path = epath.Path(workdir) / "config.json"
    data = files.read_bytes(path, "training workdir's configuration")
    try:
        config = json.loads(data)
    except ValueError as error:
        raise InputError(f"{path}: damaged: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model", {}), dict):
        raise InputError(f"{path}: damaged: expected a run's configuration")
    return config


def read_best(workdir: epath.PathLike) -> tuple[MSNLANConfig, parameters.Parameters]:
    """Read the network of a workdir's best checkpoint by PSNR, or of its newest when none was scored.

    Raises:
        FileNotFoundError: when the folder is no workdir.
        InputError: when its configuration is damaged or it holds no whole checkpoint.
    """
    stored = read_config(workdir)
    try:
        config = MSNLANConfig(scale=stored["scale"], **stored["model"])
    except (KeyError, TypeError, InputError) as error:
        raise InputError(f"{workdir}/config.json: not a network's configuration: {error}") from None
    options = ocp.CheckpointManagerOptions(best_fn=_metric, read_only=True, create=False)
    folder = _folder(workdir)
    if not folder.is_dir():
        raise InputError(f"{workdir}: found no checkpoints, expected some under {folder}")
    with ocp.CheckpointManager(folder, options=options) as manager:
        try:
            step = manager.best_step()
        except Exception as error:  # scores that were cut short may raise anything
            raise _damaged(folder, error) from None
        if step is None:
            step = manager.latest_step()
        if step is None:
            raise InputError(f"{workdir}: found no whole checkpoint under {folder}")
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        _, abstract = parameters.abstract_parameters(config)
        target = {
            path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device) for path, leaf in abstract.items()
        }
        try:
            restored = manager.restore(step, args=ocp.args.Composite(params=ocp.args.StandardRestore(target)))
        except Exception as error:  # a damaged checkpoint may raise anything
            raise _damaged(folder / str(step), error) from None
    return config, {path: np.asarray(value) for path, value in restored["params"].items()}


def _damaged(checkpoint: epath.Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{checkpoint}: damaged checkpoint: {reason}")


def _folder(workdir: epath.PathLike) -> epath.Path:
    return epath.Path(workdir).resolve() / "checkpoints"


def _metric(metrics: Mapping[str, float]) -> float:
    return metrics[METRIC]
