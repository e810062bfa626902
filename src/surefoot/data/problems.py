"""What is wrong with data, collected so that the user hears of all of it at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from surefoot.errors import DataError

SHOWN = 10
"""Problems that an error spells out; the rest are counted, and `surefoot data check` lists them."""

_KEPT = 1000
"""Problems kept in full. More than that have one cause, and a million would fill the memory."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (file or row), what, what is allowed, what to do."""

    where: str
    what: str
    allowed: str
    do: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.allowed}; {self.do})"


@dataclass
class Problems:
    """All that is wrong with one source, in the order found, and what is only worth a warning.

    >>> problems = Problems("pets")
    >>> problems.add("cats/1.png", "is empty", "an image must decode", "replace or remove it")
    >>> problems.raise_any()
    Traceback (most recent call last):
    surefoot.errors.DataError: pets: cats/1.png: is empty: an image must decode. Replace or remove it.
    """

    source: str
    items: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, where: str, what: str, allowed: str, do: str) -> None:
        """Note one problem. Beyond the thousandth they are only counted."""
        self.count += 1
        if len(self.items) < _KEPT:
            self.items.append(Problem(where, what, allowed, do))

    def warn(self, text: str) -> None:
        """Note what does not stop a training."""
        self.warnings.append(text)

    def raise_any(self) -> None:
        """Raise one DataError that names the first ten problems and counts the rest, if there are any."""
        if not self.count:
            return
        if self.count == 1:
            only = self.items[0]
            where = "" if only.where == self.source else f"{only.where}: "
            raise DataError(f"{self.source}: {where}{only.what}", only.allowed, only.do)
        lines = "".join(f"\n  {item}" for item in self.items[:SHOWN])
        more = f"\n  and {self.count - SHOWN} more" if self.count > SHOWN else ""
        path = f" with `surefoot data check {self.source}`" if Path(self.source).exists() else ""
        raise DataError(
            f"{self.source}:{lines}{more}\n{self.count} problems",
            "data is used only when all of it is right",
            f"mend these, then check again{path}",
        )
