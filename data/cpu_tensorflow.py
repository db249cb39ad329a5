"""TensorFlow as the input pipeline uses it: quiet, and on CPU only."""

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import command

command.quiet_tensorflow()
try:
    import tensorflow as tf
    import tensorflow_datasets as tfds
except ImportError:
    raise InputError(
        "config.data: the loader tfdata and TFDS data sets need TensorFlow: pip install -e '.[train]'; "
        "config.data.loader = memory trains on folders without"
    ) from None
for _kind in ("GPU", "TPU"):
    tf.config.set_visible_devices([], _kind)  # they are JAX's

__all__ = ["tf", "tfds"]
