import base64
import dataclasses
import html.parser
import io
import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest
from etils import epath
from PIL import Image

from msnlan_jax import __version__, report
from msnlan_jax.errors import InputError
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.report import latex, model_size, page, published, writing
from msnlan_jax.report.comparison import Compared
from msnlan_jax.report.rows import describe_protocol, rows
from msnlan_jax.report.showcase import Crop, Sample
from msnlan_jax.scoring.evaluation import DatasetScores
from msnlan_jax.scoring.metrics import Scores
from tests.samples import noise, snapshot

SET5 = DatasetScores({"baby": Scores(33.5, 0.91), "bird": Scores(34.5, 0.93)}, seconds=1.23456)
BICUBIC = DatasetScores({"baby": Scores(31.0, 0.85), "bird": Scores(32.0, 0.87)}, seconds=0.5)
ODD = DatasetScores({"equal": Scores(math.inf, 1.0), "small": Scores(20.25, math.nan)}, seconds=2.0)
PROTOCOL = {"psnr": "luma", "ssim": "Y", "border": 4, "rounding": "uint8"}


@pytest.fixture
def result():
    datasets = {"Set5": SET5, "odd": ODD}
    return report.results(4, "w.pt", writing.protocol(4) | {"inference": "chop"}, datasets, {"Set5": BICUBIC})


@pytest.fixture
def sample():
    hr = noise(0, 120, 100, 3)
    scores = {"bicubic": Scores(20.0, 0.5), "theirs": Scores(25.0, 0.75), "MSNLAN": Scores(30.25, math.nan)}
    methods = {"bicubic": 255 - hr, "theirs": hr // 2, "MSNLAN": hr}
    return Sample("Set5", "a<b", hr, methods, scores, Crop(10, 20, 48))


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


def test_results_json(tmp_path, result):
    report.write(tmp_path / "new", result)
    assert json.loads((tmp_path / "new" / "results.json").read_text(), parse_constant=refuse_constant) == {
        "scale": 4,
        "weights": "w.pt",
        "version": __version__,
        "has_images": False,
        "protocol": PROTOCOL | {"inference": "chop"},
        "datasets": {
            "Set5": {
                "psnr": 34.0,
                "ssim": pytest.approx(0.92, rel=1e-14),
                "seconds": 1.235,
                "images": {"baby": {"psnr": 33.5, "ssim": 0.91}, "bird": {"psnr": 34.5, "ssim": 0.93}},
            },
            "odd": {
                "psnr": None,
                "ssim": 1.0,
                "seconds": 2.0,
                "images": {"equal": {"psnr": None, "ssim": 1.0}, "small": {"psnr": 20.25, "ssim": None}},
            },
        },
        "bicubic": {
            "Set5": {
                "psnr": 31.5,
                "ssim": pytest.approx(0.86, rel=1e-14),
                "seconds": 0.5,
                "images": {"baby": {"psnr": 31.0, "ssim": 0.85}, "bird": {"psnr": 32.0, "ssim": 0.87}},
            }
        },
    }


def test_markdown(tmp_path, result):
    table = [
        "**w.pt**, ×4 (psnr: luma, ssim: Y, border: 4, rounding: uint8, inference: chop)",
        "",
        "| data set | pictures | method | PSNR (dB) | SSIM | seconds |",
        "|---|---:|---|---:|---:|---:|",
        "| Set5 | 2 | bicubic | 31.500 | 0.8600 | 0.5 |",
        "| Set5 | 2 | w.pt | 34.000 | 0.9200 | 1.2 |",
        "| odd | 2 | w.pt | – | 1.0000 | 2.0 |",
    ]
    pictures = [
        "",
        "| picture | PSNR (dB) | SSIM |",
        "|---|---:|---:|",
        "| Set5/baby | 33.500 | 0.9100 |",
        "| Set5/bird | 34.500 | 0.9300 |",
        "| odd/equal | – | 1.0000 |",
        "| odd/small | 20.250 | – |",
    ]
    assert report.write(tmp_path, result).splitlines() == table
    assert (tmp_path / "results.md").read_text().splitlines() == table + pictures
    assert sorted(snapshot(tmp_path)) == ["report.html", "results.json", "results.md", "results.tex"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, result):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"file/results\.json: cannot be written"):
        report.write(tmp_path / "file", result)
    assert snapshot(tmp_path) == {"file": b"precious"}


def compared(name="theirs", protocol=PROTOCOL, datasets=None):
    datasets = {"Set5": DatasetScores({"baby": Scores(33.0, 0.95), "bird": Scores(35.5, 0.92)})}
    result = report.results(4, "t", protocol, datasets, {})
    return Compared(name, result, epath.Path("none"))


