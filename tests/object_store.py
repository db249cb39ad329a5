"""A folder that epath takes for an object store: files appear whole and cannot grow, and folders need not be made."""

from pathlib import Path
from typing import Any

import pytest
from etils import epath
from etils.epath import gpath
from etils.epath.backend import os_backend

ADDRESS = "gs://bucket"


class ObjectStore:
    """Stands in for an epath backend.

    Args:
        root: the folder that `gs://bucket` means.

    Attributes:
        root: as given.
        calls: what was asked of the store: (operation, path).
    """

    def __init__(self, root: Path):
        self.root, self.calls = root, list[tuple[str, str]]()

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, str(arguments[0])))
            here = [self._local(argument) for argument in arguments]
            if name == "open" and "a" in here[1]:
                raise NotImplementedError("object stores cannot append")
            if name == "open" and "w" in here[1]:
                Path(here[0]).parent.mkdir(parents=True, exist_ok=True)
            found = getattr(os_backend, name)(*here, **options)
            return [path.replace(str(self.root), ADDRESS) for path in found] if name == "glob" else found

        return call

    def _local(self, argument: Any) -> Any:
        if not str(argument).startswith("gs://"):
            return argument
        assert str(argument).startswith(ADDRESS), argument
        return str(argument).replace(ADDRESS, str(self.root))


def use(root: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Have `gs://bucket` mean a folder; paths of this machine stay what they are."""
    store, as_it_is = ObjectStore(root), gpath._GPath._backend.fget
    choose = property(lambda path: store if str(path).startswith("gs://") else as_it_is(path))
    monkeypatch.setattr(type(epath.Path()), "_backend", choose)
    return store
