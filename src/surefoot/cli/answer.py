"""What the commands share that answer with decisions: the exit code, and the picture that is checked beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.errors import ConfigError

if TYPE_CHECKING:
    from surefoot.record.decision import Decision

FAILED = 3
"""Exit code where a step fails: neither a mistake of usage nor an error, but an answer."""
FORMATS = (".png", ".svg", ".html")
"""Those of `report.charts`, which takes half a second to import."""


def exit_code(*decisions: Decision) -> int:
    """Return 3 if any of the decisions is a failure, else 0."""
    return FAILED if any(decision.verdict == "fail" for decision in decisions) else 0


def check_plot(plot: Path | None) -> None:
    """Find out before anything is measured whether the picture could be written.

    Raises:
        ConfigError: another ending, or a folder that is not there.

    >>> check_plot(Path("rates.jpg"))
    Traceback (most recent call last):
    surefoot.errors.ConfigError: plot = rates.jpg: it must end in .png, .svg, .html. Try --plot rates.png.
    """
    if plot is None:
        return
    if plot.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"plot = {plot}", f"it must end in {', '.join(FORMATS)}", f"try --plot {plot.with_suffix('.png')}"
        )
    if not plot.parent.is_dir():
        raise ConfigError(f"plot = {plot}", f"the folder {plot.parent} must exist", "make it, or choose another place")
