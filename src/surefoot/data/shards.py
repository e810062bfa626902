"""Shards: tar files of examples, as WebDataset writes them. Members of one name but for the ending are one example.

    000/0001.jpg  000/0001.cls   ->   an image and its class

The headers are read, and then members where they lie: nothing is unpacked to disk, no name of a member becomes a path,
and no pickle is read. Images are decoded once into the cache, as those of a folder; arrays are stacked.
"""

from __future__ import annotations

import io
import json
import re
import stat
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np

from surefoot.data import folder, store
from surefoot.data.arrays import PARTS, raw_of
from surefoot.data.check import Problems
from surefoot.data.dataset import Raw, Source
from surefoot.data.labels import Target, chosen_target, coded
from surefoot.data.spool import Spool
from surefoot.data.targets import special_target
from surefoot.errors import ConfigError, DataError

_LABELS = ("cls", "label", "txt", "json", "npy")
"""Endings that are taken for the label, the first that is there, where none is named. `cls` is WebDataset's."""
_KEYS = ("label", "labels", "cls", "class", "target", "y")
"""Keys by which a JSON object names the label."""
_PICKLED = ("pyd", "pickle", "pkl", "pth", "pt")
_MOST_LABEL_BYTES = 2**20
"""Bytes of a label. Chosen by hand: what is more is a slip."""


@dataclass(frozen=True)
class Member:
    """A file in a tar: where it lies."""

    archive: Path
    name: str
    offset: int
    size: int

    def stat(self) -> Any:
        """Return what a path's `stat` says that images look at."""
        return SimpleNamespace(st_mode=stat.S_IFREG, st_size=self.size)

    def open(self, mode: str = "rb", buffering: int = -1) -> io.BytesIO:
        """Return its bytes."""
        with self.archive.open("rb") as handle:
            handle.seek(self.offset)
            return io.BytesIO(handle.read(self.size))


def read(
    title: str,
    shards: Sequence[Path],
    problems: Problems,
    target: Target = "auto",
    image_size: int | None = None,
    label: str | None = None,
) -> Raw:
    """Return the examples of shards, in their order.

    A shard whose name begins with the name of a part (train-000.tar, val.tar) is of that part, if all do; else all are
    of the training part. x is the image of an example, or its only .npy; y is its .cls, .txt or .json, or a further
    .npy.

    Args:
        title: of all, for messages.
        shards: the files.
        problems: takes what is wrong.
        target: what labels are.
        image_size: as in `data.folder.read`.
        label: ending of the member that holds the label, such as "cls", or a key of the .json; None: by the rule.

    Raises:
        DataError: a file is no tar, or is cut.
    """
    parts = _parts(shards)
    samples = {shard: _samples(shard, problems) for shard in shards}
    every = [sample for shard in shards for sample in samples[shard].values()]
    if problems.count:
        return Raw(title, {}, None)
    if not every:
        problems.add(title, "holds no examples", "a shard holds members such as 0001.jpg and 0001.cls", "check it")
        return Raw(title, {}, None)
    fields = _fields(samples, problems)
    if fields is None:
        return Raw(title, {}, None)
    inputs, ending = _chosen(title, fields, label)
    at, members = {}, list[tuple[str, Member, Member]]()
    for part in dict.fromkeys(parts.values()):
        here = [(f"{shard.name}/{key}", sample[inputs], sample[ending])
                for shard in shards if parts[shard] == part for key, sample in samples[shard].items()]  # fmt: skip
        at[part] = (len(members), len(members) + len(here))
        members += here
    labels = _labels(title, members, ending, label if label != ending else None, problems)
    if labels is None:
        return Raw(title, {}, None)
    names = tuple(name for name, _, _ in members)
    if inputs == "npy":
        return _of_arrays(title, members, names, labels, at, problems, target)
    files = [folder.ImageFile(f"{name}.{inputs}", "", "", member) for name, member, _ in members]
    where = "\n".join(str(shard.resolve()) for shard in shards)
    stored = folder.decoded(where, files, problems, image_size)
    if stored is None:
        return Raw(title, {}, None)
    found = {part: folder.part_of(stored, files, labels[first:end], range(first, end)) for part, (first, end) in
             at.items()}  # fmt: skip
    side = folder.side_of(stored, image_size)
    if "train" not in found:
        return Raw(title, found, None, image_size=side)
    special = special_target(target, found["train"].x, found["train"].y)
    if special is not None:
        return Raw(title, found, None, image_size=side, target=target, target_kind=special)
    target = chosen_target(found["train"].y, target, problems)
    coded_, classes = coded(found, problems) if target == "classes" else (found, None)
    return Raw(title, coded_, classes, image_size=side, target=target)


