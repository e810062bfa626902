"""A folder of images and their masks: `images/` beside `masks/`, file by file of the same name, or so in each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from surefoot.data import images
from surefoot.data.check import Problems
from surefoot.data.dataset import Raw, RawPart
from surefoot.data.folder import ImageFile, decoded, files_below, in_threads, part_of, side_of
from surefoot.data.npz_names import PARTS

_SHOWN = 5


def holds_masks(root: Path) -> bool:
    """Return whether a folder holds images/ and masks/, or train/images and train/masks."""
    return "train" in _homes(root)


def read(root: Path, problems: Problems, image_size: int | None = None) -> Raw:
    """Return images [N, C, H, W] as `data.folder` reads them, and the class of each of their pixels, [N, H, W].

    `root/images/NAME` has its mask as `root/masks/NAME`, with any ending; `root/train/images` with `val` and `test`
    beside it are parts. A mask is grey or has a palette, and its levels are class numbers; it is cropped and resized
    as its image, by the nearest pixel.

    Args:
        root: the folder. Nothing in it is changed.
        problems: takes what is wrong, by file.
        image_size: as in `data.folder.read`.
    """
    files: list[ImageFile] = []
    masks: list[Path] = []
    for part, (of_images, of_masks) in _homes(root).items():
        pictures, answers = (_by_stem(folder, root, problems) for folder in (of_images, of_masks))
        _check_pairs(pictures, answers, part, problems)
        for stem in (stem for stem in pictures if stem in answers):
            path = pictures[stem]
            files.append(ImageFile(path.relative_to(root).as_posix(), part, "", path))
            masks.append(answers[stem])
    empty = Raw(str(root), {}, target_kind="segmentation")
    if not files and not problems.count:
        problems.add(str(root), "has no image in images/", "each image has a mask of its name", "add some")
    stored = None if problems.count else decoded(str(root.resolve()), files, problems, image_size)
    if stored is None:
        return empty
    classes = _classes(files, masks, root, stored.about["side"] if image_size is None else image_size, problems)
    if problems.count:
        return empty
    problems.notes.append(
        'masks/ has the class of each pixel (target = "segmentation"); target = "classes" would take both for classes'
    )
    parts: dict[str, RawPart] = {}
    for part in dict.fromkeys(file.part for file in files):
        at = [i for i, file in enumerate(files) if file.part == part]
        parts[part] = part_of(stored, files, np.stack([classes[i] for i in at]), at)
    side = side_of(stored, image_size)
    return Raw(str(root), parts, target="segmentation", target_kind="segmentation", image_size=side)


def _homes(root: Path) -> dict[str, tuple[Path, Path]]:
    """Return the folders of images and of masks of each part."""
    if (pair := _pair(root)) is not None:
        return {"train": pair}
    found = {PARTS[top.name.lower()]: _pair(top) for top in _folders(root) if top.name.lower() in PARTS}
    order = ("train", "validation", "test")
    return {part: pair for part in order if (pair := found.get(part)) is not None}


def _pair(home: Path) -> tuple[Path, Path] | None:
    named = {folder.name.lower(): folder for folder in _folders(home)}
    return (named["images"], named["masks"]) if {"images", "masks"} == set(named) else None


def _folders(home: Path) -> list[Path]:
    try:
        return sorted(path for path in home.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:  # reading it by class says so
        return []


def _by_stem(folder: Path, root: Path, problems: Problems) -> dict[str, Path]:
    """Return the files of a folder by their path in it, without ending."""
    found: dict[str, Path] = {}
    for path in files_below(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            name = path.relative_to(root).as_posix()
            problems.add(name, f"is beside {found[stem].name}", "names differ in more than their ending", "rename one")
        found[stem] = path
    return found


def _check_pairs(pictures: Mapping[str, Path], answers: Mapping[str, Path], part: str, problems: Problems) -> None:
    for there, other, what in ((pictures, answers, "mask"), (answers, pictures, "image")):
        alone = [path.name for stem, path in there.items() if stem not in other]
        if alone:
            more = f" and {len(alone) - _SHOWN} more" if alone[_SHOWN:] else ""
            problems.add(
                f"{part}: {', '.join(alone[:_SHOWN])}{more}", f"without {'a' if what == 'mask' else 'an'} {what}",
                "each image has a mask of the same name", "add it, or move the other away",
            )  # fmt: skip


def _classes(
    files: Sequence[ImageFile], masks: Sequence[Path], root: Path, side: int | None, problems: Problems
) -> list[np.ndarray]:
    """Return the class of each pixel of each mask, [H, W], noting what is wrong with a mask."""

    def one(i: int) -> np.ndarray | str:
        try:
            found, header = images.classes_of(masks[i]), images.header(files[i].path)
        except images.Unreadable as error:
            return str(error)
        if found.shape != (header.height, header.width):
            return f"has {found.shape[1]}x{found.shape[0]} pixels, its image {header.width}x{header.height}"
        return found if side is None else images.squared_classes(found, side)

    found = list(in_threads(one, len(masks), "decoding masks"))
    for path, each in zip(masks, found, strict=True):
        if isinstance(each, str):
            name, allowed = path.relative_to(root).as_posix(), "a mask has a class number for each pixel of its image"
            problems.add(name, each, allowed, "write it as a PNG of class numbers")
    return [each for each in found if isinstance(each, np.ndarray)]
