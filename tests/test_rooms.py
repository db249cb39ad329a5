"""The rooms of `msnlan_jax`: imports between them run one way, and through their faces."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up: a room imports from those before it.
ROOMS = (
    "version",
    "errors",
    "runtime",
    "pictures",
    "network.attention",
    "network",
    "weights",
    "inference",
    "scoring",
    "report",
    "training",
    "export",
    "upscale",
)
FOREIGN = ("tensorflow", "tensorflow_datasets", "data", "configs", "benchmarks", "tests")


def room_of(module: str) -> str:
    """The room that a module of `msnlan_jax`, without that name before it, is in."""
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len, default="")


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it, without `msnlan_jax.` before those of ours."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("msnlan_jax.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "msnlan_jax":
            yield from (alias.name if alias.name in ROOMS else f"msnlan_jax.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module.removeprefix("msnlan_jax.")


def wrong_imports(package: Path) -> list[str]:
    """What runs back up, looks past another room's face, or comes from outside the library."""
    wrong = []
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        if not (room := room_of(module)):
            continue  # the package's own face
        for name in imported(path):
            if name.split(".")[0] in FOREIGN:
                wrong.append(f"{module} imports {name}, which the library does not need")
            elif name.startswith("msnlan_jax."):
                wrong.append(f"{module} imports {name} from the package's face, which is above all rooms")
            elif (other := room_of(name)) and other != room:
                if ROOMS.index(other) > ROOMS.index(room):
                    wrong.append(f"{module} imports {name}, but {other} is above {room}")
                elif name != other:
                    wrong.append(f"{module} imports {name}, not from the face of {other}")
    return wrong


def test_imports_run_one_way():
    assert wrong_imports(ROOT / "msnlan_jax") == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("from msnlan_jax.training import train", "network.layers imports training, but training is above network"),
        ("from msnlan_jax import weights", "network.layers imports weights, but weights is above network"),
        ("from msnlan_jax.runtime.files import absolute", "network.layers imports runtime.files, not from the face of"),
        ("def f():\n    import tensorflow as tf", "network.layers imports tensorflow, which the library does not need"),
        ("from msnlan_jax import MSNLAN", "network.layers imports msnlan_jax.MSNLAN from the package's face"),
        ("from data import plan", "network.layers imports data, which the library does not need"),
        ("from msnlan_jax.network.attention import inside\nfrom msnlan_jax.errors import InputError", None),
    ],
)
def test_a_wrong_import_is_found(tmp_path, line, complaint):
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "layers.py").write_text(line)
    found = wrong_imports(tmp_path)
    assert found == [] if complaint is None else len(found) == 1 and found[0].startswith(complaint)


def test_every_room_says_what_it_offers():
    for room in ROOMS:
        folder = ROOT / "msnlan_jax" / room.replace(".", "/")
        if folder.is_dir():
            face = ast.parse((folder / "__init__.py").read_text())
            assert ast.get_docstring(face), room
            assert any(isinstance(n, ast.Assign) and n.targets[0].id == "__all__" for n in face.body), room
