"""Score MSNLAN, or pictures made by any method, on benchmark sets: PSNR and SSIM as papers report them."""

import argparse
import functools
from typing import Any

from etils import epath

from data import folders, photos
from msnlan_jax import command, evaluation, inference, report
from msnlan_jax.bicubic import Bicubic
from msnlan_jax.files import prepare_output_dir
from msnlan_jax.images import RGBPicture, write_image
from msnlan_jax.inference import upscale
from msnlan_jax.strips import side_by_side
from msnlan_jax.weights import WEIGHTS_HELP, load_model


def parse_flags() -> argparse.Namespace:
    """Read the command line."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--weights", default="bicubic", help=WEIGHTS_HELP)
    parser.add_argument("--data_dir", help="folder of data sets, or one data set; without it, the built-in photos")
    parser.add_argument("--datasets", default="", help="comma-separated, such as Set5,Set14; built in: photos,held_out")
    parser.add_argument("--scale", type=int, help="up-scaling factor; by default the weights' own, 4 for bicubic")
    parser.add_argument("--inference", choices=inference.INFERENCE_MODES, default="whole", help="whole by default")
    parser.add_argument("--tile_size", type=int, default=inference.TILE_SIZE, help="LR pixels (%(default)s)")
    parser.add_argument("--tile_overlap", type=int, default=inference.TILE_OVERLAP, help="LR pixels (%(default)s)")
    parser.add_argument("--self_ensemble", action="store_true", help="average over the 8 flips and transposes")
    parser.add_argument("--save_images", action="store_true", help="write SR pictures and side-by-side strips")
    parser.add_argument("--sr_dir", help="score the pictures in this folder instead of running a network")
    parser.add_argument("--hr_dir", help="the true pictures for --sr_dir")
    parser.add_argument("--output", help="folder for results.json and results.md; by default runs/eval-x<scale>")
    flags = parser.parse_args()
    if (flags.sr_dir is None) != (flags.hr_dir is None):
        parser.error("--sr_dir and --hr_dir go together")
    if flags.sr_dir and not flags.scale:
        parser.error("--sr_dir needs --scale")
    if flags.scale is not None and flags.scale < 1:
        parser.error(f"--scale: found {flags.scale}, expected a positive number")
    inference.check_options(flags.inference, flags.tile_size, flags.tile_overlap)
    return flags


def main() -> None:
    """Score and report."""
    flags = parse_flags()
    if flags.sr_dir:
        result, output = score_pictures(flags)
    else:
        result, output = score_network(flags)
    print("\n" + report.write(output, result))
    print(f"written to {output}/results.json and results.md")


def score_pictures(flags: argparse.Namespace) -> tuple[dict[str, Any], epath.Path]:
    """Score the pictures of a folder."""
    scale = flags.scale
    scores = evaluation.score_folder(flags.sr_dir, flags.hr_dir, scale)
    output = prepare_output_dir(flags.output or f"runs/eval-x{scale}", "--output")
    folder = epath.Path(flags.hr_dir).resolve()
    name = folder.parent.name if folder.name in ("HR", "GTmod12") else folder.name
    return report.results(scale, flags.sr_dir, report.protocol(scale), {name: scores}, {}), output


def score_network(flags: argparse.Namespace) -> tuple[dict[str, Any], epath.Path]:
    """Run a network, and bicubic beside it, on every data set and score the pictures."""
    model = load_model(flags.weights, scale=flags.scale)
    scale = model.scale
    names = [name.strip() for name in flags.datasets.split(",") if name.strip()]
    datasets = folders.find_datasets(flags.data_dir, names, scale) if flags.data_dir else photos.find_sets(names)
    for pairs in datasets.values():
        evaluation.check_pairs(pairs, scale)
    output = prepare_output_dir(flags.output or f"runs/eval-x{scale}", "--output")
    options = {"inference": flags.inference, "self_ensemble": flags.self_ensemble}
    if flags.inference == "tile":
        options |= {"tile_size": flags.tile_size, "tile_overlap": flags.tile_overlap}
    bicubic = Bicubic(scale)
    scores, baseline = {}, {}
    for name, pairs in datasets.items():

        def save(picture: str, lr: RGBPicture, hr: RGBPicture, sr: RGBPicture, name: str = name) -> None:
            write_image(output / "images" / name / f"{picture}x{scale}.png", sr)
            methods = {"bicubic": upscale(bicubic, lr)}
            if flags.weights != "bicubic":
                methods["MSNLAN"] = sr
            write_image(output / "strips" / name / f"{picture}.png", side_by_side(hr, methods, scale))

        scores[name] = evaluation.evaluate(
            functools.partial(upscale, model, **options),
            pairs,
            scale,
            on_picture=save if flags.save_images else None,
            title=name,
        )
        if flags.weights != "bicubic":
            baseline[name] = evaluation.evaluate(functools.partial(upscale, bicubic), pairs, scale)
    return report.results(scale, flags.weights, report.protocol(scale) | options, scores, baseline), output


if __name__ == "__main__":
    command.run(main)
