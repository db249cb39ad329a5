"""TensorFlow as the input pipeline uses it: quiet, and on CPU only."""

import os

from msnlan_jax.errors import InputError

# Warnings only; and TensorFlow announces oneDNN, which cutting crops does not need, at every start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
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
