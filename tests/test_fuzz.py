import os
import warnings

import numpy as np
import pytest

from msnlan_jax.errors import InputError
from tests import damage, fuzz


def hang(path):
    try:
        while True:
            pass
    except Exception:
        return


def refuse(message):
    def read(path):
        raise InputError(message.format(path))

    return read


READERS = {
    "takes": (lambda path: None, None),
    "refuses": (refuse("{}: found nothing, expected something"), None),
    "refuses in two lines": (refuse("{}: found\nnothing"), "expected one line"),
    "does not name the file": (refuse("found nothing"), "expected one line"),
    "raises": (lambda path: [][0], "IndexError in test_fuzz.py"),
    "warns": (lambda path: warnings.warn("odd", stacklevel=1), "UserWarning"),
    "hangs": (hang, "not done after 0.05 s"),
    "takes memory": (lambda path: np.ones(1 << 36), "MemoryError"),
    "blames the file": (refuse("{}: MemoryError"), "took more memory"),
    "runs a program": (lambda path: os.system("true"), "ran os.system"),
}


@pytest.mark.parametrize("name", READERS)
def test_what_a_reader_must_not_do_is_found(tmp_path, name):
    read, fault = READERS[name]
    findings = fuzz.try_each([b"x"], tmp_path / "a", read, seconds=0.05)
    assert len(findings.faults) == (fault is not None)
    assert fault is None or fault in findings.faults[0]


def test_damage_is_the_same_every_time():
    samples = [b'{"shape": [3, 4]}', bytes(range(256)), b""]
    ways = (*damage.TEXT, damage.change_json, damage.change_pickle, damage.in_zip(damage.change_json))
    first = list(damage.damaged(samples, ways, 300))
    assert list(damage.damaged(samples, ways, 300)) == first
    assert damage.damage(samples, ways, 7) == first[7]
    assert len(set(first)) > 150
