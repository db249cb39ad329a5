"""What feeds training, as the configuration says."""

from ml_collections import ConfigDict

from msnlan_jax.errors import InputError
from msnlan_jax.training import Loader

LOADERS = ("tfdata", "memory")


def make_loader(config: ConfigDict, process_index: int = 0, process_count: int = 1) -> Loader:
    """Return the loader that `config.data.loader` names, for one of a job's processes.

    Raises:
        InputError: on another name, or when TensorFlow is needed and missing.
    """
    if config.data.loader == "memory":
        from data import memory

        return memory.Batches(config, process_index, process_count)
    if config.data.loader == "tfdata":
        from data import tfdata

        return tfdata.Batches(config, process_index, process_count)
    raise InputError(f"config.data.loader: found {config.data.loader!r}, expected one of {', '.join(LOADERS)}")
