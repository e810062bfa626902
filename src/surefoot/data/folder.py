"""A folder of images: one folder per class, with or without one folder per part above them."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surefoot.data import images, store
from surefoot.data.arrays import PARTS
from surefoot.data.check import Problems
from surefoot.data.dataset import Raw, RawPart, Source
from surefoot.data.store import bar
from surefoot.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

_LITTER = ("thumbs.db", "desktop.ini")
"""Files that systems leave behind. They and names that start with a dot are passed over."""

_DECODER = 1
"""To be raised when the same files would be decoded to other pixels: stores of the old kind are then stale."""


@dataclass(frozen=True)
class _File:
    name: str  # relative to the folder, as messages show it
    part: str
    label: str
    path: Path


class _Faulty(Exception):
    """Ends the building of a store whose images have problems."""


def read(root: Path, problems: Problems, image_size: int | None = None) -> Raw:
    """Return the images of a folder, uint8 [N, C, H, W] in a memory map, by class in the order of their names.

    `root/CLASS/...` is one training part; `root/train/CLASS/...` with `val` (or `valid`, `validation`) and `test`
    beside it are parts. C is 1 if all images are grey, else 3. Decoded once into the cache folder.

    Args:
        root: the folder. Nothing in it is changed.
        problems: takes what is wrong, by file.
        image_size: side to which the images are brought; None: all must have one size.
    """
    files, classes = _listed(root, problems)
    if problems.count or not files:
        _note_unreadable(files, problems, image_size)
        return Raw(str(root), {}, classes)
    place = f"{root.resolve()}\n{image_size}\n{_DECODER}"
    listing = "\n".join(f"{file.name}\t{_state(file.path)}" for file in files)
    known = store.found(place, listing)
    if known is None:
        shape = _examined(files, problems, image_size)
        if problems.count or shape is None:
            _decoded(files, None, 3, problems, image_size)
            return Raw(str(root), {}, classes)

        def fill(array: np.ndarray) -> None:
            _decoded(files, array, shape[1], problems, image_size)
            if problems.count:
                raise _Faulty

        try:
            known = store.built(place, listing, shape, fill)
        except _Faulty:
            return Raw(str(root), {}, classes)
    array, digest = known
    parts, labels = {}, {name: index for index, name in enumerate(classes)}
    for part in dict.fromkeys(file.part for file in files):
        at = [i for i, file in enumerate(files) if file.part == part]
        y = np.array([labels[files[i].label] for i in at], dtype=np.int64)
        names = tuple(files[i].name for i in at)
        parts[part] = RawPart(array[at[0] : at[-1] + 1], y, Source(names=names), f"{digest}[{at[0]}:{at[-1] + 1}]")
    return Raw(str(root), parts, classes, strict=True)


def _listed(root: Path, problems: Problems) -> tuple[list[_File], tuple[str, ...]]:
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
            inside = [_File(_name(path, root), part, folder.name, path) for path in _files(folder)]
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
        raise DataError(f"{home}: {error.strerror}", "the folder must be readable", "check its permissions") from None


def _files(folder: Path) -> list[Path]:
    """Return the files below a folder, in the order of their names, without litter."""
    found = []
    for home, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [Path(home, name) for name in names if not name.startswith(".") and name.lower() not in _LITTER]
    return sorted(found)


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _state(path: Path) -> str:
    """Return what changes when a file does; for a link that leads nowhere, nothing: decoding will name it."""
    with suppress(OSError):
        status = path.stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    return ""


def _examined(files: list[_File], problems: Problems, image_size: int | None) -> tuple[int, int, int, int] | None:
    """Return the shape of the store after reading every header; note files that are no images or of another size."""
    headers: dict[int, images.Header] = {}
    with images.quiet(), bar("looking at images", len(files)) as progress:
        for i, file in enumerate(files):
            with suppress(images.Unreadable):  # decoding will name it
                headers[i] = images.header(file.path)
            progress.update(1)
    if not headers:
        return None
    animated = [files[i].name for i, each in headers.items() if each.animated]
    if animated:
        problems.warn(
            f"{animated[0]}{f' and {len(animated) - 1} more' if animated[1:] else ''}: only the first frame is used"
        )
    channels = 1 if all(each.grey for each in headers.values()) else 3
    if image_size is not None:
        return len(files), channels, image_size, image_size
    sizes = Counter((each.height, each.width) for each in headers.values())
    (height, width), _ = sizes.most_common(1)[0]
    for i, each in headers.items():
        if (each.height, each.width) != (height, width):
            problems.add(
                files[i].name,
                f"is {each.width}x{each.height} pixels, most are {width}x{height}",
                "all images have one size",
                f"set image_size = {min(64, min(height, width))} to resize all",
            )
    return len(files), channels, height, width


def _decoded(
    files: list[_File], array: np.ndarray | None, channels: int, problems: Problems, image_size: int | None
) -> None:
    """Decode every file into the array, if there is one, and note those that cannot be."""

    def one(i: int) -> str | None:
        try:
            decoded = images.pixels(files[i].path, channels, image_size)
        except images.Unreadable as error:
            return str(error)
        if array is not None:
            if decoded.shape != array.shape[1:]:
                return f"decodes to {decoded.shape}, not to the {array.shape[1:]} that its header says"
            array[i] = decoded
        return None

    workers = min(8, os.cpu_count() or 1)  # Pillow decodes outside Python's lock
    with images.quiet(), bar("decoding images", len(files)) as progress, ThreadPoolExecutor(workers) as pool:
        for at in range(0, len(files), 256):
            for i, fault in enumerate(pool.map(one, range(at, min(at + 256, len(files)))), at):
                progress.update(1)
                if fault is not None:
                    problems.add(files[i].name, fault, "every image must decode whole", "replace or remove it")


def _note_unreadable(files: list[_File], problems: Problems, image_size: int | None) -> None:
    """Complete the list of problems where the layout already has some."""
    if files:
        _examined(files, problems, image_size)
        _decoded(files, None, 3, problems, image_size)
