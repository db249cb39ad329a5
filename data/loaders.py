"""What feeds training, as the experiment says."""

from data.sources import TrainingSet
from msnlan_jax.errors import InputError
from msnlan_jax.training import Experiment, Loader

LOADERS = ("tfdata", "memory")


def make_loader(
    experiment: Experiment, process_index: int = 0, process_count: int = 1, found: TrainingSet | None = None
) -> Loader:
    """Return the loader that `config.data.loader` names, for one of a job's processes.

    Args:
        experiment: what is trained.
        process_index: this process's number.
        process_count: how many processes share a batch.
        found: from `sources.find_training_set`, where it was called.

    Raises:
        InputError: on another name, or when TensorFlow is needed and missing.
    """
    if experiment.data.loader == "memory":
        from data import memory

        return memory.Batches(experiment, process_index, process_count, found)
    if experiment.data.loader == "tfdata":
        from data import tfdata

        return tfdata.Batches(experiment, process_index, process_count, found)
    raise InputError(f"config.data.loader: found {experiment.data.loader!r}, expected one of {', '.join(LOADERS)}")
