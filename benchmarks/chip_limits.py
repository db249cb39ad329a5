"""What this device reaches at most: matrix products and copies, against which the other programs' numbers are read.

`python -m benchmarks.chip_limits [--side 8192] [--mib 1024]`: TFLOP/s of a square matrix product in bfloat16 and in
float32 at each precision, and GB/s of reading and writing a large array once.
"""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import measure
from msnlan_jax.runtime import command

KINDS = (("bfloat16", "default"), ("float32", "default"), ("float32", "highest"))


def main() -> None:
    """Measure, print a table, and write it."""
    parser = command.Parser("python -m benchmarks.chip_limits", description=__doc__)
    parser.add_argument("--side", type=int, default=8192, help="of the matrices")
    parser.add_argument("--mib", type=int, default=1024, help="of the array that is read and written")
    parser.add_argument("--rounds", type=int, default=10)
    measure.add_result_flags(parser)
    flags = parser.parse_args()
    ways: dict[str, measure.Way] = {}
    for dtype, precision in KINDS:
        a = jnp.asarray(measure.normal(0, flags.side, flags.side), dtype)
        ways[f"{dtype}, {precision}"] = product(a, precision)
    array = jnp.zeros(flags.mib * 2**18, jnp.float32)
    ways["copy"], _, _ = measure.compiled_way(lambda x: x + 1, array)
    times = measure.interleave(ways, flags.rounds)
    rows: list[dict[str, Any]] = [
        {"what": name, "TFLOP/s": 2 * flags.side**3 / seconds / 1e12}
        for name, seconds in times.items()
        if name != "copy"
    ]
    rows.append({"what": "read and write", "GB/s": 2 * array.nbytes / times["copy"] / 1e9})
    print(measure.device_name())
    print(measure.table(("what", "TFLOP/s", "GB/s"), rows))
    facts = {"side": flags.side, "mib": flags.mib, "rows": rows}
    print(measure.write("chip_limits", facts, folder=flags.output, note=flags.note))


def product(a: jax.Array, precision: str) -> measure.Way:
    """Return a way of multiplying a matrix with itself."""
    return measure.compiled_way(lambda a: jnp.matmul(a, a, precision=precision), a)[0]


if __name__ == "__main__":
    measure.run(main)
