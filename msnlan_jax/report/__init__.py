"""What an evaluation leaves behind: results as JSON, tables, figures, strips, and a page to look at."""

from msnlan_jax.report.comparison import (
    Compared,
    method_name,
    read_compared,
)
from msnlan_jax.report.results import (
    DatasetResult,
    Results,
    StatedProtocol,
    read_results,
)
from msnlan_jax.report.showcase import (
    Crop,
    parse_crops,
)
from msnlan_jax.report.strips import (
    side_by_side,
)
from msnlan_jax.report.writing import (
    Extras,
    add_flags,
    make_report,
    read_flags,
)

__all__ = [
    "Compared",
    "Crop",
    "DatasetResult",
    "Extras",
    "Results",
    "StatedProtocol",
    "add_flags",
    "make_report",
    "method_name",
    "parse_crops",
    "read_compared",
    "read_flags",
    "read_results",
    "side_by_side",
]
