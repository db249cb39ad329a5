"""DIV2K in miniature, written by TFDS's own builder from a download that the test makes up."""

from pathlib import Path

import numpy as np
import pytest

from data import sources
from data.folders import find_pairs
from data.loaders import make_loader
from msnlan_jax.errors import InputError
from msnlan_jax.pictures.images import read_rgb
from msnlan_jax.pictures.pairs import read_pair
from tests.samples import experiment, save_noise

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("tensorflow")
from data import tfds_builders, tfds_sets  # noqa: E402 - they need both

SIZES = {"0001": (10, 12), "0002": (14, 9), "0003": (11, 11)}


def download(folder, scale):
    """Lay out what the archives of DIV2K hold; return name → where it was extracted."""
    for part in ("train", "valid"):
        shapes = {f"{name}.png": (h * scale, w * scale, 3) for name, (h, w) in SIZES.items()}
        save_noise(folder / f"{part}_hr/DIV2K_{part}_HR", shapes)
        shapes = {f"{name}x{scale}.png": (h, w, 3) for name, (h, w) in SIZES.items()}
        save_noise(folder / f"{part}_lr/DIV2K_{part}_LR_bicubic/X{scale}", shapes)
    return {
        f"{part}_{kind}_url": str(folder / f"{part}_{kind}") for part in ("train", "valid") for kind in ("lr", "hr")
    }


def build(tmp_path, monkeypatch, scale):
    extracted = download(tmp_path / "download", scale)
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda self, urls: extracted)
    builder = tfds.builder_cls("div2k")(config=f"bicubic_x{scale}", data_dir=tmp_path / "tfds")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(compute_stats="skip", try_download_gcs=False)
    )


def div2k(folder, scale=2, loader="tfdata", **fields):
    return experiment(data={"source": "div2k", "dir": str(folder), "loader": loader}, scale=scale, **fields)


def by_size(pictures):
    return {lr.shape[:2]: (lr, hr) for lr, hr in pictures}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_div2k_as_tfds_writes_it(tmp_path, monkeypatch, scale):
    build(tmp_path, monkeypatch, scale)
    found = by_size(sources.open_pictures(div2k(tmp_path / "tfds", scale)))
    assert set(found) == set(SIZES.values())
    for name, size in SIZES.items():
        part = tmp_path / "download"
        lr = read_rgb(part / f"train_lr/DIV2K_train_LR_bicubic/X{scale}/{name}x{scale}.png")
        np.testing.assert_array_equal(found[size][0], lr, strict=True)
        np.testing.assert_array_equal(
            found[size][1], read_rgb(part / f"train_hr/DIV2K_train_HR/{name}.png"), strict=True
        )


def test_both_loaders_read_div2k_alike(tmp_path, monkeypatch):
    build(tmp_path, monkeypatch, 2)
    expected = list(make_loader(div2k(tmp_path / "tfds")).batches(0))
    memory = make_loader(div2k(tmp_path / "tfds", loader="memory"))
    for crops, wanted in zip(memory.batches(0), expected, strict=True):
        for found, patches in zip(memory.crops(memory.resident, crops), wanted, strict=True):
            np.testing.assert_array_equal(found, patches)


def test_the_newest_version_is_read(tmp_path, monkeypatch):
    build(tmp_path, monkeypatch, 2)
    older = tmp_path / "tfds/div2k/bicubic_x2/1.10.0"
    older.mkdir()
    (older / "dataset_info.json").write_text("broken")
    assert len(sources.open_pictures(div2k(tmp_path / "tfds"))) == 3
    older.rename(older.with_name("2.10.0"))
    with pytest.raises(InputError, match=r"2\.10\.0: broken or unreadable TFDS data set: "):
        sources.open_pictures(div2k(tmp_path / "tfds"))


