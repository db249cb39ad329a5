"""What README.md and docs/ say: links lead somewhere, what is listed is there, and the Python that is printed runs."""

import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from flax import nnx

from msnlan_jax import weights
from msnlan_jax.pictures.images import write_image
from tests import flags
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


def test_cited_sections_are_there():
    folders = [ROOT / name for name in ("benchmarks", "configs", "data", "msnlan_jax", "tests")]
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    cited = {
        (path.name, number)
        for path in files
        for citation in re.findall(r"SPEC\.md\W+§\d+(?:(?:,| and)\s+§\d+)*", path.read_text())
        for number in re.findall(r"§(\d+)", citation)
    }
    assert len(cited) > 20
    headings = re.findall(r"^## (\d+)\. ", (ROOT / "docs" / "SPEC.md").read_text(), re.MULTILINE)
    assert [citation for citation in sorted(cited) if citation[1] not in headings] == []


@pytest.mark.slow
def test_tables_of_flags_are_those_of_the_programs(tmp_path):
    """Else `make flags` writes them anew."""
    page = tmp_path / "commands.md"
    page.write_text(flags.PAGE.read_text())
    subprocess.run([sys.executable, "-m", "tests.flags", page], cwd=ROOT, check=True)
    assert page.read_text() == flags.PAGE.read_text()


def test_every_program_has_its_flags_listed():
    programs = {path.name for path in ROOT.glob("*.py")} - {"setup.py"}
    for package in ("data", "msnlan_jax"):
        for path in (ROOT / package).rglob("*.py"):
            if "\nif __name__ ==" in path.read_text():
                module = path.relative_to(ROOT).with_suffix("").parts
                programs.add("-m " + ".".join(part for part in module if part != "__main__"))
    assert {program for program, _ in flags.TABLE.findall(flags.PAGE.read_text())} == programs


def test_signatures_are_those_of_the_code():
    """Of every `name(arguments)` on the page; … stands for the arguments, or keywords, of the one before."""
    page = FENCED.sub("", (ROOT / "docs" / "api.md").read_text())
    modules, names = {}, {}
    for dotted in set(re.findall(r"\b(?:msnlan_jax|data)(?:\.\w+)+", (ROOT / "docs" / "api.md").read_text())):
        module = inspect.getmodule(pkgutil.resolve_name(dotted))
        modules[module.__name__.split(".")[-1]] = module
        ours = (dotted.split(".")[0], "data")  # and not what a module imports under the same name, as typing's Protocol
        names |= {
            name: found
            for name, found in vars(module).items()
            if (inspect.isroutine(found) or inspect.isclass(found)) and found.__module__.startswith(ours)
        }
    printed, before = re.findall(r"`([\w.]+)\(([^`]*)\)`", page), ""
    assert len(printed) > 25
    for dotted, text in printed:
        found = names[dotted.split(".")[-1]]
        before = text.replace("…", before.split("*, ")[-1])
        exec(f"def stated({before}): ...", modules | names, scope := {})
        is_module = inspect.isclass(found) and issubclass(found, nnx.Module)  # whose metaclass hides the arguments
        actual = inspect.signature(found.__init__ if is_module else found).parameters.values()
        assert arguments(inspect.signature(scope["stated"]).parameters.values()) == arguments(
            parameter for parameter in actual if parameter.name != "self"
        ), dotted


def arguments(parameters):
    return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]


@pytest.mark.slow
def test_the_python_page_runs(tmp_path, monkeypatch, capsys, unchecked):
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
