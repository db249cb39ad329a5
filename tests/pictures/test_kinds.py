"""Pictures of kinds that people have and Pillow mistakes: each with the pixels that viewers show, or refused."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from msnlan_jax.errors import InputError
from msnlan_jax.pictures.images import read_photo
from tests.samples import noise, png_chunk


def png(rows, width, height, bits, kind, *before):
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    data = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(row) for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join([png_chunk(b"IHDR", header), *before, data, png_chunk(b"IEND", b"")])


def read(tmp_path, data, name="a.png"):
    (tmp_path / name).write_bytes(data)
    return read_photo(tmp_path / name)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_gray_of_few_bits(tmp_path, bits):
    most = 2**bits - 1
    values = (np.arange(16).reshape(2, 8) % (most + 1)).astype(np.uint8)
    rows = np.packbits(np.unpackbits(values[:, :, None], axis=2)[:, :, -bits:].reshape(2, -1), axis=1)
    key = png_chunk(b"tRNS", struct.pack(">H", 1))
    found = read(tmp_path, png(rows, 8, 2, bits, 0, key)).pixels
    expected = np.dstack([values * (255 // most), np.where(values == 1, 0, 255)]).astype(np.uint8)
    np.testing.assert_array_equal(found, expected, strict=True)


def test_a_png_with_fewer_rows_than_it_says_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.png: broken or unreadable picture: Not enough image data$"):
        read(tmp_path, png(noise(0, 4, 18), 6, 5, 8, 2))


def test_a_palette_of_grays_is_gray(tmp_path):
    grays = np.array([7, 200, 31, 90], np.uint8)
    palette = png_chunk(b"PLTE", grays.repeat(3).tobytes())
    found = read(tmp_path, png([[0, 1, 2], [3, 2, 1]], 3, 2, 8, 3, palette)).pixels
    assert found.tolist() == [[7, 200, 31], [90, 31, 200]]


def test_an_animation_of_a_single_frame_is_a_picture(tmp_path):
    control = png_chunk(b"fcTL", struct.pack(">5I2H2B", 0, 6, 5, 0, 0, 1, 1, 0, 0))
    picture = noise(0, 5, 6, 3)
    one, three = (png_chunk(b"acTL", struct.pack(">II", count, 0)) for count in (1, 3))
    rows = picture.reshape(5, 18)
    np.testing.assert_array_equal(read(tmp_path, png(rows, 6, 5, 8, 2, one, control)).pixels, picture, strict=True)
    with pytest.raises(InputError, match="found 3 frames, expected a single picture"):
        read(tmp_path, png(rows, 6, 5, 8, 2, three, control))
    with pytest.raises(InputError, match="found 2 frames, expected a single picture"):  # itself stands for the other
        read(tmp_path, png(rows, 6, 5, 8, 2, one))


def test_what_follows_a_png_is_not_read(tmp_path):
    data = png(noise(0, 5, 18), 6, 5, 8, 2)
    found = read(tmp_path, data + png_chunk(b"IDAT", b"odd") + png_chunk(b"acTL", struct.pack(">II", 9, 0))).pixels
    np.testing.assert_array_equal(found, noise(0, 5, 18).reshape(5, 6, 3), strict=True)


def tiff(*pages):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=pages[0][1].pop("byteorder", "<"), bigtiff="big" in pages[0][1]) as file:
        for picture, options in pages:
            options.pop("big", None)
            file.write(picture, metadata=None, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["before", "behind"])
def test_a_preview_is_not_taken_for_the_picture(tmp_path, dtype, order):
    picture = noise(0, 8, 10, 3).astype(dtype) * (257 if dtype == np.uint16 else 1)
    pages = [(picture[::2, ::2].copy(), {"photometric": "rgb", "subfiletype": 1}), (picture, {"photometric": "rgb"})]
    data = tiff(*(pages[number] for number in order))
    if order == (1, 0):
        np.testing.assert_array_equal(read(tmp_path, data, "a.tif").pixels, picture, strict=True)
        return
    with pytest.raises(InputError, match=r"a\.tif: found a preview before the picture, as in cameras' raw files"):
        read(tmp_path, data, "a.tif")


def test_the_preview_of_a_raw_photo_is_refused(tmp_path):
    preview = {"photometric": "rgb", "subfiletype": 1, "subifds": 1}
    data = tiff((noise(0, 4, 5, 3), preview), (noise(0, 8, 10), {"photometric": "cfa", "subfiletype": 0}))
    with pytest.raises(InputError, match=r"a\.dng: found a preview before the picture, as in cameras' raw files"):
        read(tmp_path, data, "a.dng")


GRAY, ALPHA = noise(0, 5, 7), noise(1, 5, 7)
BOTH = np.dstack([GRAY, ALPHA])
FIVE = noise(0, 5, 7, 5)
PLAIN = {"photometric": "minisblack", "extrasamples": ["unassalpha"]}


@pytest.mark.parametrize(("stored", "options", "expected"), [
    (GRAY, {"photometric": "minisblack", "byteorder": ">", "big": True}, GRAY),
    (np.dstack([255 - GRAY, ALPHA]), {**PLAIN, "photometric": "miniswhite", "planarconfig": "contig"}, BOTH),
    (np.moveaxis(BOTH, -1, 0), {**PLAIN, "planarconfig": "separate"}, BOTH),
    (FIVE, {"photometric": "rgb", "extrasamples": ["unassalpha", "unspecified"]}, FIVE[..., :4]),
    (np.array([[[50, 100, 0, 128], [0, 0, 0, 0]]], np.uint8),
     {"photometric": "rgb", "extrasamples": ["assocalpha"]}, np.array([[[100, 199, 0, 128], [0, 0, 0, 0]]])),
], ids=["big and big-endian", "white is zero", "planes with alpha", "one channel more", "multiplied"])  # fmt: skip
def test_tiffs_of_8_bits(tmp_path, stored, options, expected):
    found = read(tmp_path, tiff((np.ascontiguousarray(stored), dict(options))), "a.tif").pixels
    np.testing.assert_array_equal(found, expected.astype(np.uint8), strict=True)


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_signed_grays_are_refused(tmp_path, dtype):
    with pytest.raises(InputError, match=r"a\.tif: found pixels of 32 bits, or signed ones"):
        read(tmp_path, tiff((noise(0, 5, 7).astype(dtype), {"photometric": "minisblack"})), "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_parts_that_are_not_there_are_not_black(tmp_path, dtype):
    options = {"photometric": "rgb", "rowsperstrip": 2}
    data = bytearray(tiff((noise(0, 6, 7, 3).astype(dtype), options)))
    offsets = tifffile.TiffFile(io.BytesIO(data)).pages.first.tags["StripOffsets"]
    size = struct.calcsize(tifffile.TIFF.DATA_FORMATS[offsets.dtype])
    data[offsets.valueoffset : offsets.valueoffset + size] = bytes(size)
    with pytest.raises(InputError, match=r"a\.tif: broken or unreadable picture: found parts without any data$"):
        read(tmp_path, bytes(data), "a.tif")


def test_a_pfm_is_refused(tmp_path):
    data = b"Pf\n3 2\n-1.0\n" + np.linspace(0, 1, 6, dtype="<f4").tobytes()
    with pytest.raises(InputError, match=r"a\.pfm: found pixels of 32 bits, or signed ones"):
        read(tmp_path, data, "a.pfm")


LIGHT = np.array([[[65535, 65500, 0], [1, 300, 65408]]], np.uint16)


@pytest.mark.parametrize(("values", "bits", "expected"), [
    (np.array([[0, 1]], np.uint8), 1, np.array([[0, 255]], np.uint8)),
    (np.array([[0, 7, 15]], np.uint8), 4, np.array([[0, 119, 255]], np.uint8)),
    (np.array([[0, 2048, 4095]], np.uint16), 12, np.array([[0, 32776, 65535]], np.uint16)),
    (LIGHT, 16, LIGHT),
], ids=["1", "4", "12", "16 in colour"])  # fmt: skip
def test_jpeg_2000_of_any_depth(tmp_path, values, bits, expected):
    data = imagecodecs.jpeg2k_encode(values.repeat(8, 0).repeat(8, 1), reversible=True, level=0, bitspersample=bits)
    photo = read(tmp_path, bytes(data), "a.jp2")
    np.testing.assert_array_equal(photo.pixels, expected.repeat(8, 0).repeat(8, 1), strict=True)
    assert photo.notes == ()


def test_sgi_of_16_bits_is_said_to_be_reduced(tmp_path):
    values = noise(0, 3, 5, 7).astype(np.uint16) * 257
    header = struct.pack(">hBBHHHHii", 474, 0, 2, 3, 7, 5, 3, 0, 65535).ljust(512, b"\0")
    photo = read(tmp_path, header + values[:, ::-1].astype(">u2").tobytes(), "a.sgi")
    assert photo.notes == ("16 bits a channel reduced to 8",)
    np.testing.assert_array_equal(photo.pixels, np.moveaxis(noise(0, 3, 5, 7), 0, -1), strict=True)


def test_programs_are_not_run(tmp_path):
    with pytest.raises(InputError, match=r"a\.png: broken or unreadable picture: not a picture in a known format$"):
        read(tmp_path, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n", "a.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_phone_that_was_turned(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    view = Image.fromarray(noise(0, 2, 3, 3)).resize((24, 16), Image.Resampling.NEAREST)
    sizes = []
    for form, options in (("JPEG", {}), ("MPO", {"save_all": True, "append_images": [view.copy()]})):
        view.save(tmp_path / "a.jpg", form, exif=exif, quality=95, **options)
        sizes.append(read_photo(tmp_path / "a.jpg").pixels)
    assert sizes[0].shape == ((24, 16, 3) if orientation > 4 else (16, 24, 3))
    np.testing.assert_array_equal(sizes[1], sizes[0])
