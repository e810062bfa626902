"""What the batches of an epoch are drawn by: the order of its examples, and the numbers of their augmentation.

Both are tables over all N examples, pure functions of (seed, epoch). They lie where the data lies: on a card they are
uploaded once an epoch, and a step reads its rows there, with nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from surefoot import seeds
from surefoot.data.augment import Augment, table
from surefoot.data.mapped_tensor import uploaded

_in_use: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
"""Tables that somebody holds: K members with batches of their own that take turns need K of them, each drawn once."""


def _shared(key: Hashable, make: Callable[[], Any]) -> Any:
    table = _in_use.get(key)
    if table is None:
        table = make()
        _in_use[key] = table
    return table


@lru_cache(maxsize=4)
def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of one epoch: a permutation of the examples, int64 [N], read-only.

    It is drawn once for as long as somebody holds it, and the last four are held here: K members with batches of their
    own that take turns need K, at 8 bytes an example.

    >>> epoch_order(5, seed=0, epoch=1).tolist() == epoch_order(5, seed=0, epoch=1).tolist()
    True
    >>> sorted(epoch_order(5, seed=0, epoch=1).tolist())
    [0, 1, 2, 3, 4]
    """

    def drawn() -> np.ndarray:
        order = seeds.generator(seed, "order", epoch).permutation(examples)
        order.setflags(write=False)
        return order

    return _shared(("order", examples, seed, epoch), drawn)


@lru_cache(maxsize=4)
def epoch_rows(examples: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """Return `epoch_order` as a tensor on a device, int64 [N]: never write to it. It is held as the order is.

    >>> epoch_rows(5, 0, 1, torch.device("cpu")).tolist() == epoch_order(5, 0, 1).tolist()
    True
    """
    return _shared(
        ("rows", examples, seed, epoch, device), lambda: uploaded(epoch_order(examples, seed, epoch).copy(), device)
    )


def epoch_draws(augment: Augment | None, examples: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """Return the numbers in [0, 1) by which each example is augmented in an epoch: `Augment.table` on a device.

    Args:
        augment: D columns of draws; None has none.
        examples: of the part, N.
        seed, epoch: address of the randomness.
        device: where the part lies.

    Returns:
        float64 [N, D]: never write to it. The last four are held, and those that somebody holds.

    >>> from surefoot.data.augment import parse
    >>> epoch_draws(parse(["flip", "crop:2"]), 5, seed=0, epoch=3, device=torch.device("cpu")).shape
    torch.Size([5, 3])
    """
    streams = () if augment is None else augment.streams
    return _draws(streams, examples, seed, epoch, device)


@lru_cache(maxsize=4)
def _draws(streams: tuple[Any, ...], examples: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    return _shared(
        (streams, examples, seed, epoch, device), lambda: uploaded(table(streams, examples, seed, epoch), device)
    )
