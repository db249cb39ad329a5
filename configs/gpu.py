"""The ×4 network on one GPU of 80 GB, such as an H100: bfloat16, batches of 128, as many patches in all as released."""

from ml_collections import ConfigDict

from configs import x4


def get_config() -> ConfigDict:
    """Return the configuration; by the compiler its step takes 28 GiB, and twice the batch leaves the data no room.

    JAX takes three quarters of a GPU's memory unless told otherwise; DIV2K with its LR pictures is 8 GiB of that.
    """
    config = x4.get_config()
    config.dtype = "bfloat16"
    config.data.loader = "memory"
    config.batch_size = 128
    config.total_steps = 125_000  # 1,000,000 of 16
    config.learning_rate = 5.6e-4  # Adam's rate grows with the root of the batch: 2e-4 · √8
    config.schedule = "cosine"
    config.warmup_steps = 1_000
    config.eval_every = 5_000
    config.checkpoint_every = 1_000
    return config
