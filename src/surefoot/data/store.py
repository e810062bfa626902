"""The cache folder, and the memory-mapped store of decoded images in it.

A store is a folder `images/PLACE/CONTENT/` with `images.npy` (uint8, uint16 or float32 [N, C, H, W]) and `meta.json`.
PLACE is the hash of where the images come from and how they were decoded, CONTENT of the listing (path and SHA-256 of
each file), so what lies at a path never changes. It is written under a temporary name, synced and renamed, so it is
whole or absent; of two builders at once the first to rename wins and the second uses its work. A store of the
same place with another listing is stale and is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from surefoot.data.mapped import Mapped, pieces
from surefoot.errors import DataError
from surefoot.settings import cache_folder

QUIET_SECONDS = 2.0
"""Work shorter than this shows no bar. Chosen by hand."""


class Bar:
    """Counts work, and after two seconds shows it. Has what pooch asks of a bar: total, update, reset, close."""

    def __init__(self, label: str, total: float = 0, unit: str = "images") -> None:
        self.label, self.total, self.unit = label, total, unit
        self._done, self._start = 0.0, time.monotonic()
        self._shown: Any = None

    def update(self, amount: float) -> None:
        """Count `amount` more."""
        self._done += amount
        if self._shown is None and sys.stderr.isatty() and time.monotonic() - self._start > QUIET_SECONDS:
            self._shown = _rich(self.unit)
            self._task = self._shown.add_task(self.label)
            self._shown.start()
        if self._shown is not None:
            self._shown.update(self._task, total=self.total or None, completed=self._done)

    def reset(self, total: float | None = None) -> None:
        """Count from nothing again."""
        self._done, self.total = 0.0, total or self.total

    def close(self) -> None:
        """Leave the line."""
        if self._shown is not None:
            self._shown.stop()
            self._shown = None


@contextmanager
def bar(label: str, total: float = 0, unit: str = "images") -> Iterator[Bar]:
    """Show a bar while the block runs.

    >>> with bar("decoding", total=3) as progress:
    ...     progress.update(1)
    """
    shown = Bar(label, total, unit)
    try:
        yield shown
    finally:
        shown.close()


def _rich(unit: str) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


_ROWS_AT_ONCE = 1024
_SOUND = "store of images whose pixels were hashed, 1"
"""By which it is kept that they are those that were written."""
_TICK_SECONDS = 2.0
"""The coarsest clock of a file system, of FAT's write times."""


def writable(folder: Path) -> Path:
    """Return the folder, made if need be.

    Raises:
        DataError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{uuid.uuid4().hex}.tmp"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise DataError(
            f"cache folder {folder}: {error.strerror or error}",
            "decoded and downloaded data is kept in a folder that can be written to",
            "set SUREFOOT_CACHE to such a folder",
        ) from None
    return folder


def recalled(what: str) -> dict[str, Any] | None:
    """Return what `remember` kept; None where it kept nothing, or what it kept is damaged.

    Args:
        what: names content by its hash, or a file by `stamp`, so that other content has other facts.
    """
    try:
        kept = json.loads(_facts(what).read_text(encoding="utf-8"))
        return kept["facts"] if kept["sha256"] == _hash(json.dumps([what, kept["facts"]])) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(what: str, facts: dict[str, Any]) -> None:
    """Keep facts, as JSON values, in the cache folder. One that cannot be written costs time, and nothing else."""
    path = _facts(what)
    partial = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        sealed = {"facts": facts, "sha256": _hash(json.dumps([what, facts]))}
        partial.write_text(json.dumps(sealed), encoding="utf-8")
        os.replace(partial, path)


def _facts(what: str) -> Path:
    return cache_folder() / "facts" / f"{_hash(what)}.json"


def stamp(path: Path) -> str | None:
    """Return what shows that a file is what it was: its number, size and times, to the nanosecond.

    Writing to a file changes the time of its last change, which no program can set back. None where that is less than
    two seconds ago: a second write could fall into the same tick of a coarse clock, as of FAT (two seconds). It is
    what Git calls racily clean. None on Windows too, whose time of change is that of creation.

    Raises:
        OSError: there is no such file.
    """
    seen = path.stat()
    if os.name == "nt" or time.time() - max(seen.st_mtime, seen.st_ctime) < _TICK_SECONDS:
        return None
    return f"{seen.st_dev} {seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}"


class Stored(NamedTuple):
    """The images, memory-mapped, their SHA-256 as hex, and what else was found when they were decoded."""

    images: np.ndarray
    sha256: str
    about: dict[str, Any]


def opened(folder: Path) -> Stored | None:
    """Return what a store holds; None where it is absent or torn."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        # Copy on write: torch wants writable memory, and the file stays as it is whatever happens to the array.
        images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
        if str(images.dtype) == meta.get("dtype", "uint8") and list(images.shape) == meta["shape"]:
            return Stored(images, str(meta["sha256"]), dict(meta.get("about", {})))
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        pass
    return None


