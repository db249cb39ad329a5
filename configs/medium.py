"""A ×2 network of 1.1 M parameters, for a folder of photos.

The bundled weights are smaller (`bundled.py`, 0.4 M), the published network larger (`x2.py`, 9.6 M; ×4 9.7 M).
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Return the medium network's configuration."""
    config = base.get_config()
    config.scale = 2
    config.model.n_feats = 48
    config.model.n_groups = 4
    config.model.n_blocks = 3
    config.total_steps = 100_000
    config.batch_size = 16
    config.patch_size = 32
    config.learning_rate = 1e-3
    config.schedule = "cosine"
    config.warmup_steps = 200
    config.adam_b2 = 0.99
    config.clip_norm = 20.0
    config.eval_every = 5_000
    config.checkpoint_every = 1_000
    return config
