"""The history of a search: every decision and every finished trial, on disk as soon as it is there.

A search is a function of its request and its history (`search.procedure`), so one that was killed goes on from what
these files hold: the same answer, and no trial trained twice.

    decisions.jsonl    one decision a line: see `record.decision`
    members.jsonl      one finished trial a line: see `record.trial`
    timings.json       the version of these files, the data's fingerprint, and what was timed
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from surefoot.errors import CheckpointError, ConfigError
from surefoot.record import store
from surefoot.record.decision import Decision
from surefoot.record.trial import TrialResult
from surefoot.search.budget import StepTime

FORMAT = 2
"""Of the history: raised when a search asks for other trials, or in another order, so that it could not go on."""
_STEP = "step at batch "
_T = TypeVar("_T")


@dataclass(frozen=True)
class History:
    """What a search has come to so far.

    Attributes:
        decisions: in the order in which they were made.
        results: finished trials by key.
        timings: seconds of a step by batch size, where the budget is a time.
    """

    decisions: tuple[Decision, ...] = ()
    results: Mapping[str, TrialResult] = field(default_factory=dict)
    timings: Mapping[int, StepTime] = field(default_factory=dict)


@dataclass
class Journal:
    """A history that grows.

    Attributes:
        folder: where it is kept; None keeps it in memory only.
        history: until now.
        about: what `timings.json` holds besides timings.
    """

    folder: Path | None = None
    history: History = field(default_factory=History)
    about: dict[str, Any] = field(default_factory=dict)

    def decide(self, decision: Decision) -> None:
        """Keep a new decision, as it will be read again."""
        decision = Decision.from_dict(json.loads(json.dumps(decision.to_dict())))
        self.history = dataclasses.replace(self.history, decisions=(*self.history.decisions, decision))
        self._append(store.DECISIONS, [decision.to_dict()])

    def keep(self, results: Iterable[TrialResult]) -> None:
        """Keep finished trials, each once."""
        new = {result.trial.key: result for result in results if result.trial.key not in self.history.results}
        self.history = dataclasses.replace(self.history, results={**self.history.results, **new})
        self._append(store.TRIALS, [result.to_dict() for result in new.values()])

    def time(self, batch_size: int, timed: StepTime) -> None:
        """Keep what a step of this batch size takes."""
        self.history = dataclasses.replace(self.history, timings={**self.history.timings, batch_size: timed})
        self.write_timings()

    def write_timings(self) -> None:
        """Write what is no line of the other files."""
        timings = {f"{_STEP}{size}": dataclasses.asdict(timed) for size, timed in self.history.timings.items()}
        if self.folder is not None:
            store.write_json(self.folder / store.TIMINGS, {**self.about, **timings})

    def _append(self, name: str, lines: Iterable[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        if self.folder is None or not text:
            return
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def open_journal(folder: Path, data_fingerprint: str) -> Journal:
    """Return the journal of a folder, with all that earlier calls have left. A line that a kill cut short is dropped.

    Args:
        folder: of the search.
        data_fingerprint: SHA-256 over the data, which must be that of the earlier calls.

    Raises:
        CheckpointError: it was written by another version, a line before the last is damaged, or trials are missing.
        ConfigError: the data has changed.
    """
    about = {"format": FORMAT, "data_fingerprint": data_fingerprint}
    there = store.read_json(folder / store.TIMINGS) if (folder / store.TIMINGS).is_file() else {}
    begun = bool(there) or (folder / store.DECISIONS).is_file()
    if begun and (not isinstance(there, dict) or there.get("format") != FORMAT):
        raise CheckpointError(
            f"{folder} holds a search that another version of surefoot began",
            f"a search goes on with the version that began it: the format of its history is {FORMAT} here",
            "choose another name, or go on with that version",
        )
    if begun and there["data_fingerprint"] != data_fingerprint:
        raise ConfigError(
            f"the data of {folder} has changed since the search began",
            "a search keeps its data from beginning to end", "restore the data, or choose another name",
        )  # fmt: skip
    decisions = _read(folder / store.DECISIONS, Decision.from_dict)
    results = {result.trial.key: result for result in _read(folder / store.TRIALS, TrialResult.from_dict)}
    if not results.keys() >= {key for decision in decisions for key in decision.evidence.get("members", ())}:
        raise CheckpointError(
            str(folder / store.TRIALS), f"it must hold every trial that {store.DECISIONS} names",
            "restore it from a copy",
        )  # fmt: skip
    timings = {int(name.removeprefix(_STEP)): StepTime(**timed)
               for name, timed in there.items() if name.startswith(_STEP)}  # fmt: skip
    journal = Journal(folder, History(tuple(decisions), results, timings), about)
    if not begun:
        journal.write_timings()
    return journal


def _read(path: Path, parse: Callable[[dict[str, Any]], _T]) -> list[_T]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(str(path), f"it must be readable ({error})", "restore it from a copy") from None
    whole, _, rest = text.rpartition("\n")
    values: list[_T] = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            values.append(parse(json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CheckpointError(
                f"{path}, line {number}", f"it must be as the search wrote it ({error})", "restore it from a copy"
            ) from None
    if rest:  # cut short by a kill: what it said will be found again
        store.write_bytes(path, (whole + "\n" if whole else "").encode())
    return values
