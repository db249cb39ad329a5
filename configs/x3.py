"""The released recipe at ×3: full-size network, LR patches of 48×48, batches of 16 (SPEC.md §4)."""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Return the released ×3 configuration."""
    config = base.get_config()
    config.scale = 3
    return config
