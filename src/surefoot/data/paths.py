"""What a path names, as far as its name and a look into a folder tell: a table, Parquet files, shards.

Imports neither torch nor what reads a table, so that a command for other data need not wait for these.
"""

from __future__ import annotations

import glob
import itertools
import re
from pathlib import Path
from typing import Any

from surefoot.errors import DataError

SUFFIXES = (".parquet", ".pq")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 100_000
"""Shards that a pattern may name. Chosen by hand: what is more is a slip."""


def is_table(path: Path) -> bool:
    """Return whether a file is named as a table is: .parquet, or .csv or .tsv, which may be compressed by gzip; or a
    folder holds Parquet files alone.

    >>> is_table(Path("a.csv")), is_table(Path("A.TSV.gz")), is_table(Path("a.parquet")), is_table(Path("a.npz"))
    (True, True, True, False)
    """
    name = path.name.lower()
    return name.removesuffix(".gz").endswith((".csv", ".tsv")) or bool(files_of(path))


def files_of(path: Path) -> list[Path]:
    """Return the Parquet files that a path names: itself, or those below a folder that holds such files alone.

    >>> files_of(Path("a.parquet")), files_of(Path("a.csv"))
    ([PosixPath('a.parquet')], [])
    """
    if path.name.lower().endswith(SUFFIXES) and not path.is_dir():
        return [path]
    if not path.is_dir():
        return []
    found = list[Path]()
    for each in path.rglob("*"):
        if not _is_litter(each.relative_to(path)) and each.is_file():
            if not each.name.lower().endswith(SUFFIXES):
                return []  # a folder of 100,000 images is not walked through
            found.append(each)
    return sorted(found)


def _is_litter(path: Path) -> bool:
    """Return whether a file is what Spark and others leave beside their files: _SUCCESS, .crc."""
    return any(part.startswith((".", "_")) for part in path.parts)


def shards_of(source: str | Path) -> list[Path] | None:
    """Return the tar files that a path, a pattern or a folder names, in order; None where it names none.

    `{000..012}` is every number from the first to the last, `*` whatever is there.

    Raises:
        DataError: a pattern with a number that is not there.

    >>> shards_of("photographs")
    """
    text = str(Path(source).expanduser())
    if not text.endswith(".tar"):
        path = Path(text)
        if not path.is_dir():
            return None
        found = sorted(each for each in path.iterdir() if each.suffix == ".tar" and each.is_file())
        return found or None
    if _BRACES.search(text):
        paths = [Path(each) for each in itertools.islice(_spelled(text), _MOST_SHARDS)]
    elif glob.has_magic(text) and not Path(text).exists():
        paths = [Path(each) for each in sorted(glob.glob(text))]
    else:
        return [Path(text)] if Path(text).is_file() else None
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        what = f"there is no {missing[0]}{more}" if missing else "no file has such a name"
        raise DataError(f"{source}: {what}", "a pattern names files that are there", "check the pattern")
    return paths


def _spelled(text: str) -> Any:
    match = _BRACES.search(text)
    if match is None:
        yield text
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield from _spelled(f"{text[: match.start()]}{number:0{len(first)}d}{text[match.end() :]}")
