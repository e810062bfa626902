"""`surefoot watch`: the live display of a run that another process is doing.

It reads the run's folder alone and writes nothing, so it needs no torch and disturbs nobody.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

from surefoot.cli.display import Display
from surefoot.cli.searching import SearchDisplay
from surefoot.errors import CheckpointError
from surefoot.record import store
from surefoot.record.decision import Decision
from surefoot.record.lines import Tail
from surefoot.record.progress import read_progress
from surefoot.record.run import Row
from surefoot.record.stored import is_held

_LOOK_SECONDS = 0.25
"""Between two looks at the folder. Chosen by hand: as often as the display is drawn."""
_FRESH_SECONDS = 3.0
"""Progress of at most this age says that the run is worked on. Three of its intervals."""
_ASKED = 4
"""Times in a row that nobody must hold the folder: between a search and its final training it is free for a moment."""


def watch(run: str, *, runs_dir: Path = Path("runs")) -> int:
    """Show how a run goes that another process is doing, and its result once it is done.

    It can be stopped at any time with Ctrl-C; the run goes on.

    Args:
        run: Name of the run, or its folder.
        runs_dir: Folder in which runs lie.
    """
    folder = _folder(run, runs_dir)
    try:
        if not _done(folder) and (folder / store.TUNE).is_file() and not (folder / store.CONFIG).is_file():
            _watch_search(folder)
        if not _done(folder) and (folder / store.CONFIG).is_file():
            _watch_training(folder)
    except KeyboardInterrupt:
        print("no longer watching; the run goes on", file=sys.stderr)
        return 130
    return _say_end(folder)


def _watch_search(folder: Path) -> None:
    decisions, tried = Tail(folder / store.DECISIONS), Tail(folder / store.TRIALS)
    beat = read_progress(folder)
    with SearchDisplay(folder, beat[0].budget or "unknown" if beat else "unknown") as display:
        alive = _Alive(folder)
        while True:
            goes_on = alive.look() and not (folder / store.CONFIG).is_file()
            display.show(_decisions(decisions))
            display.add_trials(each.get("val_loss") for each in tried.read())
            beat = read_progress(folder)
            if beat is not None and beat[0].phase == "search":
                display.move(beat[0])
            if not goes_on:
                return
            time.sleep(_LOOK_SECONDS)


def _watch_training(folder: Path) -> None:
    rows, last = Tail(folder / store.METRICS), 0
    with Display(0) as display:
        display.say(f"run      {folder}, watched")
        display.begin_table()
        alive = _Alive(folder)
        while True:
            goes_on = alive.look() and not _done(folder)
            new = [row for row in _rows(rows) if row.step > last]
            last = max([last, *(row.step for row in new)])
            display.show_rows(new)
            beat = read_progress(folder)
            if beat is not None and beat[0].phase == "training":
                display.show(beat[0])
            if not goes_on:
                return
            time.sleep(_LOOK_SECONDS)


class _Alive:
    """Whether somebody works on a run; its lock is asked only where its progress is old."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._free = folder, 0

    def look(self) -> bool:
        beat = read_progress(self._folder)
        held = (beat is not None and beat[1] <= _FRESH_SECONDS) or is_held(self._folder)
        self._free = 0 if held else self._free + 1
        return self._free < _ASKED


def _rows(tail: Tail) -> list[Row]:
    found = []
    for each in tail.read():
        with suppress(TypeError, KeyError, ValueError):  # of a version that has other fields
            found.append(Row.from_dict(each))
    return found


def _decisions(tail: Tail) -> list[Decision]:
    found = []
    for each in tail.read():
        with suppress(TypeError, KeyError, ValueError):
            found.append(Decision.from_dict(each))
    return found


def _say_end(folder: Path) -> int:
    from surefoot.cli.train import print_result, reference

    if _done(folder):
        from surefoot.curves.read import read_stored
        from surefoot.record.stored import read_run

        summary = store.read_json(folder / store.RESULT)
        print_result(summary, read_stored(read_run(folder)), as_json=False)
        return 0 if summary["outcome"] == "finished" else 1
    print(f"nobody is training {folder} now; go on with: surefoot resume {reference(folder)}", file=sys.stderr)
    return 1


def _done(folder: Path) -> bool:
    """Whether the result is there; that of a search has its decisions, which the final run's does not yet have."""
    with suppress(CheckpointError):
        if (folder / store.RESULT).is_file():
            summary = store.read_json(folder / store.RESULT)
            return not (folder / store.TUNE).is_file() or "decisions" in summary
    return False


def _folder(run: str, runs_dir: Path) -> Path:
    for folder in (Path(run), runs_dir / run):
        if (folder / store.TUNE).is_file():
            return folder
    return store.run_folder(run, runs_dir)
