"""The machine's figures: what `surefoot doctor` measured of it, kept for the user, and read by rules.

A file for each processor or card, `figures/NAME.json` in the cache folder, sealed. Figures count only for the machine
that was measured: what identifies it stands in them, and is compared when they are read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from surefoot.errors import SurefootError
from surefoot.record.lines import UNREADABLE, from_plain, plain
from surefoot.record.store import is_sealed, read_sealed, write_sealed
from surefoot.settings import cache_folder

SCHEMA = 1
Operation = Literal["matrix product", "convolution", "copy"]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast one kind of work is done.

    Attributes:
        operation: what. A convolution is 3 x 3 over 64 channels, forward and backward.
        precision: "fp32", "bf16", "fp16", or "tf32": fp32 numbers that a card rounds.
        threads: of the CPU; of a card 1.
        per_second: floating-point operations; of a copy the bytes that are read and written.
    """

    operation: Operation
    precision: str
    threads: int
    per_second: float


@dataclass(frozen=True, kw_only=True)
class MachineFigures:
    """What was measured of a processor or a card.

    Attributes:
        machine: what identifies it, by name: the device, its model, PyTorch's version.
        date: of the measurement, as 2026-11-28.
        how: it was measured.
        rates: of the kinds of work, at each precision and number of threads.
        call_seconds: of one operator call of a training step of a small model.
        numbers_per_second: that one thread writes in the step of a small convolutional network.
        cache_bytes: of the last cache; None where it is not known, as of a card.
    """

    machine: Mapping[str, Any]
    date: str
    how: str
    rates: tuple[Rate, ...]
    call_seconds: float
    numbers_per_second: float
    cache_bytes: int | None = None

    def per_second(self, operation: Operation, precision: str, threads: int) -> float | None:
        """Return the rate of a kind of work; None where it was not measured."""
        wanted = (operation, precision, threads)
        return next((r.per_second for r in self.rates if (r.operation, r.precision, r.threads) == wanted), None)

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON values."""
        return plain(dataclasses.asdict(self))


def reached_text(reached: Mapping[str, Any] | None) -> str | None:
    """Return what `reached` in a result says, as a sentence without its end; None where it says nothing.

    >>> reached_text({"step_seconds": 0.041, "most": "convolution", "share": 0.62, "figures": "2026-11-28"})
    "a step takes 41 ms: 62 % of what this machine's convolutions reach (figures of 2026-11-28)"
    """
    seconds, share = ((reached or {}).get(name) for name in ("step_seconds", "share"))
    if reached is None or not isinstance(seconds, int | float) or not isinstance(share, int | float):
        return None
    share *= 100
    taken = f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
    digits = f"{share:.0f}" if share >= 10 else f"{share:.2g}"
    work = f"this machine's {reached.get('most')}s reach (figures of {reached.get('figures')})"
    return f"a step takes {taken}: {digits} % of what {work}"


def figures_path(machine: Mapping[str, Any]) -> Path:
    """Return where the figures of a machine are kept.

    >>> figures_path({"device": "cpu", "name": "AMD EPYC 9R14"}).name
    'cpu-amd-epyc-9r14.json'
    """
    words = re.sub(r"[^a-z0-9]+", "-", f"{machine['device']} {machine['name']}".lower()).strip("-")
    return cache_folder() / "figures" / f"{words}.json"


def write_figures(figures: MachineFigures) -> Path:
    """Keep the figures of a machine in place of those before, and return where.

    Raises:
        OSError: the cache folder cannot be written to.
    """
    path = figures_path(figures.machine)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(path, {"schema": SCHEMA, **figures.to_dict()})
    return path


def read_figures(machine: Mapping[str, Any]) -> tuple[MachineFigures | None, str | None]:
    """Return the figures of a machine, None where there are none; and why those that are there do not count, if so.

    >>> read_figures({"device": "cpu", "name": "a machine that nobody has measured"})
    (None, None)
    """
    path = figures_path(machine)
    try:
        if not path.is_file():
            return None, None
        values = read_sealed(path)
        if values.get("schema") != SCHEMA or not is_sealed(values):
            raise ValueError("another version wrote it")
        figures = from_plain(MachineFigures, {f.name: values[f.name] for f in dataclasses.fields(MachineFigures)})
        sound = all(rate.per_second > 0 for rate in figures.rates)
        if not (sound and 0 < figures.call_seconds < 1 and figures.numbers_per_second > 0):
            raise ValueError("its numbers are none of a machine")
    except (*UNREADABLE, OSError, SurefootError):
        return None, f"{path} is damaged, and its figures are not used; surefoot doctor measures them anew"
    if dict(figures.machine) != dict(machine):
        there, here = ({name: of.get(name) for name in machine} for of in (figures.machine, machine))
        changed = ", ".join(
            f"{name} {there[name]} there, {here[name]} here" for name in here if there[name] != here[name]
        )
        return None, f"{path} is of another machine ({changed}), and not used; surefoot doctor measures this one"
    return figures, None
