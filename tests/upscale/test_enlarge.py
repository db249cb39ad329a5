import os
import struct
import zlib

import numpy as np
import pytest
from etils import epath
from PIL import Image, ImageCms
from tqdm import tqdm

from msnlan_jax import inference, weights
from msnlan_jax.errors import InputError
from msnlan_jax.inference import Options, Programs, planning
from msnlan_jax.network import parameters
from msnlan_jax.pictures.bicubic import Bicubic
from msnlan_jax.pictures.images import read_image, read_photo, write_image
from msnlan_jax.pictures.resize import imresize
from msnlan_jax.runtime import machine
from msnlan_jax.upscale import __main__ as command
from msnlan_jax.upscale.enlarge import check_memory, enlarge, load_for_scale, plan_enlarging
from msnlan_jax.upscale.jobs import Job, Output, list_jobs
from msnlan_jax.weights import bundled
from tests.samples import Nearest, noise, save_noise, tiny_config, tiny_parameters

pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method:DeprecationWarning")  # in ml_collections
AUTO = Options("auto")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def enlarged(model, image, scale, options=AUTO):
    """The last picture that `enlarge` yields, and the notes."""
    programs = Programs()
    plan = plan_enlarging(model, image, scale, options, programs)
    *_, found = enlarge(model, image, scale, plan, programs)
    return found, plan.notes


@pytest.fixture(scope="module")
def network():
    return parameters.to_model(tiny_config(2), tiny_parameters(2))


def bmp16(w, h):
    """A BMP of 16 bits a pixel."""
    header = struct.pack("<IiiHHIIiiII", 40, w, h, 1, 16, 0, 2 * w * h, 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 54 + 2 * w * h, 0, 0, 54) + header + bytes(2 * w * h)


