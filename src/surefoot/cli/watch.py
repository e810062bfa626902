"""`surefoot watch`: the live display of a run that another process is doing.

It reads the run's folder alone and writes nothing, so it needs no torch and disturbs nobody.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from surefoot.cli.app import StopSignals
from surefoot.cli.display import SearchDisplay, TrainingDisplay
from surefoot.cli.flags import RunsDir, reference
from surefoot.errors import CheckpointError
from surefoot.record import store
from surefoot.record.decision import Decision
from surefoot.record.lines import Tail
from surefoot.record.lock import is_held
from surefoot.record.progress import Progress, read_progress
from surefoot.record.run import Row

_T = TypeVar("_T")
_LOOK_SECONDS = 0.25
"""Between two looks at the folder. Chosen by hand: as often as the display is drawn."""
_FRESH_SECONDS = 3.0
"""Progress of at most this age says that the run is worked on. Three of its intervals."""
_ASKED = 4
"""Times in a row that nobody must hold the folder: between a search and its final training it is free for a moment."""


def watch(run: str, *, runs_dir: RunsDir = Path("runs")) -> int:
    """Show how a run goes that another process is doing, and its result once it is done.

    It can be stopped at any time with Ctrl-C; the run goes on.

    Args:
        run: Name of the run, or its folder.
    """
    folder = store.run_folder(run, runs_dir, searches=True)
    with StopSignals() as signals:
        signals.patient = True  # noted and asked for: an exception could arrive where Python drops it
        if not _done(folder) and (folder / store.TUNE).is_file() and not (folder / store.CONFIG).is_file():
            _watch_search(folder, signals)
        if not _done(folder) and (folder / store.CONFIG).is_file():
            _watch_training(folder, signals)
        if signals.received is not None:
            print("no longer watching; the run goes on", file=sys.stderr)
            return 128 + signals.received
    return _say_end(folder)


def _watch_search(folder: Path, signals: StopSignals) -> None:
    decisions = Tail(folder / store.DECISIONS)
    written = read_progress(folder)
    with SearchDisplay() as display:
        display.say(f"search   {folder}, budget {(written and written[0].budget) or 'unknown'}")
        for now in _looks(folder, signals, (folder / store.CONFIG).is_file):
            display.show(_parsed(decisions, Decision.from_dict))
            if now is not None and now.phase == "search":
                display.move(now)


def _watch_training(folder: Path, signals: StopSignals) -> None:
    rows, last = Tail(folder / store.METRICS), 0
    with TrainingDisplay(0) as display:
        display.say(f"run      {folder}, watched")
        for now in _looks(folder, signals, lambda: _done(folder)):
            new = [row for row in _parsed(rows, Row.from_dict) if row.step > last]
            last = max([last, *(row.step for row in new)])
            display.show_rows(new)
            if now is not None and now.phase == "training":
                display.move(now)


def _looks(folder: Path, signals: StopSignals, done: Callable[[], bool]) -> Iterator[Progress | None]:
    """Give how far a run is, a few times a second, while somebody works on it and nobody stops us; and once more.

    Its lock is asked only where its progress is old.
    """
    free = 0
    while True:
        written = read_progress(folder)
        held = (written is not None and written[1] <= _FRESH_SECONDS) or is_held(folder)
        free = 0 if held else free + 1
        last = free >= _ASKED or done() or signals.received is not None
        yield written[0] if written is not None else None
        if last:
            return
        time.sleep(_LOOK_SECONDS)


def _parsed(tail: Tail, parse: Callable[[dict[str, Any]], _T]) -> list[_T]:
    values = []
    for line in tail.read():
        with suppress(TypeError, KeyError, ValueError):  # of a version that has other fields
            values.append(parse(line))
    return values


def _say_end(folder: Path) -> int:
    from surefoot.cli.train import print_result

    if _done(folder):
        from surefoot.curves.advice import read_stored
        from surefoot.record.stored import read_run

        summary = store.read_sealed(folder / store.RESULT)
        print_result(summary, read_stored(read_run(folder)), as_json=False)
        return 0 if summary["outcome"] == "finished" else 1
    print(f"nobody is training {folder} now; go on with: surefoot resume {reference(folder)}", file=sys.stderr)
    return 1


def _done(folder: Path) -> bool:
    """Whether the result is there; that of a search has its decisions, which the final run's does not yet have."""
    with suppress(CheckpointError):
        if (folder / store.RESULT).is_file():
            summary = store.read_sealed(folder / store.RESULT)
            return not (folder / store.TUNE).is_file() or "decisions" in summary
    return False
