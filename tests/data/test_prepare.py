import os
import shutil

import numpy as np
import pytest

from data import prepare as module
from data import sources
from data.arrays import open_picture, write_picture
from data.folders import find_pairs
from data.loaders import make_loader
from data.prepare import prepare
from msnlan_jax.errors import InputError
from msnlan_jax.pictures.images import read_rgb, write_image
from msnlan_jax.pictures.pairs import read_pair
from msnlan_jax.pictures.resize import imresize
from msnlan_jax.runtime import command, lock
from tests.jobs import held
from tests.samples import experiment, noise, save_noise, snapshot

# 37 and 49 leave remainders by 2, 3 and 4.
SHAPES = {"a.png": (40, 37, 3), "b.png": (49, 60), "c.jpg": (37, 41, 3)}


@pytest.fixture
def photos(tmp_path):
    save_noise(tmp_path / "photos", SHAPES)
    return tmp_path / "photos"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "prepared"


def on_folder(folder, scale=2, loader="memory", **fields):
    return experiment(data={"source": "folder", "dir": str(folder), "loader": loader}, scale=scale, **fields)


def assert_same_pictures(found, expected):
    assert len(found) == len(expected) > 0
    for pair, other in zip(found, expected, strict=True):
        for picture, wanted in zip(pair, other, strict=True):
            np.testing.assert_array_equal(picture, wanted, strict=True)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_prepared_pictures_train_like_the_pictures_themselves(photos, output, scale):
    assert prepare(photos, output, (2, 3, 4)) == (3, 0, [])
    names = {f"HR/{name}.npy" for name in "abc"} | {f"LR_bicubic/X{s}/{n}x{s}.npy" for s in (2, 3, 4) for n in "abc"}
    assert set(snapshot(output)) == names | {"prepared.json", lock.NAME}
    config = on_folder(output, scale)
    assert {pair.lr.suffix for pair in sources.training_pairs(config)} == {".npy"}
    expected = [read_pair(pair, scale) for pair in find_pairs(photos, scale)]
    assert_same_pictures(sources.open_pictures(config), expected)


def test_given_lr_pictures_are_kept_and_missing_ones_made(tmp_path, output):
    save_noise(tmp_path / "set/HR", {"a.png": (24, 36, 3), "b.png": (24, 24, 3)})
    save_noise(tmp_path / "set/LR_bicubic/X2", {"ax2.png": (12, 18, 3)})
    assert prepare(tmp_path / "set", output, (2, 3)) == (2, 0, [])
    lr = open_picture(output / "LR_bicubic/X2/ax2.npy")
    np.testing.assert_array_equal(lr, read_rgb(tmp_path / "set/LR_bicubic/X2/ax2.png"))
    assert_same_pictures(
        sources.open_pictures(on_folder(output))[1:],
        [read_pair(find_pairs(tmp_path / "set", 2, may_lack_lr=True)[1], 2)],
    )
    assert open_picture(output / "LR_bicubic/X3/ax3.npy").shape == (8, 12, 3)


def test_pictures_at_half_their_size_are_further_pictures(photos, output, tmp_path):
    (tmp_path / "halves").mkdir()
    for name in SHAPES:
        write_picture(tmp_path / f"halves/{name[0]}_half.npy", imresize(read_rgb(photos / name), 0.5))
    assert prepare(photos, output, (2, 3), also_half=True) == (3, 0, [])
    assert prepare(photos, output, (2, 3), also_half=True) == (0, 3, [])
    for scale in (2, 3):
        pairs = find_pairs(photos, scale) + find_pairs(tmp_path / "halves", scale, arrays=True)
        expected = sorted(pairs, key=lambda pair: f"{pair.name}.npy")
        found = sources.open_pictures(on_folder(output, scale, patch_size=4))
        assert_same_pictures(found, [read_pair(pair, scale, open_picture) for pair in expected])


