"""Where the tests find what lies beside the repository; tests that need it are skipped where it is absent."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jaxtyping
import pytest
from hypothesis import settings

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


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch off the type checks that only tests make, to see the errors that users see."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep compiled programs in a temporary folder, so that what is compiled twice costs once."""
    folder, before = tmp_path_factory.mktemp("xla"), jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(folder))
    yield folder
    jax.config.update("jax_compilation_cache_dir", before)
