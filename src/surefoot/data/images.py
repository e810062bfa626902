"""One image file -> its pixels. Pillow decodes; what it cannot decode whole is an error, never a grey band.

Pixels are of three kinds. uint8, as nearly all images have. uint16, of images with more than 8 bits whose range is
known: 12 bits are stretched to 16, so the darkest is 0 and the brightest 65535. float32, of images whose pixels are
numbers without a range (32 bits, signed, floating point): as they are.
"""

from __future__ import annotations

import logging
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded. Pillow knows more, among them formats that start other programs."""

MOST_PIXELS = 1024**3 // 4 // 3
"""Largest image, 89 million pixels: Pillow's own bound, beyond which it suspects a decompression bomb."""

GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes without colour."""

_ORIENTATION = 0x0112
"""Exif's tag of the camera's orientation; from 5 on, width and height change places."""

_PHOTOMETRIC = 262
"""TIFF's tag of what the numbers mean; 0: the darkest is white."""


class Unreadable(ValueError):
    """An image that cannot be decoded; the text says why, without its name."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        height, width: as shown, in pixels.
        grey: whether it is without colour.
        animated: whether it has several frames.
        dtype: "uint8", "uint16" or "float32": what holds its pixels without loss.
        narrowed: whether it has 16 bits for each colour, of which Pillow decodes 8.
    """

    height: int
    width: int
    grey: bool
    animated: bool
    dtype: str = "uint8"
    narrowed: bool = False


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back Pillow's warnings and log, and have it refuse truncated files whatever the program around has set.

    For the whole process, so it is entered once and not in each thread.
    """
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    log = logging.getLogger("PIL")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what is wrong with a file is in the error that names it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient
        log.setLevel(level)


class File(Protocol):
    """What an image is read from: a path, or a member of an archive."""

    def stat(self) -> Any: ...

    def open(self, mode: Any, buffering: int = -1) -> Any: ...


def header(path: File) -> Header:
    """Return what the file's header says, without decoding it.

    Raises:
        Unreadable: it is empty, no image, or larger than `MOST_PIXELS`.
    """
    with _opened(path) as image:
        width, height = image.size
        if image.format == "JPEG" or "exif" in image.info:
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            width, height = (height, width) if turned else (width, height)
        raw, dtype = _raw_mode(image), _dtype(image)
        grey = image.mode in (*GREY, "F") or raw.startswith("LA;16")
        animated = bool(getattr(image, "is_animated", False))
        return Header(height, width, grey, animated, dtype, dtype == "uint8" and ";16" in raw)


def pixels(path: File, channels: int, side: int | None = None, dtype: str = "uint8") -> np.ndarray:
    """Return an image as [C, H, W]: turned upright, first frame, colours as sRGB values.

    Transparent parts are laid on white. Where 8 bits are asked for, 16 are scaled to them; where 16 are, 8 are.

    Args:
        path: of the file.
        channels: 1 for grey, 3 for colour.
        side: the centre square is resized to this many pixels (bicubic); None: as it is.
        dtype: "uint8", "uint16" or "float32", see the head of this file.

    Raises:
        Unreadable: it cannot be decoded whole, or its pixels have no range and a range is needed, or the reverse.
    """
    with _opened(path) as image:
        if side is not None:
            image.draft(None, (2 * side, 2 * side))  # a JPEG is decoded small: about twice as fast
        upright, deep = _upright(image), _dtype(image)
        if "float32" in (dtype, deep) and (dtype != "float32" or deep == "uint8"):
            what = "signed, 32-bit or floating-point" if deep == "float32" else "8-bit"
            raise Unreadable(f"has {what} pixels, whose range is unknown beside those of the others")
        if dtype == "uint8" or deep == "uint8":
            plain = _squared(_in_mode(_eight_bits(upright, deep), channels), side)
            array = np.asarray(plain) if dtype == "uint8" else np.asarray(plain).astype(np.uint16) * 257
        else:
            array = np.asarray(_squared(Image.fromarray(_levels(upright).astype(np.float32)), side))
            array = array if dtype == "float32" else np.rint(array.clip(0, 65535)).astype(np.uint16)
    return np.stack([array] * channels) if array.ndim == 2 else array.transpose(2, 0, 1)


def array(image: Image.Image) -> np.ndarray:
    """Return an image that Pillow holds: uint8 [H, W], or [H, W, 3] if it has colour; with more than 8 bits as numbers,
    uint16 or float32 [1, H, W].
    """
    if (dtype := _dtype(image)) != "uint8":
        return _levels(image).astype(dtype)[None]
    return np.asarray(_in_mode(_eight_bits(image), 1 if image.mode in GREY else 3))


def classes_of(path: File) -> np.ndarray:
    """Return a mask as the class of each pixel, uint8 or uint16 [H, W]: grey levels, or the numbers of its palette.

    Raises:
        Unreadable: it cannot be decoded whole, has colours, or was compressed with loss.
    """
    with _opened(path) as image:
        if image.format == "JPEG":
            raise Unreadable("is a JPEG, whose compression changes class numbers")
        upright = ImageOps.exif_transpose(image)
        whole = np.asarray(upright)
        if upright.mode not in ("1", "L", "P") and _dtype(image) != "uint16":
            raise Unreadable(f"has pixels of the mode {upright.mode}, and no grey levels or palette of class numbers")
    if whole.dtype.itemsize > 2 and (whole.min() < 0 or whole.max() > 65535):
        raise Unreadable("has levels above 65535")
    return whole.astype(np.uint16 if whole.max() > 255 else np.uint8)


def squared_classes(mask: np.ndarray, side: int) -> np.ndarray:
    """Return the centre square of a mask [H, W] by the nearest pixel, as `pixels` brings its image to a side.

    >>> squared_classes(np.array([[0, 1, 1, 2]] * 2), 2).tolist()
    [[1, 1], [1, 1]]
    """
    short = min(mask.shape)
    top, left = ((size - short) // 2 for size in mask.shape)
    at = ((np.arange(side) + 0.5) * short / side).astype(int)
    return mask[np.ix_(top + at, left + at)]


@contextmanager
def _opened(path: File) -> Iterator[Image.Image]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for somebody to write into it
            raise Unreadable("is no file but a folder, a pipe, a socket or a device")
        if not status.st_size:
            raise Unreadable("is empty")
        with path.open("rb") as handle, Image.open(handle, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable(f"has {image.width}x{image.height} pixels, more than {MOST_PIXELS:,}")
            yield image
    except Unreadable:
        raise
    except Image.DecompressionBombError:
        raise Unreadable(f"has more than {MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise Unreadable(f"is no image of the formats {', '.join(FORMATS)}") from None
    except FileNotFoundError:
        raise Unreadable("is not there, or is a link that leads nowhere") from None
    except PermissionError:
        raise Unreadable("may not be read (permission denied)") from None
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise Unreadable(
            f"cannot be decoded ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None


def _raw_mode(image: Image.Image) -> str:
    """Return how pixels lie in the file, such as RGB;16B, in Pillow's words; "" where it does not say."""
    tile: Any = getattr(image, "tile", None)  # which images of files alone have
    arguments = tile[0].args if tile else ""
    first, *others = arguments if isinstance(arguments, tuple) and arguments else (arguments,)
    wide = image.format == "PPM" and first == "RGB" and others and int(others[0]) > 255
    return f"{first};16" if wide else str(first)


