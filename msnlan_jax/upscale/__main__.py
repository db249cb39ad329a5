"""Enlarge a picture, or every picture in a folder."""

import argparse

from etils import epath
from flax import nnx
from tqdm import tqdm

from msnlan_jax import command
from msnlan_jax.errors import InputError
from msnlan_jax.files import prepare_output_dir
from msnlan_jax.images import IMAGE_SUFFIXES, list_images, read_image, write_image
from msnlan_jax.inference import INFERENCE_MODES, TILE_OVERLAP, TILE_SIZE, check_options, upscale
from msnlan_jax.weights import WEIGHTS_HELP, load_model


def parse_flags() -> argparse.Namespace:
    """Read the command line."""
    parser = command.Parser(prog="python -m msnlan_jax.upscale", description=__doc__)
    parser.add_argument("input", type=epath.Path, help="a picture, or a folder of pictures")
    parser.add_argument("-o", "--output", type=epath.Path, required=True, help="the file, or folder, to write")
    parser.add_argument("--weights", default="bicubic", help=WEIGHTS_HELP)
    parser.add_argument("--scale", type=int, help="up-scaling factor; by default the weights' own, 4 for bicubic")
    parser.add_argument("--inference", choices=INFERENCE_MODES, default="whole", help="whole by default")
    parser.add_argument(
        "--tile_size", type=int, default=TILE_SIZE, help="LR pixels, for --inference tile (%(default)s)"
    )
    parser.add_argument("--tile_overlap", type=int, default=TILE_OVERLAP, help="LR pixels, likewise (%(default)s)")
    parser.add_argument("--self_ensemble", action="store_true", help="average over the 8 flips and transposes")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    flags = parser.parse_args()
    if flags.scale is not None and flags.scale < 1:
        parser.error(f"--scale: found {flags.scale}, expected a positive number")
    check_options(flags.inference, flags.tile_size, flags.tile_overlap)
    return flags


def main() -> None:
    """Enlarge what the flags name."""
    flags = parse_flags()
    if not flags.input.exists():
        raise FileNotFoundError(f"{flags.input}: no such file or folder, expected a picture or a folder of pictures")
    model = load_model(flags.weights, scale=flags.scale)
    if flags.input.is_dir():
        upscale_folder(model, flags)
        return
    if flags.output.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"--output: found {flags.output}, expected a name that ends in {', '.join(IMAGE_SUFFIXES)}")
    if flags.output.exists() and not flags.overwrite:
        raise InputError(f"--output: {flags.output} is there already, expected a new name or --overwrite")
    upscale_file(model, flags.input, flags.output, flags)
    print(f"{flags.input} -> {flags.output} ({flags.weights})")


def upscale_folder(model: nnx.Module, flags: argparse.Namespace) -> None:
    """Enlarge every picture in a folder; those already there are passed over, broken ones listed at the end."""
    pictures = list_images(flags.input)
    if not pictures:
        raise InputError(f"{flags.input}: found no pictures, expected at least one")
    stems = [path.stem for path in pictures]
    for stem in stems:
        if stems.count(stem) > 1:
            raise InputError(f"{flags.input}: found several pictures called {stem}, expected different names")
    output = prepare_output_dir(flags.output, "--output")
    broken, there = [], 0
    for path in tqdm(pictures, unit="picture"):
        target = output / f"{path.stem}.png"
        if target.exists() and not flags.overwrite:
            there += 1
            continue
        try:
            upscale_file(model, path, target, flags)
        except InputError as error:
            broken.append(str(error))
    kept = f", {there} kept that were there already (--overwrite replaces them)" if there else ""
    print(f"{len(pictures) - there - len(broken)} of {len(pictures)} pictures written to {output}{kept}")
    if broken:
        raise InputError(f"{len(broken)} of {len(pictures)} pictures failed: " + "; ".join(broken))


def upscale_file(model: nnx.Module, source: epath.Path, target: epath.Path, flags: argparse.Namespace) -> None:
    """Enlarge one picture."""
    enlarged = upscale(
        model,
        read_image(source),
        inference=flags.inference,
        self_ensemble=flags.self_ensemble,
        tile_size=flags.tile_size,
        tile_overlap=flags.tile_overlap,
    )
    write_image(target, enlarged)


if __name__ == "__main__":
    command.run(main)
