"""How much arithmetic a network does: multiply–adds, counted from its layers."""

import math
from typing import NamedTuple

from msnlan_jax.network.model import KERNEL_SIZES, MSNLANConfig, shuffle_factors
from msnlan_jax.network.parameters import abstract_parameters


class MultiplyAdds(NamedTuple):
    """Multiply–adds of the convolutions, and of the attention's products of queries, keys and values."""

    convolutions: int
    attention: int


def multiply_adds(config: MSNLANConfig, h: int, w: int) -> MultiplyAdds:
    """Count the multiply–adds for one picture of h×w LR pixels.

    Attention is counted in the diagonal-box form, whose box filters only add (SPEC.md §1); by unfolding patches it
    would take k² times as many.

    Args:
        config: the network's sizes.
        h: LR height.
        w: LR width.
    """
    grids = [(h + k - 3) * (w + k - 3) for k in KERNEL_SIZES]
    _, leaves = abstract_parameters(config)
    total = 0
    for path, leaf in leaves.items():
        if path.endswith(".kernel"):
            total += math.prod(leaf.shape) * _positions(path, config, h * w, grids)
    per_pair = config.n_feats // 2 + config.n_feats
    return MultiplyAdds(total, sum(h * w * grid * per_pair for grid in grids))


def _positions(path: str, config: MSNLANConfig, pixels: int, grids: list[int]) -> int:
    """Return at how many positions a convolution's kernel is applied."""
    parts = path.split(".")
    if "channel_attention" in parts:
        return 1
    if parts[:2] == ["attention", "branches"] and parts[3] in ("grid", "key", "value"):
        return grids[int(parts[2])]
    if parts[0] == "upsampler":
        return pixels * math.prod(shuffle_factors(config.scale)[: int(parts[1])]) ** 2
    return pixels * config.scale**2 if parts[0] == "tail" else pixels
