"""The rooms of `msnlan_jax`: imports between them run one way, and through their faces."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "msnlan_jax"
# From the ground up: a room imports from those before it.
ROOMS = (
    "version",
    "errors",
    "runtime",
    "pictures",
    "network.kernels",
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
# Parts of a room that its face offers without importing them, for what they import themselves.
ON_DEMAND = {"network": {"torch_reference"}, "runtime": {"config_flags"}, "weights": {"conversion"}}
PROGRAMS = (
    "train.py",
    "eval.py",
    "convert_torch_weights.py",
    *(ROOT / "data").glob("*.py"),
    *ROOT.glob("benchmarks/*.py"),
)


def room_of(module: str) -> str:
    """The room that a module of `msnlan_jax`, without that name before it, is in; "" for none."""
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len, default="")


def folder_of(room: str) -> Path:
    return PACKAGE / room.replace(".", "/")


def offered(room: str) -> set[str]:
    """What a room's face hands on."""
    face = ast.parse((folder_of(room) / "__init__.py").read_text())
    (names,) = [n.value for n in face.body if isinstance(n, ast.Assign) and n.targets[0].id == "__all__"]
    return set(ast.literal_eval(names)) | ON_DEMAND.get(room, set())


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """The modules that a file imports, wherever in it, each with the name that is taken from it, if one is."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            yield from ((source, alias.name) for alias in node.names)


def complain(source: str, name: str, room: str) -> str | None:
    """What is wrong with an import of our own in a room, or in a program where that is ""."""
    top, _, module = source.partition(".")
    if source.startswith("."):
        return f"{source} by its place, not by its name"
    if top != "msnlan_jax":
        return f"{source}, which the library does not need" if room and top in FOREIGN else None
    if not module and name in ROOMS:  # a face as a whole
        module, name = name, ""
    if not (other := room_of(module)):
        return f"{source}.{name} from the package's face, which is above all rooms" if room else None
    if other == room:
        return None
    if room and ROOMS.index(other) > ROOMS.index(room):
        return f"{module}, but {other} is above {room}"
    if module != other or (name and folder_of(other).is_dir() and name not in offered(other) | set(ROOMS)):
        return f"{name or module}, which the face of {other} does not offer"
    return None


def wrong_imports(package: Path) -> list[str]:
    """What runs back up, looks past another room's face, or comes from outside the library; and files in no room."""
    wrong = []
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        # The package's own face is above all rooms.
        room = "package" if module == "__init__" else room_of(module)
        if not room:
            wrong.append(f"{module} is in no room")
        elif room == "package":
            foreign = [source for source, _ in imported(path) if source.split(".")[0] in FOREIGN]
            wrong += [f"the package's face imports {source}" for source in foreign]
        else:
            found = [complain(source, name, room) for source, name in imported(path)]
            wrong += [f"{module} imports {complaint}" for complaint in found if complaint]
    return wrong


def test_imports_run_one_way():
    assert wrong_imports(PACKAGE) == []


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: Path(path).name)
def test_programs_import_from_faces(program):
    found = [complain(source, name, "") for source, name in imported(ROOT / program)]
    assert [complaint for complaint in found if complaint] == []


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("network/layers", "from msnlan_jax.training import train", "imports training, but training is above network"),
        ("network/layers", "from msnlan_jax import weights", "imports weights, but weights is above network"),
        ("network/layers", "import msnlan_jax.report.page", "imports report.page, but report is above network"),
        ("network/layers", "from .. import training", "imports .. by its place, not by its name"),
        (
            "network/layers",
            "from msnlan_jax.runtime.files import absolute",
            "imports absolute, which the face of runtime",
        ),
        ("report/page", "from msnlan_jax.network import layers", "imports layers, which the face of network does not"),
        (
            "network/layers",
            "def f():\n    import tensorflow as tf",
            "imports tensorflow, which the library does not need",
        ),
        ("network/layers", "from data import plan", "imports data, which the library does not need"),
        ("network/layers", "from msnlan_jax import MSNLAN", "imports msnlan_jax.MSNLAN from the package's face"),
        ("network/layers", "import msnlan_jax", "imports msnlan_jax. from the package's face"),
        ("__init__", "import tensorflow", "imports tensorflow"),
        ("helpers", "", "helpers is in no room"),
        (
            "network/layers",
            "from msnlan_jax.network.attention import inside\nfrom msnlan_jax.errors import InputError",
            None,
        ),
        ("weights/inspection", "from msnlan_jax.network import torch_reference", None),
    ],
)
def test_a_wrong_import_is_found(tmp_path, file, line, complaint):
    path = (tmp_path / file).with_suffix(".py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(line)
    found = wrong_imports(tmp_path)
    assert found == [] if complaint is None else len(found) == 1 and complaint in found[0]


@pytest.mark.parametrize("room", [room for room in ROOMS if folder_of(room).is_dir()])
def test_a_room_says_what_it_offers(room):
    face = ast.parse((folder_of(room) / "__init__.py").read_text())
    assert ast.get_docstring(face)
    assert offered(room)