def _dtype(image: Image.Image) -> str:
    """Return what holds the image's pixels without loss: "uint8", "uint16" or "float32"."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return "uint16"
    return "float32" if image.mode in ("I", "F") else "uint8"


def _upright(image: Image.Image) -> Image.Image:
    """Return the image decoded and turned; 16 bits stretched where the file has 12, inverted where 0 is white."""
    raw, white_is_zero = _raw_mode(image), getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    upright = ImageOps.exif_transpose(image)
    if not upright.mode.startswith("I;16") or not (raw == "I;12" or white_is_zero):
        if raw == "I;32N" and np.asarray(upright).min() < 0:  # Pillow reads unsigned numbers as signed ones
            raise Unreadable("has pixels of 32 bits above 2147483647, which Pillow cannot hold")
        return upright
    levels, most = np.asarray(upright).astype(np.int64), 4095 if raw == "I;12" else 65535
    levels = (most - levels if white_is_zero else levels) * 65535
    return Image.fromarray(((levels + most // 2) // most).astype(np.uint16))


def _levels(image: Image.Image) -> np.ndarray:
    """Return the pixels of an image with more than 8 bits, [H, W], a transparent level of grey as white."""
    levels = np.asarray(image)
    clear = image.info.get("transparency")
    return np.where(levels == clear, 65535, levels) if isinstance(clear, int) else levels


def _in_mode(image: Image.Image, channels: int) -> Image.Image:
    """Return the image as grey or as colour; Pillow turns CIE Lab into grey only by way of colour."""
    return (image.convert("RGB") if image.mode == "LAB" else image).convert("L" if channels == 1 else "RGB")


def _squared(image: Image.Image, side: int | None) -> Image.Image:
    """Return the centre square, resized; the image itself where there is no side."""
    if side is None:
        return image
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    # Cropped first: resize(box=...) would blend in what lies outside of the box.
    square = image.crop((left, top, left + short, top + short))
    return square.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)


def _eight_bits(image: Image.Image, dtype: str = "uint8") -> Image.Image:
    """Return the image, whose pixels are uint8 or uint16, with 8 bits per channel and without transparency."""
    if dtype == "uint16":
        return Image.fromarray(((_levels(image).astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        white.alpha_composite(image.convert("RGBA"))
        return white
    return image
