"""CIFAR-10 (Krizhevsky 2009): the binary release or the archive of it, from disk or the net.

The binary layout: `data_batch_1..5.bin` and `test_batch.bin`, each 10,000 records of one label byte and 3,072
pixel bytes, channel by channel, row by row; `batches.meta.txt` holds the names of the classes, one a line.
The release for Python is not read: its files are pickles, which are programs. Archives are never unpacked to disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import os
import shutil
import tarfile
import uuid
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np

from surefoot.data.check import Problems
from surefoot.data.dataset import Raw, RawPart, Source
from surefoot.data.statistics import level_counts
from surefoot.data.store import bar, recalled, remember, sha256, stamp, writable
from surefoot.errors import DataError
from surefoot.settings import cache_folder

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
META = "batches.meta.txt"
RECORDS = 10_000
"""Records in each file."""

FILES = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
"""The files and their md5s, taken from the published archive."""

PIXELS = 3 * 32 * 32
_RECORDS_AT_ONCE = 500
"""Records that are read, hashed and copied together: 1.5 MB, which a processor's cache holds. Chosen by hand."""
_PUBLISHED = ("it must be the published file", f"unpack {URL} anew")
"""What is said of a file that is another."""

PYTHON_RELEASE = ("data_batch_1", "cifar-10-batches-py", "cifar-10-python.tar.gz")
"""What shows the release for Python: a file of it, its folder, its archive."""

ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-binary.tar.xz", f"{FOLDER}.tar.gz", f"{FOLDER}.tar.xz")

MOST_MEMBERS = 1000
"""An archive of more members is refused. CIFAR-10's have 9. Chosen by hand."""

MOST_BYTES = 10**6
"""Largest size of a member that is not asked for: read over, but never kept. Chosen by hand."""

_CONTENT = "CIFAR-10 by the SHA-256 of its files: md5, SHA-256 and levels of the parts, 1"
"""By which facts of this content are kept, so that a run hashes once, in 0.05 s on two cores: its md5s take 0.24 s, its
parts' SHA-256 0.1 s, and counting its levels 0.18 s. The number is raised where these mean something else."""
_READ = "CIFAR-10 archive that was read, 1"
"""By which it is kept that an archive holds what lies unpacked in the cache."""


def read(data_dir: str | Path | None = None) -> Raw:
    """Return CIFAR-10: 50,000 training and 10,000 test images, uint8 [N, 3, 32, 32], verified by md5.

    Args:
        data_dir: a folder with the binary files or with an archive of them; or the archive itself, .tar.gz or .tar.xz;
            None for the cache folder, into which it is downloaded.

    Raises:
        DataError: files are missing, damaged or something else, or the download failed; it says which file
            to put where.
    """
    home = cache_folder() / FOLDER
    place = Path(data_dir).expanduser() if data_dir is not None else None
    if place is not None and not place.exists():
        raise DataError(
            f"data_dir {place}",
            "it must be a folder or an archive that holds CIFAR-10",
            "check the path, or leave it out to download",
        )
    for folder in (place, place / FOLDER) if place is not None else ():
        if any((folder / name).is_file() for name in FILES):
            return parsed(_files(folder), str(place))
    packed = _archive_in(place) if place is not None else None
    if place is not None and packed is None:
        if any((place / name).exists() for name in PYTHON_RELEASE):
            raise _for_python(place)
        raise DataError(
            f"data_dir {place}",
            f"it must hold the files of {FOLDER}, or one of {', '.join(ARCHIVES)}",
            f"download {URL} into it",
        )
    unpacked = all((home / name).is_file() for name in (*FILES, META))
    if unpacked and (packed is None or _is_unpacked(packed)):
        if packed is None:
            return parsed(_files(home), str(home))
        with contextlib.suppress(DataError):  # what lies in the cache is damaged: read the archive, and write it anew
            return parsed(_files(home), str(packed))
    packed = packed or downloaded(cache_folder() / "downloads")
    before = stamp(packed)
    raw = parsed(archived(packed), str(packed))
    _cache(raw, home)
    if before is not None and before == stamp(packed):
        remember(f"{_READ}\n{before}", {"holds": "CIFAR-10"})
    return raw


def _is_unpacked(packed: Path) -> bool:
    """Return whether an archive of the user's was read before, found to be CIFAR-10, and has not changed since."""
    now = stamp(packed)
    return now is not None and recalled(f"{_READ}\n{now}") is not None


