"""The batch of every step, as a pure function of (seed, epoch, index), augmented and normalised.

A run that is resumed at step t needs only t: nothing here has a state. Examples that do not fill a batch are
left out of that epoch; the order is drawn anew for each epoch, so they are others each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surefoot.data import tree
from surefoot.data.augment import Address, Augment, parse
from surefoot.data.dataset import DataSet, Part, channels_first
from surefoot.data.epochs import epoch_draws, epoch_order
from surefoot.data.mapped_tensor import MappedTensor, uploaded
from surefoot.data.normalise import constant, in_unit, learned_ahead, normalised, standardised
from surefoot.errors import ConfigError


def batch_indices(examples: int, batch_size: int, seed: int, step: int) -> tuple[int, np.ndarray]:
    """Return the epoch and the examples, int64 [B], of update `step`, counted from 0.

    An epoch has examples // batch_size steps.

    Raises:
        ConfigError: the batch is larger than the training part, or empty.

    >>> [batch_indices(6, 2, seed=0, step=t)[0] for t in range(5)]
    [0, 0, 0, 1, 1]
    """
    if not 1 <= batch_size <= examples:
        raise ConfigError(
            f"batch_size = {batch_size} with {examples} training examples",
            f"a batch has from 1 to {examples} examples",
            'leave it out, or set batch_size = "full"',
        )
    epoch, batch = divmod(step, examples // batch_size)
    return epoch, epoch_order(examples, seed, epoch)[batch * batch_size : (batch + 1) * batch_size]


def fetch(
    data: DataSet,
    part: Part,
    indices: np.ndarray | Tensor,
    *,
    augment: Augment | Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> tuple[Any, Any]:
    """Return one batch, augmented and normalised, on the device on which the part lies.

    Args:
        data: gives mean and std.
        part: gives the examples.
        indices: positions in the part, [B].
        augment: applied before normalising; None for validation and test.
        seed, epoch: address of the augmentation's randomness, together with each image's index.

    Returns:
        x: float32 [B, ...]; images are [B, C, H, W], in channels_last where the data says so. Or a tree.
        y: int64 [B]; for a regression float32 [B] or [B, D], standardised where the data says so. Or a tree.

    Raises:
        ConfigError: the augmentation does not fit the data.
    """
    if isinstance(indices, Tensor) and indices.device.type != "cpu":
        rows, host = indices, None
    else:
        host = np.asarray(indices)
        rows = uploaded(_writable(host), part.device)
    recipe = augment if augment is None or isinstance(augment, Augment) else parse([augment])
    if recipe is None:
        return _plain(data, part, rows, host)
    if recipe.reader is not None:
        x, y = _read_anew(data, part, recipe, rows, seed, epoch)
    else:
        x, y = _taken(part, rows, host)
    draws = epoch_draws(recipe, len(part), seed, epoch, part.device).index_select(0, rows)
    return _as_learned(data, x, y, recipe, draws, lambda: (seed, epoch, int(rows[0])))


def resized(x: Tensor, side: int) -> Tensor:
    """Return images [B, C, H, W] with their shorter side brought to `side` pixels, by bilinear interpolation that
    averages over what falls into a pixel; their layout in memory stays.

    >>> resized(torch.ones(2, 3, 32, 64), 20).shape
    torch.Size([2, 3, 20, 40])
    """
    height, width = x.shape[2:]
    share = side / min(height, width)
    last = x.is_contiguous(memory_format=torch.channels_last)
    size = (round(height * share), round(width * share))
    small = torch.nn.functional.interpolate(x, size=size, mode="bilinear", antialias=True)
    return small.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def fetch_rows(
    data: DataSet, part: Part, rows: Tensor, *, augment: Augment | None = None, draws: Tensor | None = None
) -> tuple[Any, Any]:
    """Return the same batch of tensors that lie on the device: nothing is uploaded, and no number is read back.

    So a CUDA graph can hold it, where `capture_refusal` has nothing against it; an eager call comes before, which puts
    there what does not change. The rows of K batches are one call, since no example depends on another.

    Args:
        data, part: as in `fetch`.
        rows: positions in the part, int64 [B], on its device.
        augment: applied before normalising, if there are draws.
        draws: the rows of `epochs.epoch_draws` at these positions, float64 [B, D]; None for validation and test.

    >>> import surefoot
    >>> from surefoot.data.epochs import epoch_draws
    >>> digits, flip, rows = surefoot.load("digits"), parse(["flip"]), torch.tensor([3, 1])
    >>> draws = epoch_draws(flip, digits.examples, seed=0, epoch=2, device=rows.device)
    >>> x, y = fetch_rows(digits, digits.train, rows, augment=flip, draws=draws[rows])
    >>> bool((x == fetch(digits, digits.train, rows, augment=flip, seed=0, epoch=2)[0]).all())
    True
    """
    if augment is None or draws is None:
        return _plain(data, part, rows, None)
    return _as_learned(data, *_taken(part, rows, None), augment, draws)


def fetch_slice(data: DataSet, part: Part, first: int, last: int) -> tuple[Any, Any]:
    """Return the examples from `first` up to `last`, that one left out, as `fetch` does without an augmentation."""
    last, ahead = min(last, len(part)), learned_ahead(data, part)
    if ahead is not None:
        return ahead.between(first, last)
    x, y = (tree.map_leaves(lambda leaf: _between(leaf, first, last), each) for each in (part.x, part.y))
    return normalised(data, x), standardised(data, y)


def capture_refusal(data: DataSet, augment: Augment | None) -> str | None:
    """Return why a CUDA graph cannot hold `fetch_rows` of the training part, in words; None where it can.

    >>> import surefoot
    >>> capture_refusal(surefoot.load("digits"), parse([lambda x: x]))
    'the augmentation calls a function, which may do what a graph cannot hold'
    """
    if any(isinstance(leaf, MappedTensor) for leaf in (*tree.leaves(data.train.x), *tree.leaves(data.train.y))):
        return "the data does not lie on the card: each batch is read where it lies"
    if augment is not None and augment.reader is not None:
        return "the Dataset draws its examples anew, each batch is read from it"
    if augment is not None and any(operation.calls for operation in augment.operations):
        return "the augmentation calls a function, which may do what a graph cannot hold"
    return None


def _plain(data: DataSet, part: Part, rows: Tensor, host: np.ndarray | None) -> tuple[Any, Any]:
    """Return a batch that is not augmented."""
    ahead = learned_ahead(data, part)
    if ahead is not None:
        return ahead.taken(rows)
    x, y = _taken(part, rows, host)
    return normalised(data, x), standardised(data, y)


def _as_learned(
    data: DataSet, x: Any, y: Any, augment: Augment, draws: Tensor, address: Address = tuple
) -> tuple[Any, Any]:  # fmt: skip
    """Return examples as they lie in a part augmented and normalised, targets standardised."""
    if augment.operations:
        kind = "images" if data.kind == "images" else "numbers"
        masks, mean = y if data.target == "segmentation" else None, constant(data.mean, x.device, data.mean.dtype)
        x, moved = augment.moved(x, masks, draws, mean, kind, address)
        y = y if moved is None else moved
    return normalised(data, x), standardised(data, y)


def _read_anew(data: DataSet, part: Part, recipe: Augment, rows: Tensor, seed: int, epoch: int) -> tuple[Any, Any]:
    """Return a batch as a random Dataset draws it in this epoch, as it would lie in the part."""
    x, y = recipe.reader.read(rows.cpu().numpy(), seed=seed, epoch=epoch, labels=data.classes is not None)
    fresh = tree.map_leaves(_as_it_lies, x, part.x)
    if data.classes is not None:
        return fresh, part.y.index_select(0, rows)
    return fresh, tree.map_leaves(_as_it_lies, y, part.y)


def _as_it_lies(x: np.ndarray, there: Tensor) -> Tensor:
    """Return what was read anew, [B, ...], as it would lie in the part; floating-point images stay so: what a transform
    makes of them need not be whole levels.
    """
    if there.dtype in (torch.uint8, torch.uint16) and there.dim() == 4:
        fresh = torch.from_numpy(channels_first(x))
        return (fresh.float() if fresh.is_floating_point() else fresh).to(there.device)
    return torch.from_numpy(x).to(there.dtype).reshape(len(x), *there.shape[1:]).to(there.device)


def _taken(part: Part, rows: Tensor, host: np.ndarray | None) -> tuple[Any, Any]:
    """Return the examples at these places of a part, given on its device and, where they are there too, on the host."""

    def taken(leaf: Tensor) -> Tensor:
        if isinstance(leaf, MappedTensor):
            return in_unit(leaf.gathered(rows if host is None else host))
        return (
            in_unit(leaf.view(torch.int16).index_select(0, rows).view(torch.uint16))
            if _wide(leaf)
            else (leaf.index_select(0, rows))
        )

    return tree.map_leaves(taken, part.x), tree.map_leaves(taken, part.y)


def _between(leaf: Tensor, first: int, last: int) -> Tensor:
    """Return rows in memory of their own: a model may change its inputs in place."""
    piece = leaf.view(torch.int16)[first:last].view(torch.uint16) if _wide(leaf) else leaf[first:last]
    return (
        in_unit(piece)
        if _wide(piece) or isinstance(leaf, MappedTensor)
        else (piece.clone(memory_format=torch.contiguous_format))
    )


def _wide(x: Tensor) -> bool:
    """Return whether this is of 16 bits and in memory: torch computes little with uint16, its bits move as int16."""
    return x.dtype == torch.uint16 and not isinstance(x, MappedTensor)


def _writable(indices: Any) -> Any:
    """Orders are read-only, and torch warns of arrays that it cannot write to."""
    read_only = isinstance(indices, np.ndarray) and not indices.flags.writeable
    return indices.copy() if read_only else indices
