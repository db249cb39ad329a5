"""What tests ask for: folders beside the repository (else they are skipped), and commands as a user types them."""

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jaxtyping
import pytest
from hypothesis import settings

from tests.jobs import FULL_OPTIMISATION, QUICK_COMPILATION

if QUICK_COMPILATION not in os.environ.get("XLA_FLAGS", ""):
    # Read when the first program is compiled; processes that tests start inherit them.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK_COMPILATION}".strip()
pytest.register_assert_rewrite("tests.helpers")
# The same examples every time, however slow the machine.
settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.load_profile("tests")
SHARED = Path(__file__).parents[1].parent / "shared"


def _shared(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no shared/{name} beside the repository")
    return SHARED / name


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers that the released model produced (SPEC.md §7)."""
    return _shared("golden")


@pytest.fixture(scope="session")
def shared_images() -> Path:
    """Test sets and photos (SPEC.md §7)."""
    return _shared("images")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, help="how many damaged inputs of each kind; by default a few")
    parser.addoption("--kills", type=int, default=2, help="how often the runs that are killed are")


@pytest.fixture
def fuzz_count(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """Given how many damaged inputs take a second or two, return how many are wanted."""
    return lambda few: few if (wanted := request.config.getoption("--fuzz")) is None else wanted


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch off the type checks that only tests make, to see the errors that users see."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session", autouse=True)
def _shared_compilations(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep compiled programs in a temporary folder that all workers share: many tests run the same tiny networks."""
    folder = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent
    jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture
def full_optimisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile what `Programs` run as users do: for recorded numbers, and what runs longer than it compiles."""
    from msnlan_jax.inference import programs

    options = FULL_OPTIMISATION | programs.compiler_options()
    monkeypatch.setattr(programs, "compiler_options", lambda: options)
    monkeypatch.setattr(programs, "_jitted", functools.cache(programs._jitted.__wrapped__))


@pytest.fixture(autouse=True)
def _no_bundled_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands without `--weights` take bicubic, which is quick; trained weights have a test of their own."""
    # Not at the top: the package is to be imported after the type checks are switched on.
    from etils import epath

    from msnlan_jax.weights import bundled

    monkeypatch.setattr(bundled, "_FOLDER", epath.Path(__file__).parent / "none")


class Result(NamedTuple):
    code: int
    out: str
    err: str


def load_main(script):
    """The `main` of a program, loaded afresh as if it were started."""
    if script == "upscale":
        return importlib.import_module("msnlan_jax.upscale.__main__").main
    spec = importlib.util.spec_from_file_location(script, Path(__file__).parents[1] / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def invoke(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder."""
    # Not at the top: the package is to be imported after the type checks are switched on.
    from msnlan_jax.runtime import command

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # a command sets its own; to be put back
    monkeypatch.setattr(command, "keep_memory", lambda: None)  # which cannot be put back

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, arguments)])
        code = 0
        try:
            command.run(load_main(script))
        except SystemExit as end:
            code = end.code or 0
        return Result(code, *capsys.readouterr())

    return run
