import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data.arrays import open_picture, write_picture
from msnlan_jax.errors import InputError
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
            "found 116 bytes, expected 30000000000000",
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


def spoiled(random, good):
    """A damaged file: bytes changed, cut out, or put in twice."""
    data = bytearray(good)
    for _ in range(int(random.integers(1, 6))):
        at, length = int(random.integers(len(data) + 1)), int(random.integers(1, 9))
        kind = random.integers(4)
        if kind == 0:
            data[at : at + 1] = random.bytes(1)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        else:
            data[at : at + length] = random.choice([b"-1", b"9" * 20, b"(((", b"'", b"L", b"\\", b"\n", b"{", b"1e9"])
    return bytes(data)


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_damaged_arrays_end_in_one_line(tmp_path, count):
    """Seed 0; whatever is read is a picture, whatever is refused is named, and nothing warns."""
    random, buffer, path = np.random.default_rng(0), io.BytesIO(), tmp_path / "a.npy"
    np.save(buffer, noise(0, 5, 4, 3))
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(count):
            path.write_bytes(spoiled(random, buffer.getvalue()))
            try:
                found = open_picture(path)
            except InputError as error:
                refused += 1
                assert str(error).startswith(f"{path}: ") and len(str(error).splitlines()) == 1
            else:
                assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and found.size
    assert count // 4 < refused < count
