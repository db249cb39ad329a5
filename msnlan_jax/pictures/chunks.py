"""PNG's chunks: what a picture is made of, apart from what its file says besides."""

import dataclasses
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What pixels are made of: colours, which of them are transparent, and whether there are several pictures.
_ESSENTIAL = (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"IDAT", b"IEND")
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
        data: a PNG file of the same pixels.
        icc_profile: the colour profile, if there is a whole one.
        depth: bits a channel.
    """

    data: bytes
    icc_profile: bytes | None
    depth: int


def is_png(data: bytes) -> bool:
    """Whether a file's content begins as PNG's does."""
    return data.startswith(_SIGNATURE)


def essentials(data: bytes) -> Essentials:
    """Take from a PNG file what its pixels are made of, its colour profile and its orientation.

    Raises:
        ValueError: when it has no header.
    """
    kept, profile, header = [_SIGNATURE], None, b""
    for kind, whole in _chunks(data):
        if kind in _ESSENTIAL:  # whose checksums the decoder compares
            kept.append(whole)
            header = whole[8:-4] if kind == b"IHDR" else header
        elif _is_intact(whole):
            content = whole[8:-4]
            if kind == b"iCCP":
                profile = _inflate(content.partition(b"\0")[2][1:], _MAX_PROFILE)
            elif _says_orientation(kind, content):
                kept.append(whole)
    if len(header) != 13:
        raise ValueError("found no header")
    return Essentials(b"".join(kept), profile, header[8])


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


def with_profile(data: bytes, icc_profile: bytes) -> bytes:
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
