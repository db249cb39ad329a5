"""Enlarge pictures: one, several, or a folder with all that is below it."""

import argparse
import collections
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from etils import epath
from flax import nnx
from tqdm import tqdm

from msnlan_jax.errors import InputError, naming
from msnlan_jax.inference import Options, Plan, Programs, Request, add_flags, read_flags, scale_of
from msnlan_jax.pictures import (
    DEEP_SUFFIXES,
    WRITTEN_SUFFIXES,
    AnyPicture,
    Bicubic,
    Photo,
    check_suffix,
    read_photo,
    to_8_bits,
    write_image,
)
from msnlan_jax.runtime import command, machine, prepare_output_dir
from msnlan_jax.upscale.enlarge import check_memory, enlarge, enlarge_each, final_size, load_for_scale, plan_enlarging
from msnlan_jax.upscale.jobs import FORMATS, Job, Output, list_jobs
from msnlan_jax.weights import WEIGHTS_HELP

# Above it not even a pixel could be enlarged in any memory, and sizes would be infinite.
_LARGEST_SCALE = 1_000_000
# How many files are named that are passed over.
_LISTED = 20
# A picture that takes less time needs no bar.
_SHOWN_SECONDS = 2.0


def parse_flags() -> argparse.Namespace:
    """Read the command line."""
    script = Path(sys.argv[0]).name  # as a module it would be called __main__.py
    prog = script if script == "msnlan-upscale" else "python -m msnlan_jax.upscale"
    parser = command.Parser(prog=prog, description=__doc__)
    parser.add_argument("input", type="path", nargs="+", help="pictures, or folders of pictures")
    parser.add_argument(
        "-o",
        "--output",
        type="path",
        help="the file, or folder, to write; by default <name>_x4.png beside each picture, or <folder>_x4",
    )
    parser.add_argument("--weights", type="path", help=WEIGHTS_HELP)
    parser.add_argument(
        "--scale",
        type=float,
        help="any positive number, by default the weights' own: the network's scale, then bicubic to the exact size",
    )
    add_flags(parser, default="auto")
    parser.add_argument("--format", choices=FORMATS, default="png", help="of the files where --output names none (png)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    flags = parser.parse_args()
    if flags.scale is not None and not 0 < flags.scale <= _LARGEST_SCALE:
        parser.error(f"--scale: found {flags.scale:g}, expected a positive number of at most {_LARGEST_SCALE}")
    flags.input = [epath.Path(text) for text in flags.input]
    if flags.output is not None:
        if flags.output == "-" or flags.output.rpartition("/")[2].lower() in WRITTEN_SUFFIXES:
            parser.error(f"--output: found {flags.output}, expected a file with a name, or a folder")
        flags.output = Output(epath.Path(flags.output), is_folder=flags.output.endswith("/"))
    flags.options = read_flags(flags)
    return flags


def main() -> None:
    """Enlarge what the flags name."""
    flags = parse_flags()
    for path in flags.input:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder, expected a picture or a folder of pictures")
    model, name = load_for_scale(flags.weights, flags.scale)
    scale = scale_of(model) if flags.scale is None else flags.scale
    jobs, passed_over = list_jobs(flags.input, flags.output, f"{scale:g}", flags.format)
    if passed_over:
        more = f" and {len(passed_over) - _LISTED} more" if len(passed_over) > _LISTED else ""
        command.say(f"passed over, being of no kind that is read: {', '.join(map(str, passed_over[:_LISTED]))}{more}")
    options, programs = flags.options.with_limit(), Programs()
    if (devices := machine.describe_devices()) and not isinstance(model, Bicubic):
        command.say(f"on {devices}")
    if len(jobs) == 1 and not any(path.is_dir() for path in flags.input):
        (job,) = jobs
        if job.target.exists() and not flags.overwrite:
            raise InputError(f"--output: {job.target} is there already, expected a new name or --overwrite")
        upscale_file(model, job, flags.scale, options, programs)
        command.say(f"{job.source} -> {job.target} ({name})")
        return
    upscale_all(model, jobs, flags, options, programs)


def upscale_all(
    model: nnx.Module, jobs: list[Job], flags: argparse.Namespace, options: Options, programs: Programs
) -> None:
    """Enlarge many pictures, on all devices at once; those already there are passed over, broken ones listed at the
    end."""
    broken: dict[int, str] = {}
    there = 0
    with tqdm(total=len(jobs), unit="picture") as bar:

        def requests() -> Iterator[Request]:
            nonlocal there
            for number, job in enumerate(jobs):
                if job.target.exists() and not flags.overwrite:
                    there += 1
                    bar.update()
                    continue
                try:
                    photo, plan = prepare(model, job, flags.scale, options, programs)
                except BrokenPipeError:  # of what is said: no picture's fault
                    raise
                except (InputError, OSError) as error:
                    broken[number] = str(error)
                    bar.update()
                    continue
                yield Request(photo.pixels, plan, (number, photo, plan))

        for (number, photo, plan), parts in enlarge_each(
            model, requests(), flags.scale, programs, options.memory_limit
        ):
            bar.set_postfix_str(command.printable(jobs[number].source.name))
            try:
                finish(jobs[number], photo, plan, parts)
            except BrokenPipeError:
                raise
            except (InputError, OSError) as error:
                broken[number] = str(error)
            bar.update()
    where = "beside their originals" if flags.output is None and len(flags.input) > 1 else f"to {_root(flags, jobs)}"
    kept = f", {there} kept that were there already (--overwrite replaces them)" if there else ""
    command.say(f"{len(jobs) - there - len(broken)} of {len(jobs)} pictures written {where}{kept}")
    if broken:
        listed = "; ".join(broken[number] for number in sorted(broken))
        raise InputError(f"{len(broken)} of {len(jobs)} pictures failed: {listed}")


def upscale_file(model: nnx.Module, job: Job, scale: float | None, options: Options, programs: Programs) -> None:
    """Enlarge one picture, and say before it is run what the user should know of how."""
    photo, plan = prepare(model, job, scale, options, programs)
    finish(job, photo, plan, enlarge(model, photo.pixels, scale, plan, programs))


def prepare(
    model: nnx.Module, job: Job, scale: float | None, options: Options, programs: Programs
) -> tuple[Photo, Plan]:
    """Read a picture and plan how it is run, and say what the user should know of it."""
    photo = read_photo(job.source)
    # Before minutes are spent on what cannot be written.
    size = final_size(model, photo.pixels, scale)
    if photo.pixels.dtype == np.uint16 and job.target.suffix.lower() not in DEEP_SUFFIXES:
        notes = (*photo.notes, f"16 bits a channel reduced to 8, which {job.target.suffix} holds")
        photo = dataclasses.replace(photo, pixels=to_8_bits(photo.pixels), notes=notes)
    check_suffix(job.target, (*size, *photo.pixels.shape[2:]), photo.pixels.itemsize)
    with naming(job.source):
        check_memory(model, photo.pixels, scale, options, job.target.suffix)
        plan = plan_enlarging(model, photo.pixels, scale, options, programs)
    prepare_output_dir(job.target.parent, "--output")
    if notes := (*photo.notes, *plan.notes):
        command.say(f"{job.source}: {'; '.join(notes)}")
    return photo, plan


def finish(job: Job, photo: Photo, plan: Plan, parts: Iterator[AnyPicture]) -> None:
    """Run a picture, with a bar of its parts, and write it."""
    # Shown at once where it is known to take long, else after a while; and only to someone who looks.
    takes = f", about {plan.duration}" if plan.duration else ""
    delay = 0 if plan.seconds is not None and plan.seconds >= _SHOWN_SECONDS else _SHOWN_SECONDS
    with naming(job.source):
        bar = tqdm(
            parts,
            command.printable(job.source.name) + takes,
            plan.parts,
            unit="part",
            leave=False,
            delay=delay,
            disable=None,
        )
        (enlarged,) = collections.deque(bar, maxlen=1)
    write_image(job.target, enlarged, icc_profile=photo.icc_profile)


def _root(flags: argparse.Namespace, jobs: list[Job]) -> epath.Path:
    if flags.output is not None:
        path: epath.Path = flags.output.path
        return path
    below = jobs[0].source.relative_to(flags.input[0])  # a single folder
    return jobs[0].target.parents[len(below.parts) - 1]


def run() -> None:
    """Run the command, as `msnlan-upscale` does."""
    command.run(main)


if __name__ == "__main__":
    run()
