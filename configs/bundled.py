"""Networks small enough to come with the package: 0.4 M parameters, for a few hours on two CPU cores.

×2 from scratch; ×3 and ×4 with `--config.scale=`, `--config.init_from=` the ×2 run and `--config.init_new_tail=True`.
"""

from ml_collections import ConfigDict

from configs import medium


def get_config() -> ConfigDict:
    """Return the bundled ×2 network's configuration."""
    config = medium.get_config()
    config.model.n_feats = 32
    config.model.n_blocks = 2
    config.batch_size = 8
    config.total_steps = 6_000
    config.warmup_steps = 100
    config.ema_decay = 0.99
    config.log_every = 50
    config.eval_every = 1_000
    config.checkpoint_every = 250
    config.eval.inference = "tile"
    return config
