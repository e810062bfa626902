"""CIFAR-10 (Krizhevsky 2009): the binary release, the archive of it, or the release for Python, from disk or the net.

The binary layout: `data_batch_1..5.bin` and `test_batch.bin`, each 10,000 records of one label byte and 3,072
pixel bytes, channel by channel, row by row; `batches.meta.txt` holds the names of the classes, one a line.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from surefoot.data import archive, pickled
from surefoot.data.dataset import Source
from surefoot.data.problems import Problems
from surefoot.data.progress import bar
from surefoot.data.raw import Raw, RawPart
from surefoot.data.store import cache_folder, writable
from surefoot.errors import DataError

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

PYTHON_FOLDER = "cifar-10-batches-py"
PYTHON_META = "batches.meta"
PYTHON_FILES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""The files of the release for Python and their published md5s (also in torchvision/datasets/cifar.py)."""

ARCHIVES = (
    "cifar-10-binary.tar.gz",
    "cifar-10-binary.tar.xz",
    f"{FOLDER}.tar.gz",
    f"{FOLDER}.tar.xz",
    "cifar-10-python.tar.gz",
)

Reader = Callable[[str], bytes]
"""From the name of a file to its bytes; raises FileNotFoundError."""


def read(data_dir: str | Path | None = None) -> Raw:
    """Return CIFAR-10: 50,000 training and 10,000 test images, uint8 [N, 3, 32, 32], verified by md5.

    Args:
        data_dir: a folder with the binary files, with the release for Python or with an archive of either; or the
            archive itself, .tar.gz or .tar.xz; None for the cache folder, into which it is downloaded.

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
    if place is not None and (reader := _folder_reader(place)) is not None:
        return parsed(reader, str(place))
    packed = _archive_in(place) if place is not None else None
    if place is not None and packed is None:
        raise DataError(
            f"data_dir {place}",
            f"it must hold the files of {FOLDER} or {PYTHON_FOLDER}, or one of {', '.join(ARCHIVES)}",
            f"download {URL} into it",
        )
    if all((home / name).is_file() for name in (*FILES, META)):  # unpacked by an earlier run, verified again below
        return parsed(lambda name: (home / name).read_bytes(), str(home))
    packed = packed or downloaded(cache_folder() / "downloads")
    raw = parsed(_bytes_reader(archived(packed)), str(packed))
    _keep(raw, home)
    return raw


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


def parsed(reader: Reader, where: str) -> Raw:
    """Return the data set from its files, each verified by its size and md5.

    Raises:
        DataError: lists every file that is missing or wrong.
    """
    problems = Problems(where)
    python = _has(reader, "data_batch_1") and not _has(reader, "data_batch_1.bin")
    names = list(PYTHON_FILES if python else FILES)
    records = [_records(reader, name, python, problems) for name in names]
    classes = _classes(reader, python, problems)
    problems.raise_any()
    parts = {"train": records[:-1], "test": records[-1:]}
    return Raw("cifar10", {part: _part(part, table) for part, table in parts.items()}, classes)


def _records(reader: Reader, name: str, python: bool, problems: Problems) -> np.ndarray:
    """Return one file's records, uint8 [RECORDS, 1 + 3072], and note what is wrong with it."""
    empty = np.empty((0, 1 + PIXELS), dtype=np.uint8)
    source = ("it must be the published file", f"unpack {URL} anew")
    try:
        content = reader(name)
    except OSError as error:
        problems.add(name, error.strerror or "is missing", *source)
        return empty
    known = hashlib.md5(content, usedforsecurity=False).hexdigest()
    right = known == PYTHON_FILES.get(name)
    if python:
        try:
            content = _rebuilt(pickled.read(content))
        except ValueError as error:
            problems.add(name, str(error), *source)
            return empty
        known = hashlib.md5(content, usedforsecurity=False).hexdigest()
    wanted = RECORDS * (1 + PIXELS)
    if len(content) != wanted:
        problems.add(name, f"has {len(content):,} bytes of records, not {wanted:,}", *source)
        return empty
    table = np.frombuffer(content, dtype=np.uint8).reshape(RECORDS, 1 + PIXELS)
    for row in np.flatnonzero(table[:, 0] > 9):
        problems.add(f"{name} record {row}", f"label {table[row, 0]} is out of range", "labels are 0 to 9", source[1])
    if not right and known != FILES[f"{name}.bin" if python else name]:
        problems.add(name, f"md5 {known} is wrong", *source)
    return table


