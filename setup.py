"""The one thing that pyproject.toml cannot say: the README for a package index, which has none of the files around it.

Links to files become links into the repository, `Source` in [project.urls]; without that, their text stays.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"].get("Source")


def absolute(link: re.Match[str]) -> str:
    """Return a link, or picture, that leads to the same file from anywhere."""
    mark, text, target = link.groups()
    return f"{mark}[{text}]({SOURCE}/{'raw' if mark else 'blob'}/main/{target})" if SOURCE else text


readme = re.sub(r"(!?)\[([^]]*)\]\((?!\w+:|#)([^)\s]+)\)", absolute, (ROOT / "README.md").read_text("utf-8"))
setup(long_description=readme, long_description_content_type="text/markdown")
