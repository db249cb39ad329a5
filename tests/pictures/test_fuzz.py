"""Damaged pictures by the thousand: each is read, or refused in a line."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from msnlan_jax.pictures.images import read_photo, write_image
from tests import damage, fuzz
from tests.samples import noise

DEEP = noise(0, 12, 10, 3).astype(np.uint16) * 257
EXIF = Image.Exif()
EXIF[0x0112] = 6


def saved(picture, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def written(tmp_path, name, picture):
    write_image(tmp_path / name, picture)
    return (tmp_path / name).read_bytes()


def tiff(picture, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture, metadata=None, **options)
    return buffer.getvalue()


@pytest.fixture
def samples(tmp_path):
    rgb, rgba = noise(0, 12, 10, 3), noise(1, 12, 10, 4)
    return {
        "png": [
            saved(rgb, "PNG", exif=EXIF, icc_profile=bytes(200)),
            saved(rgba, "PNG"),
            saved(rgb[:, :, 0], "PNG", transparency=3),
            written(tmp_path, "deep.png", DEEP),
        ],
        "tif": [
            saved(rgb, "TIFF", exif=EXIF),
            saved(rgba, "TIFF", compression="tiff_lzw"),
            tiff(DEEP, photometric="rgb"),
            tiff(np.moveaxis(DEEP, 2, 0), photometric="rgb", planarconfig="separate", compression="zlib"),
            tiff(DEEP[:, :, 0], photometric="miniswhite", bigtiff=True),
        ],
        "others": [
            saved(rgb, "JPEG", exif=EXIF),
            saved(rgb[:, :, 0], "JPEG", progressive=True),
            saved(rgba, "WEBP"),
            saved(rgb, "BMP"),
            saved(rgb, "GIF"),
            saved(rgb, "PPM"),
            saved(rgb, "TGA"),
            saved(rgb, "JPEG2000"),
            saved(rgb, "AVIF"),
        ],
    }


@pytest.mark.parametrize("kind", ["png", "tif", "others"])
def test_pictures(tmp_path, samples, kind, fuzz_count):
    ways = (*damage.BYTES, damage.in_png_chunk(damage.overwrite_number)) if kind == "png" else damage.BYTES
    inputs = damage.damaged(samples[kind], ways, fuzz_count(60))
    assert fuzz.try_each(inputs, tmp_path / "a", read_photo).faults == []
