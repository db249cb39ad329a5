"""Ways to damage the bytes of a file: of any kind, of text, JSON, pickles, zip archives and PNG.

An input is named by its seed and number, whatever was made before it.
"""

import copy
import io
import json
import pickletools
import random
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Way = Callable[[random.Random, bytes], bytes]

_EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_NUMBERS = ("0", "-1", "1", "255", "65536", "99999999", "4294967296", "1e9", "1e999", "-9223372036854775809", "9" * 400)
_NUMBERS += ("NaN", "Infinity", "-Infinity", "9" * 5000, "0.5", "1000000000000")
_VALUES: tuple[Any, ...] = (None, True, -1, 10**8, 2**63, 10**400, 0.5, float("nan"), float("inf"), "", "x", "\0", [])
_VALUES += ({}, [None], [[[]]], {"": {}}, "é\ud800", "x" * 100_000, [1, 2, 3], {"scale": {}}, "../../x", "-")
_RAW = ("[" * 100_000, '{"a":' * 100_000, "1" * 5000, "1e999", "", "}", "\ufeff", "'x'", "[1,]", "tru")
_CODES = (b"N", b"]", b"}", b")", b"(", b"0", b"R", b"b", b"Q", b"K\0", b"\x88", b".", b"2")  # of a pickle's machine
_NAMES = ("posix\nsystem", "os\nsystem", "builtins\neval", "builtins\nexec", "torch\nTensor", "torch._utils\nx", "a\nb")
_NAMES += ("collections\nOrderedDict", "torch\nByteStorage", "torch\nDoubleStorage", "torch._utils\n_rebuild_parameter")


# Ways to damage bytes of any kind.


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))] if data else data


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64)) if data else 0):
        changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(rng: random.Random, data: bytes) -> bytes:
    """Put random bytes, or one byte again and again, over a span."""
    at, size = _place(rng, data), rng.choice((1, 2, 4, 16, 200))
    span = rng.choice((rng.randbytes(size), bytes([rng.choice((0, 0xFF, rng.randrange(256)))]) * size))
    return data[:at] + span + data[at + size :]


def overwrite_number(rng: random.Random, data: bytes) -> bytes:
    """Put a number at the edge of what its bytes can hold where there may have been a size or an offset."""
    width = rng.choice((1, 2, 4, 8))
    number = (rng.choice(_EDGES) + rng.choice((0, 0, 1, -1))) % 256**width
    at = _place(rng, data)
    return data[:at] + number.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def insert(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.choice((rng.randbytes(rng.choice((1, 3, 50))), b"\n", b"\xff\xfe", bytes(64))) + data[at:]


def delete(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 8, 100)) :]


def splice(rng: random.Random, data: bytes) -> bytes:
    """Copy a span of the data over another place, or in between."""
    start, at, size = _place(rng, data), _place(rng, data), rng.choice((4, 30, 300))
    return data[:at] + data[start : start + size] + data[at + rng.choice((0, size)) :]


def change_text(rng: random.Random, data: bytes) -> bytes:
    """Change a number, a name or a sign of something written in letters."""
    if not (found := list(re.finditer(rb"-?\d+|\w+|[^\w\s]", data[:100_000]))):
        return data
    token = rng.choice(found)
    if token[0].strip(b"-").isdigit() and rng.random() < 0.8:
        new = rng.choice(_NUMBERS).encode()
    else:
        new = rng.choice((b"", token[0] * 2, rng.choice(found)[0], rng.choice((*_NUMBERS, *_RAW)).encode()))
    return data[: token.start()] + new + data[token.end() :]


BYTES: tuple[Way, ...] = (truncate, flip_bits, overwrite, overwrite_number, insert, delete, splice)
TEXT: tuple[Way, ...] = (*BYTES, change_text)


def _place(rng: random.Random, data: bytes) -> int:
    """Return a place in data, at one time in two near its beginning or its end, where files tell what is in them."""
    if not data or rng.random() < 0.5:
        return rng.randrange(len(data)) if data else 0
    near = rng.randrange(min(len(data), 256))
    return rng.choice((near, len(data) - 1 - near))


# Ways to damage what has a structure, and leave the rest of it whole, so that a reader gets beyond its first check.