def test_unzipped_div2k(tmp_path):
    download(tmp_path, 2)
    root = tmp_path / "DIV2K"
    root.mkdir()
    (tmp_path / "train_hr/DIV2K_train_HR").rename(root / "DIV2K_train_HR")
    (tmp_path / "train_lr/DIV2K_train_LR_bicubic").rename(root / "DIV2K_train_LR_bicubic")
    pictures = sources.open_pictures(div2k(root))
    assert [lr.shape[:2] for lr, _ in pictures] == list(SIZES.values())
    np.testing.assert_array_equal(pictures[0][0], read_rgb(root / "DIV2K_train_LR_bicubic/X2/0001x2.png"))


def test_div2k_that_is_not_there(tmp_path, monkeypatch):
    message = (
        r"^config\.data\.dir: found neither div2k/bicubic_x3 nor DIV2K_train_HR in .*, expected one of them; `tfds "
    )
    with pytest.raises(InputError, match=message):
        sources.open_pictures(div2k(tmp_path, 3))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))
    with pytest.raises(InputError, match=message.replace("in .*", "in .*/default")):
        sources.open_pictures(div2k("", 3))


def test_div2k_smaller_than_a_patch(tmp_path, monkeypatch):
    build(tmp_path, monkeypatch, 2)
    with pytest.raises(InputError, match=r"2\.0\.0, picture \d: found 10×12 LR pixels, expected at least .* = 11 on"):
        sources.open_pictures(div2k(tmp_path / "tfds", patch_size=11))


def run(monkeypatch, capsys, *flags):
    monkeypatch.setattr("sys.argv", ["tfds_builders", *map(str, flags)])
    tfds_builders.main()
    return Path(capsys.readouterr().out.splitlines()[-1])


def test_a_paired_folder(tmp_path, monkeypatch, capsys):
    save_noise(tmp_path / "set/HR", {"a.png": (20, 24, 3), "b.png": (32, 23, 3)})
    version = run(monkeypatch, capsys, "--input", tmp_path / "set", "--output", tmp_path / "tfds", "--scale", "2")
    assert version == tmp_path / "tfds/paired_folder/x2/1.0.0"
    config = experiment(data={"source": "folder", "dir": str(version)})
    found = by_size(sources.open_pictures(config))
    expected = by_size(read_pair(pair, 2) for pair in find_pairs(tmp_path / "set", 2))
    assert set(found) == set(expected)
    for size, pictures in expected.items():
        for picture, wanted in zip(found[size], pictures, strict=True):
            np.testing.assert_array_equal(picture, wanted, strict=True)
    with pytest.raises(InputError, match=r"^--output: found .*1\.0\.0, expected a folder without it"):
        run(monkeypatch, capsys, "--input", tmp_path / "set", "--output", tmp_path / "tfds", "--scale", "2")


def test_benchmark_sets(tmp_path, monkeypatch, capsys):
    for name, size in (("Set5", 12), ("Set14", 16)):
        save_noise(tmp_path / "sets" / name / "HR", {"a.png": (size, size, 3)})
    flags = ("--input", tmp_path / "sets", "--output", tmp_path / "tfds", "--benchmark")
    version = run(monkeypatch, capsys, *flags)
    assert version == tmp_path / "tfds/benchmark_sets/x4/1.0.0"
    for name, size in (("Set5", 12), ("Set14", 16)):
        ((lr, hr),) = tfds_sets.read_set(version, 4, name)
        assert (lr.shape, hr.shape) == ((size // 4, size // 4, 3), (size, size, 3))
        np.testing.assert_array_equal(hr, read_rgb(tmp_path / "sets" / name / "HR/a.png"))
    with pytest.raises(InputError, match=r"1\.0\.0: found splits Set14, Set5, expected train$"):
        sources.open_pictures(experiment(data={"source": "folder", "dir": str(version)}, scale=4))


def test_a_broken_picture_stops_the_builder(tmp_path, monkeypatch, capsys):
    save_noise(tmp_path / "set", {"a.png": (20, 24, 3)})
    (tmp_path / "set/b.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"b\.png: broken or unreadable picture"):
        run(monkeypatch, capsys, "--input", tmp_path / "set", "--output", tmp_path / "tfds")
