import dataclasses
import io
import json

import numpy as np
import pytest
from etils import epath
from PIL import Image

from msnlan_jax import report
from msnlan_jax.errors import InputError
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.pictures.images import read_rgb, write_image
from msnlan_jax.report.comparison import Compared
from msnlan_jax.report.results import DatasetResult, Results, StatedProtocol, read_results
from msnlan_jax.report.showcase import Showcase
from msnlan_jax.report.writing import collect_results, write_report
from msnlan_jax.scoring.metrics import Scores
from msnlan_jax.scoring.protocol import Protocol
from msnlan_jax.scoring.scored import Reconstruction, ScoredPicture
from tests.report.samples import PROTOCOL, RESULTS, sample
from tests.samples import noise, snapshot

START = Results(4, "w.pt", PROTOCOL, method="ours")


def scored(dataset, name, psnr, *, place=(1, 1), bicubic=20.0, notes=()):
    hr = noise(0, 20, 24, 3)
    baseline = None if bicubic is None else Reconstruction(255 - hr, Scores(bicubic, 0.25), 0.25)
    sr = Reconstruction(hr, Scores(psnr, 0.5), 1.5)
    return ScoredPicture(dataset, name, *place, hr, sr, None, baseline, notes)


def test_pictures_are_collected_as_they_come(tmp_path):
    pictures = [
        scored("a", "x", 30.0, place=(1, 2)),
        scored("a", "y", 32.0, place=(2, 2), notes=("in tiles", "slowly")),
        scored("b", "x", 28.0),
    ]
    showcase = Showcase(8)
    results = collect_results(iter(pictures), START, tmp_path, showcase)
    assert results.datasets == {
        "a": DatasetResult(Scores(31.0, 0.5), {"x": Scores(30.0, 0.5), "y": Scores(32.0, 0.5)}, 3.0),
        "b": DatasetResult(Scores(28.0, 0.5), {"x": Scores(28.0, 0.5)}, 1.5),
    }
    assert {name: (found.mean.psnr, found.seconds) for name, found in results.bicubic.items()} == {
        "a": (20.0, 0.5),
        "b": (20.0, 0.25),
    }
    assert results.notes == {"a/y": "in tiles; slowly"}
    assert [(kept.dataset, kept.name, list(kept.methods)) for kept in showcase.samples] == [
        ("a", "x", ["bicubic", "ours"]),
        ("a", "y", ["bicubic", "ours"]),
        ("b", "x", ["bicubic", "ours"]),
    ]
    assert snapshot(tmp_path).keys() == {"results.json"}


def test_a_baseline_of_some_pictures_is_none(tmp_path):
    pictures = [scored("a", "x", 30.0, place=(1, 2)), scored("a", "y", 32.0, place=(2, 2), bicubic=None)]
    pictures.append(scored("b", "x", 28.0))
    assert list(collect_results(pictures, START, tmp_path, Showcase(0)).bicubic) == ["b"]


def test_a_set_that_ends_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^data set 'a': found y after its end, expected no more pictures$"):
        report.make_report([scored("a", "x", 30.0), scored("a", "y", 32.0)], START, tmp_path)
    assert list(read_results(tmp_path / "results.json").datasets["a"].images) == ["x"]


@pytest.mark.parametrize("place", [(1, 1), (1, 2)])
def test_a_set_that_comes_again_is_refused(tmp_path, place):
    pictures = [scored("a", "x", 30.0, place=place), scored("b", "x", 28.0), scored("a", "y", 32.0, place=(2, 2))]
    with pytest.raises(InputError, match=r"^data set 'a': found y after its end"):
        collect_results(pictures, START, tmp_path, Showcase(0))
    assert list(read_results(tmp_path / "results.json").datasets) == ["a", "b"]


def test_two_pictures_of_one_name_are_refused(tmp_path):
    pictures = [scored("a", "x", 30.0, place=(1, 2)), scored("a", "x", 32.0, place=(2, 2))]
    with pytest.raises(InputError, match=r"^data set 'a': found two pictures x, expected different names$"):
        collect_results(pictures, START, tmp_path, Showcase(0))


def test_pictures_of_sets_that_do_not_end_are_written(tmp_path):
    pictures = [scored("a", "x", 30.0, place=(1, 3)), scored("a", "y", 32.0, place=(2, 3))]
    results = collect_results([*pictures, scored("b", "z", 28.0, place=(1, 2))], START, tmp_path, Showcase(0))
    assert {name: list(found.images) for name, found in results.datasets.items()} == {"a": ["x", "y"], "b": ["z"]}
    assert results.datasets["a"].mean == Scores(31.0, 0.5)
    assert read_results(tmp_path / "results.json") == results


def test_a_scored_picture_says_which_of_its_set_it_is():
    picture = scored("a", "x", 30.0)
    with pytest.raises(TypeError, match="number"):
        ScoredPicture(dataset="a", name="x", hr=picture.hr, sr=picture.sr)


@pytest.mark.parametrize("more", [0, 1])
def test_a_data_set_that_is_scored_outlives_what_fails_later(tmp_path, more):
    def pictures():
        yield scored("a", "x", 30.0)
        yield from [scored("b", "x", 28.0, place=(1, 2))] * more
        raise InputError("power failure")

    with pytest.raises(InputError, match="power failure"):
        report.make_report(pictures(), START, tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())["datasets"]
    assert {name: dataset["psnr"] for name, dataset in found.items()} == {"a": 30.0}


