"""A folder of images: one folder per class, with or without one folder per part above them.

Decoded pixels are found again by the content of the files: see `contents`.
"""

from __future__ import annotations

import math
import os
import statistics
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from surefoot.data import images, store
from surefoot.data.check import Problems
from surefoot.data.contents import hash_of, hashes, in_threads
from surefoot.data.dataset import Raw, RawPart, Source
from surefoot.data.npz_names import PARTS
from surefoot.errors import DataError

SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff",
    ".webp",
)  # fmt: skip
"""By these a file that lies beside the class folders is known to be an image; files within are read by content."""

_LITTER = ("thumbs.db", "desktop.ini")
"""Files that systems leave behind. They and names that start with a dot are passed over."""

_DECODER = 2
"""To be raised when the same files would be decoded to other pixels: stores of the old kind are then stale."""

LARGEST_CHOSEN = 64
"""Largest side in pixels that is chosen where images differ in size. Chosen by hand: four times the pixels of CIFAR-10,
with which the shipped networks train in minutes on a few cores; larger ones are a matter of the machine."""
LEAST_CHOSEN = 8
"""Least side that is chosen, that of the embedded digits. Chosen by hand."""


@dataclass(frozen=True)
class ImageFile:
    """An image: its name, as messages show it, the part and the class that it is of, and what it is read from."""

    name: str
    part: str
    label: str
    path: images.File


class _Faulty(Exception):
    """Ends the building of a store whose images have problems."""


@dataclass(frozen=True)
class _Plan:
    """How files will be decoded: the shape [N, C, H, W] and type of the store, and what is to be said of it."""

    shape: tuple[int, int, int, int]
    dtype: str
    side: int | None  # to which all are resized
    sized: str | None  # what is to be said where that side was chosen here
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def read(root: Path, problems: Problems, image_size: int | None = None) -> Raw:
    """Return the images of a folder, [N, C, H, W] in a memory map, by class in the order of their names.

    `root/CLASS/...` is one training part; `root/train/CLASS/...` with `val` (or `valid`, `validation`) and `test`
    beside it are parts. C is 1 if all images are grey, else 3. Decoded once into the cache folder. Pixels are uint8,
    uint16 or float32: see `data.images`.

    Args:
        root: the folder. Nothing in it is changed.
        problems: takes what is wrong, by file.
        image_size: side to which the images are brought, centre square, then resized; None: as they are where all have
            one size, else the side that `chosen_side` says.
    """
    files, classes = _listed(root, problems)
    if problems.count or not files:
        _note_unreadable(files, problems, image_size)
        return Raw(str(root), {}, classes)
    stored = decoded(str(root.resolve()), files, problems, image_size)
    if stored is None:
        return Raw(str(root), {}, classes)
    parts, labels = {}, {name: index for index, name in enumerate(classes)}
    for part in dict.fromkeys(file.part for file in files):
        at = [i for i, file in enumerate(files) if file.part == part]
        y = np.array([labels[files[i].label] for i in at], dtype=np.int64)
        parts[part] = part_of(stored, files, y, at)
    return Raw(str(root), parts, classes, strict=True, image_size=side_of(stored, image_size))


def part_of(stored: store.Stored, files: Sequence[ImageFile], y: np.ndarray, at: Sequence[int]) -> RawPart:
    """Return the part of the files at these places, which follow each other."""
    names, first, end = tuple(files[i].name for i in at), at[0], at[-1] + 1
    return RawPart(stored.images[first:end], y, Source(names=names), f"{stored.sha256}[{first}:{end}]")


def side_of(stored: store.Stored, image_size: int | None) -> int | None:
    """Return the side that was chosen for images of many sizes; None where it was given or none was."""
    return stored.about["side"] if image_size is None else None


