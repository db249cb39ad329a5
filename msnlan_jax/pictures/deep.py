"""Pictures of more than 8 bits a channel, as PNG and TIFF: Pillow reduces their colours to 8, or mistakes them."""

import dataclasses
import io
import itertools
import re
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from jaxtyping import UInt16

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import chunks

_MAX = 65535
# Pages that are looked at: a damaged file of a thousand bytes may hold hundreds of thousands, one over the other.
_MOST_PAGES = 100
# A colour PPM's header: width, height, the largest value; comments run to the end of their line.
_PPM = re.compile(rb"P[36](?:(?:\s|#[^\n]*\n)+(\d+)){3}")
DeepPicture = UInt16[np.ndarray, "_h _w *_channels"]


@dataclasses.dataclass(frozen=True)
class DeepTIFF:
    """What a TIFF file of 9 to 16 bits a channel holds.

    Attributes:
        pixels: uint16 0..65535, `[H,W]` gray, or `[H,W,C]`: gray + alpha, RGB, RGB + alpha, or the four inks.
        has_inks: whether its colours are CMYK.
        orientation: as in EXIF.
        icc_profile: the colour profile, if there is one.
    """

    pixels: DeepPicture
    has_inks: bool
    orientation: Any
    icc_profile: bytes | None


def stored_bits(data: bytes, form: str | None) -> int:
    """Return the bits a channel of a file whose colours Pillow reads in 8; 8 where its format has no more."""
    if form == "PPM" and (header := _PPM.match(data)):
        return int(header[1]).bit_length()
    if form == "JPEG2000" and (at := data.find(b"\xff\x4f\xff\x51")) >= 0:  # the codestream, which sizes follow
        return (data[at + 42] & 0x7F) + 1
    if form == "AVIF" and (at := data.find(b"av1C")) >= 0:  # two flags in the third byte
        return {0x40: 10, 0x60: 12}.get(data[at + 6] & 0x60, 8)
    return 8


def read_png(data: bytes) -> DeepPicture:
    """Return the pixels of a PNG file of 16 bits a channel, a transparent colour as alpha; imagecodecs raises."""
    pixels: DeepPicture = imagecodecs.png_decode(data)
    return pixels


def write_png(pixels: DeepPicture, icc_profile: bytes | None) -> bytes:
    """Return a PNG file of 16 bits a channel."""
    data = bytes(imagecodecs.png_encode(pixels, level=3))
    return data if icc_profile is None else chunks.with_profile(data, icc_profile)


def write_tiff(pixels: DeepPicture, icc_profile: bytes | None) -> bytes:
    """Return a TIFF file of 16 bits a channel."""
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


def read_tiff(data: bytes, max_pixels: int) -> DeepTIFF | None:
    """Read a TIFF file if it has 9 to 16 bits a channel; else, and where tifffile does not know the file, return None.

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
    if not isinstance(page, tifffile.TiffPage) or max(bits) <= 8:
        return None
    with file:
        # Smaller versions of the picture, for a preview, are pages too.
        pages = itertools.islice(file.pages, _MOST_PAGES)
        if (count := sum(not isinstance(p, tifffile.TiffPage) or not p.subfiletype & 1 for p in pages)) > 1:
            raise InputError(f"found {count} pages, expected a single picture")
        if len(bits) > 1 or max(bits) > 16 or page.sampleformat != tifffile.SAMPLEFORMAT.UINT:
            raise InputError("found pixels of 32 bits, or signed ones, whose range is unknown, expected 8 or 16 bits")
        if page.imagewidth * page.imagelength > max_pixels:
            raise ValueError(f"found more than {max_pixels:,} pixels")
        chunks.check_claim(page.imagewidth, page.imagelength, data, page.compression)
        pixels = _by_channels(page)
        if (most := 2 ** bits.pop() - 1) < _MAX:
            pixels = ((pixels.astype(np.uint32) * _MAX + most // 2) // most).astype(np.uint16)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            pixels[..., :1] = _MAX - pixels[..., :1]
        has_inks = page.photometric == tifffile.PHOTOMETRIC.SEPARATED
        tag = page.tags.get("Orientation")
        return DeepTIFF(
            _with_alpha_apart(pixels, page, 4 if has_inks else 3 if _is_rgb(page) else 1),
            has_inks,
            tag.value if tag else 1,
            page.iccprofile,
        )


def _is_rgb(page: tifffile.TiffPage) -> bool:
    return page.photometric == tifffile.PHOTOMETRIC.RGB


def _by_channels(page: tifffile.TiffPage) -> DeepPicture:
    """Return a page's values as `[H,W,C]`."""
    grays = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK)
    if not _is_rgb(page) and page.photometric not in (*grays, tifffile.PHOTOMETRIC.SEPARATED):
        name = getattr(page.photometric, "name", page.photometric)
        raise InputError(f"found colours of kind {name} in more than 8 bits, expected gray, RGB or CMYK")
    values = page.asarray()
    is_known = page.axes in ("YX", "YXS", "SYX") and values.ndim == len(page.axes) and 0 not in values.shape
    if not is_known or values.dtype != np.uint16:
        found = f"{values.dtype} {values.shape} along the axes {page.axes}"
        raise ValueError(f"found {found}, expected rows, columns and channels")
    values = np.moveaxis(values, 0, -1) if page.axes == "SYX" else values
    return np.array(values[:, :, None] if page.axes == "YX" else values)


def _with_alpha_apart(pixels: DeepPicture, page: tifffile.TiffPage, n_colours: int) -> DeepPicture:
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
        alpha = pixels[:, :, -1:].astype(np.uint32)
        plain = (pixels[:, :, :-1].astype(np.uint32) * _MAX + alpha // 2) // np.maximum(alpha, 1)
        pixels[:, :, :-1] = np.minimum(plain, _MAX)
    return pixels
