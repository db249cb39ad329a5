"""What a Pallas kernel costs, read from the final instruction bundles that libtpu dumps.

A bundle takes a cycle at least, and a multiplier a cycle for each row (v6e: for two), which the schedule does not
always show. The program's scalar part is run, so a loop, that of the grid too, counts as often as it runs, and what a
condition passes over does not count.
"""

from benchmarks.bundles.count import Count, Loop, count_file, count_kernel, kernel_files
from benchmarks.bundles.program import UnknownTripsError

__all__ = ["Count", "Loop", "UnknownTripsError", "count_file", "count_kernel", "kernel_files"]
