"""The SHA-256 of image files, of those that have changed computed anew.

A size and a time of change prove little: they are equal where folders swap their names, where archives are unpacked and
where clocks are coarse. So what shows that nothing has changed is all that `store.stamp` looks at.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from surefoot.data import images, store

if TYPE_CHECKING:
    from surefoot.data.folder import ImageFile

_HASHED = "SHA-256 of the image files in a folder, 1"
"""By which they are remembered."""
_WORKERS = min(8, os.cpu_count() or 1)
"""Threads that hash and decode: both work outside Python's lock. Chosen by hand."""

_T = TypeVar("_T")


def hashes(where: str, files: Sequence[ImageFile]) -> list[str]:
    """Return the SHA-256 of each file; "" where it cannot be read: decoding will name it.

    They are remembered with what shows that no file has changed: a later run looks at files and does not read them.

    Args:
        where: the folder that they are of.
        files: in an order that does not change.
    """
    before = _stamps(files)
    kept = None if before is None else store.recalled(f"{_HASHED}\n{where}")
    if kept is not None and kept["stamps"] == before and len(kept["sha256"]) == len(files):
        return kept["sha256"]
    contents = list(in_threads(lambda i: hash_of(files[i].path), len(files), "looking at images"))
    if before is not None and before == _stamps(files):
        store.remember(f"{_HASHED}\n{where}", {"stamps": before, "sha256": contents})
    return contents


def _stamps(files: Sequence[ImageFile]) -> str | None:
    """Return the hash of the stamps of all files; None where one has none, as what lies in a tar."""
    seen = hashlib.sha256()
    for file in files:
        try:
            now = store.stamp(file.path) if isinstance(file.path, Path) else None
        except OSError:
            return None
        if now is None:
            return None
        seen.update(f"{file.name}\t{now}\n".encode("utf-8", "surrogateescape"))
    return seen.hexdigest()


def hash_of(path: images.File) -> str:
    """Return the SHA-256 of a file, "" of one that cannot be read."""
    with suppress(OSError):
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb", buffering=0) as handle:
                return hashlib.file_digest(handle, "sha256").hexdigest()
    return ""


def in_threads(of: Callable[[int], _T], count: int, label: str) -> Iterator[_T]:
    """Yield what a function says of 0 to count - 1, in order, showing a bar."""
    with images.quiet(), store.bar(label, count) as progress, ThreadPoolExecutor(_WORKERS) as pool:
        for at in range(0, count, 256):  # so that an error stops the others soon
            for result in pool.map(of, range(at, min(at + 256, count))):
                progress.update(1)
                yield result
