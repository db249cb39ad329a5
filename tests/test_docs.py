"""What README.md and docs/ say: links lead somewhere, and the Python that is printed runs."""

import re
from pathlib import Path

import pytest

from msnlan_jax import weights
from msnlan_jax.images import write_image
from tests.samples import noise, tiny_config, tiny_parameters

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page):
    """The names that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text()))
    for target in targets:
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_every_page_is_listed():
    listed = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if page.name != "README.md" and f"]({page.name})" not in listed] == []
    assert "](docs/README.md)" in PAGES[0].read_text()


@pytest.mark.slow
def test_the_python_page_runs(tmp_path, monkeypatch, capsys, compilation_cache, unchecked):
    """Its blocks in order; `expression  # → value` is compared."""
    monkeypatch.chdir(tmp_path)
    weights.write_safetensors(tmp_path / "msnlan_x4.safetensors", tiny_config(4), tiny_parameters(4))
    write_image(tmp_path / "photo.png", noise(0, 20, 24, 3))
    names = {}
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 10
    for block in blocks:
        for part in re.split(r"^(\S.*  # → .+)$", block, flags=re.MULTILINE):
            expression, arrow, expected = part.partition("  # → ")
            if not arrow:
                exec(part, names)
            else:
                assert repr(eval(expression, names)) == expected, expression
    assert "expected ×2" in capsys.readouterr().out
