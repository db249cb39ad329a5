"""Bits a channel of files that Pillow reads: how many they have, and JPEG 2000 of more or less than 8."""

import re

import imagecodecs
import numpy as np
from jaxtyping import UInt8, UInt16

# Of 8 bits a channel, 0..255, or of 16, 0..65535. Underscores: two pictures in one signature may differ in size.
AnyPicture = UInt8[np.ndarray, "_h _w *_channels"] | UInt16[np.ndarray, "_h _w *_channels"]
# A colour PPM's header: width, height, the largest value; comments run to the end of their line.
_PPM = re.compile(rb"P[36](?:(?:\s|#[^\n]*\n)+(\d+)){3}")
# A JPEG 2000's codestream, which sizes follow.
_CODESTREAM = b"\xff\x4f\xff\x51"


def stored_bits(data: bytes, form: str | None) -> int:
    """Return the bits a channel of a file whose colours Pillow reads in 8; 8 where its format has no more."""
    if form == "PPM" and (header := _PPM.match(data)):
        return int(header[1]).bit_length()
    if form == "JPEG2000" and (at := data.find(_CODESTREAM)) >= 0:
        return (data[at + 42] & 0x7F) + 1
    if form == "AVIF" and (at := data.find(b"av1C")) >= 0:  # two flags in the third byte
        return {0x40: 10, 0x60: 12}.get(data[at + 6] & 0x60, 8)
    if form == "SGI":
        return 8 * data[3]
    return 8


def read_jpeg2000(data: bytes, bits: int) -> AnyPicture:
    """Return the pixels of a JPEG 2000 file of so many bits a channel, as 0..255, or 0..65535 where it has more than 8.

    Pillow shifts them, and white turns gray, or black. imagecodecs raises.
    """
    values = imagecodecs.jpeg2k_decode(data)
    levels = values.astype(np.int64) + (2 ** (bits - 1) if values.dtype.kind == "i" else 0)
    wanted, most = (np.uint8, 255) if bits <= 8 else (np.uint16, 65535)
    scaled = (levels * most + (2**bits - 1) // 2) // (2**bits - 1)
    return np.asarray(scaled, wanted)
