import errno
import os
import re
from pathlib import Path

import pytest
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.runtime.files import expand_home, fit_name, prepare_output_dir, read_bytes, write_bytes
from tests.samples import snapshot


def test_round_trip_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    for data in (b"first", b"second, longer", b""):
        write_bytes(path, data)
        assert snapshot(tmp_path) == {"a/b/file": data}


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_failing_to_write_leaves_everything_as_it_was(tmp_path, monkeypatch, step):
    (tmp_path / "file").write_bytes(b"precious")

    def fail(self, *args):
        if step == "write_bytes":
            self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(epath.Path()), step, fail)
    with pytest.raises(InputError, match=r"file: cannot be written: No space left on device$"):
        write_bytes(tmp_path / "file", b"new")
    monkeypatch.undo()
    assert snapshot(tmp_path) == {"file": b"precious"}


def test_interrupting_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(epath.Path()), "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "file", b"new")
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("name", ["file/below", "folder"])
def test_unwritable_paths_are_named(tmp_path, name):
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=f"{tmp_path / name}: cannot be written: ."):
        write_bytes(tmp_path / name, b"new")
    assert snapshot(tmp_path) == {"file": b"precious"}


def test_read_bytes(tmp_path):
    (tmp_path / "full").write_bytes(b"data")
    (tmp_path / "empty").touch()
    assert read_bytes(tmp_path / "full", "thing") == b"data"
    with pytest.raises(FileNotFoundError, match=r"none: no such file, expected a thing$"):
        read_bytes(tmp_path / "none", "thing")
    with pytest.raises(InputError, match=r"empty: found an empty file, expected a thing$"):
        read_bytes(tmp_path / "empty", "thing")
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path))}: found a folder, expected a thing$"):
        read_bytes(tmp_path, "thing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe: found a pipe, a socket or a device, expected a thing$"):
        read_bytes(tmp_path / "pipe", "thing")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**43)
    with pytest.raises(InputError, match=r"sparse: found 8796\.1 GB, expected a thing that fits into the memory$"):
        read_bytes(tmp_path / "sparse", "thing")


def test_a_name_as_long_as_they_may_be_can_be_written(tmp_path):
    write_bytes(tmp_path / ("n" * 255), b"data")
    assert snapshot(tmp_path) == {"n" * 255: b"data"}


def test_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert [expand_home(text) for text in ("~", "~/a/", "a~", "gs://~")] == [
        "/home/someone",
        "/home/someone/a/",
        "a~",
        "gs://~",
    ]


@pytest.mark.parametrize(
    "text", ["https://example.com/cat.png", "file:///home/cat.png", "~nobody-of-this-name/cat.png"]
)
def test_places_that_are_not_here(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^found (the address )?{text}, expected a (local )?path"):
        expand_home(text)
    Path("~nobody-of-this-name").mkdir()
    assert expand_home("~nobody-of-this-name/cat.png") == "~nobody-of-this-name/cat.png"


def test_addresses_of_the_web_are_refused():
    for use in (lambda url: read_bytes(url, "picture"), lambda url: write_bytes(url, b"-")):
        with pytest.raises(
            InputError, match=r"^found the address https://example\.com/cat\.png, expected a local path"
        ):
            use("https://example.com/cat.png")


def test_prepare_output_dir(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_bytes(b"precious")
    for path in (tmp_path / "there", tmp_path / "a" / "b"):
        assert prepare_output_dir(path, "--output") == path
        assert path.is_dir()
    assert snapshot(tmp_path) == {"there/file": b"precious"}


def test_prepare_output_dir_refuses_what_cannot_be_one(tmp_path):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"^--output: .*file is a file, expected a folder$"):
        prepare_output_dir(tmp_path / "file", "--output")
    with pytest.raises(InputError, match=r"^--output: .*file/below, expected a folder that can be written"):
        prepare_output_dir(tmp_path / "file" / "below", "--output")
    assert snapshot(tmp_path) == {"file": b"precious"}


def test_names_that_fit():
    assert fit_name("a" * 200, "x4.png") == "a" * 200 + "x4.png"
    names = {fit_name("é" * 200 + end, "x4.png") for end in "ab"}
    assert len(names) == 2
    assert all(len(name.encode()) <= 255 and name.startswith("é" * 100) and name.endswith("x4.png") for name in names)
