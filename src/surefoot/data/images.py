"""One image file -> uint8 pixels. Pillow decodes; what it cannot decode whole is an error, never a grey band."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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


class Unreadable(ValueError):
    """An image that cannot be decoded; the text says why, without its name."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself: size as shown, in pixels, whether without colour, whether of several frames."""

    height: int
    width: int
    grey: bool
    animated: bool


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back Pillow's warnings, and have it refuse truncated files whatever the program around has set.

    For the whole process, so it is entered once and not in each thread.
    """
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def header(path: Path) -> Header:
    """Return what the file's header says, without decoding it.

    Raises:
        Unreadable: it is empty, no image, or larger than `MOST_PIXELS`.
    """
    with _opened(path) as image:
        width, height = image.size
        if image.format == "JPEG" or "exif" in image.info:
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            width, height = (height, width) if turned else (width, height)
        return Header(height, width, image.mode in GREY, bool(getattr(image, "is_animated", False)))


def pixels(path: Path, channels: int, side: int | None = None) -> np.ndarray:
    """Return an image as uint8 [C, H, W]: turned upright, first frame, colours as sRGB values of 8 bits.

    Transparent parts are laid on white. 16 bits are scaled to 8.

    Args:
        path: of the file.
        channels: 1 for grey, 3 for colour.
        side: the centre square is resized to this many pixels (bicubic); None: as it is.

    Raises:
        Unreadable: it cannot be decoded whole.
    """
    with _opened(path) as image:
        if side is not None:
            image.draft(None, (2 * side, 2 * side))  # a JPEG is decoded small: about twice as fast
        upright = ImageOps.exif_transpose(image)
        plain = _eight_bits(upright).convert("L" if channels == 1 else "RGB")
        if side is not None:
            width, height = plain.size
            short = min(width, height)
            left, top = (width - short) // 2, (height - short) // 2
            # Cropped first: resize(box=...) would blend in what lies outside of the box.
            square = plain.crop((left, top, left + short, top + short))
            plain = square.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
        array = np.asarray(plain)
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def array(image: Image.Image) -> np.ndarray:
    """Return an image that Pillow holds as uint8 [H, W], or [H, W, 3] if it has colour.

    Raises:
        Unreadable: its pixels have no range that is known.
    """
    return np.asarray(_eight_bits(image).convert("L" if image.mode in GREY else "RGB"))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        if not path.stat().st_size:
            raise Unreadable("is empty")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable(f"has {image.width}x{image.height} pixels, more than {MOST_PIXELS:,}")
            yield image
    except Unreadable:
        raise
    except Image.DecompressionBombError:
        raise Unreadable(f"has more than {MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise Unreadable(f"is no image of the formats {', '.join(FORMATS)}") from None
    except PermissionError:
        raise Unreadable("may not be read (permission denied)") from None
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise Unreadable(
            f"cannot be decoded ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return the image with 8 bits per channel and without transparency."""
    if image.mode == "F":
        raise Unreadable("has floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise Unreadable("has 32-bit pixels, whose range is unknown")
        return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        white.alpha_composite(image.convert("RGBA"))
        return white
    return image