def change_json(rng: random.Random, data: bytes) -> bytes:
    """Change, remove, rename, repeat or nest one value of JSON."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return change_text(rng, data)
    holders = [holder for holder in _nodes(whole) if holder]
    raw = rng.choice(_RAW)
    if not holders:
        return json.dumps(rng.choice(_VALUES)).encode()
    holder = rng.choice(holders)
    key = rng.choice(list(holder if isinstance(holder, dict) else range(len(holder))))
    odd = copy.deepcopy(rng.choice(_VALUES))
    match rng.randrange(7):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(("", "x", "__metadata__", str(odd)[:50], f"module.{key}"))] = holder.pop(key)
        case 2:
            holder[key] = "@raw@"
        case 3 if isinstance(holder, dict):
            raw = f"{json.dumps(holder[key])},{json.dumps(key)}:{json.dumps(odd)}"
            holder[key] = "@raw@"
        case 4:
            holder[key] = [holder[key]]
        case _:
            holder[key] = odd
    return json.dumps(whole).replace('"@raw@"', raw).encode("utf-8", "surrogatepass")


def _nodes(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _nodes(inner)


def change_pickle(rng: random.Random, data: bytes) -> bytes:
    """Change, remove, repeat or swap instructions of a pickle, or have it ask for another function."""
    try:
        starts = [place for _, _, place in pickletools.genops(data)]
    except Exception:
        return rng.choice(BYTES)(rng, data)
    ends = [*starts[1:], len(data)]
    parts = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    at = rng.randrange(len(parts))
    calls = [i for i, part in enumerate(parts) if part[:1] == b"c"]
    numbers = [i for i, part in enumerate(parts) if part[:1] in b"KMJ"]
    match rng.randrange(7):
        case 0:
            del parts[at]
        case 1:
            parts.insert(at, rng.choice(parts))
        case 2:
            other = rng.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        case 3 if calls:
            parts[rng.choice(calls)] = b"c" + rng.choice(_NAMES).encode() + b"\n"
        case 4 if numbers:
            parts[rng.choice(numbers)] = b"\x8a\x09" + rng.choice(_EDGES).to_bytes(9, "little")
        case 5:
            parts.insert(at, rng.choice(_CODES))
        case _:
            parts[at] = rng.choice(TEXT)(rng, parts[at])
    return b"".join(parts)


def in_header(way: Way, at: int, width: int) -> Way:
    """Damage a text that follows its own length, as in safetensors (at 0, 8 bytes) and .npy (at 8, 2 bytes)."""

    def change(rng: random.Random, data: bytes) -> bytes:
        start = at + width
        end = start + int.from_bytes(data[at:start], "little")
        text = way(rng, data[start:end])
        return data[:at] + (len(text) % 256**width).to_bytes(width, "little") + text + data[end:]

    return change


def in_zip(way: Way, names: str = "") -> Way:
    """Damage one member of a zip archive whose name ends so, its checksum being right again."""

    def change(rng: random.Random, data: bytes) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        except Exception:
            return rng.choice(BYTES)(rng, data)
        if not (fitting := [i for i, (name, _) in enumerate(members) if name.endswith(names)]):
            return data
        at = rng.choice(fitting)
        name, content = members[at]
        match rng.randrange(8):
            case 0:
                del members[at]
            case 1:
                members[at] = way(rng, name.encode()).decode("latin1").replace("\0", "")[:1000] or "x", content
            case _:
                members[at] = name, way(rng, content)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of two members of one name
            for name, content in members:
                archive.writestr(zipfile.ZipInfo(name), content)
        return buffer.getvalue()

    return change


def in_png_chunk(way: Way) -> Way:
    """Damage the content of one chunk of a PNG, its checksum being right again."""

    def change(rng: random.Random, data: bytes) -> bytes:
        chunks, at = [], 8
        while at + 8 <= len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
            at += 12 + size
        if chunks:
            number = rng.randrange(len(chunks))
            chunks[number] = chunks[number][0], way(rng, chunks[number][1])
        parts = [(len(text).to_bytes(4, "big"), kind + text) for kind, text in chunks]
        return data[:8] + b"".join(size + part + zlib.crc32(part).to_bytes(4, "big") for size, part in parts)

    return change


def damaged(samples: Sequence[bytes], ways: Sequence[Way], count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield inputs, each one of the samples with one damage or more."""
    for number in range(count):
        yield damage(samples, ways, number, seed)


def damage(samples: Sequence[bytes], ways: Sequence[Way], number: int, seed: int = 0) -> bytes:
    """Return the input of this number."""
    rng = random.Random(f"{seed}/{number}")
    data = rng.choice(samples)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(ways)(rng, data)
    return data
