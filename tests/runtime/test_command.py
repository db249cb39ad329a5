"""What all commands share, tried in processes of their own where streams and signals matter."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from msnlan_jax.runtime import command

ROOT = Path(__file__).parents[2]


def run_python(code, *redirections):
    """Run a command's code by a shell, standard output and error redirected; return its exit code and what is shown."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "JAX_COMPILATION_CACHE_DIR": "/tmp"}
    program = f"from msnlan_jax.runtime import command, files\n{code}"
    line = f'"{sys.executable}" -c "$0" {" ".join(redirections)}'
    found = subprocess.run(["bash", "-c", f"set -o pipefail; {line}", program], env=env, capture_output=True, text=True)
    return found.returncode, found.stdout, found.stderr


@pytest.mark.parametrize(
    ("code", "redirection", "expected"),
    [
        ("command.run(lambda: print('×2'))", "", (0, "\\xd72\n", "")),
        ("command.run(lambda: [command.say('×2'), files.write_bytes('/dev/null/x', b'')])", ">&-", (2, "", None)),
        ("command.run(lambda: files.read_bytes('none', 'picture'))", "2>/dev/full", (2, "", "")),
        ("command.run(lambda: [print('x' * 9) for _ in range(99999)])", "| head -c 5", (141, "xxxxx", "")),
    ],
    ids=["ascii", "closed", "full", "head"],
)
def test_streams_of_any_kind(code, redirection, expected):
    found = run_python(code, redirection)
    assert found[:2] == expected[:2]
    assert expected[2] is None or found[2] == expected[2]
    assert "Traceback" not in found[2]


def test_names_cannot_turn_a_line():
    assert command.printable("cat\u202egnp.exe \u2066a\x1b é \u05d0") == "cat\\u202egnp.exe \\u2066a\\x1b é \u05d0"


def test_memory_that_does_not_suffice_is_blamed_on_no_file(capsys):
    def fill():
        raise MemoryError("Unable to allocate 5 TiB")

    with pytest.raises(SystemExit) as end:
        command.run(fill)
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: memory: found too little (")
    assert message.endswith(" GB are free now): Unable to allocate 5 TiB\n")


def test_without_a_home_programs_are_not_kept(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(Path, "expanduser", lambda self: (_ for _ in ()).throw(RuntimeError("no home")))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        command.use_compilation_cache()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_printable():
    assert command.printable("é\u202f×2\u3000\x1b[2J\n\udcff") == "é\u202f×2\u3000\\x1b[2J\\n\\udcff"


@pytest.mark.parametrize(
    "arguments", [["--a=1", "--a", "2"], ["-a1", "-a2"], ["--alpha=1", "-a2", "--al=3"], ["--yes", "--yes"]], ids=str
)
def test_a_flag_given_twice_is_refused(arguments, capsys):
    parser = command.Parser()
    parser.add_argument("-a", "--alpha")
    parser.add_argument("--yes", action="store_true")
    parser.add_argument("--each", action="append")
    parser.add_argument("files", nargs="*")
    assert parser.parse_args(["--each", "1", "--each", "2", "-a", "x", "--", "-a", "-a"]).each == ["1", "2"]
    parser = command.Parser()
    parser.add_argument("-a", "--alpha")
    parser.add_argument("--yes", action="store_true")
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    assert "found it twice, expected it once" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_other_endings(error, capsys, monkeypatch):
    """Ctrl-C ends without a traceback, a bug keeps its own."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)

    def main():
        raise error("why")

    with pytest.raises(SystemExit if error is KeyboardInterrupt else RuntimeError) as end:
        command.run(main)
    if error is KeyboardInterrupt:
        assert (end.value.code, capsys.readouterr().err) == (130, "interrupted\n")
