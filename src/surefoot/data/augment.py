"""Augmentation as batched tensor code whose randomness is a pure function of (seed, epoch, index).

For each epoch and each augmentation, uniform numbers are drawn for all N images at once and read at the images'
indices, so an image is augmented in the same way in whatever batch it comes. Flips and crops only say which
pixel goes where; however many there are, the pixels of a batch move once (1.7 ms for 512 CIFAR images on one core).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from surefoot import seeds
from surefoot.data.dataset import IGNORED
from surefoot.errors import ConfigError, nearest

_SHOWN = 100
"""Characters of a name that a message shows. Chosen by hand."""
_PIXELS_AT_ONCE = 2**19
"""The 8-byte indices of a gather on a CPU are made for so many pixels at once, 4 MB. Chosen by hand: one L2 cache."""


@dataclass(frozen=True)
class View:
    """A batch of images seen through index maps: pixel [b, :, i, j] is x[b, :, rows[b, i], cols[b, j]].

    Attributes:
        x: [B, C, H, W].
        rows, cols: int64 [B, H] and [B, W]; None for pixels in place.
        mean: the training part's, float32 [C], of values in [0, 1].
        masks: classes of the pixels, int64 [B, H, W], which are looked at through the same maps; None without.
    """

    x: Tensor
    mean: Tensor
    rows: Tensor | None = None
    cols: Tensor | None = None
    masks: Tensor | None = None

    def maps(self) -> tuple[Tensor, Tensor]:
        """Return rows and cols, made where they are None."""
        (batch, _, height, width), device = self.x.shape, self.x.device
        rows = torch.arange(height, device=device).expand(batch, -1) if self.rows is None else self.rows
        cols = torch.arange(width, device=device).expand(batch, -1) if self.cols is None else self.cols
        return rows, cols

    def pixels(self) -> Tensor:
        """Return the images as seen, [B, C, H, W]: one gather."""
        return self._seen(self.x)

    def classes(self) -> Tensor | None:
        """Return the masks as seen, [B, H, W]."""
        return None if self.masks is None else self._seen(self.masks[:, None])[:, 0]

    def _seen(self, x: Tensor) -> Tensor:
        if self.rows is None and self.cols is None:
            return x
        (batch, channels, height, width), (rows, cols) = x.shape, self.maps()
        flat, seen = x.reshape(batch, channels, -1), torch.empty_like(x).view(batch, channels, -1)
        many = batch if x.is_cuda else max(1, _PIXELS_AT_ONCE // (height * width))
        for at in range(0, batch, many):
            piece = slice(at, at + many)
            index = (rows[piece, :, None] * width + cols[piece, None, :]).view(-1, 1, height * width)
            torch.gather(flat[piece], 2, index.expand(-1, channels, -1), out=seen[piece])
        return seen.view_as(x)


Address = Callable[[], tuple[int, int, int]]
"""() -> (seed, epoch, index of the batch's first image), asked for by what needs it: on a card it is waited for."""


@dataclass(frozen=True)
class Operation(ABC):
    """One augmentation. `draws` is how many uniform numbers it needs per image and epoch.

    It is made of tensor operations alone, whose shapes follow from the batch's: a CUDA graph can hold it, unless it
    `calls` code of the user's.
    """

    draws: ClassVar[int] = 0
    images_only: ClassVar[bool] = True
    calls: ClassVar[bool] = False

    @abstractmethod
    def apply(self, view: View, uniforms: Tensor, address: Address) -> View:
        """Return the batch augmented.

        Args:
            view: the batch.
            uniforms: this epoch's numbers of its images, see `table`, float64 [B, draws].
            address: for operations that draw for themselves.
        """


@dataclass(frozen=True)
class Flip(Operation):
    """Mirror left and right.

    Attributes:
        alternate: False: each image in each epoch with probability 1/2. True: each image in every other epoch,
            in epoch 0 with probability 1/2, so that in any two epochs the network sees it both ways (Jordan 2024,
            "94% on CIFAR-10 in 3.29 seconds on a single GPU", section 3.6, arXiv:2404.00498).
    """

    alternate: bool = False
    draws: ClassVar[int] = 1

    def apply(self, view: View, uniforms: Tensor, address: Address) -> View:
        flipped = uniforms[:, 0] < 0.5
        rows, cols = view.maps()
        return replace(view, rows=rows, cols=torch.where(flipped[:, None], cols.flip(1), cols))


@dataclass(frozen=True)
class Crop(Operation):
    """Pad each side by some pixels, then cut out the old size at a random place.

    The border is filled by reflection, as Jordan 2024 does, and not with black, as He et al. 2016 do: after
    normalisation black is a strong signal at the edge, which no test image has. Nothing is really padded: the index
    maps run back into the image.
    """

    pixels: int
    draws: ClassVar[int] = 2

    def apply(self, view: View, uniforms: Tensor, address: Address) -> View:
        shifts = (uniforms * (2 * self.pixels + 1)).long() - self.pixels
        rows, cols = (
            old.gather(
                1, _reflected(torch.arange(old.shape[1], device=old.device) + shifts[:, axis, None], old.shape[1])
            )
            for axis, old in enumerate(view.maps())
        )
        return replace(view, rows=rows, cols=cols)


@dataclass(frozen=True)
class Cutout(Operation):
    """Cover a square with the mean colour (DeVries & Taylor 2017, arXiv:1708.04552).

    Its centre is uniform over the pixels, so part of it may lie outside. A mask is `IGNORED` under it: what is there
    cannot be seen. On uint8 the colour is rounded to the
    nearest level, so after normalisation it is within 0.5/255/std of the paper's 0.
    """

    pixels: int
    draws: ClassVar[int] = 2

    def apply(self, view: View, uniforms: Tensor, address: Address) -> View:
        x = view.pixels()
        inside = []
        for axis, length in enumerate(x.shape[2:]):
            start = (uniforms[:, axis, None] * length).long() - self.pixels // 2
            at = torch.arange(length, device=x.device)
            inside.append((at >= start) & (at < start + self.pixels))
        colour = view.mean if x.is_floating_point() else (view.mean * 255).round()
        # A product and a sum of bytes are vector code: twice as fast as torch.where or masked_fill.
        covered = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        kept, masks = (~covered).to(x.dtype), view.classes()
        x = (x * kept).add_(colour.to(x.dtype).view(1, -1, 1, 1) * (1 - kept))
        return View(x, view.mean, masks=None if masks is None else masks.masked_fill(covered[:, 0], IGNORED))


@dataclass(frozen=True)
class Call(Operation):
    """A callable of the user's on a batch of images in [0, 1], float32 [B, C, H, W], or on a batch of numbers.

    What it draws from the default generators of torch, NumPy and Python is addressed by (seed, epoch, first image of
    the batch), so it is reproducible; unlike the other augmentations it may depend on which images share the batch.
    """

    function: Callable[[Tensor], Tensor]
    images_only: ClassVar[bool] = False
    calls: ClassVar[bool] = True

    def apply(self, view: View, uniforms: Tensor, address: Address) -> View:
        x = view.pixels()
        x = x if x.is_floating_point() else x.to(torch.float32).div_(255)
        shape = tuple(x.shape)
        seed, epoch, leader = address()
        with seeds.torch_stream(seed, "augment-call", epoch, leader):
            x = self.function(x)
        if not isinstance(x, Tensor) or tuple(x.shape) != shape or not x.is_floating_point():
            given = f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise ConfigError(
                f"the augmentation {getattr(self.function, '__name__', self.function)!r} returned {given} for {shape}",
                "it must return a floating-point tensor of the same shape",
                "mend it, or leave it out",
            )
        return View(x, view.mean)


@dataclass(frozen=True)
class Augment:
    """Augmentations in order.

    Attributes:
        operations: what is done to a batch.
        reader: reads a random Dataset's examples anew in each epoch, before them: `data.map_style.Reader`; None where
            what was read once is used. It is of the whole training part.
    """

    operations: tuple[Operation, ...] = field(default=())
    reader: Any = field(default=None, compare=False)

    def check(self, kind: Literal["images", "numbers"], shape: Sequence[int]) -> None:
        """Raise ConfigError where an operation does not fit examples of this kind and shape."""
        for operation in self.operations:
            if operation.images_only and kind != "images":
                raise ConfigError(
                    f"augment {_name(operation)} with data that is not images",
                    "only a callable of yours can augment numbers",
                    "leave augment out",
                )
            pixels = getattr(operation, "pixels", 0)
            most = min(shape[-2:]) - (1 if isinstance(operation, Crop) else 0) if kind == "images" else 0
            if pixels > most:
                raise ConfigError(
                    f"augment {_name(operation)} with images of {shape[-2]}x{shape[-1]}",
                    f"it can have at most {most} pixels here",
                    f"try {_name(operation).split(':')[0]}:{max(1, min(shape[-2:]) // 8)}",
                )

    @property
    def streams(self) -> tuple[tuple[int, int, bool], ...]:
        """Place, draws and whether it alternates, of each operation that draws: what `table` is made by."""
        return tuple(
            (place, each.draws, getattr(each, "alternate", False))
            for place, each in enumerate(self.operations)
            if each.draws
        )

    def __call__(
        self,
        x: Tensor,
        indices: np.ndarray,
        examples: int,
        mean: Tensor,
        kind: Literal["images", "numbers"] = "images",
        *,
        seed: int,
        epoch: int,
    ) -> Tensor:
        """Return the batch augmented: `moved` without masks, for these examples of N in an epoch."""
        uniforms = torch.from_numpy(table(self.streams, examples, seed, epoch)[indices]).to(x.device)
        return self.moved(x, None, uniforms, mean, kind, lambda: (seed, epoch, int(indices[0])))[0]

    def moved(
        self,
        x: Tensor,
        masks: Tensor | None,
        uniforms: Tensor,
        mean: Tensor,
        kind: Literal["images", "numbers"],
        address: Address,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the batch augmented, and its masks, whose pixels move with those of the images.

        Args:
            x: [B, C, H, W] uint8 or in [0, 1]; or numbers.
            masks: classes of the pixels, [B, H, W], or None.
            uniforms: the rows of its examples in this epoch's `table`, float64 [B, D], on the batch's device.
            mean: the training part's, [C], of values in [0, 1], on that device.
            kind: of the data.
            address: of the batch, for functions of the user's.
        """
        self.check(kind, x.shape[1:])
        view, at = View(x, mean, masks=masks), 0
        for operation in self.operations:
            view = operation.apply(view, uniforms[:, at : at + operation.draws], address)
            at += operation.draws
        return view.pixels(), view.classes()


def listed(given: Any) -> tuple[Any, ...]:
    """Return an augmentation as names and callables: one alone, or a list of them; None is none.

    Raises:
        ConfigError: it is something else, of which nobody could say the order.

    >>> listed("flip"), listed(["flip", "crop:4"]), listed(None)
    (('flip',), ('flip', 'crop:4'), ())
    """
    if given is None or isinstance(given, list | tuple):
        return tuple(given or ())
    if isinstance(given, str) or callable(given):
        return (given,)
    raise ConfigError(
        f"augment = {given!r}", "an augmentation is a name, a callable, or a list of these",
        'write for example ["flip", "crop:4"]',
    )  # fmt: skip


def parse(names: Sequence[str | Callable[[Tensor], Tensor]]) -> Augment:
    """Return the augmentation that names describe: flip, flip-alternate, crop:PIXELS, cutout:PIXELS.

    A callable in place of a name is applied to the batch in [0, 1], see `Call`.

    Raises:
        ConfigError: a name is unknown, or its number of pixels is missing, not whole, or not above 0.

    >>> parse(["flip", "crop:4"]).operations
    (Flip(alternate=False), Crop(pixels=4))
    >>> parse(["crop"])
    Traceback (most recent call last):
    surefoot.errors.ConfigError: augment 'crop': crop needs a whole number of pixels above 0. Write for example crop:4.
    """
    return Augment(tuple(_operation(name) if isinstance(name, str) else Call(_callable(name)) for name in names))


_SIZED: dict[str, type[Crop] | type[Cutout]] = {"crop": Crop, "cutout": Cutout}
_PLAIN = {"flip": Flip(), "flip-alternate": Flip(alternate=True)}


def _operation(name: str) -> Operation:
    word, colon, size = name.strip().partition(":")
    name = name if len(name) <= _SHOWN else f"{name[:_SHOWN]} ..."
    if word in _PLAIN and not colon:
        return _PLAIN[word]
    if word in _PLAIN:
        raise ConfigError(f"augment {name!r}", f"{word} takes no number", f"write {word}")
    if word not in _SIZED:
        raise ConfigError(f"augment {name!r}", "this is not a known augmentation", nearest(word, [*_PLAIN, *_SIZED]))
    if not size.isascii() or not size.isdigit() or int(size) < 1:
        raise ConfigError(
            f"augment {name!r}", f"{word} needs a whole number of pixels above 0", f"write for example {word}:4"
        )
    return _SIZED[word](int(size))


def _callable(given: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    if not callable(given):
        raise ConfigError(f"augment {given!r}", "an augmentation is a name or a callable", "write for example flip")
    return given


def _name(operation: Operation) -> str:
    word = {Flip: "flip", Crop: "crop", Cutout: "cutout"}[type(operation)]
    return f"{word}:{pixels}" if (pixels := getattr(operation, "pixels", None)) is not None else word


def _reflected(index: Tensor, length: int) -> Tensor:
    """Return positions folded back at both ends without repeating the edge: -1 is 1, length is length - 2."""
    return (length - 1) - ((length - 1) - index.abs()).abs()


def table(streams: Sequence[tuple[int, int, bool]], examples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the numbers in [0, 1) of all images in one epoch for the operations that draw, float64 [N, D].

    Each operation has its own stream and D columns side by side. Where it alternates its column is resolved here: 0 in
    the epochs in which an image is flipped, 1 in the others; so nothing else in a batch depends on the epoch.

    Args:
        streams: `Augment.streams`.
        examples: N.
        seed, epoch: address of the randomness.
    """
    columns = [np.empty((examples, 0))]
    for place, draws, alternate in streams:
        drawn = seeds.generator(seed, "augment", 0 if alternate else epoch, place).random((examples, draws))
        columns.append(np.where((drawn < 0.5) ^ bool(epoch % 2), 0.0, 1.0) if alternate else drawn)
    return np.concatenate(columns, axis=1)
