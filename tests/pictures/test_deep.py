"""Pictures of 16 bits a channel, in and out."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from msnlan_jax.errors import InputError
from msnlan_jax.pictures.images import read_image, read_photo, read_rgb, to_8_bits, write_image
from msnlan_jax.pictures.resize import imresize
from tests.samples import png_chunk

SHAPES = {"gray": (5, 7), "gray+alpha": (5, 7, 2), "RGB": (5, 7, 3), "RGBA": (5, 7, 4)}
PROFILE = bytes(16) + b"RGB " + bytes(108)


def deep_noise(*shape):
    return np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)


def png16(rows, h, w, *before, interlaced=0):
    header = struct.pack(">IIBBBBB", w, h, 16, 2, 0, 0, interlaced)
    end = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(before) + end


def rows_of(values):
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_round_trip(tmp_path, shape, suffix):
    picture = deep_noise(*shape)
    write_image(tmp_path / f"a{suffix}", picture)
    photo = read_photo(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(photo.pixels, picture, strict=True)
    assert photo.notes == ()
    in_8_bits = np.round(picture / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), in_8_bits, strict=True)
    np.testing.assert_array_equal(to_8_bits(picture), in_8_bits, strict=True)
    assert read_rgb(tmp_path / f"a{suffix}").shape == (5, 7, 3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_colour_profile_is_kept(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", deep_noise(4, 5, 3), icc_profile=PROFILE)
    assert read_photo(tmp_path / f"a{suffix}").icc_profile == PROFILE
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.info["icc_profile"] == PROFILE


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_other_formats_hold_8_bits(tmp_path, suffix):
    with pytest.raises(
        InputError, match=rf"a\{suffix}: found 16 bits a channel, expected one of \.png, \.tif, \.tiff$"
    ):
        write_image(tmp_path / f"a{suffix}", deep_noise(4, 5, 3))


@pytest.mark.parametrize("options", [
    {"photometric": "rgb", "planarconfig": "separate"},
    {"photometric": "rgb", "planarconfig": "contig", "byteorder": ">"},
    {"photometric": "rgb", "compression": "lzw", "predictor": True},
    {"photometric": "rgb", "compression": "zlib", "tile": (16, 16)},
    {"photometric": "rgb", "bigtiff": True},
], ids=str)  # fmt: skip
def test_tiff_of_any_build(tmp_path, options):
    picture = deep_noise(5, 7, 3)
    stored = np.moveaxis(picture, -1, 0) if options.get("planarconfig") == "separate" else picture
    tifffile.imwrite(tmp_path / "a.tif", stored, metadata=None, **options)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, picture, strict=True)


def test_tiff_whose_black_is_white(tmp_path):
    gray = deep_noise(5, 7)
    tifffile.imwrite(tmp_path / "a.tif", 65535 - gray, photometric="miniswhite", metadata=None)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, gray, strict=True)


def test_12_bits_are_scaled(tmp_path):
    values = np.array([[0, 1, 2048, 4095]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, bitspersample=12, photometric="minisblack", metadata=None)
    assert read_photo(tmp_path / "a.tif").pixels.tolist() == [[0, 16, 32776, 65535]]


def test_alpha_that_colours_are_multiplied_by(tmp_path):
    stored = np.array([[[1000, 20000, 32768, 32768], [0, 0, 0, 0]]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"], metadata=None)
    assert read_photo(tmp_path / "a.tif").pixels.tolist() == [[[2000, 39999, 65535, 32768], [0, 0, 0, 0]]]


def test_inks_are_taken_in_8_bits_and_it_is_said(tmp_path):
    inks = deep_noise(5, 7, 4)
    tifffile.imwrite(tmp_path / "a.tif", inks, photometric="separated", metadata=None)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.notes == ("16 bits a channel reduced to 8",)
    expected = Image.frombytes("CMYK", (7, 5), to_8_bits(inks).tobytes()).convert("RGB")
    np.testing.assert_array_equal(photo.pixels, np.asarray(expected), strict=True)


@pytest.mark.parametrize(("values", "options", "message"), [
    (np.zeros((3, 4), np.int16), {}, "32 bits, or signed ones"),
    (np.zeros((3, 4), np.float16), {}, "32 bits, or signed ones"),
    (np.zeros((3, 4, 3), np.uint16), {"photometric": "cielab"}, "colours of kind CIELAB"),
    (np.zeros((2, 3, 4), np.uint16), {"photometric": "minisblack"}, "2 pages, expected a single picture"),
], ids=["signed", "float", "Lab", "pages"])  # fmt: skip
def test_what_has_no_meaning_is_refused(tmp_path, values, options, message):
    tifffile.imwrite(tmp_path / "a.tif", values, metadata=None, **options)
    with pytest.raises(InputError, match=rf"a\.tif: found .*{message}"):
        read_photo(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_preview_in_the_same_tiff_is_no_second_page(tmp_path, kind):
    picture = deep_noise(6, 8, 3).astype(kind)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(picture, photometric="rgb", metadata=None)
        writer.write(picture[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, picture, strict=True)


def test_a_colour_key_makes_its_own_pixels_transparent_and_no_others(tmp_path):
    picture = deep_noise(5, 7, 3)
    picture[1:3, 2:5] = 0x1234, 0x5678, 0x9ABC
    picture[0, 0] = 0x1235, 0x5678, 0x9ABC
    key = png_chunk(b"tRNS", struct.pack(">3H", *picture[1, 2]))
    (tmp_path / "a.png").write_bytes(png16(rows_of(picture), 5, 7, key))
    found = read_photo(tmp_path / "a.png").pixels
    np.testing.assert_array_equal(found[:, :, :3], picture)
    np.testing.assert_array_equal(found[:, :, 3], np.where((picture == picture[1, 2]).all(2), 0, 65535))


def test_an_interlaced_png_with_damage_beside_its_pixels(tmp_path):
    picture = deep_noise(13, 19, 3)
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(rows_of(picture[y::dy, x::dx]) for y, x, dy, dx in starts)
    damaged = png_chunk(b"tEXt", b"Comment\0hello")[:-4] + b"oops"
    data = png16(rows, 13, 19, damaged, png_chunk(b"eXIf", b"neither II nor MM"), interlaced=1)
    (tmp_path / "a.png").write_bytes(data)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png").pixels, picture, strict=True)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_turns_them_too(tmp_path, suffix):
    picture = deep_noise(4, 6, 3)
    if suffix == ".tif":
        tifffile.imwrite(
            tmp_path / "a.tif", picture, photometric="rgb", metadata=None, extratags=[(274, 3, 1, 6, True)]
        )
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        (tmp_path / "a.png").write_bytes(png16(rows_of(picture), 4, 6, turned))
    np.testing.assert_array_equal(read_photo(tmp_path / f"a{suffix}").pixels, np.rot90(picture, -1), strict=True)


def test_a_ppm_of_16_bits(tmp_path):
    gray = deep_noise(3, 4)
    (tmp_path / "a.pgm").write_bytes(b"P5 4 3 65535\n" + gray.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_photo(tmp_path / "a.pgm").pixels, gray, strict=True)
    (tmp_path / "a.ppm").write_bytes(b"P6 1 1 65535\n" + bytes([1, 0, 2, 0, 3, 0]))
    assert read_photo(tmp_path / "a.ppm").notes == ("16 bits a channel reduced to 8",)
    assert read_photo(tmp_path / "a.ppm").pixels.tolist() == [[[1, 2, 3]]]
    (tmp_path / "a.ppm").write_bytes(b"P6\n# 65535\n2 1\n255\n" + bytes(6))
    assert read_photo(tmp_path / "a.ppm").notes == ()


@pytest.mark.parametrize(
    "bits",
    [8, 10, 12],
)
def test_bits_of_avif_that_are_lost_are_said(tmp_path, bits):
    picture = deep_noise(16, 16, 3) >> (16 - bits)
    picture = picture.astype(np.uint8) if bits == 8 else picture
    (tmp_path / "a.avif").write_bytes(imagecodecs.avif_encode(picture, bitspersample=bits))
    photo = read_photo(tmp_path / "a.avif")
    assert photo.pixels.dtype == np.uint8
    assert photo.notes == ((f"{bits} bits a channel reduced to 8",) if bits > 8 else ())


def test_resizing_rounds_to_16_bits():
    ramp = np.linspace(0, 65535, 1000).astype(np.uint16)[None].repeat(8, axis=0)
    found = imresize(ramp, 2.0)
    assert found.dtype == np.uint16
    assert np.abs(found[8].astype(int) - np.round(imresize(ramp.astype(float), 2.0))[8].clip(0, 65535)).max() <= 1
    assert len(np.unique(found)) > 1900


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_cut_off_files_are_refused(tmp_path, suffix, kept):
    buffer = io.BytesIO()
    if suffix == ".tif":
        tifffile.imwrite(buffer, deep_noise(40, 40, 3), photometric="rgb", metadata=None)
        data = buffer.getvalue()
    else:
        data = png16(rows_of(deep_noise(40, 40, 3)), 40, 40)
    (tmp_path / f"a{suffix}").write_bytes(data[: int(kept * len(data))])
    with pytest.raises(InputError, match=rf"a\{suffix}: broken or unreadable picture"):
        read_photo(tmp_path / f"a{suffix}")
