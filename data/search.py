"""What is looked for in folders of pictures, and what they hold, as far as names say it."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from etils import epath

from data.arrays import SUFFIX
from msnlan_jax.pictures import IMAGE_SUFFIXES, FolderName, list_images, read_folder_name
from msnlan_jax.runtime import files

# In place of a folder of LR pictures: they are made, whatever lies there.
MADE = "made"


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which folders hold the pictures, where a user says so.

    Attributes:
        hr_dir: of HR pictures, in the data set or a path of its own; "" to find it.
        lr_dir: of LR pictures, likewise; MADE for none.
        flag: what stands before these names in messages, such as "config.data.".
    """

    hr_dir: str = ""
    lr_dir: str = ""
    flag: str = "--"

    def locate(self, field: str, places: Sequence[epath.Path]) -> epath.Path:
        """Return the folder that a field names: in one of some places, or as it stands; FileNotFoundError without."""
        text = getattr(self, field)
        for path in (*(place / text for place in places), epath.Path(text)):
            if path.is_dir():
                return path
        raise FileNotFoundError(f"{self.flag}{field}: no such folder {text}, neither in {places[0]} nor by itself")


@dataclasses.dataclass(frozen=True)
class Search:
    """What is looked for; the attributes are arguments of `folders.find_pairs`."""

    scale: int
    split: str = "valid"
    arrays: bool = False
    may_lack_lr: bool = False
    choice: Choice = dataclasses.field(default_factory=Choice)

    def fits(self, name: FolderName) -> bool:
        """Whether a folder is of the part, and for the scale, as far as its name says."""
        return self.is_of_part(name) and name.scale in (None, self.scale)

    def is_of_part(self, name: FolderName) -> bool:
        """Whether a folder is of the part, to train on or to score, as far as its name says."""
        return name.split in ("", self.split)

    def pictures(self, folder: epath.Path) -> list[epath.Path]:
        """Return the pictures in a folder, by name; hidden ones are passed over."""
        found: list[epath.Path] = list_images(folder)
        if self.arrays:
            found += [path for path in folder.glob(f"*{SUFFIX}") if path.name[0] != "." and files.is_regular(path)]
        return sorted(found, key=lambda path: path.name)


class Sub(NamedTuple):
    """A folder in another, and what its name says there."""

    path: epath.Path
    name: FolderName


def subfolders(folder: epath.Path) -> list[Sub]:
    """Return the folders in a folder, by name; hidden ones are passed over.

    Everyday words, as "input", say whose pictures they hold beside a folder of the others only, and where no other
    name says it for sure. A number alone says a scale unless some beside it cannot: 000, 1, 2.
    """
    # An object store would be asked of every picture whether it is a folder.
    found = [
        Sub(path, read_folder_name(path.name))
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if path.suffix.lower() not in (*IMAGE_SUFFIXES, SUFFIX) and path.name[0] != "." and path.is_dir()
    ]
    roles = {sub.name.role for sub in found}
    sure = {sub.name.role for sub in found if sub.name.is_sure}

    is_counted = any(sub.path.name.isdigit() and sub.name.scale is None for sub in found)

    def settle(sub: Sub) -> Sub:
        if is_counted and sub.path.name.isdigit():
            return Sub(sub.path, dataclasses.replace(sub.name, scale=None, only_sorts=False))
        other = "lr" if sub.name.role == "hr" else "hr"
        if sub.name.is_sure or not sub.name.role or (other in roles and sub.name.role not in sure):
            return sub
        return Sub(sub.path, dataclasses.replace(sub.name, role=""))

    return [settle(sub) for sub in found]


def named_by(folder: epath.Path) -> Sub:
    """Return the folder whose name tells what a folder's pictures are: itself, or the one above that it only sorts, as
    LR_bicubic does for LR_bicubic/X4."""
    path = own = files.absolute(folder)
    name = first = read_folder_name(path.name)
    while name.only_sorts and path.parent != path:
        path = path.parent
        name = read_folder_name(path.name)
    if not name.role:
        path, name = own, first
    return Sub(path, dataclasses.replace(name, scale=first.scale or name.scale))
