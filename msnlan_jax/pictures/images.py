"""Pictures as arrays of uint8, or of uint16 where a file has more: reading, writing, and the network's RGB."""

import contextlib
import dataclasses
import io
import math
import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image, ImageCms, UnidentifiedImageError

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import depth, png, tiff
from msnlan_jax.pictures.depth import AnyPicture
from msnlan_jax.runtime import files, recognition

# Names of what is written, in 8 bits a channel, and of what may be written in 16.
WRITTEN_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
DEEP_SUFFIXES = (".png", ".tif", ".tiff")
# What a level of 8 bits is in 16: 65535 / 255.
DEEP_LEVEL = 257
# Names of what is read.
IMAGE_SUFFIXES = (*WRITTEN_SUFFIXES, ".jfif", ".jpe", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".tga")
# What Pillow refuses by itself, twice what it warns of: a small file that claims more is made to exhaust memory.
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)
# Sides that a format can hold, and bytes; Pillow says so only once all pixels are there.
_MOST_SIDE = {".webp": 16383, ".jpg": 65500, ".jpeg": 65500}
_MOST_BYTES = dict.fromkeys((".tif", ".tiff", ".bmp"), 2**32 - 2**20)
# Underscores: two pictures in one signature may differ in size.
Picture = UInt8[np.ndarray, "_h _w *_channels"]
RGBPicture = UInt8[np.ndarray, "_h _w 3"]
# Where JPEG 2000's channels are what they are called, without conversion.
_JPEG2000_MODES = ("L", "I;16", "LA", "RGB", "RGBA")
# One thread at a time may turn it elsewhere.
_STANDARD_ERROR = threading.Lock()
# EXIF's orientations: whether to turn rows into columns, and whether to reverse rows and columns after that.
_ORIENTATIONS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclasses.dataclass(frozen=True)
class Photo:
    """A picture and what else its file says.

    Attributes:
        pixels: `[H,W]` gray, `[H,W,2]` gray + alpha, `[H,W,3]` RGB or `[H,W,4]` RGB + alpha: uint8 0..255, or uint16
            0..65535 where the file has more than 8 bits a channel.
        icc_profile: the colour profile that the pixels are in, if the file has one.
        notes: what was lost in reading.
    """

    pixels: AnyPicture
    icc_profile: bytes | None = None
    notes: tuple[str, ...] = ()


