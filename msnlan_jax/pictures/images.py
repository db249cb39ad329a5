"""Pictures as uint8 arrays: reading, writing, and conversion to the network's RGB."""

import dataclasses
import io
import re
import warnings
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import files

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
# What Pillow refuses by itself, twice what it warns of: a small file that claims more is made to exhaust memory.
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)
# Sides that a format can hold; Pillow says so only once all pixels are there.
_MOST_SIDE = {".webp": 16383, ".jpg": 65500, ".jpeg": 65500}
# Underscores: two pictures in one signature may differ in size.
Picture = UInt8[np.ndarray, "_h _w *_channels"]
RGBPicture = UInt8[np.ndarray, "_h _w 3"]


@dataclasses.dataclass(frozen=True)
class Photo:
    """A picture and what else its file says.

    Attributes:
        pixels: uint8 0..255, `[H,W]` gray, `[H,W,2]` gray + alpha, `[H,W,3]` RGB or `[H,W,4]` RGB + alpha.
        icc_profile: the colour profile that the pixels are in, if the file has one.
        notes: what was lost in reading, such as bits beyond 8.
    """

    pixels: Picture
    icc_profile: bytes | None = None
    notes: tuple[str, ...] = ()


def read_photo(path: epath.PathLike) -> Photo:
    """Read a picture of any kind Pillow knows, turned as its EXIF orientation says.

    16 bits a channel are reduced to 8 (gray by rounding; of colours Pillow keeps the high byte, at most one level
    away), palettes and other colour spaces are converted to RGB, CMYK through its profile, and of several frames the
    first is taken.

    Raises:
        FileNotFoundError: when there is no such file.
        InputError: when it is not a whole, readable picture, or claims more than MAX_PIXELS.
    """
    data = files.read_bytes(path, "picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is checked below
            with Image.open(io.BytesIO(data)) as opened:
                return _to_photo(opened)
    except Image.DecompressionBombError:
        raise InputError(f"{path}: found more than {MAX_PIXELS:,} pixels, a decompression bomb; refused") from None
    except Exception as error:  # Pillow's decoders raise whatever their format's parser does
        reason = "not a picture in a known format" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{path}: broken or unreadable picture: {reason}") from None


def read_image(path: epath.PathLike) -> Picture:
    """Read a picture's pixels, as `Photo.pixels`; raises as `read_photo`."""
    return read_photo(path).pixels


def read_rgb(path: epath.PathLike) -> RGBPicture:
    """Read a picture as `[H,W,3]` uint8 RGB: gray is repeated, alpha dropped. Raises as `read_image`."""
    return to_rgb(read_image(path))


def to_rgb(image: Picture) -> RGBPicture:
    """Return the colours of a gray, gray + alpha, RGB or RGB + alpha picture as RGB."""
    if image.ndim == 2:
        image = image[:, :, None]
    colours = image[:, :, : 1 if image.shape[2] <= 2 else 3]
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))


def check_suffix(path: epath.PathLike, *, alpha: bool = False, side: int = 1) -> None:
    """Refuse a name that says no format we write, or one that cannot hold alpha where needed, or so long a side.

    Raises:
        InputError: naming the file.
    """
    suffix = epath.Path(path).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise InputError(
            f"{path}: found suffix {epath.Path(path).suffix!r}, expected one of {', '.join(IMAGE_SUFFIXES)}"
        )
    if alpha and suffix in (".bmp", ".jpg", ".jpeg"):
        raise InputError(f"{path}: found a picture with alpha, expected a format that can hold it, such as .png")
    if side > (most := _MOST_SIDE.get(suffix, side)):
        raise InputError(f"{path}: found a side of {side} pixels, expected at most {most}, or another format, as .png")


def write_image(path: epath.PathLike, image: Picture, *, icc_profile: bytes | None = None) -> None:
    """Write a uint8 picture, whole or not at all, in the format its suffix names.

    Args:
        path: the file.
        image: gray, gray + alpha, RGB or RGB + alpha.
        icc_profile: colour profile to embed, where the format can (all but BMP, and WebP for gray).

    Raises:
        InputError: when it is no such array, the suffix names no format, the format lacks alpha or cannot hold so long
            a side, or the file cannot be written.
    """
    path = epath.Path(path)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (2,), (3,), (4,)):
        raise InputError(f"{path}: found {image.dtype} {image.shape}, expected uint8 [H,W] or [H,W,1..4]")
    check_suffix(path, alpha=image.ndim == 3 and image.shape[2] in (2, 4), side=max(image.shape[:2]))
    buffer = io.BytesIO()
    suffix = path.suffix.lower()
    options: dict[str, Any] = {"quality": 95} if suffix in (".jpg", ".jpeg", ".webp") else {}
    if suffix in (".jpg", ".jpeg"):
        options["subsampling"] = 0  # colours as sharp as the rest
    squeezed = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    # BMP has no place for a profile; WebP holds gray as RGB, which a profile of gray would not fit.
    if icc_profile is not None and suffix != ".bmp" and not (suffix == ".webp" and icc_profile[16:20] == b"GRAY"):
        options["icc_profile"] = icc_profile
    try:
        Image.fromarray(squeezed).save(buffer, Image.registered_extensions()[suffix], **options)
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
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    if not files.is_remote(folder):  # an object store would be asked anew for every picture
        found = [path for path in found if path.is_file()]
    return sorted(found, key=lambda path: path.name)


def _to_photo(opened: Image.Image) -> Photo:
    notes = []
    stored = f"{opened.mode} {getattr(opened, 'tile', '')}"
    if re.search("(?<!BGR);16", stored):  # BGR;16 has 5 or 6 bits a channel
        notes.append("16 bits a channel reduced to 8")
    if (frames := getattr(opened, "n_frames", 1)) > 1:
        notes.append(f"the first of {frames} frames")
    image = ImageOps.exif_transpose(opened)
    if "LA;16" in stored:
        image = image.convert("LA")  # Pillow repeats gray
    profile = opened.info.get("icc_profile") or None
    if image.mode == "CMYK":
        image, profile = _from_cmyk(image, profile)
    pixels = _to_array(image)
    # A profile of another colour space than the pixels are in now would only mislead.
    space = b"GRAY" if pixels.ndim == 2 or pixels.shape[2] <= 2 else b"RGB "
    return Photo(pixels, profile if profile and profile[16:20] == space else None, tuple(notes))


def _from_cmyk(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Convert inks to sRGB by their profile; without a usable one by Pillow's plain formula."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB"), None
    assert converted is not None
    return converted, None


def _to_array(image: Image.Image) -> Picture:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit values at 255.
        deep = np.asarray(image, np.uint32)
        gray = ((deep + 128) // 257).astype(np.uint8)
        if (clear := image.info.get("transparency")) is None:
            return gray
        return np.stack([gray, np.where(deep == clear, 0, 255).astype(np.uint8)], axis=2)
    if image.mode in ("I", "F"):
        raise InputError("found pixels of 32 bits, or signed ones, whose range is unknown, expected 8 or 16 bits")
    has_alpha = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if image.mode in ("1", "L", "LA", "La"):
        return np.array(image.convert("LA" if has_alpha else "L"))
    return np.array(image.convert("RGBA" if has_alpha else "RGB"))
