"""What is done to the values of a file before they are compared: laid out flat, renamed, left out.

A path is written `decisions[3].evidence.rates[2].drop`. A pattern for paths is written with slashes, from `$`, the
whole file, on: a key, `[]` for any position in a list, `*` for one key or position, `**` for any number of them, and
`{NAME}` for an object whose "name" is NAME (with wildcards as in file names). `**/{batch-size}/reason` is the reason
of a decision called batch-size, wherever it is.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Segment = str | int
Step = tuple[Segment, str]
"""A key or position, and the "name" of the object that is there."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Values that are not compared; that they are there, and of which type, is.

    Attributes:
        path: pattern of their paths; all below goes with them.
        reason: why they cannot be the same twice.
        file: pattern of COMMAND/FILE, where they are.
        wholly: nor is it compared whether they are there at all.
    """

    path: str
    reason: str
    file: str = "*"
    wholly: bool = False

    def __str__(self) -> str:
        return self.path if self.file == "*" else f"{self.file}: {self.path}"


@dataclass(frozen=True, kw_only=True)
class Renamed:
    """Values that were at another path before, on purpose.

    Attributes:
        old: pattern of the path that they had; its parents by the names that they have now.
        new: path that they have now; what a wildcard of `old` stood for goes where `new` has the same wildcard, in
            their order.
        reason: why they were renamed.
        file: pattern of COMMAND/FILE, where they are.
    """

    old: str
    new: str
    reason: str
    file: str = "*"

    def __str__(self) -> str:
        return f"{self.old} -> {self.new}"


@dataclass(frozen=True, kw_only=True)
class RenamedFile:
    """A file or folder of a run that had another name before, on purpose: `old` and `new` are one name or several."""

    old: str
    new: str
    reason: str

    def __str__(self) -> str:
        return f"{self.old} -> {self.new}"


@dataclass(frozen=True)
class Rules:
    """What is done to values before they are compared, and how often each rule was of use.

    >>> rules = Rules((LeftOut(path="**/seconds", reason="a clock"),), (), ())
    >>> rules.flat("train/metrics.jsonl", [{"step": 1, "seconds": 0.5}])
    {(0, 'step'): 1, (0, 'seconds'): a float}
    >>> rules.used
    Counter({'**/seconds': 1})
    """

    left_out: Sequence[LeftOut]
    renamed: Sequence[Renamed]
    renamed_files: Sequence[RenamedFile]
    used: Counter[str] = field(default_factory=Counter)

    def file_name(self, name: str) -> str:
        """Return the name, relative to the command's folder, that a file has now."""
        for rule in self.renamed_files:
            if f"/{rule.old}/" in f"/{name}/":
                name = f"/{name}/".replace(f"/{rule.old}/", f"/{rule.new}/").strip("/")
                self.used[str(rule)] += 1
        return name

    def skips(self, file: str) -> bool:
        """Return whether a file is left out as a whole."""
        for rule in self.left_out:
            if rule.path == "$" and fnmatch.fnmatchcase(file, rule.file):
                self.used[str(rule)] += 1
                return True
        return False

    def flat(self, file: str, value: Any) -> dict[tuple[Segment, ...], Any]:
        """Return the values of a file that are compared, by path. An empty list or object is itself a value."""
        left_out = [(rule, _parsed(rule.path)) for rule in self.left_out if fnmatch.fnmatchcase(file, rule.file)]
        renamed = [(rule, _parsed(rule.old)) for rule in self.renamed if fnmatch.fnmatchcase(file, rule.file)]
        found: dict[tuple[Segment, ...], Any] = {}

        def lay_out(value: Any, path: tuple[Step, ...], hidden: bool = False) -> None:
            for rule, pattern in renamed:
                caught = _matched(pattern, path)
                if caught is not None:
                    path = _filled(_parsed(rule.new), caught)
                    self.used[str(rule)] += 1
            for rule, pattern in left_out:
                if _matched(pattern, path) is not None:
                    self.used[str(rule)] += 1
                    if rule.wholly:
                        return
                    hidden = True
            inside = list(_inside(value))
            for segment, each in inside:
                lay_out(each, (*path, (segment, _name(each))), hidden)
            if not inside:
                plain = tuple(segment for segment, _ in path[1:])
                if plain in found:
                    raise ValueError(f"{file}: two values at {shown(plain)}: a renaming has brought them together")
                found[plain] = Hidden(type(value).__name__) if hidden else value

        lay_out(value, (("$", _name(value)),))
        return found

    def frozen(self, file: str, value: Any) -> Any:
        """Return the values of a file with a fixed number in the place of each that is left out.

        For a program that shows what a clock wrote: with this in the run folder, what it shows can be compared.
        """
        left_out = [_parsed(rule.path) for rule in self.left_out if fnmatch.fnmatchcase(file, rule.file)]

        def copied(value: Any, path: tuple[Step, ...]) -> Any:
            if any(_matched(pattern, path) is not None for pattern in left_out):
                return _fixed(value)
            if isinstance(value, dict):
                return {key: copied(each, (*path, (key, _name(each)))) for key, each in value.items()}
            if isinstance(value, list):
                return [copied(each, (*path, (i, _name(each)))) for i, each in enumerate(value)]
            return value

        return copied(value, (("$", _name(value)),))


@dataclass(frozen=True)
class Hidden:
    """In the place of a value that is left out: its type."""

    kind: str

    def __repr__(self) -> str:
        return f"a {self.kind}"


def shown(path: Sequence[Segment]) -> str:
    """Return a path as a person would write it.

    >>> shown(("decisions", 3, "evidence", "drop"))
    'decisions[3].evidence.drop'
    >>> shown(())
    '(all of it)'
    """
    text = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in path)
    return text.removeprefix(".") or "(all of it)"


def _inside(value: Any) -> Iterator[tuple[Segment, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _name(value: Any) -> str:
    name = value.get("name") if isinstance(value, Mapping) else None
    return name if isinstance(name, str) else ""


def _parsed(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("/"))


def _matched(pattern: tuple[str, ...], path: tuple[Step, ...]) -> list[tuple[Step, ...]] | None:
    """Return what each wildcard stood for, in their order, or None where the path is another."""
    if not pattern:
        return None if path else []
    first, *rest = pattern
    if first == "**":
        if path and not _fits(pattern[-1], path[-1]):  # most paths end here
            return None
        for i in range(len(path) + 1):
            caught = _matched(tuple(rest), path[i:])
            if caught is not None:
                return [path[:i], *caught]
        return None
    if not path or not _fits(first, path[0]):
        return None
    caught = _matched(tuple(rest), path[1:])
    return caught if caught is None or not _is_wild(first) else [(path[0],), *caught]


def _fits(part: str, step: Step) -> bool:
    segment, name = step
    if part in ("*", "**"):
        return True
    if part == "[]":
        return isinstance(segment, int)
    if _is_wild(part):
        return fnmatch.fnmatchcase(name, part[1:-1])
    return segment == part


def _is_wild(part: str) -> bool:
    return part in ("*", "**", "[]") or (part.startswith("{") and part.endswith("}"))


def _filled(pattern: tuple[str, ...], caught: Sequence[tuple[Step, ...]]) -> tuple[Step, ...]:
    left = list(caught)
    return tuple(step for part in pattern for step in (left.pop(0) if _is_wild(part) else ((part, ""),)))


def _fixed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _fixed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_fixed(each) for each in value]
    return 1.5 if isinstance(value, float) else value
