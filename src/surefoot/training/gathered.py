"""What batches of a part give, one after the other, in one block of memory."""

from __future__ import annotations

from typing import Any

import torch

from surefoot.data import tree


class Gathered:
    """Tensors [N, ...] on the CPU, or trees of them, that are filled batch by batch.

    Into one block: small tensors that stay, between the large ones of each batch, would keep malloc from using the gaps
    again, and the heap grows by the activations of every batch: 8 MB each of 1,000 sequences.

    Args:
        examples: N, of the part.

    >>> gathered = Gathered(3)
    >>> gathered.add((torch.tensor([1, 2]),)); gathered.add((torch.tensor([3]),))
    >>> gathered.whole
    (tensor([1, 2, 3]),)
    """

    def __init__(self, examples: int) -> None:
        self._examples, self._filled = examples, 0
        self.whole: Any = None

    def add(self, batch: Any) -> None:
        """Copy the next batch, [B, ...] or a tree, to its place."""
        if self.whole is None:
            self.whole = tree.map_leaves(
                lambda leaf: torch.empty((self._examples, *leaf.shape[1:]), dtype=leaf.dtype), batch
            )
        first = self._filled
        self._filled += len(tree.leaves(batch)[0])

        def put(memory: Any, leaf: Any) -> None:
            memory[first : self._filled] = leaf.detach()

        tree.map_leaves(put, self.whole, batch)
