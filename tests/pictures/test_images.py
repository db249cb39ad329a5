import io
import os
import re
import struct
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from msnlan_jax.errors import InputError
from msnlan_jax.pictures.images import (
    check_suffix,
    list_images,
    read_image,
    read_photo,
    read_rgb,
    to_rgb,
    write_image,
)
from msnlan_jax.pictures.resize import imresize
from tests.samples import noise, png_chunk, save_noise, snapshot

SHAPES = {"gray": (5, 7), "gray+alpha": (5, 7, 2), "RGB": (5, 7, 3), "RGBA": (5, 7, 4)}


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_round_trip(tmp_path, shape, suffix):
    picture = noise(0, *shape)
    write_image(tmp_path / f"new/folder/a{suffix}", picture)
    np.testing.assert_array_equal(read_image(tmp_path / f"new/folder/a{suffix}"), picture, strict=True)
    assert list(snapshot(tmp_path)) == [f"new/folder/a{suffix}"]


def test_one_channel_is_gray(tmp_path):
    write_image(tmp_path / "a.png", noise(0, 5, 7, 1))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), noise(0, 5, 7), strict=True)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_are_near(tmp_path, suffix):
    ramp = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], (32, 24, 3))
    write_image(tmp_path / f"a{suffix}", ramp)
    assert np.abs(read_image(tmp_path / f"a{suffix}").astype(int) - ramp).max() <= 4


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_into_jpeg_is_refused(tmp_path, suffix, channels):
    with pytest.raises(InputError, match=rf"a\{suffix}: .*, such as \.png$"):
        write_image(tmp_path / f"a{suffix}", noise(0, 5, 7, channels))
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.gif", "a.npy"])
def test_unknown_suffix_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}: found suffix .*, expected one of \.png, "):
        write_image(tmp_path / name, noise(0, 2, 2, 3))
    assert snapshot(tmp_path) == {}


def test_failing_to_write_leaves_what_is_there(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match=r"file/a\.png: cannot be written"):
        write_image(tmp_path / "file" / "a.png", noise(0, 2, 2, 3))
    assert snapshot(tmp_path) == {"file": b"precious"}


def save(path, image, **options):
    image.save(path, **options)
    return path


def test_palette(tmp_path):
    image = Image.fromarray(noise(0, 6, 5, 3)).quantize(30)
    path = save(tmp_path / "a.png", image)
    with Image.open(path) as stored:
        assert stored.mode == "P"
    np.testing.assert_array_equal(read_image(path), np.asarray(image.convert("RGB")), strict=True)


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(noise(0, 6, 5, 3)).quantize(30)
    index = int(np.asarray(image)[2, 3])
    found = read_image(save(tmp_path / "a.png", image, transparency=index))
    np.testing.assert_array_equal(found[:, :, :3], np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(found[:, :, 3], np.where(np.asarray(image) == index, 0, 255))


@pytest.mark.parametrize(("mode", "clear"), [("L", 9), ("RGB", (9, 9, 9))])
def test_a_transparent_colour_becomes_alpha(tmp_path, mode, clear):
    values = np.array([[9, 10, 9], [11, 9, 12]], np.uint8)
    picture = values if mode == "L" else values[:, :, None].repeat(3, axis=2)
    found = read_image(save(tmp_path / "a.png", Image.fromarray(picture), transparency=clear))
    assert found.shape[2] in (2, 4)
    np.testing.assert_array_equal(found[:, :, -1], np.where(values == 9, 0, 255))


def test_one_bit(tmp_path):
    bits = noise(0, 6, 9) > 128
    found = read_image(save(tmp_path / "a.png", Image.fromarray(bits)))
    np.testing.assert_array_equal(found, np.where(bits, 255, 0).astype(np.uint8), strict=True)


def test_jpeg_keeps_the_colours_of_every_pixel(tmp_path):
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2, 0] = 255
    write_image(tmp_path / "a.jpg", stripes)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - stripes).max() < 32


