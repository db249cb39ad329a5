"""Configurations on the command line: `--config FILE.py` and `--config.FIELD=value`.

The file is Python, and is executed: its `get_config()` returns the configuration. A value on the command line is read
as the type that the field has there.
"""

import argparse
import difflib
import re
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from msnlan_jax.errors import InputError, naming
from msnlan_jax.runtime import files

_PREFIX = "--config."
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
# What reads a field's text, and what is expected there.
_READERS: dict[type, tuple[Callable[[str], Any], str]] = {
    bool: (lambda text: _TRUTH[text.lower()], "True or False"),
    int: (int, "a whole number"),
    float: (float, "a number"),
    str: (str, "text"),
}


def add_to(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the flags that `parse` reads.

    Args:
        parser: the program's.
        default: the file where none is named; None for no configuration.
    """
    which = f"({default})" if default else "such as configs/x4.py"
    parser.add_argument(
        "--config",
        dest="config_file",
        metavar="FILE.py",
        default=default,
        help=f"configuration {which}; it is Python, and is executed",
    )
    # For --help alone: `parse` takes the fields out before argparse sees them.
    parser.add_argument(
        f"{_PREFIX}FIELD",
        dest="changes",
        metavar="VALUE",
        help="another value for a field of the configuration; configs/base.py lists them all",
    )


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read this process's command line.

    Returns:
        The parser's flags and, besides: `config`, the configuration with what the command line changes, None where no
        file is named; and `changes`, the list of these changes, as `FIELD=value`.

    Raises:
        InputError: on a file that holds no configuration, an unknown flag or field, or a value of another type.
    """
    others, changes = _take_fields(sys.argv[1:])
    flags, unknown = parser.parse_known_args(others)
    for argument in unknown:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-"):
            raise InputError(
                f"flags: found the unknown {name!r}; fields of the configuration are set by --config.FIELD"
            )
        raise InputError(f"flags: found {argument!r}, expected only --flag=value")
    flags.config = None if flags.config_file is None else read_config(flags.config_file, changes)
    flags.changes = [f"{field}={value}" for field, value in changes]
    return flags


def read_config(file: str, changes: Sequence[tuple[str, str | None]] = ()) -> ConfigDict:
    """Return a file's configuration, with other values for some fields.

    Args:
        file: Python with a function `get_config`; it is executed.
        changes: dotted fields and their values as typed; None where none was, which is refused.

    Raises:
        InputError: as `parse`.
    """
    with naming("--config"):
        file = files.expand_home(file)
    if Path(file).is_dir():
        raise InputError(f"--config: {file}: found a folder, expected a file such as configs/x4.py")
    if not Path(file).is_file():
        raise InputError(f"--config: {file}: no such file, expected one such as configs/x4.py")
    try:
        get_config = runpy.run_path(file).get("get_config")
        config = get_config() if get_config else None
    except SystemExit as error:
        raise InputError(f"--config: {file}: found no configuration: it calls sys.exit({error.code!r})") from None
    except Exception as error:  # a configuration file is code, and may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise InputError(f"--config: {file}: found no configuration: {reason}") from None
    if not isinstance(config, ConfigDict):
        raise InputError(f"--config: {file}: found no get_config() that returns a ConfigDict, as in configs/base.py")
    config = ConfigDict(config)  # a FrozenConfigDict is one too, but takes no changes
    for field, text in changes:
        _set_field(config, field, text)
    return config


def describe_fields(file: str | Path) -> str:
    """Return a line for every field that a file sets, with the value and the comment that it has there."""
    found = re.findall(r"^ *config\.([\w.]+ = .+?)  # (.+)$", Path(file).read_text(), re.MULTILINE)
    width = max(len(field) for field, _ in found)
    return "\n".join(f"  {field:{width}}  {comment}" for field, comment in found)


def _take_fields(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str | None]]]:
    """Part the command line's other arguments from fields and their values, `--config.a=1` or `--config.a 1`; None
    where there is none."""
    others: list[str] = []
    fields: list[tuple[str, str | None]] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if not argument.startswith(_PREFIX):
            others.append(argument)
            continue
        field, separator, value = argument.removeprefix(_PREFIX).partition("=")
        if separator:
            fields.append((field, value))
        else:
            has_value = bool(remaining) and not remaining[0].startswith("--")
            fields.append((field, remaining.pop(0) if has_value else None))
    return others, fields


def _set_field(config: ConfigDict, field: str, text: str | None) -> None:
    section, name = config, field
    values = dict(_flatten(config))
    if any(known.startswith(f"{field}.") for known in values):
        raise InputError(f"{_PREFIX}{field}: found a section, expected one of its fields, {_PREFIX}{field}.FIELD=value")
    if field not in values:
        same_name = [known for known in values if known.rpartition(".")[2] == field]
        meant = same_name or difflib.get_close_matches(field, values, 1)
        hint = f"did you mean {meant[0]}? " if meant else ""
        raise InputError(f"{_PREFIX}{field}: found an unknown field; {hint}configs/base.py lists them all")
    read, expected = _READERS.get(type(values[field]), (None, ""))
    if read is None:
        kind = type(values[field]).__name__
        raise InputError(f"{_PREFIX}{field}: found a {kind} in the file, which only the file can set")
    if text is None:
        value = "True or =False" if isinstance(values[field], bool) else "value"
        raise InputError(f"{_PREFIX}{field}: found no value, expected {_PREFIX}{field}={value}")
    while "." in name:
        part, _, name = name.partition(".")
        section = section[part]
    try:
        section[name] = read(text)
    except (KeyError, ValueError):
        raise InputError(f"{_PREFIX}{field}: found {text!r}, expected {expected}") from None


def _flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every field's dotted name and its value."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
