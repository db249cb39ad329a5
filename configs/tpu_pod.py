"""The ×4 network on a TPU pod slice: bfloat16, batches of 256, as many patches in all as the released recipe."""

from ml_collections import ConfigDict

from configs import x4


def get_config() -> ConfigDict:
    """Return the pod configuration; `batch_size` is global, 16 pictures on each of 16 chips: 4 GiB."""
    config = x4.get_config()
    config.dtype = "bfloat16"
    config.batch_size = 256
    config.total_steps = 62_500  # 1,000,000 of 16
    config.learning_rate = 8e-4  # Adam's rate grows with the root of the batch: 2e-4 · √16
    config.schedule = "cosine"
    config.warmup_steps = 2_000
    config.eval_every = 2_500
    config.checkpoint_every = 500
    return config