def read_photo(path: epath.PathLike) -> Photo:
    """Read a picture of any kind Pillow knows but EPS, a program, turned as its EXIF orientation says.

    Palettes and other colour spaces are converted to RGB, CMYK through its profile and in 8 bits. Damage beside the
    pixels, in texts or EXIF, does no harm.

    Raises:
        FileNotFoundError: when there is no such file.
        InputError: when it is not a whole, readable picture, has several frames or pages, or claims more than
            MAX_PIXELS.
    """
    data = files.read_bytes(path, "picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, whose limit is checked, and of damage in what is not used
            return _decode(data)
    except MemoryError:
        raise
    except InputError as error:  # a whole file, but no picture for us
        raise InputError(f"{path}: {error}") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: found more than {MAX_PIXELS:,} pixels, a decompression bomb; refused") from None
    except Exception as error:  # Pillow's decoders raise whatever their format's parser does
        raise _unreadable(path, data, error) from None


def _unreadable(path: epath.PathLike, data: bytes, error: Exception) -> InputError:
    if what := recognition.recognise(data):
        return InputError(f"{path}: found {what}, expected a PNG, JPEG, TIFF or the like")
    reason = "not a picture in a known format" if isinstance(error, UnidentifiedImageError) else error
    return InputError(f"{path}: broken or unreadable picture: {reason}")


def read_image(path: epath.PathLike) -> Picture:
    """Read a picture's pixels as `Photo.pixels`, 16 bits a channel rounded to 8; raises as `read_photo`."""
    return to_8_bits(read_photo(path).pixels)


def read_rgb(path: epath.PathLike) -> RGBPicture:
    """Read a picture as `[H,W,3]` uint8 RGB: gray is repeated, alpha dropped. Raises as `read_image`."""
    return to_rgb(read_image(path))


def to_8_bits(image: AnyPicture) -> Picture:
    """Return a picture of 0..65535 rounded to 0..255, and one of 0..255 as it is."""
    if image.dtype != np.uint16:
        return image
    # Row by row, as the sums take 32 bits.
    return np.stack([((row.astype(np.uint32) + DEEP_LEVEL // 2) // DEEP_LEVEL).astype(np.uint8) for row in image])


def to_rgb(image: AnyPicture) -> AnyPicture:
    """Return the colours of a gray, gray + alpha, RGB or RGB + alpha picture as RGB, in as many bits."""
    if image.ndim == 2:
        image = image[:, :, None]
    colours = image[:, :, : 1 if image.shape[2] <= 2 else 3]
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))


def check_suffix(path: epath.PathLike, shape: tuple[int, ...] = (1, 1, 1), sample_bytes: int = 1) -> None:
    """Refuse a name that says no format we write, or one that cannot hold such a picture.

    Args:
        path: the file's name.
        shape: of the picture, `(H,W)` or `(H,W,C)`.
        sample_bytes: 1, or 2 where it has 16 bits a channel.

    Raises:
        InputError: naming the file.
    """
    suffix = epath.Path(path).suffix.lower()
    if suffix not in WRITTEN_SUFFIXES:
        found = epath.Path(path).suffix
        raise InputError(f"{path}: found suffix {found!r}, expected one of {', '.join(WRITTEN_SUFFIXES)}")
    if sample_bytes == 2 and suffix not in DEEP_SUFFIXES:
        raise InputError(f"{path}: found 16 bits a channel, expected one of {', '.join(DEEP_SUFFIXES)}")
    if shape[2:] in ((2,), (4,)) and suffix in (".bmp", ".jpg", ".jpeg"):
        raise InputError(f"{path}: found a picture with alpha, expected a format that can hold it, such as .png")
    if (side := max(shape[:2])) > (most := _MOST_SIDE.get(suffix, side)):
        raise InputError(f"{path}: found a side of {side} pixels, expected at most {most}, or another format, as .png")
    if (size := sample_bytes * math.prod(shape)) > (most := _MOST_BYTES.get(suffix, size)):
        raise InputError(
            f"{path}: found {shape[1]}×{shape[0]} pixels of {size / 1e9:.1f} GB, expected at most {most / 1e9:.1f} GB, "
            "or another format, as .png"
        )


def write_image(path: epath.PathLike, image: AnyPicture, *, icc_profile: bytes | None = None) -> None:
    """Write a picture, whole or not at all, in the format its suffix names.

    Args:
        path: the file.
        image: gray, gray + alpha, RGB or RGB + alpha; uint8 0..255, or as PNG or TIFF uint16 0..65535. JAX arrays too.
        icc_profile: colour profile to embed, where the format can (all but BMP, and WebP for gray).

    Raises:
        InputError: when it is no such array, the suffix names no format, the format lacks alpha or cannot hold such a
            size, or the file cannot be written.
    """
    path, image = files.to_path(path), np.asarray(image)
    shapes = ((), (1,), (2,), (3,), (4,))
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or image.shape[2:] not in shapes:
        raise InputError(f"{path}: found {image.dtype} {image.shape}, expected uint8 or uint16 [H,W] or [H,W,1..4]")
    if 0 in image.shape:
        raise InputError(f"{path}: found {image.shape}, expected at least one pixel")
    check_suffix(path, image.shape, image.itemsize)
    image = image[:, :, 0] if image.shape[2:] == (1,) else image
    suffix = path.suffix.lower()
    if image.dtype == np.uint16:
        data = (png if suffix == ".png" else tiff).write_deep(image, icc_profile)
    else:
        data = _encode(path, image, icc_profile)
    files.write_bytes(path, data)


def _encode(path: epath.Path, image: Picture, icc_profile: bytes | None) -> bytes:
    """Return a file of 8 bits a channel."""
    buffer, suffix = io.BytesIO(), path.suffix.lower()
    options: dict[str, Any] = {"quality": 95} if suffix in (".jpg", ".jpeg", ".webp") else {}
    if suffix in (".jpg", ".jpeg"):
        options["subsampling"] = 0  # colours as sharp as the rest
    # BMP has no place for a profile; WebP holds gray as RGB, which a profile of gray would not fit.
    if icc_profile is not None and suffix != ".bmp" and not (suffix == ".webp" and icc_profile[16:20] == b"GRAY"):
        options["icc_profile"] = icc_profile
    try:
        Image.fromarray(image).save(buffer, Image.registered_extensions()[suffix], **options)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; expected a format that can hold the picture, such as .png") from None
    return buffer.getvalue()


def list_images(folder: epath.PathLike) -> list[epath.Path]:
    """Return the pictures in a folder, by name; hidden files are passed over.

    Raises:
        FileNotFoundError: when there is no such folder.
        InputError: when it is a file.
    """
    folder = files.to_path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder, expected a folder of pictures")
    if not folder.is_dir():
        raise InputError(f"{folder}: found a file, expected a folder of pictures")
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    return sorted(filter(files.is_regular, found), key=lambda path: path.name)


def _decode(data: bytes) -> Photo:
    """Return the picture that a file's content is."""
    if tiff.is_tiff(data):
        return _decode_tiff(data)
    if png.is_png(data):
        return _decode_png(data)
    with _open(data) as opened:
        bits, profile = depth.stored_bits(data, opened.format), opened.info.get("icc_profile")
        if opened.format == "JPEG2000" and bits != 8 and bits <= 16 and opened.mode in _JPEG2000_MODES:
            return _turned(depth.read_jpeg2000(data, bits), profile, _orientation(opened))
        return _to_photo(opened, profile, bits)


def _open(data: bytes) -> Image.Image:
    """Let Pillow look at a file, of any kind but those that are programs, which it has another program run."""
    Image.init()
    return Image.open(io.BytesIO(data), formats=[form for form in Image.ID if form != "EPS"])


def _decode_png(data: bytes) -> Photo:
    found = png.essentials(data)
    with _open(found.data) as opened:
        png.check_claim(*opened.size, data)
        if found.n_frames > 1:
            raise InputError(f"found {found.n_frames} frames, expected a single picture")
        return _turned(png.read(found), found.icc_profile, _orientation(opened))


def _decode_tiff(data: bytes) -> Photo:
    if (found := tiff.read(data, MAX_PIXELS)) is None:
        with _libtiff_kept_quiet(), _open(data) as opened:
            png.check_claim(*opened.size, data, opened.tag_v2.get(259))  # type: ignore[attr-defined]
            return _to_photo(opened, opened.info.get("icc_profile"))
    if not found.has_inks:
        return _turned(found.pixels, found.icc_profile, found.orientation)
    inks = Image.frombytes("CMYK", found.pixels.shape[1::-1], to_8_bits(found.pixels).tobytes())
    colours, profile = _from_cmyk(inks, found.icc_profile)
    notes = ("16 bits a channel reduced to 8",) if found.pixels.dtype == np.uint16 else ()
    return _turned(np.array(colours), profile, found.orientation, *notes)


@contextlib.contextmanager
def _libtiff_kept_quiet() -> Iterator[None]:
    """Drop what goes to C's standard error, where libtiff, and not Python, tells of damage; what matters is raised."""
    with _STANDARD_ERROR:
        try:
            kept = os.dup(2)
        except OSError:  # closed
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(null)


def _to_photo(opened: Image.Image, profile: bytes | None, bits: int = 8) -> Photo:
    """Return the picture that Pillow finds in a file of so many bits a channel."""
    notes = _check_frames(opened)
    opened.load()
    orientation, image = _orientation(opened), opened
    if bits > 8 and opened.mode in ("RGB", "RGBA", "LA"):
        notes.append(f"{bits} bits a channel reduced to 8")
    if image.mode == "CMYK":
        image, profile = _from_cmyk(image, profile)
    return _turned(_to_array(image), profile, orientation, *notes)


def _turned(pixels: AnyPicture, profile: bytes | None, orientation: Any, *notes: str) -> Photo:
    """Return a picture turned as EXIF says, with its colour profile if it fits."""
    transpose, flip_rows, flip_columns = _ORIENTATIONS.get(orientation, (False, False, False))
    pixels = pixels.swapaxes(0, 1) if transpose else pixels
    pixels = np.ascontiguousarray(pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])
    # A profile of another colour space than the pixels are in now would only mislead.
    space = b"GRAY" if pixels.ndim == 2 or pixels.shape[2] <= 2 else b"RGB "
    return Photo(pixels, profile if profile and profile[16:20] == space else None, notes)


def _check_frames(opened: Image.Image) -> list[str]:
    """Refuse animations and documents; of the several views that phones and stereo cameras store, the first is the
    picture, which is said."""
    count = getattr(opened, "n_frames", 1)
    if count <= 1:
        return []
    if opened.format == "MPO":
        return [f"the first of {count} frames"]
    raise InputError(f"found {count} {'pages' if opened.format == 'TIFF' else 'frames'}, expected a single picture")


def _orientation(opened: Image.Image) -> Any:
    """Return the orientation that EXIF says; where it is damaged, it says nothing."""
    try:
        # Not by PNG's own way, which decodes the picture to see what is behind it.
        orientation = Image.Image.getexif(opened).get(0x0112)
        return orientation if isinstance(orientation, int) else 1
    except Exception:  # whatever its parser meets
        return 1


def _from_cmyk(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Convert inks to sRGB by their profile; without a usable one by Pillow's plain formula."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB"), None
    assert converted is not None
    return converted, None


def _to_array(image: Image.Image) -> AnyPicture:
    is_signed = image.format == "FITS" and image.mode.startswith("I;16")
    if image.mode == "F" or is_signed or (image.mode == "I" and image.format != "PPM"):  # whose 16 bits it holds in 32
        raise InputError("found pixels of 32 bits, or signed ones, whose range is unknown, expected 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    has_alpha = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if image.mode == "P" and not has_alpha and _is_gray(image):
        return np.array(image.convert("L"))
    if image.mode in ("1", "L", "LA", "La"):
        return np.array(image.convert("LA" if has_alpha else "L"))
    return np.array(image.convert("RGBA" if has_alpha else "RGB"))


def _is_gray(image: Image.Image) -> bool:
    """Whether all colours of a palette that are used are gray, as in GIFs, which have no other form for it."""
    palette = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
    return bool((np.ptp(palette[np.unique(np.minimum(np.asarray(image), len(palette) - 1))], axis=1) == 0).all())
