"""The source distribution and the wheel: what they hold, and that the wheel works alone, away from the repository."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import msnlan_jax
from msnlan_jax.pictures import read_image, write_image
from tests.samples import noise

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[[^]]*\]\(([^)\s]+)\)")
# What pip and `python -m build` call, for an sdist the second alone.
BACKEND = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def run(*command, cwd):
    """Run a program with nothing of ours on its path; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cwd / "xla")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked():
    """The files of the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in names.split("\0") if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def source(tracked, tmp_path_factory):
    """The source distribution, made of tracked files alone and unpacked."""
    folder = tmp_path_factory.mktemp("source")
    for name in tracked:
        (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "clone" / name)
    run(sys.executable, "-c", BACKEND, "build_sdist", folder, cwd=folder / "clone")
    (archive,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(source):
    """The wheel, made of the source distribution."""
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", source.parent)
    run(sys.executable, "-m", "pip", "wheel", *options, source, cwd=source.parent)
    (found,) = source.parent.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def bin_folder(wheel, tmp_path_factory):
    """The programs of a new environment: the wheel, and behind it what is installed here, but not `pip install -e`."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    options = ("--no-deps", "--no-index")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=folder)
    # Folders that a .pth file names come last, and .pth files in those, such as the editable install's, are not read.
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    return folder / "bin"


def test_the_source_distribution_is_the_repository(tracked, source):
    held = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert tracked - held == set()
    assert {name for name in held - tracked if "egg-info" not in name} == {"PKG-INFO", "setup.cfg"}


def test_the_wheel_holds_the_library_and_nothing_else(tracked, wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {name for name in tracked if name.startswith("msnlan_jax/")}
    assert "msnlan_jax/py.typed" in held
    assert wheel.stat().st_size < 12e6


@pytest.mark.slow
def test_the_wheel_works_alone(bin_folder, tmp_path):
    imported = run(bin_folder / "python", "-c", "import msnlan_jax; print(msnlan_jax.__file__)", cwd=tmp_path)
    assert Path(imported.strip()).is_relative_to(bin_folder.parent)
    write_image(tmp_path / "photo.png", noise(0, 8, 10, 3))
    run(bin_folder / "python", "-m", "msnlan_jax.upscale", "photo.png", "-o", "large.png", cwd=tmp_path)
    assert read_image(tmp_path / "large.png").shape == (32, 40, 3)
    assert run(bin_folder / "msnlan-upscale", "--help", cwd=tmp_path).startswith("usage: msnlan-upscale ")
    assert "usable: an MSNLAN" in run(bin_folder / "msnlan-convert", "--inspect", "small", cwd=tmp_path)


@pytest.mark.parametrize("address", [None, "https://example.org/msnlan_jax"])
def test_links_lead_somewhere_from_a_package_index(source, address, tmp_path):
    """Into the repository, where its address is known; else only what is elsewhere is linked."""
    shutil.copytree(source, tmp_path / "copy")
    project = tmp_path / "copy" / "pyproject.toml"
    text = re.sub(r"^Source = .*\n", "", project.read_text(), flags=re.MULTILINE)
    project.write_text(text.replace("[project.urls]\n", f'[project.urls]\nSource = "{address}"\n') if address else text)
    run(sys.executable, "-c", BACKEND, "prepare_metadata_for_build_wheel", tmp_path, cwd=tmp_path / "copy")
    (metadata,) = tmp_path.glob("*.dist-info/METADATA")
    links = LINK.findall(Parser().parsestr(metadata.read_text()).get_payload())
    within = LINK.findall((ROOT / "README.md").read_text())
    within = [(mark, target) for mark, target in within if not re.match(r"\w+:|#", target)]
    assert within
    assert [target for _, target in links if not re.match(r"https?://|#", target)] == []
    for mark, target in within if address else []:
        assert (mark, f"{address}/{'raw' if mark else 'blob'}/main/{target}") in links


@pytest.mark.parametrize("name", ["CITATION.cff", "CHANGELOG.md", "docs/citing.md"])
def test_the_version_is_told_everywhere(name):
    before = r"(^## |^version: |version = \{)"
    assert re.search(before + re.escape(msnlan_jax.__version__) + r"\b", (ROOT / name).read_text(), re.MULTILINE)
