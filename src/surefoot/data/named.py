"""The named data sets: what they are, where they come from, whether they are on this machine. Imports no torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from surefoot.settings import cache_folder


@dataclass(frozen=True)
class Named:
    """A data set that `load` knows by name.

    Attributes:
        name: for `load` and `surefoot train`.
        what: in a few words.
        origin: where it comes from, with its authors.
        train, test: examples in each part, before a validation part is held out.
        shape: of one image, (C, H, W).
        classes: how many.
        megabytes: to download; 0 where it is embedded.
    """

    name: str
    what: str
    origin: str
    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int
    megabytes: int

    def is_here(self) -> bool:
        """Return whether it can be loaded now without a download."""
        if self.name == "digits":
            return importlib.util.find_spec("sklearn") is not None
        cache = cache_folder()
        unpacked = (cache / "cifar-10-batches-bin" / "test_batch.bin").is_file()
        return unpacked or Path(cache, "downloads", "cifar-10-binary.tar.gz").is_file()


NAMED = {
    "digits": Named(
        "digits", "handwritten digits, grey", "inside scikit-learn (Alpaydin & Kaynak 1998, UCI)",
        1438, 359, (1, 8, 8), 10, 0,
    ),
    "cifar10": Named(
        "cifar10", "small photographs, colour", "https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky 2009)",
        50_000, 10_000, (3, 32, 32), 10, 170,
    ),
}  # fmt: skip
