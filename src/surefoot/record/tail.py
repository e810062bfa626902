"""Lines of a file that another process is writing, as they come."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Tail:
    r"""Reads what was added to a file of JSON lines since the last time.

    A line that is still being written waits for its end. Where the file was replaced by a new one, as a run does that
    goes on from a checkpoint, only lines that were not there before are new.

    Args:
        path: of the file; it need not exist yet.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.jsonl"
    ...     tail = Tail(path)
    ...     _ = path.write_text('{"a": 1}\n{"a":')
    ...     first = tail.read()
    ...     _ = path.write_text('{"a": 1}\n{"a": 2}\n')
    ...     first, tail.read()
    ([{'a': 1}], [{'a': 2}])
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._at = 0
        self._seen: set[int] = set()

    def read(self) -> list[dict[str, Any]]:
        """Return the new lines. A line that is damaged is left out."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                here = (status.st_dev, status.st_ino)
                if here != self._file or status.st_size < self._at:
                    self._file, self._at = here, 0
                file.seek(self._at)
                content = file.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._at += len(whole)
        found = []
        for line in whole.splitlines():
            if hash(line) in self._seen:
                continue
            self._seen.add(hash(line))
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                found.append(value)
        return found
