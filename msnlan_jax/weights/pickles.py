"""What a PyTorch checkpoint says of itself, read before PyTorch is let near it; nothing in it is run.

PyTorch takes sizes out of a checkpoint as they stand there: a few bytes have it ask for terabytes, or read beyond the
end of what it has read. So the pickle is read here first, with objects that do nothing in place of all that it names,
and refused where it names anything but what tensors are made of, or claims more numbers than the file has bytes for.
"""

import io
import pickle
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.weights.damage import check_sums, shown

# Bytes of a number, by the storage's name in the pickle.
_SIZES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1}
_SIZES |= {"Bool": 1, "ComplexDouble": 16, "ComplexFloat": 8}
_ITEM_BYTES = {f"torch.{name}Storage": size for name, size in _SIZES.items()}
_ITEM_BYTES["torch.storage.UntypedStorage"] = 1
# The same by the type's name, where a tensor tells it itself.
_DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "complex32": 4, "complex64": 8}
_DTYPE_BYTES |= {f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)}
_DTYPE_BYTES |= {"bool": 1, "complex128": 16, "float4_e2m1fn_x2": 1}
_DTYPE_BYTES |= {f"float8_{form}": 1 for form in ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0fnu")}
_DTYPE_BYTES = {f"torch.{name}": size for name, size in _DTYPE_BYTES.items()}
_REBUILD = [f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")]
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_SPARSE = "torch._utils._rebuild_sparse_tensor"
# What else the pickles of tensors and of optimisers name; nothing here makes an array of a size that it is told.
_NAMES = {*_DTYPE_BYTES, *_REBUILD, *_PARAMETERS, _SPARSE}
_NAMES |= {"torch.serialization._get_layout", "torch.Size", "torch.device", "builtins.complex"}
_ADVICE = "expected tensors only, as torch.save(model.state_dict(), path) writes them"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the format before PyTorch 1.6
_LONGEST = 64  # a tuple: no tensor has more dimensions
# As Python 2 called them, and the protocol that PyTorch writes still does.
_PYTHON_2 = {"__builtin__.unicode": "builtins.str", "__builtin__.long": "builtins.int"}
_PYTHON_2 |= {"__builtin__.xrange": "builtins.range"}


class Nothing:
    """Read in the place of an object beside the weights."""

    def __init__(self, *arguments: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _no_items(*arguments: Any) -> dict[Any, Any]:
    return {}  # its items come afterwards


def _no_elements(*arguments: Any) -> list[Any]:
    return []  # its elements come afterwards


# What people keep beside the weights: scores as NumPy's numbers, the flags of the run, paths, dates. PyTorch is to read
# each as what stands here, which does nothing.
PASSED_OVER: dict[str, Callable[..., Any]] = {
    "collections.defaultdict": _no_items,
    "collections.deque": _no_elements,
    **{f"numpy.{core}.multiarray.{name}": Nothing for core in ("core", "_core") for name in ("scalar", "_reconstruct")},
    **{f"datetime.{name}": Nothing for name in ("date", "datetime", "time", "timedelta", "timezone")},
    **{f"pathlib.{name}": Nothing for name in ("Path", "PosixPath", "WindowsPath")},
    **{f"pathlib.Pure{name}": Nothing for name in ("Path", "PosixPath", "WindowsPath")},
    **{f"builtins.{name}": Nothing for name in ("bool", "bytes", "dict", "float", "frozenset", "int", "list")},
    **{f"builtins.{name}": Nothing for name in ("range", "slice", "str", "tuple")},
    **dict.fromkeys(("numpy.dtype", "numpy.ndarray", "argparse.Namespace", "types.SimpleNamespace"), Nothing),
    **dict.fromkeys(("decimal.Decimal", "fractions.Fraction", "uuid.UUID"), Nothing),
}


class _Named:
    """Stands in for something of PyTorch's: may be called, and makes nothing."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *arguments: Any) -> "_Made":
        if self.name in _ITEM_BYTES or self.name in _DTYPE_BYTES:
            raise TypeError(f"{self.name} is called")
        if self.name in _REBUILD:
            storage, offset, shape, strides, *_ = arguments
            _check_extent(storage, offset, shape, strides, arguments[6] if self.name.endswith("_v3") else None)
            _check_plain(arguments[1:])
        elif self.name in _PARAMETERS:
            _check_plain(arguments[1:], made=arguments[:1])
        elif self.name == _SPARSE:
            layout, data = arguments
            _check_plain(item for item in (layout, *data) if not isinstance(item, _Made))
        else:
            _check_plain(arguments)
        return _Made()


class _Made(Nothing):
    """Stands in for a tensor, or another thing of PyTorch's."""

    def __setstate__(self, state: Any) -> None:
        raise TypeError("a tensor is changed after it was made")


class _Storage(NamedTuple):
    """A storage, without its numbers."""

    length: int
    item_bytes: int


def _check_extent(
    storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: _Named | None
) -> None:
    """Refuse a tensor that reaches beyond its storage: PyTorch would make that larger."""
    for sizes in ((offset,), shape, strides):
        if not isinstance(sizes, tuple) or len(sizes) > _LONGEST or any(type(size) is not int for size in sizes):
            raise TypeError("a tensor's sizes are no whole numbers")
    if not isinstance(storage, _Storage) or min((offset, *shape, *strides)) < 0:
        raise ValueError("a tensor has a negative size or no storage")
    length = storage.length
    if dtype is not None:
        length = length * storage.item_bytes // _DTYPE_BYTES[dtype.name]
    end = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + 1
    if 0 not in shape and end > length:
        raise ValueError(f"a tensor of shape {list(shape)} lies in a storage of {length} numbers")


def _check_plain(values: Iterable[Any], made: Iterable[Any] = ()) -> None:
    """Refuse what PyTorch would keep in a tensor or look into, but for numbers, names, and a few of them together: a
    million tensors within each other are more than Python can let go of.

    Args:
        values: a call's arguments.
        made: those that are to be tensors.
    """
    if not all(isinstance(value, _Made) for value in made):
        raise TypeError("a tensor is made of what is none")
    for value in values:
        together = value if isinstance(value, tuple) else list(value.values()) if isinstance(value, dict) else [value]
        if len(together) > _LONGEST or not all(isinstance(item, _Named) or _is_scalar(item) for item in together):
            raise TypeError("a tensor is made of more than numbers and names")


def _is_scalar(value: Any) -> bool:
    return value is None or type(value) in (str, int, float, bytes, bool)


def _check_keys(keys: Iterable[Any]) -> None:
    """Refuse what takes Python too long, or too deep, to hash: it does not remember the hashes of tuples."""
    for key in keys:
        few = key if type(key) is tuple and len(key) <= _LONGEST else (key,)
        if not all(_is_scalar(item) or type(item) is Nothing for item in few):
            raise TypeError(f"a key is a {type(key).__name__}, expected a text or a number")


class _Operations(dict[int, Any]):
    """What a pickle may ask for, by its number."""

    def __missing__(self, operation: int) -> Any:
        raise pickle.UnpicklingError(f"found operation {operation}, expected those of PyTorch's own pickles")


# No other is known to PyTorch's own reader either; some of them make room of any size.
_KNOWN = [
    *(pickle.GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.NEWOBJ, pickle.BINPERSID, pickle.PROTO, pickle.STOP),
    *(pickle.MARK, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.NONE, pickle.NEWFALSE, pickle.NEWTRUE, pickle.BININT, pickle.BININT1, pickle.BININT2),
    *(pickle.BINFLOAT, pickle.BINUNICODE, pickle.SHORT_BINSTRING, pickle.LONG1),
    *(pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET, pickle.APPEND, pickle.APPENDS),
    *(pickle.SETITEM, pickle.SETITEMS, pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT),
]
_OPERATIONS = _Operations({code[0]: pickle._Unpickler.dispatch[code[0]] for code in _KNOWN})


class _Unpickler(pickle._Unpickler):  # the one in C makes room for a memo of any size
    """Reads a pickle of tensors, noting how large each storage is said to be.

    Nothing that it makes is hashed, compared or copied before it is known to be small.

    Attributes:
        sizes: storage's key → bytes.
    """

    stack: list[Any]

    def __init__(self, file: io.BytesIO, path: epath.PathLike):
        super().__init__(file, encoding="utf-8")
        self._path = path
        self._left = file.getbuffer().nbytes  # how much may be copied: what is remembered could be, ever again
        self._containers = {
            "collections.OrderedDict": self._ordered,
            "collections.Counter": self._counter,
            "builtins.set": self._set,
            "builtins.bytearray": self._bytearray,
            "_codecs.encode": self._bytes,
        }
        self.sizes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return something that does nothing in the place of what is named."""
        full = f"{module}.{name}"
        full = _PYTHON_2.get(full, full.replace("__builtin__.", "builtins.", 1))
        if full in self._containers:
            return self._containers[full]
        if full in PASSED_OVER:
            return PASSED_OVER[full]
        if full in _NAMES or full in _ITEM_BYTES:
            return _Named(full)
        raise InputError(f"{self._path}: refused: it asks to run {shown(full)}, {_ADVICE}")

    def persistent_load(self, saved: Any) -> Any:
        """Note a storage."""
        kind, storage, key, place, count, *view = saved
        if (kind, type(place)) != ("storage", str) or type(key) not in (str, int) or type(count) is not int:
            raise TypeError("a storage is described by what is neither text nor number")
        size = count * _ITEM_BYTES[storage.name]
        if self.sizes.setdefault(str(key), size) != size or count < 0:
            raise ValueError(f"storage {key} has two sizes, or a negative one")
        if any(part is not None for part in view):
            raise ValueError(f"storage {key} is a part of another")  # as none is since PyTorch 0.4
        return _Storage(count, _ITEM_BYTES[storage.name])

    def load_reduce(self) -> None:
        """Call what was named."""
        arguments = self.stack.pop()
        if type(arguments) is not tuple:
            raise pickle.UnpicklingError("the arguments of a call are no tuple")
        self.stack[-1] = self.stack[-1](*arguments)

    def load_newobj(self) -> None:
        """Make an object that does nothing."""
        self.stack.pop()
        if self.stack[-1] is not Nothing:
            raise pickle.UnpicklingError("an object is made of what is no class")
        self.stack[-1] = Nothing()

    def load_setitem(self) -> None:
        """Add an entry to a dictionary."""
        _check_keys(self.stack[-2:-1])
        _OPERATIONS[pickle.SETITEM[0]](self)

    def load_setitems(self) -> None:
        """Add entries to a dictionary."""
        _check_keys(self.stack[::2])
        _OPERATIONS[pickle.SETITEMS[0]](self)

    dispatch = _Operations(
        _OPERATIONS
        | {
            pickle.REDUCE[0]: load_reduce,
            pickle.NEWOBJ[0]: load_newobj,
            pickle.SETITEM[0]: load_setitem,
            pickle.SETITEMS[0]: load_setitems,
        }
    )

    def _copy(self, content: Any, kind: type[Any]) -> Any:
        """Take note that something is going to be copied."""
        if type(content) is not kind:
            raise TypeError(f"found a {type(content).__name__}, expected a {kind.__name__}")
        self._left -= len(content)
        if self._left < 0:
            raise ValueError("it copies more than it holds")
        return content

    def _ordered(self, pairs: Any = None) -> OrderedDict[Any, Any]:
        pairs = [] if pairs is None else self._copy(pairs, list)
        if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
            raise TypeError("a dictionary is made of what are no pairs")
        _check_keys(key for key, _ in pairs)
        return OrderedDict(pairs)

    def _counter(self, counts: Any = None) -> Counter[Any]:
        return Counter({} if counts is None else self._copy(counts, dict))

    def _set(self, elements: Any = None) -> set[Any]:
        elements = [] if elements is None else self._copy(elements, list)
        _check_keys(elements)
        return set(elements)

    def _bytes(self, text: Any = "", encoding: str = "latin1") -> bytes:
        # Other encodings may be anything, such as one that makes its text twice as long, time after time.
        if encoding not in ("latin1", "latin-1"):
            raise ValueError("bytes are told in another encoding than Latin-1")
        return bytes(self._copy(text, str).encode("latin-1"))

    def _bytearray(self, content: Any = b"", *encoding: str) -> Nothing:
        _ = self._bytes(content, *encoding) if encoding else self._copy(content, bytes)
        return Nothing()


def check_claims(path: epath.PathLike, data: bytes) -> None:
    """Refuse a PyTorch checkpoint that asks for code, or claims more than it holds.

    Args:
        path: the file, for messages.
        data: its content.

    Raises:
        InputError: when it is one of these, a TorchScript archive, or a zip archive that PyTorch does not write.
        Exception: anything, when it is damaged.
    """
    if data.startswith(b"PK"):
        _check_archive(path, data)
    else:
        _check_legacy(path, data)


def _check_archive(path: epath.PathLike, data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        sizes = {member.filename: member.file_size for member in members}
        if any(name.endswith("/constants.pkl") for name in sizes):
            raise InputError(
                f"{path}: found a TorchScript archive, expected a state_dict, as "
                "torch.save(torch.jit.load(path).state_dict(), new_path) writes it"
            )
        if not (pickles := [name for name in sizes if name.endswith("/data.pkl")]):
            raise InputError(f"{path}: found a zip archive without data.pkl, expected one as torch.save writes it")
        if len(sizes) != len(members):
            raise ValueError("two members of the archive have one name")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members) or sum(sizes.values()) > len(data):
            raise ValueError(f"its archive is compressed, or claims more than {len(data)} bytes")
        (pickled,) = pickles
        check_sums(archive)
        unpickler = _Unpickler(io.BytesIO(archive.read(pickled)), path)
    unpickler.load()
    for key, size in unpickler.sizes.items():
        if (found := sizes[f"{pickled.removesuffix('data.pkl')}data/{key}"]) != size:
            raise ValueError(f"storage {key} has {found} bytes, and is said to have {size}")


def _check_legacy(path: epath.PathLike, data: bytes) -> None:
    file = io.BytesIO(data)
    if (_Unpickler(file, path).load(), _Unpickler(file, path).load()) != (_MAGIC, _PROTOCOL):
        raise ValueError("it does not begin as PyTorch's files do")
    _Unpickler(file, path).load()  # of the machine that wrote it
    unpickler = _Unpickler(file, path)
    unpickler.load()
    keys = _Unpickler(file, path).load()
    if type(keys) is not list or any(type(key) not in (str, int) for key in keys):
        raise ValueError("the names of its storages are no text")
    if (size := sum(unpickler.sizes.values())) > len(data):
        raise ValueError(f"its tensors take {size} bytes, and the file has {len(data)}")