def _of_arrays(
    title: str, members: Sequence[tuple[str, Member, Member]], names: tuple[str, ...], labels: np.ndarray,
    at: dict[str, tuple[int, int]], problems: Problems, target: Target,
) -> Raw:  # fmt: skip
    """Return examples that are arrays, stacked."""
    x = _stacked(title, [member for _, member, _ in members], problems)
    if x is None:
        return Raw(title, {}, None, "numbers")
    parts = {part: (x[first:end], labels[first:end]) for part, (first, end) in at.items()}
    raw = raw_of(title, parts, problems, target)
    for part, each in raw.parts.items():
        first, end = at[part]
        raw.parts[part] = replace(each, source=Source(names=names[first:end]))
    return raw


def _parts(shards: Sequence[Path]) -> dict[Path, str]:
    """Return the part that each shard is of."""
    words = {shard: re.match(r"[a-z]*", shard.name.lower()) for shard in shards}
    named = {shard: PARTS.get(word.group() if word else "") for shard, word in words.items()}
    if all(named.values()) and "train" in named.values():
        order = [part for part in ("train", "validation", "test") if part in named.values()]
        return {shard: part for part in order for shard in shards if named[shard] == part}
    return dict.fromkeys(shards, "train")


def _samples(shard: Path, problems: Problems) -> dict[str, dict[str, Member]]:
    """Return the examples of a shard by key, each its members by ending; note what may not be there.

    Raises:
        DataError: it is no tar, or ends within a member.
    """
    found: dict[str, dict[str, Member]] = {}
    try:
        size = shard.stat().st_size
        with tarfile.open(shard, "r:") as archive:
            for info in archive:
                path = PurePosixPath(info.name)
                if info.isdir() or path.name.startswith((".", "__")):
                    continue
                what = _not_taken(info, path)
                if what is not None:
                    problems.add(f"{shard.name}/{info.name}", what, "members are files within the shard", "remove it")
                    continue
                if info.offset_data + info.size > size:
                    raise tarfile.ReadError(f"ends within {info.name}")
                base, _, ending = path.name.partition(".")
                sample = found.setdefault(str(path.parent / base), {})
                if ending.lower() in sample:
                    problems.add(
                        f"{shard.name}/{info.name}", "is there twice", "an example has one of each", "remove one"
                    )
                sample[ending.lower()] = Member(shard, info.name, info.offset_data, info.size)
            _check_end(shard, archive.offset, size, problems)
    except (tarfile.TarError, OSError, ValueError, EOFError, OverflowError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{shard}: {what}", "a shard is a whole tar that is not compressed", "write it again") from None
    return found


def _not_taken(info: tarfile.TarInfo, path: PurePosixPath) -> str | None:
    if path.is_absolute() or ".." in path.parts:
        return "leads out of the shard"
    if not info.isreg() or info.issparse():
        return "is a link or a device, or sparse"
    ending = path.name.partition(".")[2].lower()
    return "is a pickle, which is a program" if ending in _PICKLED else None


def _check_end(shard: Path, offset: int, size: int, problems: Problems) -> None:
    """Warn of a tar without the block of zeros that ends one: it may be cut between two members."""
    if offset >= size:
        problems.warn(f"{shard.name} has no mark at its end: it may be cut after its last member")


def _fields(samples: dict[Path, dict[str, dict[str, Member]]], problems: Problems) -> tuple[str, ...] | None:
    """Return the endings that all examples have; where one lacks what most have, None after naming it."""
    counts: dict[str, int] = {}
    total = 0
    for found in samples.values():
        for sample in found.values():
            total += 1
            for ending in sample:
                counts[ending] = counts.get(ending, 0) + 1
    usual = {ending for ending, count in counts.items() if 2 * count > total}
    for shard, found in samples.items():
        for key, sample in found.items():
            for ending in sorted(usual - set(sample)):
                problems.add(
                    f"{shard.name}/{key}", f"has no .{ending}", "every example has the same members", "add it, or "
                    "remove the others",
                )  # fmt: skip
    return None if problems.count else tuple(ending for ending in counts if counts[ending] == total)


def _chosen(title: str, fields: Sequence[str], label: str | None) -> tuple[str, str]:
    """Return the endings of input and label."""
    pictures = [ending for ending in fields if f".{ending}" in folder.SUFFIXES]
    inputs = pictures[0] if pictures else "npy" if "npy" in fields else None
    listed = ", ".join(f".{ending}" for ending in fields) or "nothing in common"
    if inputs is None or len(pictures) > 1:
        raise DataError(
            f"{title}: examples hold {listed}",
            "an example holds one image or one .npy, and its label",
            "leave the other members out" if pictures else "name images by their format: 0001.jpg",
        )
    others = [ending for ending in fields if ending != inputs]
    if label is not None:
        if label in others:
            return inputs, label
        if "json" in others:
            return inputs, "json"
        raise ConfigError(f"label = {label!r}", f"examples of {title} hold {listed}", "name one of these endings")
    for ending in _LABELS:
        if ending in others:
            return inputs, ending
    raise DataError(
        f"{title}: examples hold {listed}, and no label",
        "a label is a member .cls, .txt or .json beside the input",
        "add it, or name its ending: label = ...",
    )


def _labels(
    title: str, members: Sequence[tuple[str, Member, Member]], ending: str, key: str | None, problems: Problems
) -> np.ndarray | None:
    """Return the labels: text, numbers from JSON, or arrays; None after noting what cannot be read."""
    if ending == "npy":
        return _stacked(title, [member for _, _, member in members], problems)
    values: list[Any] = []
    before = problems.count
    for name, _, member in members:
        try:
            if member.size > _MOST_LABEL_BYTES:
                raise ValueError(f"is of {member.size:,} bytes")
            text = member.open().read().decode("utf-8-sig").strip()
            values.append(_from_json(text, key) if ending == "json" else text)
        except (ValueError, RecursionError) as error:  # of UTF-8, too
            problems.add(f"{name}.{ending}", str(error).splitlines()[0], "a label is text or a number", "mend it")
            values.append("")
    if problems.count > before:
        return None
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return np.array(values) if numbers else np.array([str(value) for value in values])


def _from_json(text: str, key: str | None) -> Any:
    value = json.loads(text)
    if isinstance(value, dict):
        wanted = key if key is not None else next((each for each in _KEYS if each in value), None)
        if wanted is None or wanted not in value:
            raise ValueError(f"holds {', '.join(map(repr, value)) or 'nothing'}, and no {wanted or 'label'!r}")
        value = value[wanted]
    if not isinstance(value, str | int | float):
        raise ValueError(f"holds a {type(value).__name__} as the label")
    return value


def _stacked(title: str, members: Sequence[Member], problems: Problems) -> np.ndarray | None:
    """Return arrays of one shape and type as one, on disk where they are many; None after noting which cannot be."""
    spool, form, before = Spool(title), None, problems.count
    with store.bar("reading arrays", len(members), unit="arrays") as progress:
        for member in members:
            progress.update(1)
            where = f"{member.archive.name}/{member.name}"
            try:
                array = np.lib.format.read_array(member.open(), allow_pickle=False)
            except Exception as error:  # damaged bytes make NumPy raise nearly anything
                what = str(error).splitlines()[0] if str(error) else type(error).__name__
                problems.add(where, f"cannot be read ({what})", "it is an array of numbers", "write it again")
                continue
            form = form or (array.shape, array.dtype)
            if (array.shape, array.dtype) != form:
                problems.add(
                    where, f"is {array.shape} {array.dtype}, the first {form[0]} {form[1]}",
                    "all examples have one shape and type", "make them alike",
                )  # fmt: skip
            elif problems.count == before:
                spool.add(array)
    return spool.array() if problems.count == before else None
