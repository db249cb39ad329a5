"""PNG of any kind: what a picture is made of, apart from what its file says besides, and its pixels."""

import dataclasses
import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
from jaxtyping import UInt16
from PIL import Image

from msnlan_jax.pictures.depth import AnyPicture

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What pixels are made of: colours, and which of them are transparent.
_ESSENTIAL = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# The kind of pixels that are numbers of colours, in the header.
_PALETTE = 3
# Texts by which the orientation may be told besides EXIF.
_ORIENTATIONS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
# Pillow refuses files with longer ones.
_MAX_TEXT = 2**20
# A profile of a printer's inks takes megabytes; what claims more is no profile.
_MAX_PROFILE = 2**26
# No byte of deflate stands for more, and none of TIFF's other compressions but those not named here.
_MOST_EXPANSION = 1032
_BOUNDED = (1, 5, 8, 32773, 32946)  # none, LZW, deflate, run lengths, deflate


@dataclasses.dataclass(frozen=True)
class Essentials:
    """What is left of a PNG file without whatever may be damaged in it and does its pixels no harm.

    Attributes:
        data: a PNG file of the same pixels, with what says their orientation before them.
        icc_profile: the colour profile, if there is a whole one.
        n_frames: how many pictures there are, in an animation.
        has_palette: whether pixels are numbers of colours.
    """

    data: bytes
    icc_profile: bytes | None
    n_frames: int
    has_palette: bool


def is_png(data: bytes) -> bool:
    """Whether a file's content begins as PNG's does."""
    return data.startswith(_SIGNATURE)


def essentials(data: bytes) -> Essentials:
    """Take from a PNG file what its pixels are made of, its colour profile and its orientation.

    Raises:
        ValueError: when it has no header.
    """
    kept: list[bytes] = []
    turned: list[bytes] = []
    profile, animated, is_frame = None, 0, False
    for kind, whole in _chunks(data):
        content = whole[8:-4]
        if kind in _ESSENTIAL:  # whose checksums the decoder compares
            kept.append(whole)
        elif not _is_intact(whole):
            continue
        elif kind == b"iCCP":
            profile = _inflate(content.partition(b"\0")[2][1:], _MAX_PROFILE)
        elif kind == b"acTL" and len(content) == 8:
            animated = int.from_bytes(content[:4], "big")
        elif kind == b"fcTL" and kept and kept[-1][4:8] != b"IDAT":  # else the picture stands in for one that follows
            is_frame = True
        elif _says_orientation(kind, content):
            turned.append(whole)
    header = kept[0][8:-4] if kept and kept[0][4:8] == b"IHDR" else b""
    if len(header) != 13:
        raise ValueError("found no header")
    n_frames = animated + (not is_frame) if animated else 1
    return Essentials(b"".join((_SIGNATURE, kept[0], *turned, *kept[1:])), profile, n_frames, header[9] == _PALETTE)


def read(png: Essentials) -> AnyPicture:
    """Return a file's pixels: 8 bits a channel or, where it has them, 16; a transparent colour as alpha, and a palette
    of grays as gray. imagecodecs raises."""
    pixels: AnyPicture = imagecodecs.png_decode(png.data)
    if png.has_palette and pixels.shape[2:] == (3,) and (pixels[:, :, :1] == pixels[:, :, 1:]).all():
        return np.ascontiguousarray(pixels[:, :, 0])
    return pixels


def write_deep(pixels: UInt16[np.ndarray, "_h _w *_channels"], icc_profile: bytes | None) -> bytes:
    """Return a file of 16 bits a channel."""
    data = bytes(imagecodecs.png_encode(pixels, level=3))
    return data if icc_profile is None else _with_profile(data, icc_profile)


def check_claim(width: int | float, height: int | float, data: bytes, compression: object = 8) -> None:
    """Refuse a picture of more pixels than its bytes can hold, of a bit each, before they are made.

    Args:
        width: as the file says.
        height: likewise.
        data: the file's content.
        compression: by TIFF's number; of those that have no bound nothing is refused.

    Raises:
        ValueError: saying how many bytes there are.
    """
    if width % 1 or height % 1:
        raise ValueError(f"found {width}×{height} pixels, expected whole numbers")
    if compression in _BOUNDED and width * height > 8 * _MOST_EXPANSION * len(data):
        raise ValueError(f"found {len(data):,} bytes, too few for {width}×{height} pixels")


def _with_profile(data: bytes, icc_profile: bytes) -> bytes:
    """Return a PNG file with a colour profile put behind its header."""
    content = b"ICC Profile\0\0" + zlib.compress(icc_profile)
    chunk = struct.pack(">I", len(content)) + b"iCCP" + content + struct.pack(">I", zlib.crc32(b"iCCP" + content))
    end = len(_SIGNATURE) + 12 + 13
    return data[:end] + chunk + data[end:]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk's kind and all of it: length, kind, content and checksum."""
    place = len(_SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        whole = data[place : place + 12 + length]
        yield kind, whole
        if kind == b"IEND":  # what follows is of no picture
            return
        place += len(whole)


def _is_intact(chunk: bytes) -> bool:
    return chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))


def _inflate(compressed: bytes, most: int) -> bytes | None:
    """Return what was compressed; None when it is damaged, or longer."""
    decompressor = zlib.decompressobj()
    try:
        found = decompressor.decompress(compressed, most)
    except zlib.error:
        return None
    return found if decompressor.eof else None


def _says_orientation(kind: bytes, content: bytes) -> bool:
    """Whether a chunk may say how the picture is turned, and Pillow can read it."""
    if kind == b"eXIf":
        return _is_exif(content)
    if not content.startswith(_ORIENTATIONS):
        return False
    text = content.partition(b"\0")[2]
    if kind == b"zTXt":
        return _inflate(text[1:], _MAX_TEXT - 1) is not None
    is_plain = kind == b"tEXt" or (kind == b"iTXt" and text[:1] == b"\0" and text.count(b"\0") >= 4)
    return is_plain and len(content) < _MAX_TEXT


def _is_exif(content: bytes) -> bool:
    try:
        Image.Exif().load(content)
    except Exception:  # whatever its parser meets
        return False
    return True