def test_rows_are_bicubic_others_ours_and_then_the_published(result):
    found = rows(result, [compared(), compared("cut", PROTOCOL | {"border": 6})])
    assert [row.name for row in found[:4]] == ["bicubic", "theirs", "cut", "w.pt"]
    assert [row.name for row in found[4:]] == list(published.scores(4, "Set5"))
    assert [row.note for row in found[:4]] == ["", "no odd", "border 6 instead of 4; no odd", ""]
    tiled = compared("tiled", PROTOCOL | {"inference": "tile", "tile_size": 64})
    assert rows(result, [tiled])[1].note == "inference tile instead of chop; no odd"
    assert [row.ours for row in found].index(True) == 3
    assert found[4].datasets == {"Set5": {"psnr": 28.42, "ssim": 0.8104}}
    rgb = report.results(4, "w.pt", writing.protocol(4, channel="rgb"), {"Set5": SET5}, {})
    wide = report.results(4, "w.pt", writing.protocol(4, border=6), {"Set5": SET5}, {})
    assert [len(rows(other)) for other in (rgb, wide)] == [1, 1]  # published ones would not compare


def test_the_protocol_in_words():
    assert describe_protocol(writing.protocol(4) | {"self_ensemble": True, "inference": "chop"}) == (
        "PSNR and SSIM on Y, border of 4 left out, rounded to uint8, self ensemble: yes, inference: chop"
    )
    other = writing.protocol(4, channel="rgb", border=0, rounding="none")
    assert describe_protocol(other) == "PSNR and SSIM on RGB, border of 0 left out, not rounded"


def test_lpips_is_stored_where_it_was_computed(tmp_path):
    scores = DatasetScores({"a": Scores(30.0, 0.9, 0.25), "b": Scores(32.0, 0.8, 0.75)})
    found = report.results(4, "w.pt", PROTOCOL, {"Set5": scores}, {})
    assert found["datasets"]["Set5"]["lpips"] == 0.5
    assert found["datasets"]["Set5"]["images"]["b"]["lpips"] == 0.75
    assert "| Set5 | 2 | w.pt | 31.000 | 0.8500 | 0.5000 | 0.0 |" in writing.markdown(found)
    assert '<th scope="col">LPIPS</th>' in page.page(found, [], [], [])


def test_lpips_stands_wherever_scores_do(tmp_path, sample):
    protocol = writing.protocol(4, lpips=True)
    scores = DatasetScores({"a<b": Scores(30.0, 0.9, 0.25), "b": Scores(32.0, 0.8, 0.75)})
    others = DatasetScores({"a<b": Scores(29.0, 0.9, 0.125), "b": Scores(31.0, 0.7, 0.875)})
    found = report.results(4, "w.pt", protocol, {"Set5": scores}, {"Set5": others})
    report.write(tmp_path, found, samples=[sample])
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


def test_scores_by_another_protocol_are_never_the_best(result):
    wide = compared("wide", PROTOCOL | {"border": 6})  # 34.25 dB, more than ours
    assert [row.rival for row in rows(result, [wide])[:4]] == [True, False, True, False]
    assert r"wide & 34.25 / 0.9350 & -- / -- \\" in latex.tables(result, [wide])
    assert r"w.pt & \textbf{34.00} / \textbf{0.9200} & -- / 1.0000 \\" in latex.tables(result, [wide])
    text = page.page(result, [wide], [], [])
    assert "<b>34.00</b>" in text
    assert "<b>34.25</b>" not in text
    tiled = compared("tiled", PROTOCOL | {"inference": "tile"})
    assert rows(result, [tiled])[1].rival  # another way to run, not to score


def test_long_tables_are_cut_where_a_page_ends(result):
    many = DatasetScores({f"{i:03}": Scores(30.0, 0.5) for i in range(100)})
    text = latex.tables(report.results(4, "w.pt", PROTOCOL, {"B100": many}, {}))
    assert text.count(r"\begin{tabular}") == 1 + 3
    assert "B100, ×4 (3 of 3)".replace("×", r"$\times$") in text
    assert [text.count(f"{i:03} & 30.00") for i in (0, 39, 40, 99)] == [1] * 4


def test_latex(result):
    text = latex.tables(result | {"weights": "w_1 & 50%"}, [compared()])
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    lines = text.splitlines()
    assert r"bicubic & 31.50 / 0.8600 & -- / -- \\" in lines
    assert r"theirs & \textbf{34.25} / \textbf{0.9350} & -- / -- \\" in lines
    assert r"w\_1 \& 50\% & 34.00 / 0.9200 & -- / 1.0000 \\" in lines
    assert r"EDSR & 32.46 / 0.8968 & -- / -- \\" in lines
    assert lines.index(r"\multicolumn{3}{l}{Published} \\") == lines.index(r"EDSR & 32.46 / 0.8968 & -- / -- \\") - 2
    assert "yulunzhang/RCAN" in lines[0]
    assert "bold: the best of those measured here" in text
    assert r"bird & 32.00 / 0.8700 & \textbf{35.50} / 0.9200 & 34.50 / \textbf{0.9300} \\" in lines
    assert "border of 4 left out" in text
    beside = latex.tables(result, [compared("EDSR")]).splitlines()  # measured here, and as published
    assert r"EDSR & \textbf{34.25} / \textbf{0.9350} & -- / -- \\" in beside
    assert r"EDSR & 32.46 / 0.8968 & -- / -- \\" in beside
    assert latex.escape("a\\b~c^d{e}#$") == r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d\{e\}\#\$"


