"""The patch-based non-local attention operator, in exact forms behind one signature."""

from msnlan_jax.network.attention.operands import (
    NORM_FLOOR,
    TEMPERATURE,
    inside,
)
from msnlan_jax.network.attention.operator import (
    FORMS,
    limit_scores,
    patch_attention,
    smallest_block,
    working_bytes,
)
from msnlan_jax.network.attention.streamed import split_rows

__all__ = [
    "FORMS",
    "NORM_FLOOR",
    "TEMPERATURE",
    "inside",
    "limit_scores",
    "patch_attention",
    "smallest_block",
    "split_rows",
    "working_bytes",
]
