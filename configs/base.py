"""Every configuration field, with the released recipe's values at ×4 as defaults."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Return the full-size ×4 network, trained as released (docs/SPEC.md §4)."""
    config = ConfigDict()
    config.scale = 4  # up-scaling factor: 2, 3 or 4
    config.seed = 0  # of the initialisation and of every crop and flip

    config.model = ConfigDict()
    config.model.n_feats = 64  # channels C
    config.model.n_groups = 8  # residual groups G, half on each side of the attention; even
    config.model.n_blocks = 9  # blocks per group N
    config.dtype = "float32"  # of activations: float32 or bfloat16; parameters are float32
    config.precision = "default"  # of matrix products: default (TF32 or bf16 on GPU and TPU), high or highest
    config.implementation = "auto"  # of groups and attention: plain, kernels (TPU, GPU), auto: kernels, if proven right
    config.blocks = "auto"  # of a group: scan (compiles faster), unroll (faster on CPU) or auto: scan on accelerators
    config.remat = "auto"  # compute a block's activations anew for the gradient: on (plain groups), off, auto: on TPU

    config.data = ConfigDict()
    config.data.source = "folder"  # photos (built-in), folder, or div2k
    config.data.dir = ""  # source=folder: any layout in docs/folders.md; div2k: TFDS's data_dir, or the unzipped DIV2K
    config.data.hr_dir = ""  # folder of HR pictures in data.dir, or a path; needed where two could be meant
    config.data.lr_dir = ""  # folder of LR pictures likewise; made: by bicubic, whatever lies there
    config.data.loader = "tfdata"  # tfdata, or memory: the whole set in accelerator memory, without TensorFlow

    config.total_steps = 1_000_000  # steps of training
    config.batch_size = 16  # pictures per step, over all devices of all hosts
    config.accumulate = 1  # parts in which a device takes its share of the batch, one after the other, to save memory
    config.patch_size = 48  # side of the LR patch, pixels
    config.loss = "l1"  # l1, charbonnier or mse, on 0..255
    config.init_from = ""  # weights to start from: anything that --weights takes
    config.init_new_tail = False  # start with a fresh up-sampler and last convolution, as from another scale's weights

    config.learning_rate = 2e-4  # at its highest
    config.schedule = "halving"  # halving (every halve_every steps) or cosine (to zero at total_steps)
    config.halve_every = 1_200_000  # steps between halvings
    config.warmup_steps = 0  # steps over which the rate rises linearly from zero
    config.adam_b1 = 0.9  # Adam's decay of gradients
    config.adam_b2 = 0.999  # Adam's decay of squared gradients; lower suits short runs
    config.weight_decay = 0.0  # AdamW's; 0 for Adam
    config.clip_norm = 0.0  # gradients with a larger global norm are scaled down to it; 0 for never
    config.ema_decay = 0.999  # of the averaged parameters, which are validated and shipped; 0 for none
    config.max_skipped_in_a_row = 20  # steps with a loss or gradient that is not finite before the run ends

    config.log_every = 100  # steps between lines of metrics.jsonl
    config.eval_every = 10_000  # steps between validations; there is always one at the end
    config.checkpoint_every = 10_000  # steps between checkpoints; there is always one at a validation
    config.keep_checkpoints = 2  # newest checkpoints kept; the best by PSNR is kept besides

    config.eval = ConfigDict()
    config.eval.data_dir = ""  # folder of benchmark sets; when empty, a built-in photo that is not trained on
    config.eval.datasets = ""  # comma-separated names; the first one's PSNR decides which checkpoint is best
    config.eval.hr_dir = ""  # as data.hr_dir, in each set
    config.eval.lr_dir = ""  # as data.lr_dir, in each set
    config.eval.inference = "chop"  # whole, chop or tile
    return config