def test_a_bmp_of_16_bits_a_pixel_is_of_8_bits_a_channel(tmp_path):
    (tmp_path / "c.bmp").write_bytes(bmp16(4, 2))  # 5 bits a channel
    photo = read_photo(tmp_path / "c.bmp")
    assert (photo.pixels.dtype, photo.notes) == (np.uint8, ())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_the_colour_profile_is_kept(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", noise(0, 6, 5, 3), icc_profile=SRGB)
    photo = read_photo(tmp_path / f"a{suffix}")
    assert photo.icc_profile == SRGB
    with Image.open(tmp_path / f"a{suffix}") as stored:
        assert stored.info["icc_profile"] == SRGB


def test_a_profile_of_another_colour_space_is_dropped(tmp_path):
    Image.fromarray(noise(0, 6, 5)).save(tmp_path / "a.png", icc_profile=SRGB)
    assert read_photo(tmp_path / "a.png").icc_profile is None


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_without_a_profile(tmp_path, suffix):
    image = Image.fromarray(noise(0, 16, 16, 3)).convert("CMYK")
    image.save(tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as stored:
        expected = np.asarray(stored.convert("RGB"))
    photo = read_photo(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(photo.pixels, expected)
    assert photo.icc_profile is None


def test_a_decompression_bomb_is_refused_in_one_line(tmp_path):
    rows = zlib.compress(bytes(1000))
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png: found more than 178,956,970 pixels, a decompression bomb; refused$"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.1, 2.0, 2.5, 3.7])
def test_bicubic_by_any_scale_is_imresize(scale):
    image = noise(0, 10, 7, 4)
    found, notes = enlarged(load_for_scale("bicubic", scale)[0], image, scale)
    assert notes == ()
    assert found.shape == (*np.ceil(np.round(np.array([10, 7]) * scale, 6)), 4)
    np.testing.assert_array_equal(found, imresize(image, output_shape=found.shape[:2]))


@pytest.mark.parametrize("shape", [(10, 7), (10, 7, 2), (10, 7, 3), (10, 7, 4)], ids=str)
@pytest.mark.parametrize("scale", [None, 0.5, 1.3, 2.0, 3.0])
def test_any_scale_is_the_networks_and_then_imresize(shape, scale):
    image = noise(0, *shape)
    found, notes = enlarged(Nearest(2), image, scale)
    own = inference.upscale(Nearest(2), image)
    if scale in (None, 2.0):
        assert notes == ()
        np.testing.assert_array_equal(found, own)
    else:
        size = tuple(int(np.ceil(side * scale)) for side in (10, 7))
        np.testing.assert_array_equal(found, imresize(own, output_shape=size))
        assert notes == (f"×2 by the network, then to {size[1]}×{size[0]} bicubically",)


def test_bundled_weights_of_the_scale_that_reaches_are_chosen(tmp_path, monkeypatch):
    for scale in (2, 3):
        weights.write_safetensors(
            tmp_path / f"small_x{scale}.safetensors", tiny_config(scale), tiny_parameters(scale), dtype="bfloat16"
        )
    assert bundled.find("small", tmp_path) == {s: epath.Path(tmp_path / f"small_x{s}.safetensors") for s in (2, 3)}
    monkeypatch.setattr(bundled, "_FOLDER", epath.Path(tmp_path))
    for wanted, own in ((0.7, 2), (2, 2), (2.01, 3), (3, 3), (7.5, 3), (None, 3)):
        model, name = load_for_scale(None, wanted)
        assert (model.scale, name) == (own, "small")
    assert weights.load_model("small", scale=2).scale == 2
    assert (bundled.default_weights(), bundled.default_weights(3), bundled.default_weights(4)) == (
        "small",
        "small",
        "bicubic",
    )
    with pytest.raises(InputError, match=r"^small: found weights for ×2, ×3, expected ×4$"):
        weights.load_model("small", scale=4)
    monkeypatch.setattr(bundled, "_FOLDER", epath.Path(tmp_path / "none"))
    assert bundled.default_weights() == "bicubic"
    assert isinstance(load_for_scale(None, 2.5)[0], Bicubic)
    with pytest.raises(FileNotFoundError, match=r"^small: found no bundled weights, expected small_x4\.safetensors"):
        weights.load_model("small")


def test_what_does_not_fit_is_tiled_and_it_is_said(network, monkeypatch):
    monkeypatch.setattr(planning, "_PROGRAM_BYTES", {})
    options = Options("auto", tile_size=8, tile_overlap=2, memory_limit=0.01)
    found, notes = enlarged(network, noise(0, 40, 50, 3), None, options)
    assert notes == ("in tiles of 8×8 pixels, as whole, 50×40 would need at least about 0.013 of 0.01 GB",)
    expected = inference.upscale(network, noise(0, 40, 50, 3), inference="tile", tile_size=8, tile_overlap=2)
    np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)
    assert enlarged(network, noise(0, 8, 7, 3), None)[1] == ()


@pytest.mark.parametrize(("mode", "expected"), [("tile", ("a.png, about 1 s", 6)), ("whole", ("a.png, about 1 s", 1))])
def test_a_bar_shows_the_parts_of_a_picture_and_its_time(network, monkeypatch, tmp_path, mode, expected):
    shown = []

    class Bar(tqdm):
        def __init__(self, parts, name, total, **options):
            super().__init__(parts, name, total, disable=True)
            shown.append((name, total))

        def __iter__(self):
            for part in super().__iter__():
                shown.append("part")
                yield part

    monkeypatch.setattr(command, "tqdm", Bar)
    save_noise(tmp_path, {"a.png": (20, 9, 3)})
    job = Job(epath.Path(tmp_path / "a.png"), epath.Path(tmp_path / "b.png"))
    command.upscale_file(network, job, None, Options(mode, tile_size=8, tile_overlap=0), Programs())
    assert shown == [expected, *["part"] * expected[1]]


def test_how_a_picture_is_run_is_said_before_it_is(network, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(planning, "_WHOLE_SECONDS", 0.0)
    monkeypatch.setattr(command, "enlarge", lambda *args: pytest.fail("it was run"))
    save_noise(tmp_path, {"a.png": (120, 90, 3)})
    job = Job(epath.Path(tmp_path / "a.png"), epath.Path(tmp_path / "b.png"))
    with pytest.raises(pytest.fail.Exception):
        command.upscale_file(network, job, 3.0, AUTO, Programs())
    reason = "as whole, 90×120 would take about 1 s instead of 1 s; --inference whole insists"
    left = "×2 by the network, then to 270×360 bicubically"
    assert capsys.readouterr().out == f"{tmp_path / 'a.png'}: in tiles of 64×64 pixels, {reason}; {left}\n"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("b.webp", "b.webp: found a side of 16400 pixels, expected at most 16383, or another format, as .png"),
        ("b.jpg/c.png", "--output: b.jpg is a file, expected a folder"),
    ],
)
def test_what_cannot_be_written_is_refused_before_it_is_run(invoke, tmp_path, monkeypatch, output, message):
    save_noise(tmp_path, {"a.png": (1, 8200), "b.jpg": (1, 1)})
    monkeypatch.setattr(command, "enlarge", lambda *args: pytest.fail("it was run"))
    result = invoke("upscale", "a.png", "-o", output, "--weights", "bicubic", "--scale", "2")
    assert (result.code, result.err.splitlines()[-1]) == (2, f"error: {message}")


def test_what_cannot_be_resized_within_the_memory_is_refused_before_its_folder_is_made(invoke, tmp_path):
    save_noise(tmp_path, {"a.png": (5, 5)})
    flags = ("--weights", "bicubic", "--scale", "1000", "--memory_limit", "0.1")
    result = invoke("upscale", "a.png", "-o", "new/a.png", *flags)
    assert (result.code, (tmp_path / "new").exists()) == (2, False)
    assert result.err.startswith("error: a.png: memory: a result of 5000×5000 pixels needs about ")


def test_webp_takes_more_memory():
    options = Options(memory_limit=(planning._program_bytes(0) + 20 * 1600) / machine.GB)
    check_memory(Bicubic(1), noise(0, 10, 10), 4.0, options, ".png")
    with pytest.raises(InputError, match=r"^memory: a result of 40×40 pixels needs about "):
        check_memory(Bicubic(1), noise(0, 10, 10), 4.0, options, ".webp")


def jobs_of(*arguments):
    """The jobs alone, where no file is passed over."""
    jobs, passed_over = list_jobs(*arguments)
    assert passed_over == []
    return jobs


def test_results_beside_their_pictures(tmp_path):
    save_noise(tmp_path / "in", {"a.jpg": (3, 3, 3), "b.webp": (3, 3, 3)})
    folder = epath.Path(tmp_path / "in")
    a, b = folder / "a.jpg", folder / "b.webp"
    assert jobs_of([a], None, "4") == [Job(a, folder / "a_x4.png")]
    assert jobs_of([a, b], None, "2.5", "same") == [Job(a, folder / "a_x2.5.jpg"), Job(b, folder / "b_x2.5.webp")]
    assert jobs_of([folder], None, "4") == [
        Job(a, folder.parent / "in_x4" / "a.png"),
        Job(b, folder.parent / "in_x4" / "b.png"),
    ]
    assert jobs_of([folder], Output(folder), "4", "jpg") == [Job(a, folder / "a_x4.jpg"), Job(b, folder / "b_x4.jpg")]
    assert jobs_of([a], Output(folder.parent / "new"), "4") == [Job(a, folder.parent / "new" / "a.png")]
    assert jobs_of([a], Output(folder.parent / "new" / "c.tif"), "4") == [Job(a, folder.parent / "new" / "c.tif")]
    assert not (tmp_path / "in_x4").exists()
    assert jobs_of([a], Output(folder / "new.dir", is_folder=True), "4") == [Job(a, folder / "new.dir" / "a.png")]


def test_a_picture_that_is_named_twice_is_enlarged_once(tmp_path):
    save_noise(tmp_path, {"in/a.png": (3, 3, 3)})
    folder, out = epath.Path(tmp_path / "in"), epath.Path(tmp_path / "out")
    assert jobs_of([folder / "a.png", folder], Output(out), "2") == [Job(folder / "a.png", out / "a.png")]


def test_other_files_pipes_and_loops_are_passed_over(tmp_path):
    save_noise(tmp_path / "in", {"a.png": (3, 3, 3), "x/b.gif.png": (3, 3, 3)})
    (tmp_path / "in" / "notes.txt").touch()
    (tmp_path / "in" / "x" / "loop").symlink_to(tmp_path / "in")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    folder = epath.Path(tmp_path / "in")
    jobs, passed_over = list_jobs([folder], Output(epath.Path(tmp_path / "out")), "4")
    assert [job.source for job in jobs] == [folder / "a.png", folder / "x" / "b.gif.png"]
    assert passed_over == [folder / "notes.txt", folder / "pipe.png"]


def test_kinds_that_are_read_only_become_others(tmp_path):
    for name in ("a.gif", "b.jfif", "c.ppm"):
        Image.fromarray(noise(0, 8, 8)).save(tmp_path / name)
    jobs = jobs_of([epath.Path(tmp_path)], Output(epath.Path(tmp_path / "out")), "4", "same")
    assert [job.target.name for job in jobs] == ["a.png", "b.jpg", "c.png"]


def test_a_name_that_grows_too_long_is_refused_before_the_work(tmp_path):
    save_noise(tmp_path, {f"{'n' * 251}.png": (3, 3, 3)})
    path = epath.Path(tmp_path) / f"{'n' * 251}.png"
    assert jobs_of([path], Output(epath.Path(tmp_path / "out")), "4")[0].target.name == path.name
    with pytest.raises(InputError, match=r"found a name that becomes 258 bytes long, n+_x4\.png, expected"):
        list_jobs([path], None, "4")


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 2), (9, 7, 3), (9, 7, 4)], ids=str)
def test_16_bits_are_kept(network, shape):
    """In units of 257 the result is that of 8 bits, before it is rounded."""
    image = noise(0, *shape).astype(np.uint16) * 257
    for scale in (None, 2.5):
        found, _ = enlarged(network, image, scale)
        in_8_bits, _ = enlarged(network, noise(0, *shape), scale)
        assert found.dtype == np.uint16
        # Rounded once by the network, and bicubically, as alpha is, twice.
        assert np.abs(found / 257 - in_8_bits.astype(float)).max() < (
            0.51 if scale is None and shape[2:] in ((), (3,)) else 2
        )
        assert (found % 257 != 0).any()


def test_what_has_no_colours_is_given_none(network):
    gray, alpha = noise(0, 9, 7), noise(1, 9, 7)
    for scale in (None, 2.5):
        expected, _ = enlarged(network, np.dstack([gray, alpha]), scale)
        found, _ = enlarged(network, np.dstack([gray, gray, gray, alpha]), scale)
        np.testing.assert_array_equal(found, expected[:, :, [0, 0, 0, 1]])
        expected, _ = enlarged(network, gray, scale)
        found, _ = enlarged(network, np.dstack([gray, gray, gray]), scale)
        np.testing.assert_array_equal(found, expected[:, :, None].repeat(3, axis=2))