def test_a_profile_of_gray_is_not_given_to_webp_which_holds_colours(tmp_path):
    profile = bytes(16) + b"GRAY" + bytes(108)
    for suffix, kept in ((".tif", True), (".webp", False)):
        write_image(tmp_path / f"a{suffix}", noise(0, 6, 5), icc_profile=profile)
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert ("icc_profile" in image.info) == kept


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_pictures_are_refused_as_their_range_is_unknown(tmp_path, dtype):
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([[0, 300], [70000, 5]], dtype)))
    with pytest.raises(InputError, match=r"a\.tif: "):
        read_image(path)


def test_cmyk(tmp_path):
    image = Image.fromarray(noise(0, 6, 5, 3)).convert("CMYK")
    found = read_image(save(tmp_path / "a.tif", image))
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")), strict=True)


ORIENTATIONS = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation(tmp_path, orientation):
    stored = noise(0, 4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read_image(save(tmp_path / "a.png", Image.fromarray(stored), exif=exif))
    np.testing.assert_array_equal(found, ORIENTATIONS[orientation](stored), strict=True)


def encoded(suffix):
    buffer = io.BytesIO()
    Image.fromarray(noise(0, 64, 64, 3)).save(buffer, suffix)
    return buffer.getvalue()


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpeg"])
def test_cut_off_pictures_are_refused(tmp_path, suffix, kept):
    data = encoded(suffix)
    (tmp_path / f"a.{suffix}").write_bytes(data[: int(kept * len(data))])
    with pytest.raises(InputError, match=rf"a\.{suffix}: broken or unreadable picture: .") as error:
        read_image(tmp_path / f"a.{suffix}")
    assert "\n" not in str(error.value)


def test_a_damaged_byte_is_noticed(tmp_path):
    data = bytearray(encoded("png"))
    data[len(data) // 2] ^= 255
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png: broken or unreadable picture"):
        read_image(tmp_path / "a.png")


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(InputError, match=r"text\.png: broken or unreadable picture: not a picture in a known format$"):
        read_image(tmp_path / "text.png")
    for start, what in {
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic": "a HEIC picture, as telephones take them",
        b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic": "a HEIC picture, as telephones take them",
        b"version https://git-lfs.github.com/spec/v1\n": "a pointer of Git LFS, as .*",
        b"\n<!DOCTYPE html>": "a web page",
    }.items():
        (tmp_path / "other.png").write_bytes(start)
        with pytest.raises(InputError, match=rf"other\.png: found {what}, expected a PNG, JPEG, TIFF or the like$"):
            read_image(tmp_path / "other.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(InputError, match=r"empty\.png: found an empty file, expected a picture$"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}: found a folder, expected a picture$"):
        read_image(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file, expected a picture$"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("shape", [*SHAPES.values(), (5, 7, 1)], ids=str)
def test_read_rgb(tmp_path, shape):
    picture = noise(0, *shape)
    write_image(tmp_path / "a.png", picture)
    gray = len(shape) == 2 or shape[2] <= 2
    expected = picture.reshape(5, 7, -1)[:, :, [0, 0, 0] if gray else [0, 1, 2]]
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), expected, strict=True)
    np.testing.assert_array_equal(to_rgb(picture), expected, strict=True)


def test_list_images(tmp_path):
    names = ["b.png", "a.JPG", "c.webp", "a.bmp", "d.tif", "e.tiff", "f.jpeg"]
    save_noise(tmp_path, dict.fromkeys([*names, ".hidden.png"], (2, 2, 3)))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder").mkdir()
    assert [path.name for path in list_images(tmp_path)] == sorted(names)
    assert list_images(tmp_path / "folder") == []
    with pytest.raises(FileNotFoundError, match="none: no such folder, expected a folder of pictures"):
        list_images(tmp_path / "none")
    with pytest.raises(InputError, match=r"notes\.txt: found a file, expected a folder of pictures"):
        list_images(tmp_path / "notes.txt")


@pytest.mark.parametrize("image", [np.zeros((3, 4, 3)), np.zeros((3, 4, 5), np.uint8), np.zeros(4, np.uint8)], ids=str)
@pytest.mark.usefixtures("unchecked")
def test_other_arrays_are_not_written(tmp_path, image):
    with pytest.raises(InputError, match=r"a\.png: found .*, expected uint8 or uint16 \[H,W\] or \[H,W,1\.\.4\]$"):
        write_image(tmp_path / "a.png", image)
    assert not (tmp_path / "a.png").exists()


@pytest.mark.usefixtures("unchecked")
def test_jax_arrays_are_written_and_resized(tmp_path):
    picture = noise(0, 4, 6, 3)
    write_image(tmp_path / "a.png", jnp.asarray(picture))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)
    np.testing.assert_array_equal(imresize(jnp.asarray(picture), 2.0), imresize(picture, 2.0), strict=True)


