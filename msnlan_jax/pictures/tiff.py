"""TIFF of grays, RGB and inks in 8 to 16 bits a channel, which Pillow reduces, mistakes, or does not know."""

import dataclasses
import io
import itertools
from typing import Any

import numpy as np
import tifffile
from jaxtyping import UInt16

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import png
from msnlan_jax.pictures.depth import AnyPicture

# Pages that are looked at: a damaged file of a thousand bytes may hold hundreds of thousands, one over the other.
_MOST_PAGES = 100
_GRAYS = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK)
_COLOURS = (*_GRAYS, tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.SEPARATED)
# Whose colours libtiff converts.
_JPEG = (tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG)


@dataclasses.dataclass(frozen=True)
class TIFF:
    """What a TIFF file holds.

    Attributes:
        pixels: uint8 0..255, or uint16 0..65535 where it has more bits: `[H,W]` gray, or `[H,W,C]`: gray + alpha, RGB,
            RGB + alpha, or the four inks.
        has_inks: whether its colours are CMYK.
        orientation: as in EXIF.
        icc_profile: the colour profile, if there is one.
    """

    pixels: AnyPicture
    has_inks: bool
    orientation: Any
    icc_profile: bytes | None


def write_deep(pixels: UInt16[np.ndarray, "_h _w *_channels"], icc_profile: bytes | None) -> bytes:
    """Return a file of 16 bits a channel."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        pixels,
        photometric="rgb" if channels >= 3 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        iccprofile=icc_profile,
        metadata=None,
    )
    return buffer.getvalue()


def is_tiff(data: bytes) -> bool:
    """Whether a file's content begins as TIFF's or BigTIFF's does."""
    return data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))


def read(data: bytes, max_pixels: int) -> TIFF | None:
    """Read a TIFF file if it has grays, RGB or inks in 8 to 16 bits a channel; where it has less, or colours of another
    kind, and where tifffile does not know the file, return None: those are for Pillow.

    Args:
        data: the file's content.
        max_pixels: refuse to make more.

    Raises:
        InputError: when it has several pages, or pixels whose meaning is unknown.
        Exception: whatever tifffile and its decoders meet.
    """
    try:
        file = tifffile.TiffFile(io.BytesIO(data))
        page = file.pages.first
        bits = {*np.atleast_1d(page.bitspersample).tolist()}
    except Exception:  # what else may be in a TIFF file is for Pillow to know
        return None
    with file:
        _check_pages(file, page)
        if (len(bits) > 1 and max(bits) > 8) or max(bits) > 16 or page.sampleformat != tifffile.SAMPLEFORMAT.UINT:
            raise InputError("found pixels of 32 bits, or signed ones, whose range is unknown, expected 8 or 16 bits")
        if page.photometric not in _COLOURS and max(bits) > 8:
            name = getattr(page.photometric, "name", page.photometric)
            raise InputError(f"found colours of kind {name} in more than 8 bits, expected gray, RGB or CMYK")
        if page.photometric not in _COLOURS or max(bits) < 8 or (max(bits) == 8 and page.compression in _JPEG):
            return None
        if page.imagewidth * page.imagelength > max_pixels:
            raise ValueError(f"found more than {max_pixels:,} pixels")
        png.check_claim(page.imagewidth, page.imagelength, data, page.compression)
        if 0 in page.dataoffsets or 0 in page.databytecounts:  # they would be black
            raise ValueError("found parts without any data")
        pixels = _scaled(_by_channels(page), bits.pop())
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            pixels[..., :1] = np.iinfo(pixels.dtype).max - pixels[..., :1]
        has_inks = page.photometric == tifffile.PHOTOMETRIC.SEPARATED
        n_colours = 4 if has_inks else 1 if page.photometric in _GRAYS else 3
        tag = page.tags.get("Orientation")
        return TIFF(_with_alpha_apart(pixels, page, n_colours), has_inks, tag.value if tag else 1, page.iccprofile)


def _check_pages(file: tifffile.TiffFile, first: tifffile.TiffPage) -> None:
    """Refuse documents of several pages; smaller versions of the picture, for a preview, are pages too."""
    pages = list(itertools.islice(file.pages, _MOST_PAGES))
    if first.subfiletype & 1 and (len(pages) > 1 or "SubIFDs" in first.tags):
        raise InputError("found a preview before the picture, as in cameras' raw files, expected a developed picture")
    if (count := sum(not isinstance(p, tifffile.TiffPage) or not p.subfiletype & 1 for p in pages)) > 1:
        raise InputError(f"found {count} pages, expected a single picture")


def _scaled(pixels: AnyPicture, bits: int) -> AnyPicture:
    """Return values of so many bits as those of 8 or 16."""
    most, wanted = 2**bits - 1, int(np.iinfo(pixels.dtype).max)
    if most == wanted:
        return pixels
    return np.asarray((pixels.astype(np.uint32) * wanted + most // 2) // most, pixels.dtype)


def _by_channels(page: tifffile.TiffPage) -> AnyPicture:
    """Return a page's values as `[H,W,C]`."""
    values = page.asarray()
    is_known = page.axes in ("YX", "YXS", "SYX") and values.ndim == len(page.axes) and 0 not in values.shape
    if not is_known or values.dtype not in (np.uint8, np.uint16):
        found = f"{values.dtype} {values.shape} along the axes {page.axes}"
        raise ValueError(f"found {found}, expected rows, columns and channels")
    values = np.moveaxis(values, 0, -1) if page.axes == "SYX" else values
    pixels: AnyPicture = np.array(values[:, :, None] if page.axes == "YX" else values)
    return pixels


def _with_alpha_apart(pixels: AnyPicture, page: tifffile.TiffPage, n_colours: int) -> AnyPicture:
    """Return `[H,W]` for gray, else `[H,W,C]`, without what is neither colour nor alpha, and with colours that are not
    multiplied by alpha."""
    if pixels.shape[2] < n_colours:
        raise ValueError(f"found {pixels.shape[2]} channels, expected at least {n_colours}")
    extra = page.extrasamples[0] if page.extrasamples else None
    alphas = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
    if n_colours == 4 or extra not in alphas or pixels.shape[2] == n_colours:
        colours = pixels[:, :, :n_colours]
        return colours[:, :, 0] if n_colours == 1 else colours
    pixels = pixels[:, :, : n_colours + 1]
    if extra == tifffile.EXTRASAMPLE.ASSOCALPHA:
        most, alpha = int(np.iinfo(pixels.dtype).max), pixels[:, :, -1:].astype(np.uint32)
        plain = (pixels[:, :, :-1].astype(np.uint32) * most + alpha // 2) // np.maximum(alpha, 1)
        pixels[:, :, :-1] = np.minimum(plain, most)
    return pixels
