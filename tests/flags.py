"""Write the tables of flags in docs/commands.md, from the programs' own parsers: `make flags`."""

import argparse
import contextlib
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
TABLE = re.compile(r"^\| `python ([^`]+)` \| \|\n((?:\|.*\n)+)", re.MULTILINE)


def flag_table(program: str) -> str:
    """Return the table of a program's flags, as Markdown; a program is what stands after `python`."""
    name = program.removeprefix("-m ").removesuffix(".py")
    parser = _parser(f"{name}.__main__" if name.endswith("upscale") else name)
    return "\n".join([f"| `python {program}` | |", "|---|---|", *_rows(parser), ""])


def with_tables(page: str) -> str:
    """Return a page with its tables of flags written anew."""
    return TABLE.sub(lambda match: flag_table(match[1]), page)


def _parser(module: str) -> argparse.ArgumentParser:
    """Return the parser that the program makes in its `main`, which ends where it would read the command line."""
    found = []

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        found.append(parser)
        sys.exit()

    main = importlib.import_module(module).main
    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", stop), contextlib.suppress(SystemExit):
        main()
    return found[0]


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
        if actions and group.title not in ("positional arguments", "options"):
            yield f"| *{group.title}* | |"
        for action in actions:
            names = ", ".join(action.option_strings) or action.dest
            taken = action.metavar or (action.choices and "{" + ",".join(map(str, action.choices)) + "}")
            text = (action.help or "") % vars(action)
            needed = "required: " if action.required and action.option_strings else ""
            yield _row(f"{names} {taken}" if taken else names, needed + text)


def _row(flag: str, text: str) -> str:
    shown = re.sub(r"(?<![\w`-])--\w+|\bconfigs/\w+\.py", r"`\g<0>`", text.replace("<", r"\<"))
    return f"| `{flag}` | {shown.removesuffix('.')} |"


if __name__ == "__main__":
    page = Path(sys.argv[1]) if sys.argv[1:] else PAGE
    page.write_text(with_tables(page.read_text()))