def downloaded(folder: Path) -> Path:
    """Return the published archive in `folder`, downloading it with a check of its md5 where it is absent.

    Raises:
        DataError: the download failed or gave another file; it says which file to put where.
    """
    import logging

    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    name = ARCHIVES[0]
    try:
        writable(folder)
        with bar("cifar-10-binary.tar.gz", unit="bytes") as progress:
            # pooch takes any bar that can total, update, reset and close; its types say less than its manual.
            downloader: Any = pooch.HTTPDownloader(progressbar=cast(Any, progress), timeout=30)
            return Path(pooch.retrieve(URL, f"md5:{ARCHIVE_MD5}", fname=name, path=folder, downloader=downloader))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong md5 is a ValueError
        reason = (
            "the md5 is wrong" if isinstance(error, ValueError) else f"the download failed ({type(error).__name__})"
        )
        raise DataError(
            f"cifar10: {reason}: {URL}",
            f"CIFAR-10 is downloaded once, 170 MB with md5 {ARCHIVE_MD5}",
            f"download that file by other means and put it at {folder / name}, or give its folder with --data-dir",
        ) from None


def parsed(files: Mapping[str, bytes | Path], where: str) -> Raw:
    """Return the data set from its files, or what they hold, each verified by its size and md5.

    Raises:
        DataError: lists every file that is missing or wrong.
    """
    problems = Problems(where)
    whole = [name for name in FILES if _is_whole(files, name, problems)]
    classes = _classes(files, problems)
    table = _Table.of(len(FILES))
    with ThreadPoolExecutor(len(FILES)) as pool:  # reading, hashing and copying work outside Python's lock
        digests = list(pool.map(lambda name: table.read(name, files[name]), whole))
    content = f"{_CONTENT}\n{' '.join(map(str.__add__, whole, digests))}"
    facts = recalled(content) or {"md5": {name: table.md5(name) for name in whole}}
    for name in whole:
        _check(name, table.of_file(name)[1], facts["md5"][name], problems)
    problems.raise_any()
    parts = {"train": table.part("train", slice(0, -RECORDS)), "test": table.part("test", slice(-RECORDS, None))}
    if "levels" not in facts:
        facts["sha256"] = {name: sha256(part.x) for name, part in parts.items()}
        facts["levels"] = {name: level_counts(part.x).tolist() for name, part in parts.items()}
        remember(content, facts)
    for name, part in parts.items():
        parts[name] = replace(part, digest=facts["sha256"][name], levels=np.array(facts["levels"][name]))
    return Raw("cifar10", parts, classes)