@pytest.mark.parametrize(
    ("form", "suffix"), [("GIF", "gif"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif"), ("AVIF", "avif")]
)
def test_several_frames_are_refused(tmp_path, form, suffix):
    frames = [Image.fromarray(noise(i, 16, 16, 3)) for i in range(3)]
    frames[0].save(tmp_path / f"a.{suffix}", form, save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=rf"a\.{suffix}: found [34] (frames|pages), expected a single picture$"):
        read_image(tmp_path / f"a.{suffix}")


def test_a_second_view_from_a_phone_is_left_out(tmp_path):
    views = [Image.fromarray(noise(i, 16, 16, 3)) for i in range(2)]
    views[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=views[1:])
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.notes == ("the first of 2 frames",)
    assert photo.pixels.shape == (16, 16, 3)


def test_a_gray_palette_is_gray(tmp_path):
    gray = noise(0, 6, 5)
    found = read_image(save(tmp_path / "a.gif", Image.fromarray(gray)))
    np.testing.assert_array_equal(found, gray, strict=True)


BESIDE = {
    "a long text": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000))),
    "a long Unicode text": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2_000_000))),
    "a broken profile": png_chunk(b"iCCP", b"p\0\0nothing that was compressed"),
    "a text with a wrong checksum": png_chunk(b"tEXt", b"Comment\0hello")[:-4] + b"oops",
    "broken EXIF": png_chunk(b"eXIf", b"neither II nor MM"),
    "a cut resolution": png_chunk(b"pHYs", b"\0"),
}


@pytest.mark.parametrize("what", BESIDE)
def test_damage_beside_the_pixels_does_no_harm(tmp_path, what):
    data = encoded("png")
    (tmp_path / "a.png").write_bytes(data[:33] + BESIDE[what] + data[33:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), noise(0, 64, 64, 3), strict=True)


def test_a_profile_of_megabytes_is_kept(tmp_path):
    profile = bytes(16) + b"RGB " + np.random.default_rng(0).bytes(1_500_000)
    data, content = encoded("png"), b"p\0\0" + zlib.compress(profile)
    (tmp_path / "a.png").write_bytes(data[:33] + png_chunk(b"iCCP", content) + data[33:])
    photo = read_photo(tmp_path / "a.png")
    assert photo.icc_profile == profile
    np.testing.assert_array_equal(photo.pixels, noise(0, 64, 64, 3))


def test_a_png_that_claims_more_than_it_can_hold_is_refused_at_once(tmp_path):
    header = struct.pack(">IIBBBBB", 13, 8_700_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    (tmp_path / "a.png").write_bytes(data + png_chunk(b"IEND", b""))
    with pytest.raises(
        InputError, match=r"a\.png: broken or unreadable picture: found \d+ bytes, too few for 13×8700000 pixels$"
    ):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".tif", ".bmp"])
def test_formats_of_at_most_4_gb_are_refused_before_a_run(suffix):
    check_suffix(f"a{suffix}", (30_000, 30_000, 3))
    with pytest.raises(
        InputError, match=rf"a\{suffix}: found 40000×40000 pixels of 4\.8 GB, expected at most 4\.3 GB, "
    ):
        check_suffix(f"a{suffix}", (40_000, 40_000, 3))
    check_suffix("a.png", (40_000, 40_000, 3))


def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    for name in ("a.png", "b.png"):
        with pytest.raises(InputError, match=rf"{name}: found a pipe, a socket or a device, expected a picture$"):
            read_image(tmp_path / name)
