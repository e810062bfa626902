"""Compare what two versions of the program wrote: run folders and stdout, value by value.

A file is read into plain values by its kind: JSON, a JSON line a row, TOML, the tensors of a safetensors file, any
other text by its lines, and what is no text by its bytes. The values are laid out flat, each at its path, names that
were changed on purpose are brought to the new ones, and what a clock wrote is left out (`record_rules`). What remains
has to be the same, type and every digit: 1 is not 1.0, and 0.1 is not 0.1 with another last bit. The order of the keys
of an object and the white space between values are not compared.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record_rules import Rules, Segment, shown


@dataclass(frozen=True)
class Tensor:
    """A tensor of a safetensors file: type, sizes, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    content: bytes

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"

    @property
    def elements(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    def differing(self, other: Tensor) -> int:
        """Return how many elements differ, between tensors of one type and shape."""
        width = max(1, len(self.content) // max(1, self.elements))
        places = range(0, len(self.content), width)
        return sum(self.content[i : i + width] != other.content[i : i + width] for i in places)


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()
"""In the place of a value that one side does not have."""


@dataclass(frozen=True)
class Difference:
    """A value that is not the same: the file, the path in it, and both values."""

    file: str
    path: tuple[Segment, ...]
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.file}: {shown(self.path)}: {_both(self.old, self.new)}"


@dataclass(frozen=True)
class Compared:
    """What came out for one command."""

    files: int
    values: int
    differences: tuple[Difference, ...]


def read(path: Path) -> Any:
    """Return the plain values of a file, by its kind.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "rows.jsonl")
    ...     _ = file.write_text('{"step": 1}\\n{"step": 2}\\n')
    ...     read(file)
    [{'step': 1}, {'step': 2}]
    """
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        return read_tensors(content)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return Tensor("bytes", (len(content),), content)
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    if path.suffix == ".toml":
        return tomllib.loads(text)
    if path.suffix == ".json" or path.name == "stdout":
        try:
            return json.loads(text)
        except ValueError:  # a command that prints text; a .json that is none is a difference, or no worse than before
            pass
    return text.splitlines()


def read_tensors(content: bytes) -> dict[str, Any]:
    """Return the tensors of a safetensors file by name, and its metadata: the format is a size, a header in JSON, and
    the tensors' bytes (https://github.com/huggingface/safetensors, "Format").
    """
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    metadata = header.pop("__metadata__", {})
    tensors = {
        name: Tensor(each["dtype"], tuple(each["shape"]), data[slice(*each["data_offsets"])])
        for name, each in header.items()
    }
    return {"metadata": metadata, "tensors": tensors}


def compare_values(file: str, old: Any, new: Any, rules: Rules) -> tuple[int, list[Difference]]:
    """Return how many values of a file were compared, and those that differ, in the order of the old file.

    Args:
        file: COMMAND/FILE.
        old, new: as `read` gives them.
        rules: applied to both.
    """
    before, after = rules.flat(file, old), rules.flat(file, new)
    differences = []
    for path in dict.fromkeys((*before, *after)):
        a, b = before.get(path, ABSENT), after.get(path, ABSENT)
        if not same(a, b):
            differences.append(Difference(file.split("/", 1)[-1], path, a, b))
    return len(before.keys() | after.keys()), differences


def same(a: Any, b: Any) -> bool:
    """Return whether two plain values are the same, type and every digit.

    >>> same(1, 1.0), same(0.0, -0.0), same(float("nan"), float("nan"))
    (False, False, True)
    """
    return type(a) is type(b) and (repr(a) == repr(b) if isinstance(a, float) else a == b)


def compare_folders(command: str, old: Path, new: Path, rules: Rules, ignored: Sequence[str] = ()) -> Compared:
    """Compare all files below two folders.

    Args:
        command: the name of what wrote them, for the rules' patterns.
        old, new: the folders.
        rules: applied to both.
        ignored: names of files and folders in them, at the top, that are not looked at.
    """
    there = [_files(folder, rules, ignored) for folder in (old, new)]
    files, values, differences = 0, 0, list[Difference]()
    by_name = sorted(there[0].keys() | there[1].keys(), key=lambda name: ("/checkpoints/" in name, name))
    for name in by_name:  # what is in a checkpoint too is said first of the run
        file = f"{command}/{name}"
        if rules.skips(file):
            continue
        files += 1
        paths = [side.get(name) for side in there]
        if None in paths:
            old_text, new_text = (ABSENT if path is None else "a file" for path in paths)
            differences.append(Difference(name, (), old_text, new_text))
            continue
        try:
            count, found = compare_values(file, *(read(path) for path in paths if path is not None), rules)
        except ValueError as error:
            count, found = 0, [Difference(name, (), "cannot be compared", str(error))]
        values += count
        differences += found
    return Compared(files, values, tuple(differences))


def _files(folder: Path, rules: Rules, ignored: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] not in ignored:
            now = rules.file_name(name.as_posix())
            found[now if now not in found else name.as_posix()] = path
    return found


def _both(old: Any, new: Any) -> str:
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        if (old.dtype, old.shape) == (new.dtype, new.shape):
            return f"{old.differing(new):,} of {old.elements:,} elements of {old} differ"
        return f"{old} != {new}"
    texts = [str(each) if isinstance(each, Tensor) else repr(each) for each in (old, new)]
    start = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
    return " != ".join(_clipped(text, start) for text in texts)


def _clipped(text: str, start: int, most: int = 100) -> str:
    """Return the part of a long text that begins shortly before the first difference."""
    if len(text) <= most:
        return text
    begin = max(0, min(start - most // 3, len(text) - most))
    return ("..." if begin else "") + text[begin : begin + most] + ("..." if begin + most < len(text) else "")
