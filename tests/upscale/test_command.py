import io
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

from msnlan_jax.pictures.images import read_image, read_photo, write_image
from msnlan_jax.pictures.resize import imresize
from msnlan_jax.runtime import command
from msnlan_jax.upscale.__main__ import main
from tests.conftest import Result
from tests.samples import noise, save_noise, snapshot

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 2), (5, 4, 3), (5, 4, 4)], ids=str)
def test_upscale_a_picture(invoke, tmp_path, shape):
    write_image(tmp_path / "a.png", noise(0, *shape))
    for scale in (4, 3):
        flags = [] if scale == 4 else ["--scale", "3", "--overwrite"]
        assert invoke("upscale", "a.png", "-o", "new/b.png", *flags) == Result(0, "a.png -> new/b.png (bicubic)\n", "")
        expected = imresize(noise(0, *shape), float(scale))
        np.testing.assert_array_equal(read_image(tmp_path / "new" / "b.png"), expected)


def test_upscale_a_folder(invoke, tmp_path):
    save_noise(tmp_path / "in", {"a.jpg": (5, 4, 3), "b.png": (3, 3), "c.png": (4, 4, 4)})
    (tmp_path / "in" / "b.png").write_bytes(b"broken")
    broken = "error: 1 of 3 pictures failed: in/b.png: broken or unreadable picture: not a picture in a known format"
    kept = ", 2 kept that were there already (--overwrite replaces them)"
    for written, there in ((2, ""), (0, kept)):
        result = invoke("upscale", "in", "-o", "out", "--scale", "2")
        assert result.code == 2
        assert result.err.splitlines()[-1] == broken
        assert result.out == f"{written} of 3 pictures written to out{there}\n"
        assert sorted(snapshot(tmp_path / "out")) == ["a.png", "c.png"]
    assert read_image(tmp_path / "out" / "a.png").shape == (10, 8, 3)
    (tmp_path / "in" / "b.png").unlink()
    assert invoke("upscale", "in", "-o", "out", "--scale", "3", "--overwrite").code == 0
    assert read_image(tmp_path / "out" / "c.png").shape == (12, 12, 4)


def test_pictures_that_would_share_a_name_are_refused(invoke, tmp_path):
    save_noise(tmp_path / "in", {"a.jpg": (5, 4, 3), "a.png": (3, 3)})
    result = invoke("upscale", "in", "-o", "out", "--scale", "2")
    expected = "error: in/a.jpg: would become out/a.png as in/a.png would, expected different names, or --format same\n"
    assert (result.code, result.err) == (2, expected)
    assert not (tmp_path / "out").exists()


def test_a_folder_tree_is_kept_and_its_own_results_are_passed_over(invoke, tmp_path):
    save_noise(tmp_path / "in", {"a.png": (3, 4, 3), "x/a.bmp": (2, 2, 3), "x/y/b.tif": (2, 3), ".x/c.png": (2, 2)})
    for kept in ("", ", 3 kept that were there already (--overwrite replaces them)"):
        result = invoke("upscale", "in", "-o", "in/large", "--weights", "bicubic", "--scale", "2")
        assert result.code == 0
        assert result.out == f"{0 if kept else 3} of 3 pictures written to in/large{kept}\n"
    found = sorted(str(path.relative_to(tmp_path / "in/large")) for path in (tmp_path / "in/large").rglob("*.*"))
    assert found == ["a.png", "x/a.png", "x/y/b.png"]
    assert read_image(tmp_path / "in/large/x/y/b.png").shape == (4, 6)


def test_results_in_the_folder_of_their_pictures_are_passed_over_too(invoke, tmp_path):
    save_noise(tmp_path / "in", {"a.png": (3, 4, 3), "x/b.png": (2, 2, 3)})
    lines = [["in", "-o", "in"], ["in/a.png", "in/x/b.png"], ["in", "-o", "in"]]
    for line in lines:
        assert invoke("upscale", *line, "--weights", "bicubic", "--scale", "2").code == 0
    again = sorted(str(path) for path in (tmp_path / "in").rglob("*.png"))
    assert invoke("upscale", *again, "--weights", "bicubic", "--scale", "2").code == 0
    assert sorted(snapshot(tmp_path / "in")) == ["a.png", "a_x2.png", "x/b.png", "x/b_x2.png"]


def test_a_tiny_scale_leaves_a_pixel(invoke, tmp_path):
    save_noise(tmp_path, {"a.png": (3, 4, 3)})
    assert invoke("upscale", "a.png", "-o", "b.png", "--weights", "bicubic", "--scale", "1e-8").code == 0
    assert read_image(tmp_path / "b.png").shape == (1, 1, 3)


def test_the_folder_beside_is_named_though_pictures_lie_deeper(invoke, tmp_path):
    save_noise(tmp_path / "in", {"x/y/b.png": (2, 3), "x/z.png": (2, 3)})
    result = invoke("upscale", "in", "--weights", "bicubic", "--scale", "2")
    assert (result.code, result.out) == (0, "2 of 2 pictures written to in_x2\n")
    assert (tmp_path / "in_x2" / "x" / "y" / "b.png").exists()


