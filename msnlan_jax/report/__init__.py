"""What an evaluation leaves behind: tables, figures, strips, and a page to look at."""

from msnlan_jax.report import benchmark, comparison
from msnlan_jax.report.showcase import (
    Showcase,
    parse_crops,
)
from msnlan_jax.report.strips import (
    side_by_side,
)
from msnlan_jax.report.writing import (
    results,
    write,
)

__all__ = [
    "Showcase",
    "benchmark",
    "comparison",
    "parse_crops",
    "results",
    "side_by_side",
    "write",
]