@dataclass(frozen=True)
class _Table:
    """Records of all files, as they are read: pixels [N, 3072] and labels [N], uint8."""

    x: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, files: int) -> _Table:
        return cls(np.empty((files * RECORDS, PIXELS), np.uint8), np.empty(files * RECORDS, np.uint8))

    def of_file(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels and labels of one file."""
        first = list(FILES).index(name) * RECORDS
        return self.x[first : first + RECORDS], self.y[first : first + RECORDS]

    def read(self, name: str, content: bytes | Path) -> str:
        """Take in a file, and return its SHA-256 as hex: by the piece, so that each is copied while it is at hand."""
        (x, y), digest = self.of_file(name), hashlib.sha256()
        piece = np.empty((min(_RECORDS_AT_ONCE, RECORDS), 1 + PIXELS), np.uint8)
        try:
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                for first in range(0, RECORDS, len(piece)):
                    rows = piece[: RECORDS - first]
                    if file.readinto(rows.data.cast("B")) != rows.size:
                        raise EOFError
                    digest.update(rows.data)
                    y[first : first + len(rows)], x[first : first + len(rows)] = rows[:, 0], rows[:, 1:]
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or "it ends early"
            where = content if isinstance(content, Path) else name
            raise DataError(f"{where}: {reason}", "the file must be readable", "check its permissions") from None
        return digest.hexdigest()

    def md5(self, name: str) -> str:
        """Return the md5 of a file that was read."""
        x, y = self.of_file(name)
        return hashlib.md5(np.concatenate([y[:, None], x], axis=1).data, usedforsecurity=False).hexdigest()

    def part(self, name: str, rows: slice) -> RawPart:
        """Return some of the records as a part of the data set."""
        return RawPart(self.x[rows].reshape(-1, 3, 32, 32), self.y[rows].astype(np.int64), Source(f"{name} image "))


def _is_whole(files: Mapping[str, bytes | Path], name: str, problems: Problems) -> bool:
    """Return whether a file is there and has its size; note what is wrong with it."""
    content, wanted = files.get(name), RECORDS * (1 + PIXELS)
    if content is None:
        problems.add(name, "is missing", *_PUBLISHED)
        return False
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if size != wanted:
        problems.add(name, f"has {size:,} bytes of records, not {wanted:,}", *_PUBLISHED)
    return size == wanted


def _check(name: str, labels: np.ndarray, md5: str, problems: Problems) -> None:
    for row in np.flatnonzero(labels > 9):
        problems.add(f"{name} record {row}", f"label {labels[row]} is out of range", "labels are 0 to 9", _PUBLISHED[1])
    if md5 != FILES[name]:
        problems.add(name, f"md5 {md5} is wrong", *_PUBLISHED)


def _classes(files: Mapping[str, bytes | Path], problems: Problems) -> tuple[str, ...]:
    content = files.get(META, b"")
    try:
        text = content if isinstance(content, bytes) else content.read_bytes()
    except OSError as error:
        given = f"{error.filename}: {error.strerror}"
        raise DataError(given, "the file must be readable", "check its permissions") from None
    classes = tuple(text.decode("ascii", "replace").split())
    if META not in files:
        problems.add(META, "is missing", *_PUBLISHED)
    elif len(set(classes)) != 10:
        problems.add(META, f"names {len(set(classes))} classes", "it must name 10", _PUBLISHED[1])
    return classes


def _files(folder: Path) -> dict[str, bytes | Path]:
    """Return the files of the data set in a folder, by name."""
    return {name: folder / name for name in (*FILES, META) if (folder / name).is_file()}


def _archive_in(place: Path) -> Path | None:
    if place.is_file():
        return place
    return next((place / name for name in ARCHIVES if (place / name).is_file()), None)


def archived(path: Path) -> dict[str, bytes | Path]:
    """Return the files of the data set in an archive, by name."""
    return {**members(path, dict.fromkeys(FILES, RECORDS * (1 + PIXELS)) | {META: 10_000})}


def _for_python(place: Path) -> DataError:
    return DataError(
        f"data_dir {place} holds the release of CIFAR-10 for Python",
        "its files are pickles, which are programs; only the binary release is read",
        f"download {URL} (md5 {ARCHIVE_MD5}) and give its folder, or leave data_dir out to download it",
    )


def members(path: Path, limits: Mapping[str, int]) -> dict[str, bytes]:
    """Return the contents of the wanted files of a .tar, .tar.gz, .tar.bz2 or .tar.xz, by their last name.

    The archive is read once from front to back, member by member, each against its limit before a byte of it is
    decompressed, so neither paths, links nor bombs in it can do anything.

    Args:
        path: of the archive.
        limits: the most bytes that each wanted file may have, by its name.

    Raises:
        DataError: it is no archive, is damaged, or has a member that no data archive has: a link or device, an
            absolute path or one with "..", a file larger than its limit, the same file twice.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|*") as tar:
            for count, member in enumerate(tar):
                if count >= MOST_MEMBERS:
                    raise _refused(path, f"more than {MOST_MEMBERS} members")
                name = _checked(path, member, limits)
                if member.isfile() and name in limits:
                    if name in found:
                        raise _refused(path, f"{member.name!r} is there twice")
                    file = tar.extractfile(member)
                    found[name] = file.read() if file is not None else b""
                    if len(found[name]) != member.size:
                        raise EOFError("it ends early")
    except (tarfile.TarError, OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise DataError(
            f"{path}: {error}", "it must be a whole .tar.gz or .tar.xz archive", "download it again"
        ) from None
    return found


def _checked(path: Path, member: tarfile.TarInfo, limits: Mapping[str, int]) -> str:
    """Return the member's last name, or raise DataError where it is no plain file or folder of a fit size."""
    inside = PurePosixPath(member.name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in member.name or "\0" in member.name:
        raise _refused(path, f"{member.name!r} leads out of the archive")
    if not (member.isfile() or member.isdir()):
        raise _refused(path, f"{member.name!r} is a link or a device")
    if f"{inside.name}.bin" in FILES:
        raise _for_python(path)
    limit = limits.get(inside.name, MOST_BYTES)
    if member.size > limit:
        raise _refused(path, f"{member.name!r} has {member.size:,} bytes, more than {limit:,}")
    return inside.name


def _refused(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path}: {reason}", "the archive of a data set holds plain files inside one folder", "download it again"
    )


def _cache(raw: Raw, home: Path) -> None:
    """Write the verified files to the cache, so that no later run unpacks. Not being able to is no error."""
    partial = home.with_name(f"{home.name}.{uuid.uuid4().hex}.tmp")
    train = raw.parts["train"]
    try:
        partial.mkdir(parents=True)
        for place, name in enumerate(FILES):
            part, at = (raw.parts["test"], 0) if name == "test_batch.bin" else (train, place * RECORDS)
            x, y = part.x[at : at + RECORDS], part.y[at : at + RECORDS]
            table = np.concatenate([y.astype(np.uint8)[:, None], x.reshape(len(x), -1)], axis=1)
            (partial / name).write_bytes(table.tobytes())
        (partial / META).write_text("\n".join(raw.classes or ()) + "\n", encoding="ascii")
        shutil.rmtree(home, ignore_errors=True)  # late, for another run may be reading what lies there
        os.rename(partial, home)
    except OSError:
        pass  # the cache cannot be written, or another run was first
    finally:
        shutil.rmtree(partial, ignore_errors=True)
