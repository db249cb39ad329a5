"""The attention's branches: ours against unfolding, in released-style PyTorch and in JAX.

`python -m benchmarks.attention [--forms unfold,box,hybrid] [--size 48] [--batch 1] [--dtype float32] [--rounds 5]`:
one branch of the MSNLAB with k = 3, 5 and 7, and their sum; forward, and the gradient of parameters and input.
Ratios are PyTorch's median time over each way's, from runs that take turns. Memory is what the program needs besides
arguments and results: as XLA planned it, or, for PyTorch, measured on GPU only. FLOPs are those of matrix products and
convolutions for one picture, of ours as it is written, of PyTorch's by its own count.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import nnx

from benchmarks import measure, torch_way
from benchmarks.flops import traced_flops
from msnlan_jax.network import KERNEL_SIZES, Compute, NonLocalBranch, parameters, torch_reference
from msnlan_jax.runtime import command

COLUMNS = ("k", "pass", "way", "ms", "× PyTorch", "MiB", "GFLOP/picture", "compile s")
PASSES = ("forward", "gradient")


def main() -> None:
    """Measure, print a table, and write it."""
    parser = command.Parser("python -m benchmarks.attention", description=__doc__)
    parser.add_argument("--forms", default="unfold,auto", help="of our operator, comma-separated")
    parser.add_argument("--size", type=int, default=48, help="side of the grid")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--n_feats", type=int, default=64)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    measure.add_flags(parser, "attention")
    flags = parser.parse_args()
    torch_way.use_precision(flags.precision)
    rows = [row for which in PASSES for row in compare(flags, which)]
    print(
        f"{measure.device_name()}: {flags.batch} × {flags.size}×{flags.size}, {flags.n_feats} channels, {flags.dtype}"
    )
    print(measure.table(COLUMNS, rows))
    facts = {name: vars(flags)[name] for name in ("size", "batch", "n_feats", "dtype", "precision", "rounds")}
    print(measure.write(flags.name, facts | {"rows": rows}, folder=flags.output, note=flags.note))


def compare(flags: Any, which: str) -> list[dict[str, Any]]:
    """Return the rows of one pass."""
    ways: dict[tuple[str, str], measure.Way] = {}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for k in KERNEL_SIZES:
        label = str(k)
        x = measure.normal(0, flags.batch, flags.size, flags.size, flags.n_feats)
        run = reference_way(k, x, which, flags.dtype)
        ways[label, "PyTorch"] = run
        rows[label, "PyTorch"] = {
            "GFLOP/picture": torch_way.flops(run) / flags.batch / 1e9,
            "MiB": torch_way.peak_mib(run),
        }
        for form in flags.forms.split(","):
            ways[label, form], rows[label, form] = jax_way(k, x, which, form, flags.dtype, flags.precision)
    times = measure.interleave(ways, flags.rounds)
    every = "+".join(map(str, KERNEL_SIZES))
    for way in dict.fromkeys(way for _, way in ways):
        times[every, way] = sum(times[str(k), way] for k in KERNEL_SIZES)
        parts = [rows[str(k), way] for k in KERNEL_SIZES]
        rows[every, way] = {"GFLOP/picture": sum(part["GFLOP/picture"] for part in parts)}
    return [
        {"k": k, "pass": which, "way": way, "ms": times[k, way] * 1e3, "× PyTorch": times[k, "PyTorch"] / times[k, way]}
        | row
        for (k, way), row in rows.items()
    ]


def jax_way(k: int, x: Any, which: str, form: str, dtype: str, precision: str) -> tuple[measure.Way, dict[str, Any]]:
    """Return a way of running our branch, and its row but for the time."""
    branch = NonLocalBranch(x.shape[-1], k, compute=Compute(dtype, precision, attention=form), rngs=nnx.Rngs(0))
    graph, values = parameters.split(branch)

    def forward(values: parameters.Parameters, x: jax.Array) -> jax.Array:
        network: Any = parameters.merge(graph, values)
        output: jax.Array = network(x)
        return output

    def loss(values: parameters.Parameters, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(forward(values, x).astype(jnp.float32)))

    function = forward if which == "forward" else jax.grad(loss, argnums=(0, 1))
    pictures = jnp.asarray(x, dtype)
    run, compiled, seconds = measure.compiled_way(function, values, pictures)
    return run, {
        "MiB": (measure.temporary_bytes(compiled) or 0) / 2**20,
        "GFLOP/picture": traced_flops(function, values, pictures[:1]) / 1e9,
        "compile s": seconds,
    }


def reference_way(k: int, x: Any, which: str, dtype: str) -> Callable[[], None]:
    """Return a way of running the reference's branch."""
    branch = torch_reference.NonLocalBranch(x.shape[-1], k).to(torch_way.torch_device(), getattr(torch, dtype))
    given = torch_way.pictures(x, dtype)

    def forward() -> None:
        with torch.inference_mode():
            branch(given)
        torch_way.wait()

    def gradient() -> None:
        leaf = given.clone().requires_grad_()
        branch.zero_grad()
        branch(leaf).float().sin().sum().backward()
        torch_way.wait()

    return forward if which == "forward" else gradient


if __name__ == "__main__":
    measure.run(main)
