"""What the commands share that measure before training: check, find-lr, noise, compare.

Each reads settings, measures with its progress on stderr, shows its answer as text or JSON, and ends with an exit code.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from surefoot.cli.display import SearchDisplay
from surefoot.cli.flags import typed_command
from surefoot.cli.tables import clean, print_table
from surefoot.config import Config, Recipe
from surefoot.errors import ConfigError
from surefoot.record import store
from surefoot.record.progress import Progress, finished

if TYPE_CHECKING:
    from surefoot.record.decision import Decision

_T = TypeVar("_T")
FAILED = 3
"""Exit code where a step fails: neither a mistake of usage nor an error, but an answer."""
FORMATS = (".png", ".svg", ".html")
"""Those of `report.look`, which takes half a second to import."""


def exit_code(*decisions: Decision) -> int:
    """Return 3 if any of the decisions is a failure, else 0."""
    return FAILED if any(decision.verdict == "fail" for decision in decisions) else 0


def check_picture(flag: str, path: Path | None) -> None:
    """Find out before anything is measured whether a picture could be written.

    Args:
        flag: by which it was asked for.
        path: of the file; None without one.

    Raises:
        ConfigError: another ending, or a folder that is not there.

    >>> check_picture("plot", Path("rates.jpg"))
    Traceback (most recent call last):
    surefoot.errors.ConfigError: plot = rates.jpg: it must end in .png, .svg, .html. Try --plot rates.png.
    """
    if path is None:
        return
    if path.suffix.lower() not in FORMATS:
        advice = f"try --{flag} {path.with_suffix('.png')}"
        raise ConfigError(f"{flag} = {path}", f"it must end in {', '.join(FORMATS)}", advice)
    if not path.parent.is_dir():
        raise ConfigError(
            f"{flag} = {path}", f"the folder {path.parent} must exist", "make it, or choose another place"
        )


def save_picture(chart: Any, path: Path) -> None:
    """Write the picture, and say so on stderr."""
    from surefoot.report.look import save_chart

    print(f"wrote {save_chart(chart, path)}", file=sys.stderr)


def measured(work: Generator[Progress, None, _T], *, quiet: bool) -> _T:
    """Run a measurement to its end, its progress on stderr, and return what it found."""
    with SearchDisplay(quiet=quiet) as display:
        return finished(work, display.move)


def say_batch(recipe: Recipe, examples: int, usual: int | None = None, *, quiet: bool) -> None:
    """Say on stderr that a batch was fitted to the data, and what it leaves out; arguments as `said_of_batch` has."""
    from surefoot.optim.plan import USUAL_BATCH, said_of_batch

    for text in () if quiet else said_of_batch(recipe, examples, usual or USUAL_BATCH):
        print(f"note: {text}", file=sys.stderr, flush=True)


def new_folder(command: str, config: Config, name: str | None, runs_dir: Path) -> Path:
    """Return where a command may write what it found.

    Args:
        command: ends the name, if none was given.
        config: settings, for its data and model.
        name: of the folder; date, data, model and command if None.
        runs_dir: where it lies.

    Raises:
        ConfigError: a folder of that name is there.
    """
    if name is None:
        moment = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{command}"
        return runs_dir / store.new_name(config.data, config.model, runs_dir, moment)
    folder = runs_dir / store.check_name(name)
    if folder.exists():
        raise ConfigError(f"name = {name}", f"{folder} is there already", "choose another name, or remove it")
    return folder


def make_folder(folder: Path) -> None:
    """Make it, with the command in it."""
    folder.mkdir(parents=True)
    store.write_bytes(folder / store.COMMAND, (typed_command() + "\n").encode())


def print_decisions(decisions: Sequence[Decision]) -> None:
    """Print a line for each decision."""
    rows = [(made.step, made.name, made.verdict, f"{made.seconds:.1f} s", made.reason) for made in decisions]
    print_table(("step", "name", "verdict", "took", "reason"), rows, left=("name", "verdict", "reason"))


def print_doubts(decisions: Iterable[Decision]) -> None:
    """Print what did not pass in the decisions, each with its reason and what to do."""
    for decision in decisions:
        for finding in decision.findings:
            if finding.verdict != "pass":
                print(f"\n{decision.name}, {finding.name}: {finding.verdict}\n  {clean(finding.reason)}")
                if finding.advice is not None:
                    print(f"  do: {clean(finding.advice)}")


def print_findings(decision: Decision, notes: Iterable[str] = ()) -> None:
    """Print what did not pass, unless the decision's reason says so already, and its advice.

    Args:
        decision: to show.
        notes: names of findings that are said though they pass.
    """
    for finding in decision.findings:
        if (finding.verdict != "pass" or finding.name in notes) and finding.reason != decision.reason:
            word = "note" if finding.verdict == "pass" else finding.verdict
            print(f"{word}: {sentence(finding.reason)} {sentence(finding.advice or '')}".rstrip())
    print(sentence(decision.advice or ""))


def sentence(text: str) -> str:
    """Return a phrase as a sentence.

    >>> sentence("the loss drops")
    'The loss drops.'
    """
    return f"{text[:1].upper()}{text[1:]}." if text else ""
