"""Training batches of a data set, one after the other; small sets that nothing augments lie normalised in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from surefoot.data import tree
from surefoot.data.augment import Augment
from surefoot.data.batches import fetch
from surefoot.data.dataset import DataSet
from surefoot.data.mapped_tensor import MappedTensor

_MOST_BYTES = 64 * 2**20
"""Of a training part that lies normalised: beyond it a batch takes far longer to learn than to normalise. Chosen by
hand."""

_normalised: Any = WeakIdKeyDictionary()
"""Normalised training parts by the data set that they are of."""


class Loader:
    """Gives batches of the training part.

    What `fetch` does is done to each example alone, so a part that is normalised once gives the same bits as batches
    that are, and an operator or two take the place of ten.

    Args:
        data: the data set.
        augment: of its training part, or None.
        seed: of the augmentation.

    >>> import surefoot
    >>> digits = surefoot.load("digits")
    >>> x, y = Loader(digits, None, seed=0).batch(np.array([3, 1]), epoch=0)
    >>> bool((x == fetch(digits, digits.train, np.array([3, 1]))[0]).all())
    True
    """

    def __init__(self, data: DataSet, augment: Augment | None, seed: int) -> None:
        self.data, self.augment, self.seed = data, augment, seed
        plain = augment is None or (not augment.operations and augment.reader is None)
        self._ready = _at_rest(data) if plain else None

    def batch(self, rows: np.ndarray, epoch: int, side: int | None = None) -> tuple[Any, Any]:
        """Return inputs and targets of examples, int64 [B], as `fetch` gives them in this epoch, at this size."""
        if self._ready is None or side is not None:
            return fetch(self.data, self.data.train, rows, augment=self.augment, seed=self.seed, epoch=epoch, side=side)
        index = torch.from_numpy(rows.copy())  # an order is read-only, of which torch warns
        x, y = self._ready
        return x(index), y(index)


class _Rows:
    """Rows of a tensor or a tree by their numbers; images lie with their channels last where they are to come so."""

    def __init__(self, whole: Any) -> None:
        self.images = isinstance(whole, Tensor) and whole.dim() == 4 and whole.stride(1) == 1
        self.whole = whole.permute(0, 2, 3, 1) if self.images else whole
        self.device = tree.leaves(whole)[0].device

    def __call__(self, index: Tensor) -> Any:
        index = index.to(self.device)
        if not isinstance(self.whole, Tensor):
            return tree.map_leaves(lambda leaf: leaf.index_select(0, index), self.whole)
        rows = self.whole.index_select(0, index)
        return rows.permute(0, 3, 1, 2) if self.images else rows


def _at_rest(data: DataSet) -> tuple[_Rows, _Rows] | None:
    """Return inputs and targets of a training part that is small enough to lie normalised; None of one that is not."""
    if data not in _normalised:
        leaves = tree.leaves((data.train.x, data.train.y))
        small = sum(leaf.numel() * max(4, leaf.element_size()) for leaf in leaves) <= _MOST_BYTES
        here = small and not any(isinstance(leaf, MappedTensor) for leaf in leaves)
        whole = fetch(data, data.train, np.arange(len(data.train))) if here else None
        _normalised[data] = None if whole is None else (_Rows(whole[0]), _Rows(whole[1]))
    return _normalised[data]
