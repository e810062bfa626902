"""Training batches of a data set, one after the other; small sets that nothing augments lie normalised in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from surefoot.data.augment import Augment
from surefoot.data.batches import fetch, resized
from surefoot.data.dataset import DataSet
from surefoot.data.mapped_tensor import uploaded
from surefoot.data.normalise import learned_ahead

_MOST_VALUES = 2**24
"""Of a training part that lies normalised, 64 MB: beyond it a batch takes far longer to learn than to normalise. Chosen
by hand."""


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
        self._ready = learned_ahead(data, data.train, _MOST_VALUES) if plain else None

    def batch(self, rows: np.ndarray, epoch: int, side: int | None = None) -> tuple[Any, Any]:
        """Return inputs and targets of examples, int64 [B], as `fetch` gives them in this epoch; images `resized`."""
        x, y = self._batch(rows, epoch)
        return (x if side is None else resized(x, side)), y

    def _batch(self, rows: np.ndarray, epoch: int) -> tuple[Any, Any]:
        if self._ready is None:
            return fetch(self.data, self.data.train, rows, augment=self.augment, seed=self.seed, epoch=epoch)
        rows = rows.copy()  # an order is read-only, of which torch warns
        return self._ready.taken(uploaded(rows, self.data.train.device))
