"""The released recipe's second part: larger patches, from a lower rate that is halved every 100,000 steps.

Set `init_from` to the weights of the first part.
"""

from ml_collections import ConfigDict

from configs import x4


def get_config() -> ConfigDict:
    """Return the fine-tuning configuration at ×4; set `scale` for the others."""
    config = x4.get_config()
    config.patch_size = 64
    config.learning_rate = 1e-4
    config.halve_every = 100_000
    config.total_steps = 500_000
    return config
