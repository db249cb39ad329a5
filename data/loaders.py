"""What feeds training, as the experiment says."""

from msnlan_jax.errors import InputError
from msnlan_jax.training import Experiment, Loader

LOADERS = ("tfdata", "memory")


def make_loader(experiment: Experiment, process_index: int = 0, process_count: int = 1) -> Loader:
    """Return the loader that `config.data.loader` names, for one of a job's processes.

    Raises:
        InputError: on another name, or when TensorFlow is needed and missing.
    """
    if experiment.data.loader == "memory":
        from data import memory

        return memory.Batches(experiment, process_index, process_count)
    if experiment.data.loader == "tfdata":
        from data import tfdata

        return tfdata.Batches(experiment, process_index, process_count)
    raise InputError(f"config.data.loader: found {experiment.data.loader!r}, expected one of {', '.join(LOADERS)}")
