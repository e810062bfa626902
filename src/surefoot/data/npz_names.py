"""What the names of the arrays in an .npz say: which are inputs, which are targets, and of which part.

x, y                        one input and its target; x_train, y_train, x_val, ... of parts
x.ids, x.mask, y            several inputs by name, or by place as x.0, x.1; x_train.ids of parts
input_ids, mask, labels     several inputs beside a target (`targets.LABEL_NAMES`); train_labels or labels_train of
parts, and so all that belongs to it
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from surefoot.data import tree
from surefoot.data.targets import LABEL_NAMES

PARTS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""The names by which people call the parts."""

CLASSES = "classes"
"""The array with the names of the classes."""
_LETTER = re.compile(r"([xy])(?:_([a-z]+))?(?:\.(.+))?", re.IGNORECASE)


@dataclass(frozen=True)
class Named:
    """The arrays of one part.

    Attributes:
        x, y: trees of the names of the arrays.
        label: the key of the targets where inputs lie beside them by name; None of x and y.
    """

    x: Any
    y: Any
    label: str | None = None


@dataclass(frozen=True)
class Fault:
    """What is wrong with some names: where, what, what is allowed and what to do."""

    where: str
    what: str
    allowed: str
    do: str


def named_parts(keys: Sequence[str]) -> tuple[dict[str, Named], list[Fault]]:
    """Return the parts of an archive by name, and what is wrong with the names of its arrays.

    >>> named_parts(["x", "y", "note"])[0]
    {'train': Named(x='x', y='y', label=None)}
    >>> named_parts(["ids_test", "labels_test"])[0]
    {'test': Named(x={'ids': 'ids_test'}, y='labels_test', label='labels')}
    """
    letters = {key: found for key in keys if (found := by_letter(key)) is not None}
    if any(letter == "x" for letter, _, _ in letters.values()):
        return _of_letters(letters)
    parts = _beside_labels([key for key in keys if key != CLASSES])
    return parts if parts[0] or not letters else _of_letters(letters)


def affixes(part: str) -> list[tuple[str, str]]:
    """Return what may stand before and after the names of the arrays of a part.

    >>> affixes("test")
    [('', '_test'), ('test_', ''), ('', '_testing'), ('testing_', '')]
    """
    return [pair for word, named in PARTS.items() if named == part for pair in (("", f"_{word}"), (f"{word}_", ""))]


def by_letter(key: str) -> tuple[str, str, str] | None:
    """Return letter, part and path of the name of an array; None of another."""
    found = _LETTER.fullmatch(key)
    part = "train" if found is None or found[2] is None else PARTS.get(found[2].lower())
    return None if found is None or part is None else (found[1].lower(), part, found[3] or "")


def _of_letters(letters: dict[str, tuple[str, str, str]]) -> tuple[dict[str, Named], list[Fault]]:
    parts: dict[str, Named] = {}
    faults: list[Fault] = []
    for part in dict.fromkeys(part for _, part, _ in letters.values()):
        keys = {letter: [key for key, known in letters.items() if known[:2] == (letter, part)] for letter in "xy"}
        paths = {letter: [letters[key][2] for key in theirs] for letter, theirs in keys.items()}
        if any(len(set(each)) < len(each) or ("" in each and len(each) > 1) for each in paths.values()):
            names = ", ".join(key for key, known in letters.items() if known[1] == part)
            faults.append(
                Fault(f"arrays {names}", f"are all of the {part} part", "a part has one x and one y", "rename")
            )
        elif not (keys["x"] and keys["y"]):
            only, other = (keys["x"] or keys["y"])[0], "y" if keys["x"] else "x"
            faults.append(
                Fault(f"array {only}", f"has no {other} beside it", "x and y come in pairs", "add the other array")
            )
        else:
            x, y = (_nested(dict(zip(paths[letter], keys[letter], strict=True))) for letter in "xy")
            parts[part] = Named(x, y)
    return parts, faults


def _beside_labels(keys: Sequence[str]) -> tuple[dict[str, Named], list[Fault]]:
    """Return parts whose inputs stand beside a target by name: what has no name of the part's is none of it."""
    every = [("", ""), *(pair for part in ("train", "validation", "test") for pair in affixes(part))]
    labels = {}
    for before, after in every:
        named = [(f"{before}{label}{after}", label) for label in LABEL_NAMES]
        if (first := next((each for each in named if each[0] in keys), None)) is not None:
            labels[before, after] = first
    parts: dict[str, Named] = {}
    faults: list[Fault] = []
    for (before, after), (key, label) in labels.items():
        part = next((part for part in set(PARTS.values()) if (before, after) in affixes(part)), "train")
        others = [each for each in keys if each != key and each.startswith(before) and each.endswith(after)]
        if not before and not after:  # beside labels_test, what has its ending is of the test part
            others = [each for each in others if not any(_has(each, *affix) for affix in labels if any(affix))]
        if part in parts:
            faults.append(Fault(f"array {key}", f"is of the {part} part, too", "a part has one target", "rename one"))
        elif not others:
            faults.append(Fault(f"array {key}", "has no input beside it", "inputs and target come together", "add it"))
        else:
            inputs = {each[len(before) : len(each) - len(after)]: each for each in others}
            parts[part] = Named(_nested(inputs), key, label)
    return parts, faults


def _has(key: str, before: str, after: str) -> bool:
    return key.startswith(before) and key.endswith(after)


def _nested(names: dict[str, str]) -> Any:
    """Return keys by dotted paths as a tree: a tuple where all steps of a level are numbers from 0.

    >>> _nested({"ids": "x.ids", "more.0": "x.more.0", "more.1": "x.more.1"})
    {'ids': 'x.ids', 'more': ('x.more.0', 'x.more.1')}
    """
    if set(names) == {""}:
        return names[""]
    below: dict[str, dict[str, str]] = {}
    for path, key in names.items():
        first, _, rest = path.partition(".")
        below.setdefault(first, {})[rest] = key
    made = {first: _nested(rest) for first, rest in below.items()}
    places = [str(i) for i in range(len(made))]
    return tuple(made[place] for place in places) if set(places) == set(made) else made


def keys_for(form: Any, keys: Sequence[str]) -> Any | None:
    """Return the keys of an archive that hold the inputs of a model as a tree; None where one is missing.

    Args:
        form: a tree of the model's inputs.
        keys: of the archive.

    >>> keys_for({"ids": 0, "mask": 0}, ["mask_test", "ids_test", "labels_test"])
    {'ids': 'ids_test', 'mask': 'mask_test'}
    """
    names = [name for name, _ in tree.named_leaves(form)]
    ways = [("", ""), ("x.", ""), ("arr_", ""), *affixes("test"), ("x_test.", "")]
    for before, after in ways:
        if all(f"{before}{name}{after}" in keys for name in names):
            return tree.from_named(form, {name: f"{before}{name}{after}" for name in names})
    return None
