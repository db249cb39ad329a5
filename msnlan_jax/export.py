"""Write a network as one StableHLO file, free in batch and picture size, that runs without this package."""

import dataclasses

import jax
import jax.export
import jax.numpy as jnp
from flax import nnx

from msnlan_jax.errors import InputError
from msnlan_jax.network import KERNEL_SIZES, MSNLAN, parameters
from msnlan_jax.runtime import command, files
from msnlan_jax.weights import WEIGHTS_HELP, bundled, load_model

PLATFORMS = ("cpu", "cuda", "tpu")
MIN_SIDE = max(KERNEL_SIZES) // 2 + 1


def export(model: nnx.Module, platforms: tuple[str, ...] = PLATFORMS) -> bytes:
    """Return a network as `jax.export` serialises it: `[b,h,w,3]` float32 0..255 → `[b,sh,sw,3]`, all sizes free.

    Pictures have at least 4×4 pixels; JAX refuses smaller ones when the program is called. Weights are inside.
    Attention holds a whole score matrix of each picture, so its memory grows with (hw)².

    Args:
        model: from `load_model`.
        platforms: where the file is to run.

    Raises:
        InputError: on anything but an MSNLAN: bicubic's matrices depend on the size.
    """
    if not isinstance(model, MSNLAN):
        raise InputError(f"export: found {type(model).__name__}, expected a network, whose sizes can be left free")
    # A form whose program does not depend on the size; "auto" would have to know it.
    compute = dataclasses.replace(model.compute, attention="box", implementation="plain")
    graph, _ = parameters.abstract_parameters(model.config, compute)
    _, values = parameters.split(model)

    def run(x: jax.Array) -> jax.Array:
        result: jax.Array = parameters.merge(graph, values)(x)
        return result

    # With sides above the reach of the largest patch, its shifts are as long whatever the size.
    limits = ["b >= 1", *(f"{side} >= {MIN_SIDE}" for side in "hw")]
    limits += [f"h*w >= {reach}*w" for reach in range(1, MIN_SIDE)]
    shape = jax.export.symbolic_shape("b, h, w, 3", constraints=limits)
    exported = jax.export.export(jax.jit(run), platforms=platforms)(jax.ShapeDtypeStruct(shape, jnp.float32))
    return bytes(exported.serialize())


def main() -> None:
    """Export what the flags name."""
    parser = command.Parser(prog="python -m msnlan_jax.export", description=__doc__)
    parser.add_argument("--weights", type="path", help=WEIGHTS_HELP.replace("bicubic, ", ""))
    parser.add_argument("--output", type="path", required=True, help="file to write, such as msnlan_x4.stablehlo")
    parser.add_argument("--scale", type=int, help="up-scaling factor; by default the weights' own")
    flags = parser.parse_args()
    name = flags.weights or bundled.default_weights(flags.scale)
    if name == bundled.FALLBACK:
        found = "--weights: found bicubic" if flags.weights else f"--scale: found {flags.scale} without --weights"
        parser.error(f"{found}, expected a network's")
    model = load_model(name, scale=flags.scale)
    data = export(model)
    files.write_bytes(flags.output, data)
    command.say(f"{name} -> {flags.output}: ×{model.scale}, {len(data):,} bytes, for {', '.join(PLATFORMS)}")


if __name__ == "__main__":
    command.run(main)
