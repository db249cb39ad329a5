import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data.arrays import open_picture, write_picture
from msnlan_jax.errors import InputError
from tests import damage, fuzz
from tests.samples import noise


def test_many_threads_may_open_arrays(tmp_path):
    write_picture(tmp_path / "a.npy", noise(0, 5, 4, 3))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(open_picture, [tmp_path / "a.npy"] * 2000))
    assert len(found) == 2000
    np.testing.assert_array_equal(found[-1], noise(0, 5, 4, 3))


HEADER = "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}"


def npy(header, data, version=1):
    """A file in NumPy's format with any header."""
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode("latin1") + data


@pytest.mark.parametrize(("order", "version"), [("C", 1), ("F", 1), ("C", 2), ("C", 3)])
def test_pictures_of_every_version_and_order_are_read(tmp_path, order, version):
    picture = noise(0, 5, 4, 3)
    with (tmp_path / "a.npy").open("wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy says that old versions cannot read it
        np.lib.format.write_array(file, np.asarray(picture, order=order), (version, 0))
    found = open_picture(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, picture, strict=True)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            HEADER.format("'|u1'", False, "(1000000000000, 1000000000000, 3)"),
            "found 120 bytes, expected 30000000000000",
        ),
        (HEADER.format("'|u1'", False, "(-4, 4, 3)"), r"found uint8 of shape \(-4, 4, 3\), expected a picture"),
        (HEADER.format("'|u1'", False, "(0, 4, 3)"), r"found uint8 of shape \(0, 4, 3\), expected a picture"),
        (HEADER.format("'|u1'", False, f"({'9' * 5000}, 4, 3)"), "that are none in NumPy's format"),
        (HEADER.format("'|O'", False, "(2, 4, 3)"), r"found '\|O' of shape \(2, 4, 3\), expected a picture: uint8"),
        (HEADER.format("[('a', '<i4')]", False, "(2, 4, 3)"), "of shape .*, expected a picture: uint8"),
        (HEADER.format("'<u2'", False, "(2, 4, 3)"), "found uint16 of shape"),
        (HEADER.format("'<c2'", False, "(2, 4, 3)"), "found '<c2' of shape"),
        (HEADER.format("'|u1'", 7, "(2, 4, 3)"), "that are none in NumPy's format"),
        (HEADER.format("'|u1'", False, "(2, '4', 3)"), "that are none in NumPy's format"),
        ("{'descr': (((, 'shape'", "that are none in NumPy's format"),
        ("\\x " * 50, "that are none in NumPy's format"),
        ("(" * 9000, "that are none in NumPy's format"),
        ("", "that are none in NumPy's format"),
    ],
)
def test_odd_headers_are_named(tmp_path, header, message):
    (tmp_path / "a.npy").write_bytes(npy(header, bytes(24)))
    with pytest.raises(InputError, match=rf"^{tmp_path}/a\.npy: .*{message}"):
        open_picture(tmp_path / "a.npy")


def test_damaged_arrays_end_in_one_line(tmp_path, fuzz_count):
    good = []
    for header in (
        HEADER.format("'|u1'", order, shape) for order in (False, True) for shape in ("(5, 4, 3)", "(1, 1, 3)")
    ):
        good += [npy(header, bytes(60), version) for version in (1, 2)]
    ways = (*damage.TEXT, damage.in_header(damage.change_text, 8, 2), damage.in_header(damage.overwrite_number, 8, 2))
    findings = fuzz.try_each(damage.damaged(good, ways, fuzz_count(300)), tmp_path / "a.npy", open_picture)
    assert findings.faults == []
    assert findings.accepted and findings.refused
