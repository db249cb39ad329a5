"""Print the lowest versions that pyproject.toml allows, as constraints for pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
extras = project["optional-dependencies"]
for requirement in project["dependencies"] + extras["train"] + extras["torch"] + extras["gcs"] + extras["dev"]:
    # name, perhaps [extra], lowest version, perhaps an upper bound, perhaps a condition
    name, lowest, condition = re.fullmatch(r"([\w-]+)(?:\[\w+])?>=([\d.]+)(?:,<[\d.]+)?(;.*)?", requirement).groups("")
    print(f"{name}=={lowest}{condition}")
