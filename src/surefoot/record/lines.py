"""Records as JSON: values that JSON can hold, and files of one JSON object a line.

Such a file is only added to. A kill can cut its last line short, which is then left out; any other line that cannot be
read, or has the seal of other values, is an error that names it, because what is missing there is not found again by
going on. Lines of older versions have no seal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Protocol, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from surefoot.errors import CheckpointError, SurefootError
from surefoot.record.store import SEAL, seal_holds, with_seal, write_bytes

_T = TypeVar("_T")


class _OfAStep(Protocol):
    """What was seen after an update, and its JSON values."""

    @property
    def step(self) -> int: ...

    def to_dict(self) -> dict[str, Any]: ...


_S = TypeVar("_S", bound=_OfAStep)


def append_lines(path: Path, values: Iterable[Mapping[str, Any]], *, durable: bool = False) -> None:
    """Add a line for each value, all in one write; durable: and wait until they are on the disk."""
    text = _text(values)
    if not text:
        return
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def read_lines(path: Path, parse: Callable[[dict[str, Any]], _T], wanted: str, *, repair: bool = False) -> list[_T]:
    """Return what the lines of a file hold; empty where there is no file.

    Args:
        path: of the file.
        parse: makes a value of a line's JSON object; what it raises says that the line is damaged.
        wanted: what a line must be, for the message.
        repair: where the last line was cut short, write the file anew without it, so that it can be added to.

    Raises:
        CheckpointError: the file cannot be read, or a line before the last is damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.jsonl"
    ...     append_lines(path, [{"a": 1}, {"a": 2}])
    ...     _ = path.write_text(path.read_text() + '{"a":')
    ...     read_lines(path, lambda value: value["a"], "a number")
    [1, 2]
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(str(path), f"it must be readable ({error})", "restore it from a copy") from None
    lines = text.splitlines()
    values: list[_T] = []
    for number, line in enumerate(lines, start=1):
        try:
            values.append(parse(_unsealed(line)))
        except UNREADABLE as error:
            if number < len(lines) or text.endswith("\n"):
                raise CheckpointError(
                    f"{path}, line {number}", f"it must be {wanted} ({error})", "restore it from a copy"
                ) from None
    if repair and (len(values) < len(lines) or not text.endswith("\n")):
        write_bytes(path, "".join(line + "\n" for line in lines[: len(values)]).encode())
    return values


def truncate_lines(path: Path, parse: Callable[[dict[str, Any]], _S], until_step: int) -> list[_S]:
    """Drop what was written after a step, which a run that goes on from there writes again, and return the rest.

    Makes the file where there is none. A line that cannot be read is dropped too: nothing that is trained depends on
    it, and the caller sees which steps are missing. Arguments as of `read_lines`.
    """
    values = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(*UNREADABLE):
            values.append(parse(_unsealed(line)))
    values = [value for value in values if value.step <= until_step]
    write_bytes(path, _text(value.to_dict() for value in values).encode())
    return values


def _text(values: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(with_seal(value), allow_nan=False) + "\n" for value in values)


UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, SurefootError)
"""What reading a line that is not as it was written may raise."""


def _unsealed(line: str | bytes) -> dict[str, Any]:
    """Return the values of a line without its seal.

    Raises:
        ValueError: it holds no object, or its seal is that of other values.
    """
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("it holds no JSON object")
    if not seal_holds(values):
        raise ValueError("it was changed after it was written")
    return {name: value for name, value in values.items() if name != SEAL}


class Tail:
    r"""Reads what another process has added to a file of JSON lines since the last time.

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
        self._read: set[int] = set()

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
        values = []
        for line in whole.splitlines():
            if hash(line) in self._read:
                continue
            self._read.add(hash(line))
            with contextlib.suppress(*UNREADABLE):
                values.append(_unsealed(line))
        return values


def plain(value: Any) -> Any:
    """Return dicts, lists, tuples and numbers as JSON values; a number that is not finite becomes None.

    >>> plain({"losses": (1.0, math.inf)})
    {'losses': [1.0, None]}
    """
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_plain(hint: Any, values: Any) -> Any:
    """Return what `plain` made of a dataclass, or of anything that is in one, by its annotated type.

    A number that is None was not finite and comes back as infinite, unless it may be None.

    >>> from_plain(tuple[float, ...], [1.0, None])
    (1.0, inf)
    """
    kind, inside = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        return cast(type, hint)(**{name: from_plain(hints.get(name), value) for name, value in values.items()})
    if kind is tuple:
        hints = [inside[0]] * len(values) if inside[-1] is Ellipsis else inside
        return tuple(map(from_plain, hints, values))
    if kind in (Union, UnionType):
        return None if values is None else from_plain(inside[0], values)
    return math.inf if hint is float and values is None else values
