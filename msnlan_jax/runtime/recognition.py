"""What often lies where a picture or a checkpoint is expected, told by its first bytes."""

_STARTS = {
    "a pointer of Git LFS, as 'git lfs pull' replaces by the file": (b"version https://git-lfs",),
    "a web page": (b"<!doctype", b"<html"),
    "an XML file": (b"<?xml", b"<svg"),
    "a packed file (gzip, xz or bzip2)": (b"\x1f\x8b", b"\xfd7zxz", b"bzh"),
    "a PDF file": (b"%pdf-",),
    "an HDF5 file": (b"\x89hdf",),
}
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")


def recognise(data: bytes) -> str:
    """Return what a file's content is, with an article, for a message; "" where that is nothing known here."""
    brands = data[8 : int.from_bytes(data[:4])]  # the main one, four bytes that are none, and those it agrees with
    if data[4:8] == b"ftyp" and any(brand in brands for brand in _HEIC_BRANDS):
        return "a HEIC picture, as telephones take them"
    start = data[:100].lstrip().lower()
    return next((what for what, starts in _STARTS.items() if start.startswith(starts)), "")