@pytest.mark.parametrize("rounded", [True, False])
def test_pictures_are_saved_rounded(tmp_path, rounded):
    picture = scored("a", "x", 30.0)
    if not rounded:
        image = picture.hr.astype(np.float32).clip(1, 254) + np.float32(0.25)
        picture = dataclasses.replace(picture, sr=dataclasses.replace(picture.sr, image=image))
    collect_results([picture], dataclasses.replace(START, has_images=True), tmp_path, Showcase(0))
    assert snapshot(tmp_path).keys() == {"results.json", "images/a/xx4.png", "strips/a/x.png"}
    saved = read_rgb(tmp_path / "images" / "a" / "xx4.png")
    np.testing.assert_array_equal(saved, picture.hr if rounded else picture.hr.clip(1, 254))


def test_other_methods_pictures_stand_before_ours(tmp_path):
    scores = DatasetResult.of({"x": Scores(25.0, 0.75)})
    theirs = Results(4, "t", StatedProtocol.of(Protocol(4)), {"a": scores}, has_images=True)
    write_image(tmp_path / "theirs" / "images" / "a" / "xx4.png", noise(1, 20, 24, 3))
    showcase = Showcase(8)
    other = Compared("theirs", theirs, epath.Path(tmp_path / "theirs"))
    collect_results(
        [scored("a", "x", 30.0, place=(1, 2)), scored("a", "y", 30.0, place=(2, 2))], START, tmp_path, showcase, [other]
    )
    first, second = showcase.samples
    assert list(first.methods) == ["bicubic", "theirs", "ours"]
    np.testing.assert_array_equal(first.methods["theirs"], noise(1, 20, 24, 3))
    assert first.scores["theirs"] == Scores(25.0, 0.75)
    assert list(second.methods) == ["bicubic", "ours"]


def test_what_is_written(tmp_path):
    table = write_report(tmp_path, RESULTS)
    assert sorted(snapshot(tmp_path)) == ["report.html", "results.json", "results.md", "results.tex"]
    assert "| Set5 | 2 | w.pt | 34.000 | 0.9200 | 1.2 |" in table
    assert (tmp_path / "results.md").read_text().startswith(f"{table}\n| picture | PSNR (dB) | SSIM |\n")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"file/results\.json: cannot be written"):
        write_report(tmp_path / "file", RESULTS)
    assert snapshot(tmp_path) == {"file": b"precious"}


def test_lpips_stands_wherever_scores_do(tmp_path):
    protocol = StatedProtocol.of(Protocol(4, lpips=lambda sr, hr: 0.0))
    scores = DatasetResult.of({"a<b": Scores(30.0, 0.9, 0.25), "b": Scores(32.0, 0.8, 0.75)})
    others = DatasetResult.of({"a<b": Scores(29.0, 0.9, 0.125), "b": Scores(31.0, 0.7, 0.875)})
    found = Results(4, "w.pt", protocol, {"Set5": scores}, {"Set5": others})
    write_report(tmp_path, found, samples=[sample()])
    assert "| picture | PSNR (dB) | SSIM | LPIPS |" in (tmp_path / "results.md").read_text()
    assert "| Set5/b | 32.000 | 0.8000 | 0.7500 |" in (tmp_path / "results.md").read_text()
    text = (tmp_path / "results.tex").read_text()
    assert (
        "PSNR (dB) / SSIM / LPIPS. PSNR and SSIM on Y, border of 4 left out, rounded to uint8, lpips: AlexNet" in text
    )
    assert (
        r"b & 31.00 / 0.7000 / 0.8750 & \textbf{32.00} / \textbf{0.8000} / \textbf{0.7500} \\" in text
    )  # less is better
    assert (tmp_path / "report.html").read_text().count('<th scope="col">LPIPS</th>') == 1 + 2


def test_figures_for_papers(tmp_path):
    write_report(tmp_path, RESULTS, samples=[sample()], config=MSNLANConfig(4, 16, 2, 1))
    written = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    stems = ["crops_Set5_a<b", "psnr_by_multiply_adds", "psnr_by_parameters"]
    assert sorted(written) == sorted(f"{stem}{suffix}" for stem in stems for suffix in (".png", ".pdf"))
    for name, data in written.items():
        if name.endswith(".pdf"):
            assert data.startswith(b"%PDF-")
            assert b"/Type3" not in data
        else:
            assert np.asarray(Image.open(io.BytesIO(data))).std() > 10
    write_report(tmp_path, RESULTS, samples=[dataclasses.replace(sample(), name="写$真$")])  # no plots this time
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "crops_Set5_写$真$.pdf",
        "crops_Set5_写$真$.png",
    ]


def test_names_that_are_no_text_or_marks_elsewhere(tmp_path):
    """As file systems hold them: they cost no scores, and are shown as they are."""
    names = ["a|b<script>", "[x] _y_", "\udcff", "new\nline", "esc\x1b[2J"]
    pictures = [scored("S|[1]", name, 30.0, place=(i, 5)) for i, name in enumerate(names, 1)]
    start = dataclasses.replace(START, weights="w\udcff.pt", has_images=True)
    table = report.make_report(pictures, start, tmp_path, report.Extras())
    assert "| S\\|\\[1\\] | 5 | ours |" in table
    shown = (tmp_path / "results.md").read_text()
    assert "| S\\|\\[1\\]/a\\|b&lt;script&gt; |" in shown
    assert "| S\\|\\[1\\]/\\[x\\] \\_y\\_ |" in shown
    rows = (tmp_path / "results.tex").read_text()
    assert "\n{[}x{]} \\_y\\_ & " in rows
    assert "\na\\textbar{}b\\textless{}script\\textgreater{} & " in rows
    found = read_results(tmp_path / "results.json").datasets["S|[1]"].images
    assert set(found) == {"a|b<script>", "[x] _y_", "\\udcff", "new\\nline", "esc\\x1b[2J"}
    assert "<script>" not in (tmp_path / "report.html").read_text().split("<main")[1].split("</main>")[0]
