"""The arrays of an .npz or .npy that may come from anyone: read without pickle, and only if they fit into memory.

NumPy trusts what an archive says of itself: an encrypted member, a method that this Python lacks, a text file in place
of an array or a header that declares a terabyte end in errors of six kinds. Here each is a sentence about one array.
"""

from __future__ import annotations

import math
import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from surefoot.data import mapped
from surefoot.errors import DataError

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_ENCRYPTED = 0x1
"""The bit of a member's flags that says it is encrypted (APPNOTE.TXT 4.4.4)."""
_BLOCK_BYTES = 2**24
_MEMORY_SHARE = 0.8
"""Share of the free memory that one array may take. Chosen by hand."""


class Unusable(ValueError):
    """An array that cannot be read; the text says why, without its name."""


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in an .npz, in order; other members are passed over.

    Raises:
        DataError: it is no whole archive, or holds an array twice.
    """
    with _Archive(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{path} has {twice[0]!r} twice", "an archive has one array of a name", "write it again with numpy.savez"
        )
    return names


def read_array(path: Path, name: str) -> np.ndarray:
    """Return one array of an .npz; in a memory map where it is large, and was saved without compression.

    Raises:
        Unusable: it cannot be read.
        DataError: the archive cannot.
    """
    with _Archive(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        if member.flag_bits & _ENCRYPTED:
            raise Unusable("is encrypted")
        if member.compress_type not in _METHODS:
            raise Unusable(f"is compressed by method {member.compress_type}, which Python's zipfile lacks")
        stored = member.compress_type == zipfile.ZIP_STORED and member.file_size > mapped.IN_MEMORY
        return _mapped_member(path, member) if stored else _read(lambda: archive.open(member), member.file_size)


def read_npy(path: Path) -> np.ndarray:
    """Return the array of an .npy, in a memory map where it is large.

    Raises:
        DataError: it cannot be read.
    """
    check_file(path)
    try:
        if (size := path.stat().st_size) > mapped.IN_MEMORY:
            return _mapped(path, 0, size)
        return _read(lambda: path.open("rb"), size)
    except (Unusable, OSError) as error:
        raise DataError(
            f"{path}: {error}", "it must be an array of numbers, whole", "write it again with numpy.save"
        ) from None


def check_file(path: Path) -> None:
    """Raise DataError for what is no regular file: opening a pipe would wait for somebody to write into it."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "data must be readable", "check path and permissions") from None
    if not regular:
        raise DataError(
            f"{path}: is no file but a folder, a pipe, a socket or a device",
            "here a file is needed",
            "write its content into a file",
        )


class _Archive:
    """A context that opens an .npz as a zip file; whatever is wrong with it as a whole becomes one DataError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> zipfile.ZipFile:
        check_file(self.path)
        try:
            self._file = zipfile.ZipFile(self.path)
        except Exception as error:  # damaged archives make zipfile raise nearly anything
            with self.path.open("rb") as handle:
                start = handle.read(6)
            what = "is an .npy and no .npz: one array alone" if start == b"\x93NUMPY" else _first_line(error)
            raise self._damaged(what) from None
        return self._file

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._file.close()
        if error is not None and isinstance(error, Exception) and not isinstance(error, (DataError, Unusable)):
            raise self._damaged(_first_line(error)) from None

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.path}: {what}", "it must be a whole .npz file", "write it again with numpy.savez")


def _mapped_member(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """Return an array that lies in an archive as it is, in a memory map, after comparing its checksum."""
    with path.open("rb") as handle:
        handle.seek(member.header_offset + 26)  # of the local header, whose lengths may differ from the directory's
        name, extra = int.from_bytes(handle.read(2), "little"), int.from_bytes(handle.read(2), "little")
        start = member.header_offset + 30 + name + extra
        handle.seek(start)
        checksum, left = 0, member.file_size
        while left and (block := handle.read(min(left, _BLOCK_BYTES))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
    if left or checksum != member.CRC:
        raise Unusable("cannot be read (Bad CRC-32)")
    return _mapped(path, start, member.file_size)


def _mapped(path: Path, start: int, size: int) -> np.ndarray:
    """Return the array whose header is at that byte of a file, in a memory map that cannot be written to."""
    with path.open("rb") as handle:
        handle.seek(start)
        shape, fortran, dtype = _header(handle, size)
        declared, there = math.prod(shape) * dtype.itemsize, size - (handle.tell() - start)
        if declared > there:
            raise Unusable(f"declares {declared:,} bytes and has {there:,}")
        order = "F" if fortran else "C"
        return np.memmap(path, dtype=dtype, mode="r", offset=handle.tell(), shape=shape, order=order)


def _header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and type that the header of an array declares; the array is what follows in the stream."""
    try:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = header.get(version, np.lib.format.read_array_header_2_0)(stream)
    except Exception as error:  # damaged streams make zlib, zipfile and numpy raise nearly anything
        raise Unusable(f"cannot be read ({_first_line(error)})") from None
    if dtype.hasobject:
        raise Unusable("holds Python objects, which are not read")
    if (declared := math.prod(shape) * dtype.itemsize) > size:
        raise Unusable(f"declares {declared:,} bytes and has {size:,}")
    return shape, fortran, dtype


def array_files(folder: Path) -> dict[str, Path]:
    """Return the .npy files of a folder by their names, as an .npz has its arrays."""
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix == ".npy" and path.is_file()}


def _read(opened: Callable[[], IO[bytes]], size: int) -> np.ndarray:
    """Return the array that a stream of `size` bytes holds, after looking at what its header declares."""
    try:
        with opened() as stream:
            shape, _, dtype = _header(stream, size)
    except (Unusable, DataError):
        raise
    except Exception as error:
        raise Unusable(f"cannot be read ({_first_line(error)})") from None
    declared, free = math.prod(shape) * dtype.itemsize, free_bytes()
    if declared > _MEMORY_SHARE * free:
        raise Unusable(f"declares {declared / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of memory are free")
    try:
        with opened() as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:
        raise Unusable(f"cannot be read ({_first_line(error)})") from None


def free_bytes() -> float:
    """Return about how much memory is free, page cache included; infinity where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
        return float(os.sysconf("SC_AVPHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError, IndexError):
        return math.inf


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
