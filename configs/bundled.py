"""Networks small enough to come with the package: 0.4 M parameters, for two CPU cores.

    python -m data.prepare --input photos --output prepared --also_half
    python train.py --config configs/bundled.py --workdir runs/x2 --config.data.dir=prepared

The rate stays as it is, and the averaged parameters are good at any moment, so that a run may be stopped and continued
whenever there is time. What it has reached is brought to rest by a run that starts from it, with a rate that falls to
zero:

    ... --workdir runs/x2-end --config.init_from=runs/x2 --config.schedule=cosine --config.learning_rate=3e-4 \
        --config.total_steps=5000 --config.warmup_steps=20

×3 and ×4 start from that, with a fresh up-sampler:

    ... --workdir runs/x4-end --config.scale=4 --config.init_from=runs/x2-end --config.init_new_tail=True \
        --config.schedule=cosine --config.total_steps=4000 --config.warmup_steps=50 --config.ema_decay=0.998
"""

from ml_collections import ConfigDict

from configs import medium


def get_config() -> ConfigDict:
    """Return the bundled ×2 network's configuration."""
    config = medium.get_config()
    config.model.n_feats = 32
    config.model.n_blocks = 2
    config.batch_size = 8
    config.patch_size = 24  # attention takes over half of a step's time, and at 32 two thirds
    config.learning_rate = 5e-4
    config.schedule = "halving"
    config.halve_every = 1_000_000
    config.warmup_steps = 100
    config.total_steps = 200_000
    config.ema_decay = 0.999
    config.log_every = 50
    config.eval_every = 1_000
    config.checkpoint_every = 100
    config.eval.inference = "tile"
    return config
