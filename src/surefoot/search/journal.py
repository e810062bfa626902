"""The memory of a search: every decision and every finished trial, on disk as soon as it is there.

A search is a function of its settings, its data and what this file holds, so one that was killed runs again from its
beginning and takes from here what it has done before: the same answer, and no trial trained twice.

    decisions.jsonl    one decision a line: see `record.decision`
    members.jsonl      one finished trial a line: see `record.trial`
    timings.json       what was timed, by name
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from surefoot.errors import CheckpointError
from surefoot.record import store
from surefoot.record.decision import Decision
from surefoot.record.trial import TrialResult

_T = TypeVar("_T")


@dataclass
class Journal:
    """What a search has found so far.

    Attributes:
        folder: where it is kept; None keeps it in memory only.
        decisions: in the order in which they were made.
        tried: finished trials by key.
        timings: what was timed, by name.
        replayed: how many decisions of an earlier call the present one has come to.
    """

    folder: Path | None = None
    decisions: list[Decision] = field(default_factory=list)
    tried: dict[str, TrialResult] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)
    replayed: int = 0

    def recall(self) -> Decision | None:
        """Return the next decision of an earlier call, if the search had come that far."""
        if self.replayed < len(self.decisions):
            self.replayed += 1
            return self.decisions[self.replayed - 1]
        return None

    def decide(self, decision: Decision) -> Decision:
        """Keep a new decision and return it as it will be recalled."""
        kept = Decision.from_dict(json.loads(json.dumps(decision.to_dict())))
        self.decisions.append(kept)
        self.replayed = len(self.decisions)
        self._append(store.DECISIONS, [kept.to_dict()])
        return kept

    def keep(self, tried: Iterable[TrialResult]) -> None:
        """Keep finished trials."""
        new = [each for each in tried if each.trial.key not in self.tried]
        self.tried |= {each.trial.key: each for each in new}
        self._append(store.TRIALS, [each.to_dict() for each in new])

    def timed(self, name: str, measure: Callable[[], _T]) -> _T:
        """Return what was timed under this name, measuring it if it never was."""
        if name not in self.timings:
            self.timings[name] = measure()
            if self.folder is not None:
                store.write_json(self.folder / store.TIMINGS, self.timings)
        return self.timings[name]

    def _append(self, name: str, lines: Iterable[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        if self.folder is None or not text:
            return
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def open_journal(folder: Path | None) -> Journal:
    """Return the journal of a folder, with all that earlier calls have left. A line that a kill cut short is dropped.

    Raises:
        CheckpointError: a line before the last is damaged.
    """
    if folder is None:
        return Journal()
    decisions = _read(folder / store.DECISIONS, Decision.from_dict)
    tried = _read(folder / store.TRIALS, TrialResult.from_dict)
    timings = store.read_json(folder / store.TIMINGS) if (folder / store.TIMINGS).is_file() else {}
    return Journal(folder, decisions, {each.trial.key: each for each in tried}, timings)


def _read(path: Path, parse: Callable[[dict[str, Any]], _T]) -> list[_T]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(str(path), f"it must be readable ({error})", "restore it from a copy") from None
    whole, _, rest = text.rpartition("\n")
    found: list[_T] = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            found.append(parse(json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CheckpointError(
                f"{path}, line {number}", f"it must be as the search wrote it ({error})", "restore it from a copy"
            ) from None
    if rest:  # cut short by a kill: what it said will be found again
        store.write_bytes(path, (whole + "\n" if whole else "").encode())
    return found
