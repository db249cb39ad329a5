"""Score MSNLAN, or pictures made by any method, on benchmark sets, and write a report to look at."""

import argparse
import itertools
from typing import Any

from etils import epath

from data import folders, photos
from msnlan_jax import inference, report
from msnlan_jax.network import MSNLAN
from msnlan_jax.pictures import list_images
from msnlan_jax.report import Showcase, benchmark, comparison, parse_crops
from msnlan_jax.runtime import absolute, command, prepare_output_dir
from msnlan_jax.scoring import evaluation, load_lpips, metrics
from msnlan_jax.weights import WEIGHTS_HELP, bundled, load_model

_Prepared = tuple[benchmark.Protocol, dict[str, Any]]


def parse_flags() -> argparse.Namespace:
    """Read the command line."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--weights", help=WEIGHTS_HELP)
    parser.add_argument("--data_dir", help="folder of data sets, or one data set; without it, the built-in photos")
    parser.add_argument("--datasets", default="", help="comma-separated, such as Set5,Set14; built in: photos,held_out")
    parser.add_argument("--scale", type=int, help="up-scaling factor; by default the weights' own, 4 for bundled ones")
    parser.add_argument("--output", help="folder for the report and results.json; by default runs/eval-x<scale>")
    parser.add_argument("--save_images", action="store_true", help="write SR pictures and side-by-side strips")
    run = parser.add_argument_group("how the network runs")
    inference.add_flags(run, default="whole")
    scores = parser.add_argument_group("how pictures are scored; by default as papers do")
    scores.add_argument("--channel", choices=metrics.CHANNELS, default="y", help="luma, or all three (%(default)s)")
    scores.add_argument("--border", type=int, help="pixels left out on every side; by default the scale")
    scores.add_argument("--rounding", choices=benchmark.ROUNDINGS, default="uint8", help="of SR (%(default)s)")
    scores.add_argument("--lpips", action="store_true", help="the perceptual distance too; needs pip install lpips")
    others = parser.add_argument_group("other methods")
    others.add_argument("--sr_dir", help="score the pictures in this folder instead of running a network")
    others.add_argument("--hr_dir", help="the true pictures for --sr_dir")
    others.add_argument("--name", help="what the report calls the method of --sr_dir; by default as that folder")
    others.add_argument("--compare", action="append", default=[], metavar="NAME=RESULTS.JSON", help="show beside ours")
    page = parser.add_argument_group("the report")
    page.add_argument("--pictures", type=int, default=8, help="how many to show, the most telling ones (%(default)s)")
    page.add_argument(
        "--crop", action="append", default=[], metavar="[NAME:]X,Y,SIZE", help="part to enlarge, HR pixels"
    )
    flags = parser.parse_args()
    for given, needed in (("sr_dir", "hr_dir"), ("hr_dir", "sr_dir"), ("sr_dir", "scale"), ("name", "sr_dir")):
        if getattr(flags, given) and not getattr(flags, needed):
            parser.error(f"--{given} needs --{needed}")
    if flags.sr_dir:
        if flags.rounding != "uint8":
            parser.error("--rounding: found none with --sr_dir, whose pictures are rounded already")
        for name in ("weights", "data_dir", "datasets", "inference", "self_ensemble"):
            if (value := getattr(flags, name)) != parser.get_default(name):
                parser.error(f"--{name}: found {value} with --sr_dir, which only scores; expected one of the two")
    for name, least in (("scale", 1), ("border", 0), ("pictures", 0)):
        if (value := getattr(flags, name)) is not None and value < least:
            kind = "a positive number" if least else "0 or more"
            parser.error(f"--{name}: found {value}, expected {kind}")
    inference.read_flags(flags)
    return flags


def main() -> None:
    """Score and report."""
    flags = parse_flags()
    score = score_pictures if flags.sr_dir else score_network
    result, details, output = score(flags)
    print("\n" + report.write(output, result, **details))
    print(f"written to {output}: report.html, results.json, results.md, results.tex and figures/")


def score_pictures(flags: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any], epath.Path]:
    """Score the pictures of a folder."""
    names = {path.stem for path in list_images(flags.hr_dir)}
    method = comparison.method_name(flags.sr_dir, flags.name)
    protocol, common = prepare(flags, flags.scale, names, method)
    folder = absolute(flags.hr_dir)
    dataset = folder.parent.name if folder.name in ("HR", "GTmod12") else folder.name
    # The output folder is made only once there is something to write into it.
    save_to = epath.Path(flags.output or f"runs/eval-x{flags.scale}") if flags.save_images else None
    outcome = benchmark.score_pictures(flags.sr_dir, flags.hr_dir, dataset, method, protocol, save_to=save_to, **common)
    output = prepare_output_dir(flags.output or f"runs/eval-x{flags.scale}", "--output")
    result = report.results(
        flags.scale,
        flags.sr_dir,
        protocol.as_json(),
        outcome.datasets,
        outcome.bicubic,
        method=method,
        has_images=flags.save_images,
    )
    return result, {"compared": common["compared"], "samples": common["showcase"].samples}, output


def score_network(flags: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any], epath.Path]:
    """Run a network, and bicubic beside it, on every data set and score the pictures."""
    weights = flags.weights or bundled.default_weights(flags.scale)
    if flags.weights is None and weights == bundled.FALLBACK:
        print(f"no weights for ×{flags.scale} come with the package: bicubic is scored; others are given by --weights")
    model = load_model(weights, scale=flags.scale)
    scale = model.scale
    names = [name.strip() for name in flags.datasets.split(",") if name.strip()]
    datasets = folders.find_datasets(flags.data_dir, names, scale) if flags.data_dir else photos.find_sets(names)
    method = "bicubic" if weights == "bicubic" else "MSNLAN"
    protocol, common = prepare(flags, scale, {pair.name for pair in itertools.chain(*datasets.values())}, method)
    for pairs in datasets.values():
        evaluation.check_pairs(pairs, scale, protocol.cut, common["showcase"].check)
    output = prepare_output_dir(flags.output or f"runs/eval-x{scale}", "--output")
    options, programs = inference.read_flags(flags), inference.Programs()
    save_to = output if flags.save_images else None
    outcome = benchmark.score_network(
        model, method, datasets, protocol, options=options.with_limit(), programs=programs, save_to=save_to, **common
    )
    print(f"programs compiled for pictures: {programs.count}")
    result = report.results(
        scale,
        weights,
        protocol.as_json() | options.to_json(),
        outcome.datasets,
        outcome.bicubic,
        method=method,
        notes=outcome.notes,
        has_images=flags.save_images,
    )
    config = model.config if isinstance(model, MSNLAN) else None
    return result, {"compared": common["compared"], "samples": common["showcase"].samples, "config": config}, output


def prepare(flags: argparse.Namespace, scale: int, names: set[str], method: str) -> _Prepared:
    """Read what the flags say on scoring and on the report, before any work is done."""
    distance = load_lpips() if flags.lpips else None
    if flags.lpips and distance is None:
        print("LPIPS is left out: its library is not installed (pip install lpips)")
    protocol = benchmark.Protocol(scale, flags.channel, flags.border, flags.rounding, distance)
    showcase = Showcase(flags.pictures, parse_crops(flags.crop, names))
    return protocol, {"showcase": showcase, "compared": comparison.read_compared(flags.compare, scale, [method])}


if __name__ == "__main__":
    command.run(main)