def found(place: str, listing: str) -> Stored | None:
    """Return the store of these images, or None where there is none. One whose pixels have changed is removed.

    Its pixels are hashed once, and again only where the file is not what it was then.
    """
    folder = cache_folder() / "images" / _hash(place) / _hash(listing)
    stored = opened(folder)
    if stored is None:
        return None
    before = stamp(folder / "images.npy")
    if before is not None and recalled(f"{_SOUND}\n{before}") == {"sha256": stored.sha256}:
        return stored
    if sha256(stored.images) != stored.sha256:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    if before is not None:
        remember(f"{_SOUND}\n{before}", {"sha256": stored.sha256})
    return stored


def built(
    place: str,
    listing: str,
    shape: tuple[int, ...],
    fill: Callable[[np.ndarray], None],
    dtype: str = "uint8",
    about: Mapping[str, Any] | None = None,
) -> Stored:
    """Return the store of these images, having built it: for where `found` found none.

    Args:
        place: where the images come from and how they are decoded.
        listing: what changes when the files change.
        shape: [N, C, H, W].
        fill: writes the images into an array of that shape; what it raises is passed on and leaves no trace.
        dtype: of the images.
        about: what else is to be kept with them, as JSON values.

    Raises:
        DataError: the cache folder cannot be written, or is full.
    """
    home = cache_folder() / "images" / _hash(place)
    folder = home / _hash(listing)
    partial = writable(home) / f"{folder.name}.{uuid.uuid4().hex}.tmp"
    try:
        partial.mkdir()
        images = np.lib.format.open_memmap(partial / "images.npy", mode="w+", dtype=dtype, shape=shape)
        fill(images)
        images.flush()
        digest = sha256(images)
        del images
        meta = {"shape": shape, "dtype": dtype, "sha256": digest, "place": place, "about": dict(about or {})}
        (partial / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        for file in (*partial.iterdir(), partial):
            _sync(file)
        _put(partial, folder)
    except OSError as error:
        megabytes = math.prod(shape) * np.dtype(dtype).itemsize / 1e6
        raise DataError(
            f"cache folder {folder}: {error.strerror or error}",
            "decoded images are kept in a folder that can be written to, with room for them",
            f"make room for {megabytes:,.0f} MB, or set SUREFOOT_CACHE to another folder",
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for other in home.iterdir():
        if other != folder and not other.name.endswith(".tmp"):
            shutil.rmtree(other, ignore_errors=True)
    if (made := opened(folder)) is None:
        raise DataError(
            f"cache folder {folder}", "the store just written cannot be read back", "check that disk, then run again"
        )
    return made


def sha256(x: np.ndarray | Mapped) -> str:
    """Return the SHA-256 of an array's bytes in C order, read in pieces."""
    total = hashlib.sha256()
    for piece in pieces(x, _ROWS_AT_ONCE):
        total.update(np.ascontiguousarray(x[piece]).view(np.uint8).data)
    return total.hexdigest()


def _put(partial: Path, folder: Path) -> None:
    """Move a finished store to its place; where a good one has come there meanwhile, leave that."""
    for _ in range(10):
        try:
            os.rename(partial, folder)
            _sync(folder.parent)
            return
        except OSError:
            if opened(folder) is not None:
                return
            if not folder.exists():
                raise
            torn = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.tmp")
            with contextlib.suppress(OSError):  # another builder may have moved it first
                os.rename(folder, torn)
            shutil.rmtree(torn, ignore_errors=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # folders cannot be opened there, and renames are journalled
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]
