"""Enlarge pictures: one, several, or a folder with all that is below it."""

import argparse
import math

from etils import epath
from flax import nnx
from tqdm import tqdm

from msnlan_jax.errors import InputError, naming
from msnlan_jax.inference import INFERENCE_MODES, TILE_OVERLAP, TILE_SIZE, capacity, check_options
from msnlan_jax.pictures import check_suffix, read_photo, write_image
from msnlan_jax.runtime import command, machine, prepare_output_dir
from msnlan_jax.upscale.enlarge import Options, check_memory, enlarge, final_size, load_for_scale
from msnlan_jax.upscale.jobs import FORMATS, Job, plan
from msnlan_jax.weights import WEIGHTS_HELP


def parse_flags() -> argparse.Namespace:
    """Read the command line."""
    parser = command.Parser(prog="python -m msnlan_jax.upscale", description=__doc__)
    parser.add_argument("input", type=epath.Path, nargs="+", help="pictures, or folders of pictures")
    parser.add_argument(
        "-o",
        "--output",
        type=epath.Path,
        help="the file, or folder, to write; by default <name>_x4.png beside each picture, or <folder>_x4",
    )
    parser.add_argument("--weights", help=WEIGHTS_HELP)
    parser.add_argument(
        "--scale",
        type=float,
        help="any positive number, by default the weights' own: the network's scale, then bicubic to the exact size",
    )
    parser.add_argument(
        "--inference",
        choices=("auto", *INFERENCE_MODES),
        default="auto",
        help="auto by default: the whole picture where memory and time allow, else tiles",
    )
    parser.add_argument("--tile_size", type=int, default=TILE_SIZE, help="LR pixels, for tiles (%(default)s)")
    parser.add_argument("--tile_overlap", type=int, default=TILE_OVERLAP, help="LR pixels, likewise (%(default)s)")
    capacity.add_memory_limit(parser)
    parser.add_argument("--self_ensemble", action="store_true", help="average over the 8 flips and transposes")
    parser.add_argument("--format", choices=FORMATS, default="png", help="of the files where --output names none (png)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    flags = parser.parse_args()
    if flags.scale is not None and not (flags.scale > 0 and math.isfinite(flags.scale)):
        parser.error(f"--scale: found {flags.scale:g}, expected a positive number")
    check_options(flags.inference, flags.tile_size, flags.tile_overlap)
    return flags


def main() -> None:
    """Enlarge what the flags name."""
    flags = parse_flags()
    for path in flags.input:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder, expected a picture or a folder of pictures")
    model, name = load_for_scale(flags.weights, flags.scale)
    scale = model.scale if flags.scale is None else flags.scale  # type: ignore[attr-defined]
    jobs = plan(flags.input, flags.output, f"{scale:g}", flags.format)
    limit = machine.limit_gb(flags.memory_limit)
    options = Options(flags.inference, flags.self_ensemble, flags.tile_size, flags.tile_overlap, limit)
    if len(jobs) == 1 and not any(path.is_dir() for path in flags.input):
        (job,) = jobs
        if job.target.exists() and not flags.overwrite:
            raise InputError(f"--output: {job.target} is there already, expected a new name or --overwrite")
        notes = upscale_file(model, job, flags.scale, options)
        print(f"{job.source} -> {job.target} ({'; '.join((name, *notes))})")
        return
    upscale_all(model, jobs, flags, options)


def upscale_all(model: nnx.Module, jobs: list[Job], flags: argparse.Namespace, options: Options) -> None:
    """Enlarge many pictures; those already there are passed over, broken ones listed at the end."""
    broken, there = [], 0
    with tqdm(jobs, unit="picture") as bar:
        for job in bar:
            bar.set_postfix_str(job.source.name)
            if job.target.exists() and not flags.overwrite:
                there += 1
                continue
            try:
                if notes := upscale_file(model, job, flags.scale, options):
                    bar.write(f"{job.source}: {'; '.join(notes)}")
            except (InputError, OSError) as error:
                broken.append(str(error))
    where = "beside their originals" if flags.output is None and len(flags.input) > 1 else f"to {_root(flags, jobs)}"
    kept = f", {there} kept that were there already (--overwrite replaces them)" if there else ""
    print(f"{len(jobs) - there - len(broken)} of {len(jobs)} pictures written {where}{kept}")
    if broken:
        raise InputError(f"{len(broken)} of {len(jobs)} pictures failed: " + "; ".join(broken))


def upscale_file(model: nnx.Module, job: Job, scale: float | None, options: Options) -> tuple[str, ...]:
    """Enlarge one picture, and return what the user should know of how."""
    photo = read_photo(job.source)
    # Before minutes are spent on what cannot be written.
    size = final_size(model, photo.pixels, scale)
    check_suffix(job.target, alpha=photo.pixels.ndim == 3 and photo.pixels.shape[2] in (2, 4), side=max(size))
    with naming(job.source):
        check_memory(model, photo.pixels, scale, options, job.target.suffix)
    prepare_output_dir(job.target.parent, "--output")
    # Seen only where a picture takes long, and only by someone who looks.
    with tqdm(desc=job.source.name, unit="part", leave=False, delay=2, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        with naming(job.source):
            enlarged, notes = enlarge(model, photo.pixels, scale, options, None if bar.disable else show)
    write_image(job.target, enlarged, icc_profile=photo.icc_profile)
    return photo.notes + notes


def _root(flags: argparse.Namespace, jobs: list[Job]) -> epath.Path:
    if flags.output is not None:
        return flags.output
    below = jobs[0].source.relative_to(flags.input[0])  # a single folder
    return jobs[0].target.parents[len(below.parts) - 1]


if __name__ == "__main__":
    command.run(main)
