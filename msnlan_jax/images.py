"""Pictures as uint8 arrays: reading, writing, and conversion to the network's RGB."""

import io

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image, ImageOps

from msnlan_jax import files
from msnlan_jax.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
# Underscores: two pictures in one signature may differ in size.
Picture = UInt8[np.ndarray, "_h _w *_channels"]
RGBPicture = UInt8[np.ndarray, "_h _w 3"]


def read_image(path: epath.PathLike) -> Picture:
    """Read a picture of any kind Pillow knows, turned as its EXIF orientation says.

    Returns:
        uint8 0..255, `[H,W]` gray, `[H,W,2]` gray + alpha, `[H,W,3]` RGB or `[H,W,4]` RGB + alpha. 16-bit gray is
        scaled to 8 bits, palettes and other colour spaces are converted to RGB.

    Raises:
        FileNotFoundError: when there is no such file.
        InputError: when it is not a whole, readable picture.
    """
    data = files.read_bytes(path, "picture")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return _to_array(ImageOps.exif_transpose(opened))
    except Exception as error:  # Pillow's decoders raise whatever their format's parser does
        reason = "not a picture in a known format" if isinstance(error, Image.UnidentifiedImageError) else error
        raise InputError(f"{path}: broken or unreadable picture: {reason}") from None


def read_rgb(path: epath.PathLike) -> RGBPicture:
    """Read a picture as `[H,W,3]` uint8 RGB: gray is repeated, alpha dropped. Raises as `read_image`."""
    return to_rgb(read_image(path))


def to_rgb(image: Picture) -> RGBPicture:
    """Return the colours of a gray, gray + alpha, RGB or RGB + alpha picture as RGB."""
    if image.ndim == 2:
        image = image[:, :, None]
    colours = image[:, :, : 1 if image.shape[2] <= 2 else 3]
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))


def write_image(path: epath.PathLike, image: Picture) -> None:
    """Write a uint8 picture, whole or not at all, in the format its suffix names.

    Raises:
        InputError: when the suffix names no format, the format lacks alpha, or the file cannot be written.
    """
    path = epath.Path(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"{path}: found suffix {path.suffix!r}, expected one of {', '.join(IMAGE_SUFFIXES)}")
    if image.ndim == 3 and image.shape[2] in (2, 4) and path.suffix.lower() in (".bmp", ".jpg", ".jpeg"):
        raise InputError(f"{path}: found a picture with alpha, expected a format that can hold it, such as .png")
    buffer = io.BytesIO()
    options = {"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}
    squeezed = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    try:
        Image.fromarray(squeezed).save(buffer, Image.registered_extensions()[path.suffix.lower()], **options)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; expected a format that can hold the picture, such as .png") from None
    files.write_bytes(path, buffer.getvalue())


def list_images(folder: epath.PathLike) -> list[epath.Path]:
    """Return the pictures in a folder, by name; hidden files are passed over.

    Raises:
        FileNotFoundError: when there is no such folder.
        InputError: when it is a file.
    """
    folder = epath.Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder, expected a folder of pictures")
    if not folder.is_dir():
        raise InputError(f"{folder}: found a file, expected a folder of pictures")
    found = [
        p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    ]
    return sorted(found, key=lambda path: path.name)


def _to_array(image: Image.Image) -> Picture:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit values at 255.
        return ((np.asarray(image, np.uint32) + 128) // 257).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise InputError("found 32-bit pixels, whose range is unknown, expected 8 or 16 bits")
    has_alpha = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if image.mode in ("1", "L", "LA", "La"):
        return np.array(image.convert("LA" if has_alpha else "L"))
    return np.array(image.convert("RGBA" if has_alpha else "RGB"))
