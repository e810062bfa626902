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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from surefoot.errors import CheckpointError, ConfigError
from surefoot.record import store
from surefoot.record.decision import Decision
from surefoot.record.lines import append_lines, read_lines
from surefoot.record.trial import TrialResult
from surefoot.search.budget import StepTime

FORMAT = 3
"""Of the history: raised when a search asks for other trials, or in another order, so that it could not go on."""
_STEP = "step at batch "
_WRITTEN = "as the search wrote it"


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
        self._append(store.DECISIONS, [decision])

    def keep(self, results: Iterable[TrialResult]) -> None:
        """Keep finished trials, each once."""
        new = {result.trial.key: result for result in results if result.trial.key not in self.history.results}
        self.history = dataclasses.replace(self.history, results={**self.history.results, **new})
        self._append(store.TRIALS, new.values())

    def time(self, batch_size: int, timed: StepTime) -> None:
        """Keep what a step of this batch size takes."""
        self.history = dataclasses.replace(self.history, timings={**self.history.timings, batch_size: timed})
        self.write_timings()

    def write_timings(self) -> None:
        """Write what is no line of the other files."""
        timings = {f"{_STEP}{size}": dataclasses.asdict(timed) for size, timed in self.history.timings.items()}
        if self.folder is not None:
            store.write_sealed(self.folder / store.TIMINGS, {**self.about, **timings})

    def _append(self, name: str, values: Iterable[Decision | TrialResult]) -> None:
        if self.folder is not None:
            append_lines(self.folder / name, (value.to_dict() for value in values), durable=True)


def open_journal(
    folder: Path,
    data_fingerprint: str,
    identity: Mapping[str, str] | None = None,
    texts: Mapping[str, bytes] | None = None,
    figures: Mapping[str, Any] | None = None,
) -> Journal:
    """Return the journal of a folder, with all that earlier calls have left. A line that a kill cut short is dropped.

    Args:
        folder: of the search.
        data_fingerprint: SHA-256 over the data, which must be that of the earlier calls.
        identity: of the task, see `training.identity`; kept beside it, and not compared here.
        texts: what the search's other files hold, or will, by name; their hashes are kept beside it too.
        figures: by which the engine of a new search chooses how members are computed, kept for whoever goes on.

    Raises:
        CheckpointError: it was written by another version, a line before the last is damaged, or trials are missing.
        ConfigError: the data has changed.
    """
    about = {
        "format": FORMAT,
        "data_fingerprint": data_fingerprint,
        "directory": os.getcwd(),
        "folder": str(folder.resolve()),
        **({"files": {name: store.sha256(text) for name, text in texts.items()}} if texts else {}),
        **({"identity": dict(identity)} if identity else {}),
        **({"figures": dict(figures)} if figures else {}),
    }
    there = store.read_sealed(folder / store.TIMINGS) if (folder / store.TIMINGS).is_file() else {}
    begun = bool(there) or (folder / store.DECISIONS).is_file()
    if begun and not there:
        raise CheckpointError(
            f"{folder / store.TIMINGS} is gone", "it says what the search was begun with", "restore it from a copy"
        )
    about |= {name: there[name] for name in ("directory", "folder", "files", "figures") if name in there}
    if begun and there.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} holds a search that another version of surefoot began",
            f"a search goes on with the version that began it: the format of its history is {FORMAT} here",
            "choose another name, or go on with that version",
        )
    if begun and there.get("data_fingerprint") != data_fingerprint:
        raise ConfigError(
            f"the data of {folder} has changed since the search began",
            "a search keeps its data from beginning to end", "restore the data, or choose another name",
        )  # fmt: skip
    decisions = read_lines(folder / store.DECISIONS, Decision.from_dict, _WRITTEN, repair=True)
    results = {
        result.trial.key: result
        for result in read_lines(folder / store.TRIALS, TrialResult.from_dict, _WRITTEN, repair=True)
    }
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