class Elements(html.parser.HTMLParser):
    """Collects the tags of a page, and checks that they are nested."""

    VOID = ("meta", "img", "input", "br")

    def __init__(self, page):
        super().__init__()
        self.found, self.open, self.text = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def decoded(uri):
    head, data = uri.split(",", 1)
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_the_page_holds_everything_itself(result, sample):
    plots = model_size.plots(result, MSNLANConfig(4, 16, 2, 1))
    assert [plot.label for plot in plots] == ["parameters", "multiply–adds at 100×100 input"]
    text = page.page(result, [compared()], [sample], plots)
    elements = Elements(text)
    links = [attributes.get(key, "") for _, attributes in elements.found for key in ("src", "href")]
    assert all(link == "" or link.startswith("data:image/webp;base64,") for link in links)
    assert not re.search(r"https?://|url\(|@import|\$[a-z{]", text)
    assert len(elements.all("svg")) == 2
    (slider,) = elements.all("input")
    assert (slider["type"], slider["aria-label"]) == ("range", "a<b: where the two pictures meet")
    stage = {image["data-method"]: image for image in elements.all("img") if "data-method" in image}
    assert list(stage) == ["bicubic", "theirs", "MSNLAN", "HR"]
    assert {name: image.get("class") for name, image in stage.items()} == {
        "bicubic": "left",
        "theirs": None,
        "MSNLAN": "right",
        "HR": None,
    }
    enlarged = [decoded(image["src"]) for image in elements.all("img") if image.get("class") == "pixels"]
    inside = (slice(20, 68), slice(10, 58))
    for found, picture in zip(enlarged, (sample.hr, *sample.methods.values()), strict=True):
        np.testing.assert_array_equal(found, picture[inside])
    assert all(image.get("alt") for image in elements.all("img"))
    words = " ".join(page.text)
    assert words.count("Protocol: PSNR and SSIM on Y, border of 4 left out") == 3  # a summary and two sets
    for expected in ("30.25 dB", "theirs: no odd", "SwinIR (DIV2K)", "JingyunLiang/SwinIR", "x 10, y 20, 48×48"):
        assert expected in words


def test_names_cannot_break_the_page(sample):
    evil = "<script>alert(1)</script>"
    found = report.results(4, evil, PROTOCOL, {evil: SET5}, {})
    assert "<script>alert" not in page.page(found, [], [sample], [])


def test_figures_for_papers(tmp_path, result, sample):
    report.write(tmp_path, result, samples=[sample], config=MSNLANConfig(4, 16, 2, 1))
    written = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    stems = ["crops_Set5_a<b", "size_1", "size_2"]
    assert sorted(written) == sorted(f"{stem}{suffix}" for stem in stems for suffix in (".png", ".pdf"))
    for name, data in written.items():
        if name.endswith(".pdf"):
            assert data.startswith(b"%PDF-")
            assert b"/Type3" not in data
        else:
            assert np.asarray(Image.open(io.BytesIO(data))).std() > 10
    report.write(tmp_path, result, samples=[dataclasses.replace(sample, name="写$真$")])  # no plots this time
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "crops_Set5_写$真$.pdf",
        "crops_Set5_写$真$.png",
    ]


PROBE = """<script>
addEventListener("load", () => {
  const stage = document.querySelector(".stage"), range = document.querySelector("input");
  const [left] = document.querySelectorAll("select");
  const clip = () => getComputedStyle(document.querySelector("img.left")).clipPath;
  const said = [clip()];
  range.value = 80; range.dispatchEvent(new Event("input")); said.push(clip());
  left.value = "HR"; left.dispatchEvent(new Event("change"));
  said.push(document.querySelector("img.left").dataset.method, range.getAttribute("aria-valuetext"));
  said.push(document.documentElement.scrollWidth <= innerWidth, getComputedStyle(document.body).backgroundColor);
  said.push([...document.images].every(image => image.complete && image.naturalWidth > 0));
  range.focus(); said.push(document.activeElement === range);
  left.value = "MSNLAN"; left.dispatchEvent(new Event("change")); said.push(clip());
  document.title = JSON.stringify(said);
});
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (500, True)])
def test_the_page_in_a_browser(tmp_path, result, sample, width, dark):
    """The slider moves, methods can be chosen, nothing is wider than the window, light and dark differ."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    plots = model_size.plots(result, MSNLANConfig(4, 16, 2, 1))
    page = tmp_path / "report.html"
    page.write_text(page.page(result, [compared()], [sample], plots).replace("</body>", PROBE + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += [f"--window-size={width},900", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    command = [browser, *flags, "--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    title = re.search("<title>(.*?)</title>", dom)
    said = json.loads(html.unescape(title[1]))
    assert said == [
        "inset(0px 50% 0px 0px)",
        "inset(0px 20% 0px 0px)",
        "HR",
        "HR left of 80 %, MSNLAN right of it",
        True,
        "rgb(20, 21, 22)" if dark else "rgb(252, 252, 250)",
        True,
        True,
        "none",
    ]
