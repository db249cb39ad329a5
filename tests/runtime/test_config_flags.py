import re
from pathlib import Path

import pytest

from configs import base
from msnlan_jax.errors import InputError
from msnlan_jax.runtime import command, config_flags

ROOT = Path(__file__).parents[2]
BASE = ROOT / "configs" / "base.py"


def parse(monkeypatch, *arguments, default=str(BASE)):
    monkeypatch.setattr("sys.argv", ["program", *arguments])
    parser = command.Parser()
    config_flags.add_to(parser, default)
    parser.add_argument("--rounds", type=int, default=5)
    return config_flags.parse(parser)


def test_values_get_the_type_of_their_field(monkeypatch):
    fields = ("--config.scale=3", "--config.data.dir", "a=b", "--config.learning_rate=1", "--config.init_new_tail=true")
    flags = parse(monkeypatch, "--config.total_steps", "1_000", *fields, "--rounds", "2", "--config.weight_decay", "-1")
    expected = base.get_config()
    expected.update(
        {"scale": 3, "data": {"dir": "a=b"}, "learning_rate": 1.0, "total_steps": 1000, "weight_decay": -1.0}
    )
    expected.init_new_tail = True
    assert flags.config.to_dict() == expected.to_dict()
    assert (flags.rounds, flags.config_file) == (2, str(BASE))
    assert flags.changes == [
        "total_steps=1_000",
        "scale=3",
        "data.dir=a=b",
        "learning_rate=1",
        "init_new_tail=true",
        "weight_decay=-1",
    ]


def test_no_file_is_no_configuration(monkeypatch):
    assert parse(monkeypatch, default=None).config is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--config.batchsize=1",
            r"--config\.batchsize: found an unknown field; did you mean batch_size\? configs/base",
        ),
        (
            "--config.n_feats=1",
            r"--config\.n_feats: found an unknown field; did you mean model\.n_feats\? configs/base",
        ),
        (
            "--config.model=1",
            r"--config\.model: found a section, expected one of its fields, --config\.model\.FIELD=value$",
        ),
        ("--config.model", r"--config\.model: found a section, "),
        (
            "--config.init_new_tail --rounds=2",
            r"--config\.init_new_tail: found no value, expected --config\.init_new_tail=True or =False$",
        ),
        ("--config.model.x.y=1", r"--config\.model\.x\.y: found an unknown field; configs/base"),
        ("--config.scale=2.0", r"--config\.scale: found '2\.0', expected a whole number"),
        ("--config.init_new_tail=2", r"--config\.init_new_tail: found '2', expected True or False"),
        ("--config.scale", r"--config\.scale: found no value, expected --config\.scale=value"),
        ("--config.data.dir --rounds 2", r"--config\.data\.dir: found no value, expected --config\.data\.dir=value"),
        ("--speed=1", r"flags: found the unknown 'speed'; fields of the configuration are set by --config\.FIELD"),
        ("more", r"flags: found 'more', expected only --flag=value"),
    ],
)
def test_wrong_flags_are_named(monkeypatch, arguments, message):
    with pytest.raises(InputError, match=f"^{message}"):
        parse(monkeypatch, *arguments.split())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("x = 1", r"found no get_config\(\) that returns a ConfigDict, as in configs/base\.py"),
        ("def get_config():\n    return {}", r"found no get_config\(\) that returns a ConfigDict"),
        ("import nowhere_to_be_found", "found no configuration: No module named 'nowhere_to_be_found'"),
        ("def get_config(:", "found no configuration: invalid syntax"),
        ("import sys\nsys.exit('bad')", r"found no configuration: it calls sys\.exit\('bad'\)$"),
        ("def get_config():\n    raise SystemExit", r"found no configuration: it calls sys\.exit\(None\)$"),
    ],
)
def test_a_file_without_a_configuration_is_named(monkeypatch, tmp_path, content, reason):
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(InputError, match=rf"^--config: .*mine\.py: {reason}"):
        parse(monkeypatch, "--config", str(tmp_path / "mine.py"))


@pytest.mark.parametrize(("name", "found"), [("", "found a folder, expected a file"), ("x.py", "no such file, ")])
def test_a_path_that_is_no_file_is_named(monkeypatch, tmp_path, name, found):
    path = tmp_path / name
    with pytest.raises(InputError, match=f"^--config: {re.escape(str(path))}: {found}"):
        parse(monkeypatch, "--config", str(path))


@pytest.mark.parametrize(
    "frozen", ["FrozenConfigDict(config)", "ConfigDict({**config, 'b': FrozenConfigDict(config.b)})"]
)
def test_a_frozen_configuration_takes_changes(monkeypatch, tmp_path, frozen):
    lines = [
        "from ml_collections import ConfigDict, FrozenConfigDict",
        "config = ConfigDict({'a': 1, 'b': {'c': 2, 'd': 3}})",
        "def get_config():",
        f"    return {frozen}",
    ]
    (tmp_path / "mine.py").write_text("\n".join(lines))
    flags = parse(monkeypatch, "--config", str(tmp_path / "mine.py"), "--config.a=4", "--config.b.c=5")
    assert flags.config.to_dict() == {"a": 4, "b": {"c": 5, "d": 3}}


def test_every_field_is_described():
    described = [line.split(" = ")[0].strip() for line in config_flags.describe_fields(BASE).splitlines()]
    assert sorted(described) == sorted(name for name, _ in config_flags._flatten(base.get_config()))
