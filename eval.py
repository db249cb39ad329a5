"""Score MSNLAN, or pictures made by any method, on benchmark sets, and write a report to look at."""

import argparse
import collections
from collections.abc import Iterator

import jax

from data import folders, photos
from msnlan_jax import inference, report, scoring
from msnlan_jax.network import MSNLAN
from msnlan_jax.pictures import Pair, describe_lr, set_name
from msnlan_jax.runtime import command, distributed, lock, machine, prepare_output_dir, relay
from msnlan_jax.weights import WEIGHTS_HELP, bundled, load_model

# Pictures as they are scored, what is known of their results beforehand, and what else the report shows.
Task = tuple[Iterator[scoring.ScoredPicture], report.Results, report.Extras]


def parse_flags() -> argparse.Namespace:
    """Read the command line."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--weights", type="path", help=WEIGHTS_HELP)
    parser.add_argument(
        "--data_dir", type="path", help="folder of data sets, or one data set; without it, the built-in photos"
    )
    parser.add_argument("--datasets", default="", help="comma-separated, such as Set5,Set14; built in: photos,held_out")
    folders.add_choice(parser, "; for --sr_dir, the true pictures")
    parser.add_argument("--scale", type=int, help="up-scaling factor; by default the weights' own, 4 for bundled ones")
    parser.add_argument(
        "--output", type="path", help="folder for the report and results.json; by default runs/eval-x<scale>"
    )
    parser.add_argument("--save_images", action="store_true", help="write SR pictures and side-by-side strips")
    run = parser.add_argument_group("how the network runs")
    inference.add_flags(run, default="whole")
    scores = parser.add_argument_group("how pictures are scored; by default as papers do")
    scoring.add_flags(scores)
    others = parser.add_argument_group("other methods")
    others.add_argument(
        "--sr_dir", type="path", help="score the pictures in this folder, run no network; needs --scale"
    )
    others.add_argument("--name", help="what the report calls the method of --sr_dir; by default as that folder")
    page = parser.add_argument_group("the report")
    report.add_flags(others, page)
    distributed.add_flags(parser)
    flags = parser.parse_args()
    whose = "sr_dir" if flags.sr_dir else "data_dir"
    needs = ("sr_dir", "hr_dir"), ("hr_dir", whose), ("lr_dir", whose), ("sr_dir", "scale"), ("name", "sr_dir")
    for given, needed in needs:
        if getattr(flags, given) and not getattr(flags, needed):
            parser.error(f"--{given} needs --{needed}")
    if flags.sr_dir:
        if flags.rounding != "uint8":
            parser.error("--rounding: found none with --sr_dir, whose pictures are rounded already")
        for name in ("weights", "data_dir", "datasets", "lr_dir", "inference", "self_ensemble"):
            if (value := getattr(flags, name)) != parser.get_default(name):
                parser.error(f"--{name}: found {value} with --sr_dir, which only scores; expected one of the two")
    for name, least in (("scale", 1), ("border", 0), ("pictures", 0)):
        if (value := getattr(flags, name)) is not None and value < least:
            kind = "a positive number" if least else "0 or more"
            parser.error(f"--{name}: found {value}, expected {kind}")
    flags.options = inference.read_flags(flags)
    return flags


def main() -> None:
    """Score and report."""
    flags = parse_flags()
    distributed.initialize(flags.coordinator_address, flags.num_processes, flags.process_id)
    flags.is_first = jax.process_index() == 0
    with relay.ending_together():
        pictures, start, extras = score_pictures(flags) if flags.sr_dir else score_network(flags)
        if not flags.is_first:
            collections.deque(pictures, maxlen=0)  # which go to the first process
            return
        output = prepare_output_dir(flags.output or f"runs/eval-x{start.scale}", "--output")
        with lock.holding(output, "--output"):  # of two evaluations, each would leave a part
            table = report.make_report(pictures, start, output, extras)
        print(f"\n{table}")
        command.say(f"written to {output}: report.html, results.json, results.md, results.tex and figures/")


def score_pictures(flags: argparse.Namespace) -> Task:
    """Prepare to score the pictures of a folder."""
    method = report.method_name(flags.sr_dir, flags.name)
    protocol = scoring.read_flags(flags, flags.scale)
    matches = scoring.match_folders(flags.sr_dir, flags.hr_dir, flags.scale)
    extras = report.read_flags(flags, flags.scale, method, {match.name for match in matches})
    dataset = set_name(flags.hr_dir)
    sizes = {dataset: scoring.check_matches(matches, flags.scale, flags.border)}
    extras.check(sizes)
    share = scoring.Share.of_process(sizes)
    pictures = scoring.beside_bicubic(scoring.score_matches(matches, protocol, dataset=dataset, share=share), protocol)
    stated = report.StatedProtocol.of(protocol)
    start = report.Results(flags.scale, flags.sr_dir, stated, method=method, has_images=flags.save_images)
    every = scoring.bring_together(pictures, share, {dataset: len(matches)}, show_progress=True)
    return every, start, extras


def score_network(flags: argparse.Namespace) -> Task:
    """Prepare to run a network, and bicubic beside it, on every data set and to score the pictures."""
    weights = flags.weights or bundled.default_weights(flags.scale)
    if flags.weights is None and weights == bundled.FALLBACK and flags.is_first:
        command.say(
            f"no weights for ×{flags.scale} come with the package: bicubic is scored; others are given by --weights"
        )
    model = load_model(weights, scale=flags.scale)
    datasets = find_pictures(flags, model.scale)
    own = f"MSNLAN {weights}" if weights in bundled.NAMES else "MSNLAN"  # not to be taken for the published network
    method = "bicubic" if weights == "bicubic" else own
    protocol = scoring.read_flags(flags, model.scale)
    of_all = {pair.name for pairs in datasets.values() for pair in pairs}
    extras = report.read_flags(flags, model.scale, method, of_all, model.config if isinstance(model, MSNLAN) else None)
    sizes = {name: scoring.check_pairs(pairs, model.scale, flags.border) for name, pairs in datasets.items()}
    extras.check(sizes)
    if flags.is_first and (devices := machine.describe_devices()):
        command.say(f"on {devices}")
    share = scoring.Share.of_process(sizes)
    pictures = scoring.score_network(model, datasets, protocol, flags.options.with_limit(), share=share)
    if method != "bicubic":
        pictures = scoring.beside_bicubic(pictures, protocol)
    stated = report.StatedProtocol.of(protocol, LR=describe_lr(datasets), **flags.options.to_json())
    start = report.Results(model.scale, weights, stated, method=method, has_images=flags.save_images)
    n_pictures = {name: len(pairs) for name, pairs in datasets.items()}
    return scoring.bring_together(pictures, share, n_pictures, show_progress=True), start, extras


def find_pictures(flags: argparse.Namespace, scale: int) -> dict[str, list[Pair]]:
    """Find the pictures to score."""
    names = [name.strip() for name in flags.datasets.split(",") if name.strip()]
    if not flags.data_dir:
        return photos.find_sets(names)
    return folders.find_datasets(flags.data_dir, names, scale, choice=folders.read_choice(flags))


if __name__ == "__main__":
    command.run(main)
