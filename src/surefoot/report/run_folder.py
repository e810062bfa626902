"""What a report is made from: all that the folder of a run, a search or a comparison holds, read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surefoot.curves.advice import read_stored
from surefoot.errors import CheckpointError
from surefoot.record import store
from surefoot.record.comparison import NAME, Comparison
from surefoot.record.decision import Decision
from surefoot.record.lines import read_lines
from surefoot.record.noise import Noise, read_noise
from surefoot.record.run import Row
from surefoot.record.scores import read_scores
from surefoot.record.stored import Stored, read_run
from surefoot.record.trial import TrialResult

MOST_ROWS = 1000
"""Rows of a run that a report draws and carries, evenly thinned; a chart has 680 columns. Chosen by hand."""
MOST_LOSSES = 3000
"""Mini-batch losses of a run that a report draws: the lowest and the highest of each stretch. Chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """One folder, read.

    Attributes:
        stored: the run's settings, environment, rows and result; None for a search or a comparison, which are no run.
        name: of the folder.
        decisions: of a search, in order; the last of a run that is done reads its curves.
        trials: finished trials of a search.
        scores: of the finished model, see `record.scores`; None where there are none.
        noise: gradient noise along the run.
        comparison: of rules; None for a run.
        command: that made the folder; "" where it is not known.
    """

    stored: Stored | None
    name: str
    decisions: tuple[Decision, ...] = ()
    trials: tuple[TrialResult, ...] = ()
    scores: dict[str, Any] | None = None
    noise: tuple[Noise, ...] = ()
    comparison: Comparison | None = None
    command: str = ""

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the run, all of them."""
        return self.stored.rows if self.stored is not None else ()

    @property
    def shown_rows(self) -> list[Row]:
        """At most `MOST_ROWS` of them, evenly thinned, the first and the last among them."""
        return thinned(self.rows, MOST_ROWS)

    @property
    def result(self) -> dict[str, Any]:
        """The result of the run; empty where there is none."""
        return (self.stored.result if self.stored is not None else None) or {}


def read_run_folder(run: str | Path, runs_dir: str | Path = "runs") -> RunFolder:
    """Return what the folder of a run, a search or a comparison holds.

    Args:
        run: its path, or its name under `runs_dir`.
        runs_dir: where runs lie.

    Raises:
        CheckpointError: it is none of these, or damaged.
    """
    for folder in (Path(run), Path(runs_dir) / run):
        name = folder.resolve().name
        if (folder / NAME).is_file():
            return RunFolder(
                stored=None, name=name, command=_command(folder), comparison=_comparison(folder / NAME)
            )  # fmt: skip
        if (folder / store.DECISIONS).is_file() and not (folder / store.CONFIG).is_file():
            store.check_begun(folder, store.COMMAND, store.TUNE)
            return RunFolder(stored=None, name=name, command=_command(folder), **_search(folder))
    folder = store.run_folder(run, runs_dir)
    stored, search = read_run(folder), _search(folder)
    if (curves := read_stored(stored)) is not None:
        search["decisions"] += (curves,)
    return RunFolder(
        stored=stored,
        command="" if stored.command == "library" else stored.command,
        name=folder.resolve().name,
        scores=read_scores(folder),
        noise=read_noise(folder),
        **search,
    )


def thinned(values: Any, most: int) -> list[Any]:
    """Return at most `most` of some values at even distances, the first and the last among them.

    >>> thinned(range(100), 4)
    [0, 33, 66, 99]
    """
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def _command(folder: Path) -> str:
    try:
        return (folder / store.COMMAND).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _search(folder: Path) -> dict[str, Any]:
    return {
        "decisions": tuple(read_lines(folder / store.DECISIONS, Decision.from_dict, "as it was written")),
        "trials": tuple(read_lines(folder / store.TRIALS, TrialResult.from_dict, "as it was written")),
    }


def _comparison(path: Path) -> Comparison:
    try:
        return Comparison.from_dict(store.read_json(path))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(str(path), f"it must be a comparison ({error})", "restore it from a copy") from None
