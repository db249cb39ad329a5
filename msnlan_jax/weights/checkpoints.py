"""Training checkpoints in a workdir; the only file that touches Orbax.

A workdir holds `config.json` and `checkpoints/<step>/`, each with one item per part of the training state and
`fingerprints`, by which damage is noticed. A checkpoint that turns out to be damaged is moved to `damaged/<step>`.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jaxtyping import Array, UInt32
from orbax.checkpoint import checkpoint_managers

from msnlan_jax.errors import InputError
from msnlan_jax.network import MSNLANConfig, parameters
from msnlan_jax.runtime import command, distributed, files
from msnlan_jax.weights.damage import shown
from msnlan_jax.weights.torch_keys import check_size
from msnlan_jax.weights.workdir import read_config

METRIC = "psnr"
_METRICS = "metrics"  # Orbax's name for the item of a checkpoint's scores, and for the file in it
_FINGERPRINTS = "fingerprints"
_DISK_FULL = "No space left on device"
# In what is said by a file system that may work again later or denies access: no checkpoint is to blame for that.
_NOT_DAMAGE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAUTHENTICATED")


class Checkpoints:
    """The checkpoints of one workdir: saved in the background, the last few and the best by PSNR kept.

    Args:
        workdir: the run's folder, made if needed.
        keep: how many of the newest to keep.
    """

    def __init__(self, workdir: epath.PathLike, keep: int = 2):
        self._workdir, self._keep = epath.Path(workdir), keep
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        policy = checkpoint_managers
        options = ocp.CheckpointManagerOptions(
            best_fn=_metric,
            cleanup_tmp_directories=True,
            preservation_policy=policy.AnyPreservationPolicy(
                [
                    policy.LatestN(self._keep),
                    policy.BestN(get_metric_fn=_metric, n=1, keep_checkpoints_without_metrics=False),
                ]
            ),
        )
        return _open(_folder(self._workdir), options)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Save the state after `step` steps, unless it has been saved already.

        Raises:
            InputError: when this or the checkpoint before cannot be written, as when the disk is full.
        """
        try:
            self._manager.wait_until_finished()
            if step in self._manager.all_steps():
                return
            items: dict[str, Any] = {name: ocp.args.StandardSave(item) for name, item in state.items()}
            items[_FINGERPRINTS] = ocp.args.JsonSave({name: _fingerprint(item) for name, item in state.items()})
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:  # what Orbax raises depends on the file system
            raise self._unwritten(error) from None

    def add_score(self, step: int, psnr: float) -> None:
        """Note the PSNR that a checkpoint reaches, where Orbax looks for it; its arrays are not written anew.

        Raises:
            InputError: when the score or the checkpoint cannot be written.
        """
        path = _folder(self._workdir) / str(step) / _METRICS / _METRICS
        try:
            self._manager.wait_until_finished()
            distributed.on_first(lambda: files.write_bytes(path, json.dumps({METRIC: psnr}).encode()))
            self._manager.reload()
        except Exception as error:  # what Orbax raises depends on the file system
            raise self._unwritten(error) from None

    def restore_latest(self, like: Mapping[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Return the newest whole checkpoint's step and state, laid out as `like`; None when there is none.

        Damaged ones are passed over, moved aside, and told of on standard output. In a job of several processes all
        of them take the same: one that a single process cannot read is passed over by all.

        Raises:
            InputError: when there are checkpoints and all of them are damaged, or one cannot be read at present.
        """
        items = {name: ocp.args.StandardRestore(item) for name, item in like.items()}
        items[_FINGERPRINTS] = ocp.args.JsonRestore()
        damaged: dict[int, str] = {}
        found = None
        for step in sorted(self._manager.all_steps(), reverse=True):
            reason, is_damage = None, True
            try:
                restored = self._manager.restore(step, args=ocp.args.Composite(**items))
                _check_fingerprints(restored)
            except Exception as error:  # a damaged checkpoint may raise anything
                reason, is_damage = _reason(error), _is_damage(error)
            # All processes answer both questions before any of them raises: else the others would wait here for ever.
            failed = distributed.any_process(reason is not None)
            reason = reason or "another process cannot read it"
            if distributed.any_process(not is_damage):
                raise InputError(f"{self._manager.directory}/{step}: cannot be read: {reason}")
            if failed:
                damaged[step] = reason
                continue
            found = step, {name: restored[name] for name in like}
            break
        if damaged and found is None:
            step = max(damaged)
            raise InputError(
                f"{self._manager.directory}/{step}: damaged checkpoint: {damaged[step]}; no whole one left"
            )
        if damaged:
            self._set_aside(damaged)
        return found

    def _set_aside(self, damaged: Mapping[int, str]) -> None:
        """Move damaged checkpoints out of the way of those to come."""
        self._manager.close()

        def move() -> None:
            folder = self._workdir / "damaged"
            # An object store has no empty folders, and some of its clients move nothing into what is not there.
            files.write_bytes(folder / "README", b"Checkpoints that could not be restored. Nothing reads them again.\n")
            for step, reason in damaged.items():
                source, target = _folder(self._workdir) / str(step), folder / str(step)
                command.say(f"{source}: damaged checkpoint, moved to {target}: {reason}")
                if target.exists():
                    target.rmtree()
                source.rename(target)

        distributed.on_first(move)
        self._manager = self._open()

    def close(self) -> None:
        """Wait for saves under way to be whole on disk.

        Raises:
            InputError: when one cannot be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # what Orbax raises depends on the file system
            raise self._unwritten(error) from None
        finally:
            self._manager.close()

    def _unwritten(self, error: Exception) -> InputError:
        whole = self._manager.all_steps(read=True)
        kept = f"the one of step {max(whole)} is whole" if whole else "there is no other"
        return InputError(f"{_folder(self._workdir)}: a checkpoint cannot be written: {_reason(error)}; {kept}")


class _Manager(ocp.CheckpointManager):  # type: ignore[misc]  # Orbax has no types
    """Takes a checkpoint whose score is damaged for one that was not scored."""

    def metrics(self, step: int) -> dict[str, float] | None:
        """Return a checkpoint's score, if it has one."""
        try:
            if (found := super().metrics(step)) is None:
                return None
            score = float(found[METRIC])
            if math.isnan(score):
                raise ValueError("it is not a number")
        except Exception as error:  # a damaged file may raise anything
            if not _is_damage(error):
                raise
            if jax.process_index() == 0:
                path = self.directory / str(step) / _METRICS / _METRICS
                command.say(f"{path}: damaged score, passed over: {_reason(error)}")
            return None
        return {METRIC: score}


def _open(folder: epath.Path, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
    """Look at the checkpoints in a folder."""
    try:
        return _Manager(folder, options=options)
    except Exception as error:  # what Orbax raises of odd files and folders among them may be anything
        raise InputError(f"{folder}: cannot be used: {_reason(error)}") from None


def read_best(workdir: epath.PathLike) -> tuple[MSNLANConfig, parameters.Parameters]:
    """Read the network of a workdir's best checkpoint by PSNR, or of its newest when none was scored.

    Averaged parameters are taken where there are any.

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
    with _open(folder, options) as manager:
        step = manager.best_step()
        if step is None:
            step = manager.latest_step()
        if step is None:
            raise InputError(f"{workdir}: found no whole checkpoint under {folder}")
        name = "ema" if (folder / str(step) / "ema").exists() else "params"
        check_size(config, _stored_shapes(folder / str(step), name), f"{workdir}/config.json")
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        _, abstract = parameters.abstract_parameters(config)
        target = {
            path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device) for path, leaf in abstract.items()
        }
        items = {name: ocp.args.StandardRestore(target), _FINGERPRINTS: ocp.args.JsonRestore()}
        try:
            restored = manager.restore(step, args=ocp.args.Composite(**items))
            _check_fingerprints(restored)
        except Exception as error:  # a damaged checkpoint may raise anything
            raise _damaged(folder / str(step), error) from None
    return config, {path: np.asarray(value) for path, value in restored[name].items()}


def _stored_shapes(checkpoint: epath.Path, name: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays that an item of a checkpoint says it holds."""
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            found = checkpointer.metadata(checkpoint / name).item_metadata
        return {path: tuple(leaf.shape) for path, leaf in found.items()}
    except Exception as error:  # a damaged checkpoint may raise anything
        raise _damaged(checkpoint, error) from None


def _check_fingerprints(restored: Mapping[str, Any]) -> None:
    for name, item in restored.items():
        if name != _FINGERPRINTS and _fingerprint(item) != restored[_FINGERPRINTS][name]:
            raise ValueError(f"{name} is not what was saved")


def _fingerprint(item: Any) -> int:
    """Return a checksum of a pytree of 4-byte numbers, computed where they are; no layout over devices changes it."""
    return int(jax.device_get(_checksum(jax.tree.leaves(item))))


@jax.jit
def _checksum(leaves: list[Array]) -> UInt32[Array, ""]:
    total = jnp.zeros((), jnp.uint32)
    for leaf in leaves:
        bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32).ravel()
        # An odd factor has an inverse modulo 2³², so that no single change is lost; they differ, so that swaps show.
        total = total * jnp.uint32(31) + jnp.sum(bits * (2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1))
    return total


def _damaged(checkpoint: epath.Path, error: Exception) -> InputError:
    what = "damaged checkpoint" if _is_damage(error) else "cannot be read"
    return InputError(f"{checkpoint}: {what}: {_reason(error)}")


def _is_damage(error: Exception) -> bool:
    """Whether a checkpoint is to blame, and not what it is read from."""
    if isinstance(error, PermissionError | MemoryError) or files.remote_failure(error) is not None:
        return False
    return not any(word in str(error) for word in _NOT_DAMAGE)


def _reason(error: Exception) -> str:
    """Return the one line that matters of an error of Orbax's."""
    if _DISK_FULL in str(error):
        return _DISK_FULL
    said, *_ = str(error).split(" [tensorstore_spec")  # followed by a page of how it was going to be read
    return shown(said.splitlines()[0]) if said.strip() else type(error).__name__


def _folder(workdir: epath.PathLike) -> epath.Path:
    return files.absolute(workdir) / "checkpoints"


def _metric(metrics: Mapping[str, float]) -> float:
    return metrics[METRIC]