def test_what_is_there_is_kept_unless_its_picture_is_newer(photos, output):
    prepare(photos, output, (2,))
    (output / "HR/b.npy").unlink()
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.npy")}
    assert prepare(photos, output, (2,)) == (1, 2, [])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert open_picture(output / "HR/b.npy").shape == (49, 60, 3)
    save_noise(photos, {"a.png": (16, 16, 3)})
    os.utime(photos / "a.png", (later := (photos / "a.png").stat().st_mtime + 10, later))
    assert prepare(photos, output, (2,)) == (1, 2, [])
    assert open_picture(output / "LR_bicubic/X2/ax2.npy").shape == (8, 8, 3)


def test_an_interrupted_run_goes_on(photos, output, monkeypatch):
    """Stopped before any file, it leaves nothing that is taken for a picture, and the next run ends as if alone."""
    prepare(photos, output, (2, 3))
    expected = snapshot(output)
    for number in range(sum(name.endswith(".npy") for name in expected)):
        shutil.rmtree(output)
        left = iter(range(number))

        def write(path, picture, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            write_picture(path, picture)

        with monkeypatch.context() as patched:
            patched.setattr(module, "write_picture", write)
            with pytest.raises(KeyboardInterrupt):
                prepare(photos, output, (2, 3))
        whole = {path.stem for path in (output / "HR").glob("*")}
        for scale in (2, 3):
            assert whole <= {path.stem[:-2] for path in (output / f"LR_bicubic/X{scale}").glob("*")}
        assert prepare(photos, output, (2, 3)).broken == []
        assert snapshot(output) == expected


def run(monkeypatch, capsys, *flags):
    monkeypatch.setattr("sys.argv", ["prepare", *map(str, flags)])
    with pytest.raises(SystemExit) as stopped:
        command.run(module.main)
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err.splitlines()[-1]


def test_broken_pictures_are_skipped_and_listed(photos, output, monkeypatch, capsys):
    (photos / "a.png").write_bytes((photos / "a.png").read_bytes()[:-100])
    (photos / "d.png").write_bytes(b"broken")
    save_noise(photos, {"e.png": (2, 9, 3)})
    code, out, error = run(monkeypatch, capsys, "--input", photos, "--output", output, "--scale", "3")
    assert code == 2
    assert error.startswith(f"error: --input: skipped 3 of 5 pictures, the first: {photos / 'a.png'}: broken or unread")
    lines = out.splitlines()
    assert lines[:2] == ["LR X3: made by bicubic", f"2 pictures prepared, 0 were there: {output}"]
    assert [line.split(": ")[1] for line in lines[2:]] == [str(photos / name) for name in ("a.png", "d.png", "e.png")]
    assert {path.stem for path in output.rglob("*.npy")} == {"b", "c", "bx3", "cx3"}


@pytest.mark.parametrize("scale", ["5", "2,,3", "two", ""])
def test_scales_are_checked(photos, output, monkeypatch, capsys, scale):
    code, _, error = run(monkeypatch, capsys, "--input", photos, "--output", output, "--scale", scale)
    assert (code, error) == (2, f"error: --scale: found {scale!r}, expected some of 2,3,4")
    assert not output.exists()


def test_a_missing_input_is_named(tmp_path, output, monkeypatch, capsys):
    code, _, error = run(monkeypatch, capsys, "--input", tmp_path / "none", "--output", output)
    assert (code, error) == (2, f"error: {tmp_path / 'none'}: no such folder, expected a data set")
    assert not output.exists()


def test_the_input_folder_is_no_output(photos, monkeypatch, capsys):
    before, same = snapshot(photos), photos / ".." / photos.name
    code, _, error = run(monkeypatch, capsys, "--input", photos, "--output", same)
    assert (code, error) == (2, f"error: --output: found the input folder {same}, expected another folder")
    assert snapshot(photos) == before


def test_a_full_disk_is_no_broken_picture(photos, output, monkeypatch):
    def full(path, picture):
        raise InputError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(module, "write_picture", full)
    with pytest.raises(InputError, match=r"cannot be written: No space left on device$"):
        prepare(photos, output, (2,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.npy: broken or unreadable array: "),
        (b"broken", r"a\.npy: broken or unreadable array: "),
        (noise(0, 4, 4), r"a\.npy: found uint8 of shape \(4, 4\), expected a picture: uint8 \(H, W, 3\)$"),
        (np.zeros((4, 4, 3), np.float32), r"a\.npy: found float32 of shape \(4, 4, 3\), expected a picture"),
    ],
    ids=["empty", "broken", "gray", "float"],
)
def test_arrays_that_are_no_pictures_are_named(tmp_path, content, message):
    if isinstance(content, bytes):
        (tmp_path / "a.npy").write_bytes(content)
    else:
        np.save(tmp_path / "a.npy", content)
    with pytest.raises(InputError, match=message):
        sources.open_pictures(on_folder(tmp_path))


def test_a_truncated_array_is_named(photos, output):
    prepare(photos, output, (2,))
    path = output / "HR/b.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"HR/b\.npy: broken or unreadable array: "):
        sources.open_pictures(on_folder(output))


def test_missing_files_are_named(photos, output):
    with pytest.raises(FileNotFoundError, match=r"none\.npy: no such file, expected a picture"):
        open_picture(photos / "none.npy")
    prepare(photos, output, (2,))
    (output / "LR_bicubic/X2/bx2.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"X2/bx2\.npy: no such file, expected the LR of .*HR/b\.npy"):
        make_loader(on_folder(output))


def test_both_loaders_read_arrays_alike(photos, output):
    pytest.importorskip("tensorflow")
    prepare(photos, output, (2,))
    memory, tfdata = make_loader(on_folder(output)), make_loader(on_folder(output, loader="tfdata"))
    for expected, crops in zip(tfdata.batches(0), memory.batches(0), strict=True):
        for found, wanted in zip(memory.crops(memory.resident, crops), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_arrays_are_written_anew_where_lr_pictures_came_from_elsewhere(tmp_path):
    shapes = {"HR/1.png": (16, 16, 3), "HR/2.png": (16, 16, 3), "LR/X4/1x4.png": (4, 4, 3)}
    save_noise(tmp_path / "in", shapes)
    array = tmp_path / "out/LR_bicubic/X4/2x4.npy"

    def read():
        assert prepare(tmp_path / "in", tmp_path / "out", (4,)).broken == []
        return open_picture(array).copy()

    made = read()
    assert np.array_equal(read(), made)
    given = noise(9, 4, 4, 3)
    write_image(tmp_path / "in/LR/X4/2x4.png", given)
    os.utime(tmp_path / "in/LR/X4/2x4.png", (1, 1))
    assert np.array_equal(read(), given)
    (tmp_path / "in/LR/X4/2x4.png").unlink()
    assert np.array_equal(read(), made)
    (tmp_path / "out/prepared.json").unlink()  # as an earlier release left it
    write_image(tmp_path / "in/LR/X4/2x4.png", given)
    os.utime(tmp_path / "in/LR/X4/2x4.png", (1, 1))
    assert np.array_equal(read(), given)
    assert prepare(tmp_path / "in", tmp_path / "out", (4,)) == (0, 2, [])


def test_a_picture_that_cannot_be_written_ends_no_run(tmp_path):
    save_noise(tmp_path / "in", {f"{'n' * 250}.png": (16, 16, 3), "b.png": (16, 16, 3)})
    written, _, (broken,) = prepare(tmp_path / "in", tmp_path / "out", (2,))
    assert written == 1 and "nnn" in broken


def test_two_preparations_in_one_folder_are_refused(tmp_path, photos, output):
    with held(output), pytest.raises(InputError, match=r"^--output: .* is in use by process \d+ on "):
        prepare(photos, output, (4,))
    assert not (output / "HR").exists()
    assert prepare(photos, output, (4,)).kept == 0