def _rebuilt(batch: object) -> bytes:
    """Return a batch of the release for Python as the bytes of the binary release."""
    fields = {str(key): value for key, value in batch.items()} if isinstance(batch, dict) else {}
    x, y = fields.get("data"), fields.get("labels")
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != PIXELS:
        raise ValueError("has no uint8 array 'data' [N, 3072]")
    if not isinstance(y, list) or len(y) != len(x) or not all(type(each) is int and 0 <= each <= 9 for each in y):
        raise ValueError("has no list 'labels' of N whole numbers 0 to 9")
    return np.concatenate([np.array(y, dtype=np.uint8)[:, None], x], axis=1).tobytes()


def _classes(reader: Reader, python: bool, problems: Problems) -> tuple[str, ...]:
    name = PYTHON_META if python else META
    try:
        content = reader(name)
        if python:
            meta = pickled.read(content)
            found = (
                {str(key): value for key, value in meta.items()}.get("label_names") if isinstance(meta, dict) else []
            )
            classes = tuple(map(str, found)) if isinstance(found, list) else ()
        else:
            classes = tuple(content.decode("ascii", "replace").split())
    except (OSError, ValueError) as error:
        problems.add(name, str(error) or "is missing", "it must be the published file", f"unpack {URL} anew")
        return ()
    if len(set(classes)) != 10:
        problems.add(name, f"names {len(set(classes))} classes", "it must name 10", f"unpack {URL} anew")
    return classes


def _part(name: str, tables: list[np.ndarray]) -> RawPart:
    x = np.concatenate([table[:, 1:] for table in tables]).reshape(-1, 3, 32, 32)
    y = np.concatenate([table[:, 0] for table in tables]).astype(np.int64)
    return RawPart(x, y, Source(f"{name} image "))


def _has(reader: Reader, name: str) -> bool:
    try:
        return bool(reader(name))
    except OSError:
        return False


def _folder_reader(place: Path) -> Reader | None:
    """Return the reader of the folder that holds the files, `place` or one below it; None if neither does."""
    for folder in (place, place / FOLDER, place / PYTHON_FOLDER):
        if any((folder / name).is_file() for name in (*FILES, *PYTHON_FILES)):
            return lambda name: (folder / name).read_bytes()
    return None


def _bytes_reader(files: dict[str, bytes]) -> Reader:
    def reader(name: str) -> bytes:
        if name not in files:
            raise FileNotFoundError(errno.ENOENT, "is missing", name)
        return files[name]

    return reader


def _archive_in(place: Path) -> Path | None:
    if place.is_file():
        return place
    return next((place / name for name in ARCHIVES if (place / name).is_file()), None)


def archived(path: Path) -> dict[str, bytes]:
    """Return the files of the data set in an archive, by name. Nothing is unpacked to disk."""
    size = RECORDS * (1 + PIXELS)
    limits = dict.fromkeys(FILES, size) | {META: 10_000}
    # The release for Python holds names of files besides; written anew by Python 3, bytes can take up to two each.
    limits |= dict.fromkeys(PYTHON_FILES, 2 * size + 200 * RECORDS + 10_000) | {PYTHON_META: 10_000}
    return archive.members(path, limits)


def _keep(raw: Raw, home: Path) -> None:
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
        os.rename(partial, home)
    except OSError:
        pass  # the cache cannot be written, or another run was first
    finally:
        shutil.rmtree(partial, ignore_errors=True)
