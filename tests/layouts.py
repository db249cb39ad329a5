"""Layouts of data sets that other projects use; `python -m tests.layouts [FOLDER]` prints what each scores.

The LR pictures that are laid down are every fourth pixel, not bicubic ones, so that it shows which were taken: the
table's second column of numbers is what making them anew would give. FOLDER holds the HR pictures, by default a
built-in photo.
"""

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data import folders, photos
from msnlan_jax.pictures import Pair, describe_lr, imresize, list_images, read_rgb, write_image
from msnlan_jax.scoring import Protocol, evaluate, mean_scores

SCALE = 4


class Layout(NamedTuple):
    """Where the HR and the LR picture called {} are, and of which folders a user may give any."""

    hr: str
    lr: str
    given: tuple[str, ...] = (".",)


LAYOUTS = {
    "EDSR": Layout("HR/{}.png", "LR_bicubic/X4/{}x4.png", (".", "HR")),
    "EDSR, lower case": Layout("hr/{}.png", "lr_bicubic/x4/{}x4.png", (".", "hr")),
    "EDSR, flat": Layout("HR/{}.png", "LR_bicubic/{}x4.png", (".", "HR")),
    "EDSR, underscore": Layout("HR/{}.png", "LR_bicubic/X4/{}_x4.png"),
    "unknown": Layout("HR/{}.png", "LR_unknown/X4/{}x4.png"),
    "HR, LR": Layout("HR/{}.png", "LR/{}.png", (".", "HR")),
    "HR, LRx4": Layout("HR/{}.png", "LRx4/{}.png"),
    "HR, LR/x4": Layout("HR/{}.png", "LR/x4/{}.png"),
    "HR_LR endings": Layout("HR/{}_HR.png", "LR/{}_LR.png"),
    "LSDIR": Layout("HR/{}.png", "X4/{}x4.png"),
    "BasicSR": Layout("gt/{}.png", "lq/{}.png", (".", "gt")),
    "BasicSR, upper case": Layout("GT/{}.png", "LQ/{}.png", (".", "GT")),
    "BasicSR, parts": Layout("GT_sub/{}_s001.png", "LQ_sub/{}_s001.png"),
    "BasicSR's sets": Layout("GTmod12/{}.png", "LRbicx4/{}.png"),
    "BasicSR's sets, long names": Layout("GTmod12/{}.png", "LRbicx4/{}x4.png"),
    "the authors'": Layout("GTmod12/{}.png", "LRbicx4/x4/{}x4.png"),
    "GTmod4": Layout("GTmod4/{}.png", "LRbicx4/{}.png"),
    "original": Layout("original/{}.png", "LRbicx4/{}.png"),
    "target, input": Layout("target/{}.png", "input/{}.png", (".", "target")),
    "crops": Layout("target_crops/{}.png", "input_crops/{}.png"),
    "DIV2K": Layout("DIV2K_valid_HR/{}.png", "DIV2K_valid_LR_bicubic/X4/{}x4.png", (".", "DIV2K_valid_HR")),
    "DIV2K, lower case": Layout("DIV2K_valid_HR/{}.png", "DIV2K_valid_LR_bicubic/x4/{}x4.png"),
    "DIV2K, unknown": Layout("DIV2K_valid_HR/{}.png", "DIV2K_valid_LR_unknown/X4/{}x4.png"),
    "DIV2K, mild": Layout("DIV2K_valid_HR/{}.png", "DIV2K_valid_LR_mild/{}x4m.png"),
    "DIV2K, difficult": Layout("DIV2K_valid_HR/{}.png", "DIV2K_valid_LR_difficult/{}x4d.png"),
    "DIV2K, wild": Layout("DIV2K_valid_HR/{}.png", "DIV2K_valid_LR_wild/{}x4w.png"),
    "Flickr2K": Layout("Flickr2K_HR/{}.png", "Flickr2K_LR_bicubic/X4/{}x4.png"),
    "RealSR": Layout("Test/4/{}_HR.png", "Test/4/{}_LR4.png", (".", "Test", "Test/4")),
    "RealSR, sorted": Layout("test/x4/HR/{}.png", "test/x4/LR/{}.png", (".", "test", "test/x4", "test/x4/HR")),
    "DRealSR": Layout("Test_x4/test_HR/{}_x4.png", "Test_x4/test_LR/{}_x1.png", (".", "Test_x4", "Test_x4/test_HR")),
    "SelfExSR": Layout("image_SRF_4/{}_SRF_4_HR.png", "image_SRF_4/{}_SRF_4_LR.png", (".", "image_SRF_4")),
    "SelfExSR, flat": Layout("{}_SRF_4_HR.png", "{}_SRF_4_LR.png"),
    "SelfExSR, parted": Layout("image_SRF_4_HR/{}.png", "image_SRF_4_LR/{}.png"),
    "RCAN": Layout("{}_HR_x4.png", "{}_LRBI_x4.png"),
    "RCAN, parted": Layout("HR/x4/{}_HR_x4.png", "LR/LRBI/x4/{}_LRBI_x4.png"),
    "beside, _LR": Layout("{}.png", "{}_LR.png"),
    "beside, x4": Layout("{}.png", "{}_x4.png"),
    "below": Layout("{}.png", "LR/{}.png"),
}


def shrink(hr: np.ndarray) -> np.ndarray:
    """Return the LR picture that is laid down."""
    return hr[::SCALE, ::SCALE]


def lay_out(folder: Path, layout: Layout, pictures: dict[str, np.ndarray]) -> None:
    """Write pictures, of sides that are multiples of 4, and their LR versions in a layout."""
    for name, hr in pictures.items():
        write_image(folder / layout.hr.format(name), hr)
        write_image(folder / layout.lr.format(name), shrink(hr))


def psnr(pairs: list[Pair]) -> float:
    """Return the PSNR of bicubic up-sampling."""
    scored = evaluate(lambda lr: imresize(lr, float(SCALE)), pairs, Protocol(SCALE))
    return mean_scores(picture.sr.scores for picture in scored).psnr


def main() -> None:
    """Print the table."""
    given = sys.argv[1:]
    files = list_images(given[0]) if given else [pair.hr for pair in photos.held_out_pairs()]
    sides = {path.stem: read_rgb(path) for path in files}
    pictures = {name: hr[: hr.shape[0] // SCALE * SCALE, : hr.shape[1] // SCALE * SCALE] for name, hr in sides.items()}
    print("| layout | HR | LR | given | LR in results.json | PSNR (dB), as laid down | made anew |")
    print("|---|---|---|---|---|---:|---:|")
    for name, layout in LAYOUTS.items():
        with tempfile.TemporaryDirectory() as root:
            lay_out(Path(root) / "Set", layout, pictures)
            for given_folder in layout.given:
                found = folders.find_datasets(Path(root) / "Set" / given_folder, [], SCALE)
                (pairs,) = found.values()
                made = psnr([Pair(pair.name, pair.hr) for pair in pairs])
                places = f"`{layout.hr.format('a')}` | `{layout.lr.format('a')}` | `{given_folder}`"
                print(f"| {name} | {places} | {describe_lr(found)} | {psnr(pairs):.3f} | {made:.3f} |", flush=True)


if __name__ == "__main__":
    main()
