"""Splitting a part in two by a seed, with the same mix of classes on both sides."""

from __future__ import annotations

import contextlib
import os
import tempfile

import numpy as np

from surefoot import seeds
from surefoot.data.store import cache_folder

_IN_MEMORY = 2**30
"""Bytes of a memory-mapped part that are copied into memory by a split; larger ones stay on disk. Chosen by hand."""


def stratified(
    labels: np.ndarray | None, examples: int, share: float, seed: int, stream: str = "split"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions to keep and the positions to hold out, each rising.

    Of n_c examples of class c, share * n_c are held out, rounded down or up so that the total is
    round(share * N) (largest remainders, ties to the lower class); at least one of each class is kept. A pure
    function of its arguments.

    Args:
        labels: class of each example, int [N]; None for a regression, which is split without classes.
        examples: N.
        share: in [0, 1), the share held out.
        seed: of the split.
        stream: the name of the random stream, so that two splits with one seed differ.

    >>> kept, held = stratified(np.array([0, 0, 0, 0, 1, 1]), 6, share=1 / 3, seed=0)
    >>> len(kept), len(held)
    (4, 2)
    """
    labels = np.zeros(examples, dtype=np.int64) if labels is None else labels
    counts = np.unique(labels, return_counts=True)[1]
    exact = counts * share
    held = np.floor(exact).astype(np.int64)
    missing = round(share * examples) - int(held.sum())
    held[np.argsort(held - exact, kind="stable")[:missing]] += 1
    held = np.minimum(held, counts - 1)
    of_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    out = np.zeros(examples, dtype=bool)
    for place in np.flatnonzero(held > 0):
        out[seeds.generator(seed, stream, int(place)).permutation(of_class[place])[: held[place]]] = True
    return np.flatnonzero(~out), np.flatnonzero(out)


def taken(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return x[index]; from a large memory map, as a memory map that vanishes with the process."""
    if not isinstance(x, np.memmap) or len(index) * x[:1].nbytes <= _IN_MEMORY:
        return np.asarray(x)[index]
    (cache_folder() / "images").mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=cache_folder() / "images", prefix="split.", suffix=".tmp", delete=False
    ) as file:
        copy = np.memmap(file.name, dtype=x.dtype, mode="w+", shape=(len(index), *x.shape[1:]))
        for at in range(0, len(index), 1024):
            copy[at : at + 1024] = x[index[at : at + 1024]]
        with contextlib.suppress(OSError):  # where a mapped file cannot be unlinked it stays until the cache is cleared
            os.unlink(file.name)
    return copy
