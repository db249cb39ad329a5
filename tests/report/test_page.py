import base64
import html.parser
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.report import model_size
from msnlan_jax.report.page import page
from msnlan_jax.report.results import DatasetResult, Results
from msnlan_jax.scoring.metrics import Scores
from tests.report.samples import PROTOCOL, RESULTS, SET5, compared, sample


class Elements(html.parser.HTMLParser):
    """Collects the tags of a page, and checks that they are nested."""

    VOID = ("meta", "img", "input", "br")

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], []
        self.feed(text)
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


def test_the_page_holds_everything_itself():
    shown = sample()
    plots = model_size.plots(RESULTS, MSNLANConfig(4, 16, 2, 1))
    assert [plot.label for plot in plots] == ["parameters", "multiply–adds at 100×100 input"]
    text = page(RESULTS, [compared()], [shown], plots)
    elements = Elements(text)
    links = [attributes.get(key, "") for _, attributes in elements.found for key in ("src", "href")]
    assert all(link == "" or link.startswith("data:image/webp;base64,") for link in links)
    assert not re.search(r"https?://|url\(|@import|\{[{%#]", text)
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
    for found, picture in zip(enlarged, (shown.hr, *shown.methods.values()), strict=True):
        np.testing.assert_array_equal(found, picture[inside])
    assert all(image.get("alt") for image in elements.all("img"))
    words = " ".join(elements.text)
    assert words.count("Protocol: PSNR and SSIM on Y, border of 4 left out") == 3  # a summary and two sets
    for expected in ("30.25 dB", "theirs: no odd", "SwinIR (DIV2K)", "JingyunLiang/SwinIR", "x 10, y 20, 48×48"):
        assert expected in words


def test_names_cannot_break_the_page():
    evil = "<script>alert(1)</script>"
    found = Results(4, evil, PROTOCOL, {evil: SET5}, notes={evil: evil})
    text = page(found, [compared(evil)], [sample()], [])
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert") >= 6


def test_one_is_said_as_one_and_all_as_all():
    def words(n, shown):
        scores = DatasetResult.of({f"a{i}": Scores(30.0, 0.5) for i in range(n)})
        return " ".join(Elements(page(Results(4, "w", PROTOCOL, {"held_out": scores}), [], shown, [])).text)

    one, two, part = words(1, [sample()]), words(2, [sample(), sample()]), words(3, [sample()])
    assert "held_out: 1 picture." in one
    assert "held_out, 1 picture" in one
    assert "1 pictures" not in one
    assert "The only picture. The line moves" in one
    assert "held_out: 2 pictures." in two
    assert "All 2 pictures. The line moves" in two
    assert "The 1 of 3 in which the methods differ most. The line moves" in part


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
def test_the_page_in_a_browser(tmp_path, width, dark):
    """The slider moves, methods can be chosen, nothing is wider than the window, light and dark differ."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    plots = model_size.plots(RESULTS, MSNLANConfig(4, 16, 2, 1))
    file = tmp_path / "report.html"
    file.write_text(page(RESULTS, [compared()], [sample()], plots).replace("</body>", PROBE + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += [f"--window-size={width},900", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    command = [browser, *flags, "--virtual-time-budget=3000", "--dump-dom", file.as_uri()]
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