def decoded(where: str, files: Sequence[ImageFile], problems: Problems, image_size: int | None) -> store.Stored | None:
    """Return the pixels of image files, [N, C, H, W] in a memory map in the cache, decoded where they are not there.

    None where something is wrong, which is noted.

    Args:
        where: the files lie.
        files: in order.
        problems: takes what is wrong, and what is to be said.
        image_size: as in `read`.
    """
    contents = hashes(where, files)
    place = f"{where}\n{image_size}\n{_DECODER}"
    listing = "\n".join(f"{file.name}\t{content}" for file, content in zip(files, contents, strict=True))
    stored = store.found(place, listing)
    if stored is None and image_size is not None:  # the size that was chosen the last time, written down by a run
        chosen = store.found(f"{where}\n{None}\n{_DECODER}", listing)
        stored = chosen if chosen is not None and chosen.about["side"] == image_size else None
    if stored is None:
        plan = _examined(files, image_size)
        if plan is None:
            _decoded(files, None, None, problems)
            return None

        def fill(array: np.ndarray) -> None:
            _decoded(files, plan, array, problems, contents)
            if problems.count:
                raise _Faulty

        side = plan.side if plan.sized else None
        about = {"side": side, "sized": plan.sized, "notes": plan.notes, "warnings": plan.warnings}
        try:
            stored = store.built(place, listing, plan.shape, fill, plan.dtype, about)
        except _Faulty:
            return None
    problems.warnings += stored.about["warnings"]
    sized = image_size is None and stored.about["side"] is not None
    problems.notes += stored.about["notes"] + [stored.about["sized"]] * sized
    return stored


def chosen_side(short_sides: Sequence[int]) -> int:
    """Return the side in pixels for images of many sizes: the (lower) median of their short sides, from 8 to 64.

    >>> chosen_side([480, 600, 1080]), chosen_side([28, 28, 30])
    (64, 28)
    """
    return max(LEAST_CHOSEN, min(LARGEST_CHOSEN, statistics.median_low(short_sides)))


def _listed(root: Path, problems: Problems) -> tuple[list[ImageFile], tuple[str, ...]]:
    """Return the files by part and class, and the classes; note what is out of place."""
    tops = _folders(root)
    known = {top: PARTS[top.name.lower()] for top in tops if top.name.lower() in PARTS}
    parted = "train" in known.values()
    if parted:
        twice = [name for name, count in Counter(known.values()).items() if count > 1]
        for name in twice:
            same = ", ".join(top.name for top, part in known.items() if part == name)
            problems.add(str(root), f"has {same}", "a part has one folder", "keep one of them")
        for top in (top for top in tops if top not in known):
            problems.add(
                f"{top.name}/", "is beside the parts and is none", "parts are train, validation and test", "move it out"
            )
    elif tops and len(known) == len(tops):
        problems.add(
            str(root), f"has only {', '.join(top.name for top in tops)}", "there must be a train folder", "add train/"
        )
    homes = {top: part for top, part in known.items()} if parted else {root: "train"}
    files, per_part = [], {}
    for home, part in sorted(homes.items(), key=lambda pair: ("train", "validation", "test").index(pair[1])):
        for loose in (path for path in sorted(home.iterdir()) if path.is_file() and path.suffix.lower() in SUFFIXES):
            problems.add(
                _name(loose, root), "is in no class", "an image lies in its class's folder", "move it into one"
            )
        per_part[part] = [folder.name for folder in _folders(home)]
        for folder in _folders(home):
            inside = [ImageFile(_name(path, root), part, folder.name, path) for path in files_below(folder)]
            if not inside:
                problems.add(
                    _name(folder, root) + "/",
                    "class has no image",
                    "every class needs examples",
                    "add images, or remove the folder",
                )
            files.extend(inside)
    classes = per_part.get("train", [])
    if not classes:
        problems.add(
            str(root),
            "has no folder of a class",
            "images lie in one folder per class: CLASS/1.png",
            "make such folders",
        )
    for part, names in per_part.items():
        for missing in sorted(set(classes) - set(names)):
            problems.add(
                f"{part}/",
                f"lacks the class {missing!r} of the training part",
                "all parts have the same classes",
                "add it",
            )
        for extra in sorted(set(names) - set(classes)):
            problems.add(
                f"{part}/{extra}/",
                "is no class of the training part",
                "all parts have the same classes",
                "rename it, or add it to the training part",
            )
    return files, tuple(classes)


