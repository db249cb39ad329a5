"""Convert the authors' PyTorch weights to safetensors for this package, or back; look into weights; verify them."""

import argparse

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.network import DTYPES, MSNLANConfig, abstract_model, count_parameters
from msnlan_jax.pictures import read_rgb
from msnlan_jax.runtime import command
from msnlan_jax.weights import inspection, loading, safetensors_files, torch_files, torch_keys


def convert(
    source: epath.PathLike, output: epath.PathLike, *, to_torch: bool = False, dtype: str | None = None
) -> MSNLANConfig:
    """Convert any weights file to safetensors, or with `to_torch` to a released PyTorch checkpoint, bit for bit.

    Args:
        source: anything that `load_model` takes.
        output: file to write.
        to_torch: write a `state_dict` with the released keys.
        dtype: of what is stored in safetensors, as in `safetensors_files.write_safetensors`.

    Returns:
        The configuration of the network converted.

    Raises:
        FileNotFoundError: when `source` is missing.
        InputError: when `source` is not exactly an MSNLAN's, or `output` has another suffix or cannot be written.
    """
    suffixes = torch_files.SUFFIXES if to_torch else (".safetensors",)
    if epath.Path(output).suffix not in suffixes:
        raise InputError(f"--output: found {output}, expected a name that ends in {' or '.join(suffixes)}")
    config, values = loading.read_weights(source)
    if to_torch:
        torch_files.write_torch(output, torch_keys.to_torch(config, values))
    else:
        safetensors_files.write_safetensors(output, config, values, dtype=dtype)
    return config


def _parse_flags() -> argparse.Namespace:
    """Read the command line."""
    parser = command.Parser(description=__doc__)
    parser.add_argument(
        "--input",
        type="path",
        help="PyTorch or .safetensors file, training workdir, or name of bundled weights",
    )
    parser.add_argument(
        "--output",
        type="path",
        help="file to write, in place of one that is there: .safetensors, or .pt with --to_torch",
    )
    parser.add_argument("--to_torch", action="store_true", help="write a PyTorch state_dict with the released keys")
    parser.add_argument("--dtype", choices=DTYPES, help="of what is stored; as it is by default, bit for bit")
    parser.add_argument("--verify", action="store_true", help="run --input here and in PyTorch, and compare")
    parser.add_argument(
        "--picture", type="path", help="for --verify: a small picture; by default a part of a built-in photo"
    )
    parser.add_argument(
        "--inspect", type="path", metavar="FILE", help="only say what a checkpoint holds, and if it can be used"
    )
    flags = parser.parse_args()
    if flags.input is None and (flags.inspect is None or flags.output or flags.verify):
        parser.error("the following arguments are required: --input, or --inspect alone")
    if flags.inspect is None and flags.output is None and not flags.verify:
        parser.error("the following arguments are required: --output, or --verify")
    if flags.dtype == "bfloat16" and flags.to_torch:
        parser.error("--dtype: found bfloat16 with --to_torch, expected float32, as released")
    return flags


def main() -> None:
    """Do what the flags say, each with one file."""
    flags = _parse_flags()
    if flags.inspect is not None:
        held = inspection.inspect(flags.inspect)
        for line in held.lines:
            command.say(line)
        if held.refusal:
            raise InputError(held.refusal)
    if flags.output is not None:
        config = convert(flags.input, flags.output, to_torch=flags.to_torch, dtype=flags.dtype)
        command.say(
            f"{flags.input} -> {flags.output}: ×{config.scale}, C={config.n_feats}, G={config.n_groups}, "
            f"N={config.n_blocks}, {count_parameters(abstract_model(config)):,} parameters"
        )
    if flags.verify:
        picture = read_rgb(flags.picture) if flags.picture else inspection.built_in_picture()
        found = inspection.verify(flags.input, picture)
        command.say(
            f"{flags.input} on {flags.picture or 'a built-in photo'}, {picture.shape[1]}×{picture.shape[0]}: here and "
            f"in PyTorch, outputs of 0..255 differ by {found.largest:.2e} at most, {found.mean:.2e} on average, "
            f"{found.relative:.1e} of the whole (rounding in float32 makes up to about 1e-5); PSNR between them "
            f"{found.psnr:.1f} dB"
        )


def run() -> None:
    """Run the command, as `msnlan-convert` does."""
    command.run(main)
