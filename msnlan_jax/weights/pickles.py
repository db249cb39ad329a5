"""What a PyTorch checkpoint says of itself, read before PyTorch is let near it; nothing in it is run.

PyTorch takes sizes out of a checkpoint as they stand there: a few bytes have it ask for terabytes, or read beyond the
end of what it has read. So the pickle is read here first, with objects that do nothing in place of all that it names,
and refused where it names anything but what tensors are made of, or claims more numbers than the file has bytes for.
"""

import io
import pickle
import zipfile
from collections import Counter, OrderedDict
from typing import Any, NamedTuple

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.weights.damage import shown

# Bytes of a number, by the storage's name in the pickle.
_SIZES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1}
_SIZES |= {"Bool": 1, "ComplexDouble": 16, "ComplexFloat": 8}
_ITEM_BYTES = {f"torch.{name}Storage": size for name, size in _SIZES.items()}
# What else the pickles of tensors and of optimisers name; nothing here makes an array of a size that it is told.
_CONTAINERS = {"collections.OrderedDict": OrderedDict, "collections.Counter": Counter, "builtins.set": set}
_REBUILD = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_NAMES = {*_REBUILD, *(f"torch._utils._rebuild_{name}" for name in ("parameter", "parameter_with_state"))}
_NAMES |= {"torch._utils._rebuild_sparse_tensor", "torch.serialization._get_layout", "torch.Size", "torch.device"}
_NAMES |= {
    "_codecs.encode",
    *(f"torch.{name}" for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32")),
}
# What people keep beside the weights: scores as NumPy's numbers, the flags of the run, paths. Read as nothing.
PASSED_OVER = {f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")}
PASSED_OVER |= {"numpy.dtype", "numpy.ndarray", "argparse.Namespace", "pathlib.PosixPath", "pathlib.WindowsPath"}
_ADVICE = "expected tensors only, as torch.save(model.state_dict(), path) writes them"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the format before PyTorch 1.6


class Nothing:
    """Read in the place of an object beside the weights."""

    def __init__(self, *arguments: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Named:
    """Stands in for something of PyTorch's: may be called, and makes nothing."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *arguments: Any) -> Nothing:
        if self.name in _ITEM_BYTES:
            raise TypeError(f"{self.name} is called")
        if self.name in _REBUILD:
            storage, offset, shape, strides, *_ = arguments
            _check_extent(storage, offset, shape, strides)
        return _Made()


class _Made(Nothing):
    """Stands in for a tensor, or another thing of PyTorch's."""

    def __setstate__(self, state: Any) -> None:
        raise TypeError("a tensor is changed after it was made")


class _Storage(NamedTuple):
    """A storage, without its numbers."""

    length: int


def _check_extent(storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Refuse a tensor that reaches beyond its storage: PyTorch would make that larger."""
    if not isinstance(storage, _Storage) or min((offset, *shape, *strides)) < 0:
        raise ValueError("a tensor has a negative size or no storage")
    end = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + 1
    if 0 not in shape and end > storage.length:
        raise ValueError(f"a tensor of shape {list(shape)} lies in a storage of {storage.length} numbers")


class _Unpickler(pickle._Unpickler):  # the one in C makes room for a memo of any size
    """Reads a pickle of tensors, noting how large each storage is said to be.

    Attributes:
        sizes: storage's key → bytes.
    """

    def __init__(self, file: io.BytesIO, path: epath.PathLike):
        super().__init__(file, encoding="utf-8")
        self._path = path
        self.sizes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return something that does nothing in the place of what is named."""
        full = f"{module}.{name}"
        if full in _CONTAINERS:
            return _CONTAINERS[full]
        if full in PASSED_OVER:
            return Nothing
        if full in _NAMES or full in _ITEM_BYTES:
            return _Named(full)
        raise InputError(f"{self._path}: refused: it asks to run {shown(full)}, {_ADVICE}")

    def persistent_load(self, saved: Any) -> Any:
        """Note a storage."""
        _, storage, key, _, count, *_ = saved
        size = count * _ITEM_BYTES[storage.name]
        if self.sizes.setdefault(str(key), size) != size or count < 0:
            raise ValueError(f"storage {key} has two sizes, or a negative one")
        return _Storage(count)


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
        if len(sizes) != len(members):
            raise ValueError("two members of the archive have one name")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members) or sum(sizes.values()) > len(data):
            raise ValueError(f"its archive is compressed, or claims more than {len(data)} bytes")
        (pickled,) = (name for name in sizes if name.endswith("/data.pkl"))
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
    if (size := sum(unpickler.sizes.values())) > len(data):
        raise ValueError(f"its tensors take {size} bytes, and the file has {len(data)}")
