"""Convert the authors' PyTorch weights to safetensors for this package, or back with --to_torch, bit for bit."""

from msnlan_jax import command, weights
from msnlan_jax.model import count_parameters
from msnlan_jax.parameters import abstract_model


def main() -> None:
    """Convert one file."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--input", required=True, help=".pt, .pth or .safetensors file, or a training workdir")
    parser.add_argument("--output", required=True, help="file to write: .safetensors, or .pt with --to_torch")
    parser.add_argument("--to_torch", action="store_true", help="write a PyTorch state_dict with the released keys")
    flags = parser.parse_args()
    config = weights.convert(flags.input, flags.output, to_torch=flags.to_torch)
    print(
        f"{flags.input} -> {flags.output}: ×{config.scale}, C={config.n_feats}, G={config.n_groups}, "
        f"N={config.n_blocks}, {count_parameters(abstract_model(config)):,} parameters"
    )


if __name__ == "__main__":
    command.run(main)