def test_one_file_of_each_kind(invoke, tmp_path):
    """Written in its own format, twice as large, with its profile and its orientation."""
    gray, colour = noise(0, 8, 6), noise(1, 8, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colour).save(tmp_path / "turned.jpg", exif=exif, icc_profile=SRGB, quality=95)
    Image.fromarray(colour).quantize(20).save(tmp_path / "palette.png", transparency=3)
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.tif")
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "inks.tiff")
    Image.fromarray(gray).save(tmp_path / "gray.bmp")
    Image.fromarray(noise(2, 8, 6, 4)).save(tmp_path / "alpha.webp", lossless=True)
    names = ["turned.jpg", "palette.png", "deep.tif", "inks.tiff", "gray.bmp", "alpha.webp"]
    result = invoke("upscale", *names, "--weights", "bicubic", "--scale", "2", "--format", "same")
    assert result.code == 0
    assert result.out.splitlines() == [
        "6 of 6 pictures written beside their originals",
    ]
    shapes = {name: read_photo(tmp_path / name.replace(".", "_x2.")).pixels.shape for name in names}
    assert shapes == {
        "turned.jpg": (12, 16, 3),
        "palette.png": (16, 12, 4),
        "deep.tif": (16, 12),
        "inks.tiff": (16, 12, 3),
        "gray.bmp": (16, 12),
        "alpha.webp": (16, 12, 4),
    }
    turned = read_photo(tmp_path / "turned_x2.jpg")
    assert turned.icc_profile == SRGB
    with Image.open(io.BytesIO((tmp_path / "turned_x2.jpg").read_bytes())) as stored:
        assert 0x0112 not in stored.getexif()
    deep = read_photo(tmp_path / "deep_x2.tif").pixels
    np.testing.assert_array_equal(deep, imresize(gray.astype(np.uint16) * 257, 2.0), strict=True)


def test_a_ramp_of_16_bits_stays_smooth(invoke, tmp_path):
    ramp = np.linspace(20_000, 30_000, 120).astype(np.uint16)[None].repeat(8, axis=0)
    write_image(tmp_path / "a.png", np.dstack([ramp, ramp // 2, ramp]))
    for output in ("b.png", "b.tif"):
        assert invoke("upscale", "a.png", "-o", output, "--scale", "3").code == 0
        found = read_photo(tmp_path / output).pixels
        assert (found.dtype, found.shape) == (np.uint16, (24, 360, 3))
        assert len(np.unique(found[12, :, 0])) > 300  # of 39 levels in 8 bits
    result = invoke("upscale", "a.png", "-o", "b.jpg", "--scale", "3")
    assert result.out.splitlines()[0] == "a.png: 16 bits a channel reduced to 8, which .jpg holds"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "-o", "b.png"], "argument input: found nothing, expected a path (--help lists the flags)"),
        (["a.png", "-o", ""], "argument -o/--output: found nothing, expected a path (--help lists the flags)"),
        (
            ["a.png", "--scale=1e308"],
            "--scale: found 1e+308, expected a positive number of at most 1000000 (--help lists the flags)",
        ),
        (["a.png", "--scale", "2", "--sca=3"], "--scale: found it twice, expected it once (--help lists the flags)"),
        (
            ["https://example.com/cat.png"],
            "argument input: found the address https://example.com/cat.png, expected a local path, or one in an object "
            "store as gs:// (--help lists the flags)",
        ),
        (
            ["a.png", "-o", "-"],
            "--output: found -, expected a file with a name, or a folder (--help lists the flags)",
        ),
        (
            ["a.png", "-o", "new/.png"],
            "--output: found new/.png, expected a file with a name, or a folder (--help lists the flags)",
        ),
        (
            ["a.png", "-o", "b.png", "--output=c.png"],
            "--output: found it twice, expected it once (--help lists the flags)",
        ),
    ],
)
def test_odd_flags_are_refused(invoke, tmp_path, arguments, message):
    save_noise(tmp_path, {"a.png": (3, 3, 3)})
    assert invoke("upscale", *arguments) == Result(2, "", f"error: {message}\n")
    assert list(snapshot(tmp_path)) == ["a.png"]


def test_the_home_folder_and_a_last_slash(invoke, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    save_noise(tmp_path, {"a.png": (3, 3, 3)})
    for output in ("--output=~/new.dir/", "--output=~/b.png"):
        assert invoke("upscale", "a.png", output, "--scale", "2").code == 0
    assert sorted(snapshot(tmp_path)) == ["a.png", "home/b.png", "home/new.dir/a.png"]


def test_who_reads_no_more_is_no_pictures_fault(tmp_path, monkeypatch):
    frame = Image.fromarray(noise(0, 8, 8, 3))
    (tmp_path / "a").mkdir()
    frame.save(tmp_path / "a/a.jpg", "MPO", save_all=True, append_images=[frame.copy()])  # of which something is said

    def say(_text):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(command, "say", say)
    monkeypatch.setattr(sys, "argv", ["upscale", str(tmp_path / "a"), "--weights", "bicubic", "--scale", "2"])
    with pytest.raises(BrokenPipeError):
        main()


def test_names_cannot_control_the_terminal(invoke, tmp_path):
    save_noise(tmp_path, {"a\x1b[2J\n.png": (3, 3, 3)})
    result = invoke("upscale", "a\x1b[2J\n.png", "-o", "b.png", "--scale", "2")
    assert result == Result(0, "a\\x1b[2J\\n.png -> b.png (bicubic)\n", "")
    (tmp_path / "a\x1b.png").write_bytes(b"broken")
    assert "\x1b" not in invoke("upscale", "a\x1b.png", "-o", "c.png").err
