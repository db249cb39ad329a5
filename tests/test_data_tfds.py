"""DIV2K in miniature, written by TFDS's own builder from a download that the test makes up."""

import numpy as np
import pytest

from data import sources
from data.loaders import make_loader
from msnlan_jax.errors import InputError
from msnlan_jax.images import read_rgb
from tests.samples import experiment, save_noise

tfds = pytest.importorskip("tensorflow_datasets")
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


def div2k(folder, scale=2, **fields):
    return experiment(data={"source": "div2k", "dir": str(folder)}, scale=scale, **fields)


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