def _folders(home: Path) -> list[Path]:
    try:
        return sorted(path for path in home.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        _refused(error)


def files_below(folder: Path) -> list[Path]:
    """Return the files below a folder, in the order of their names, without litter; linked folders are entered once.

    Raises:
        DataError: a folder below may not be read.
    """
    found, entered = [], {os.path.realpath(folder)}
    for home, below, names in os.walk(folder, followlinks=True, onerror=_refused):
        new = {}
        for name in sorted(below):
            real = os.path.realpath(os.path.join(home, name))
            if not name.startswith(".") and real not in entered:
                new[name] = real
                entered.add(real)
        below[:] = new
        found += [Path(home, name) for name in names if not name.startswith(".") and name.lower() not in _LITTER]
    return sorted(found)


def _refused(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: {error.strerror}", "the folder must be readable", "check its permissions")


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _examined(files: Sequence[ImageFile], image_size: int | None) -> _Plan | None:
    """Return how to decode the files, from their headers; None where none of them is an image."""

    def header(i: int) -> images.Header | None:
        with suppress(images.Unreadable):  # decoding will name it
            return images.header(files[i].path)
        return None

    looked = list(in_threads(header, len(files), "reading sizes of images"))
    headers = {files[i].name: each for i, each in enumerate(looked) if each is not None}
    if not headers:
        return None
    notes, warnings = [], []
    for kind, said in (
        ("animated", "only the first frame is used"),
        ("narrowed", "of 16 bits for each colour, the upper 8 are used: Pillow reads no more. Convert it to grey, or "
                     "give the pixels as an .npz, to keep them"),
    ):  # fmt: skip
        names = [name for name, each in headers.items() if getattr(each, kind)]
        if names:
            warnings.append(f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {said}")
    dtype, said = _type_of_pixels([each.dtype for each in headers.values()])
    notes += [said] if said else []
    side, (height, width), sized = image_size, _size(next(iter(headers.values()))), None
    if side is None and len(sizes := {_size(each) for each in headers.values()}) > 1:
        side = chosen_side([min(_size(each)) for each in headers.values()])
        low, high = min(sizes, key=math.prod), max(sizes, key=math.prod)
        sized = (
            f"the images have {len(sizes)} sizes, from {low[1]}x{low[0]} to {high[1]}x{high[0]} pixels: the centre "
            f"square of each is resized to {side}x{side} (image_size = {side}, the median of the short sides, at least "
            f"{LEAST_CHOSEN} and at most {LARGEST_CHOSEN}; set image_size for another)"
        )
    height, width = (height, width) if side is None else (side, side)
    channels = 1 if all(each.grey for each in headers.values()) else 3
    return _Plan((len(files), channels, height, width), dtype, side, sized, tuple(notes), tuple(warnings))


def _size(header: images.Header) -> tuple[int, int]:
    return header.height, header.width


def _type_of_pixels(dtypes: Sequence[str]) -> tuple[str, str]:
    """Return the type that holds all images, and what to say of it. Pixels without a range stand beside no 8-bit ones:
    they are then refused one by one.
    """
    if "uint8" not in dtypes and "float32" in dtypes:
        return "float32", "the pixels are numbers without a range, and are used as they are"
    if "uint16" in dtypes:
        few = dtypes.count("uint16")
        some = "the images have" if few == len(dtypes) else f"{few} of the {len(dtypes)} images have"
        return "uint16", f"{some} more than 8 bits: all 65,536 levels are kept, as numbers from 0 to 1"
    return "uint8", ""


def _decoded(
    files: Sequence[ImageFile],
    plan: _Plan | None,
    array: np.ndarray | None,
    problems: Problems,
    contents: Sequence[str] | None = None,
) -> None:
    """Decode every file into the array, if there is one, and note those that cannot be.

    Where the contents of the files are given, one that was written to meanwhile is noted: its pixels would be kept
    under a name that is another's.
    """
    channels, side, dtype = (3, None, "uint8") if plan is None else (plan.shape[1], plan.side, plan.dtype)

    def one(i: int) -> str | None:
        try:
            decoded = images.pixels(files[i].path, channels, side, dtype)
        except images.Unreadable as error:
            return str(error)
        if array is not None:
            if decoded.shape != array.shape[1:]:
                return f"decodes to {decoded.shape}, not to the {array.shape[1:]} that its header says"
            array[i] = decoded
        if contents is not None and hash_of(files[i].path) != contents[i]:
            return "was written to while it was read"
        return None

    for i, fault in enumerate(in_threads(one, len(files), "decoding images")):
        if fault is not None:
            problems.add(files[i].name, fault, "every image must decode whole", "replace or remove it")


def _note_unreadable(files: Sequence[ImageFile], problems: Problems, image_size: int | None) -> None:
    """Complete the list of problems where the layout already has some."""
    if files:
        _decoded(files, _examined(files, image_size), None, problems)
