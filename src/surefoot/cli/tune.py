"""`surefoot tune`: the seven steps of the procedure, from data and model to a trained model."""

from __future__ import annotations

import json as json_
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from surefoot.cli.answer import FAILED
from surefoot.cli.flags import with_settings
from surefoot.cli.report import say_report
from surefoot.cli.searching import SearchDisplay
from surefoot.cli.signals import StopSignals
from surefoot.cli.tables import clean, print_json, print_table
from surefoot.cli.train import Extras, follow, print_result, reference
from surefoot.config import Recipe
from surefoot.errors import ConfigError, nearest
from surefoot.record import store
from surefoot.record.decision import Decision
from surefoot.report.plain import plain_pytorch
from surefoot.settings import flat_settings, from_dict

if TYPE_CHECKING:
    from surefoot.search.search import Search

Switch = Parameter(negative=())


@with_settings
def tune(
    data: str | None = None,
    *,
    budget: str = "2x",
    set: tuple[str, ...] = (),
    force: Annotated[bool, Switch] = False,
    config: Path | None = None,
    name: str | None = None,
    runs_dir: Path = Path("runs"),
    tensorboard: Annotated[bool, Switch] = False,
    no_report: Annotated[bool, Switch] = False,
    json: Annotated[bool, Switch] = False,
    quiet: Annotated[bool, Parameter(alias="-q", negative=())] = False,
    **settings: Any,
) -> int:
    """Choose batch size, learning rate, momentum, weight decay and schedule by measurement, and train with them.

    A setting that you give stays as it is, and is not searched. The same command with the same --name goes on with a
    search that was stopped. Exit code 3: a step fails, and training is not worth it yet.

    Args:
        data: A named set (digits, cifar10), or a folder of images by class, an .npz or a .csv.
        budget: Time for everything (90s, 5m, 1h), or what the search may cost in multiples of the final training (2x).
        set: A setting that stays as it is, as NAME=VALUE; the same as its flag.
        force: Go on after a step that fails.
        config: TOML file of settings to start from; they may be changed by the search.
        name: Name of the run's folder; date, data and model if left out.
        runs_dir: Folder in which runs lie.
        tensorboard: Write TensorBoard event files of the final training too, into the folder tensorboard of the run's.
        no_report: Do not draw report.html into the run's folder at the end, which takes seconds.
        json: Print the result as JSON, with recipe, decisions and cost.
        quiet: Show no progress.
    """
    given = {**settings, **_assigned(set, settings)}
    from surefoot.search.search import open_search
    from surefoot.search.tune import asked_for

    words = {"data": data, "model": given.pop("model", None)}
    start, terms = asked_for(words, given, config, budget, force=force)
    with StopSignals() as signals:
        command = shlex.join(["surefoot", *sys.argv[1:]])
        with open_search(start, terms, name=name, runs_dir=runs_dir, command=command) as search:
            more = Extras(tensorboard=tensorboard)
            return _carried_out(search, signals, more, report=not no_report, as_json=json, quiet=quiet)


def resume(folder: Path, *, as_json: bool, quiet: bool) -> int:
    """Go on with the search, or the final training after it, in a folder."""
    from surefoot.search.search import open_search, read_asked

    start, terms = read_asked(folder)
    with (
        StopSignals() as signals,
        open_search(start, terms, name=folder.name, runs_dir=folder.parent) as search,
    ):
        return _carried_out(search, signals, Extras(), report=True, as_json=as_json, quiet=quiet)


def _assigned(words: tuple[str, ...], flags: dict[str, Any]) -> dict[str, Any]:
    """Return what --set says, read as TOML values, so that numbers are numbers."""
    import tomllib

    known, found = flat_settings(), {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"--set {word}", "a setting is given as NAME=VALUE", f"write --set {name}=VALUE")
        if name not in known:
            raise ConfigError(f"--set {word}: unknown setting '{name}'", "every name must be a known setting",
                              nearest(name, known))  # fmt: skip
        if flags.get(name) is not None:
            raise ConfigError(f"--set {word} and --{name.replace('_', '-')}", "a setting is given once", "drop one")
        try:
            found[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = value  # a word, such as cosine
    return found


def _carried_out(
    search: Search, signals: StopSignals, more: Extras, *, report: bool, as_json: bool, quiet: bool
) -> int:
    folder = search.folder
    assert folder is not None
    if (folder / store.RESULT).is_file() and "decisions" in store.read_json(folder / store.RESULT):
        print(f"{folder} is finished; this is its result", file=sys.stderr)
        summary = store.read_json(folder / store.RESULT)
    else:
        stopped = _searched(search, signals, folder, quiet=quiet)
        if stopped is not None:
            print(f"stopped; go on with: surefoot resume {reference(folder)}", file=sys.stderr)
            return stopped
        if search.recipe is None:
            failed = _say_failed(search, as_json=as_json)
            if report:
                say_report(folder, as_json=as_json, quiet=quiet)
            return failed
        with search.open_final() as run:
            stopped = follow(run, signals, quiet=quiet, more=more)
            if stopped is not None:
                return stopped
            summary = search.complete(run.finish(), run)
    if as_json:
        print(json_.dumps(summary, indent=2))
    else:
        _show(summary)
        curves = Decision.from_dict(summary["decisions"][-1])
        print_result(summary, curves if curves.name == "curves" else None, as_json=False)
    if report:
        say_report(folder, as_json=as_json, quiet=quiet)
    return 0 if summary["outcome"] == "finished" else 1


def _searched(search: Search, signals: StopSignals, folder: Path, *, quiet: bool) -> int | None:
    """Run the search before the user's eyes; return the exit code of a signal that stopped it."""
    signals.patient = True
    with SearchDisplay(folder, str(search.request.terms.budget), quiet=quiet) as display:
        shown, counted = 0, 0
        while not search.done:
            now = search.advance()
            display.show(search.decisions[shown:])
            shown = len(search.decisions)
            results = list(search.journal.history.results.values())
            display.add_trials(result.val_loss for result in results[counted:])
            counted = len(results)
            display.move(now)
            if signals.received is not None and not search.done:
                search.close()  # which saves what is being trained
                return 128 + signals.received
    signals.patient = False
    return None


def _say_failed(search: Search, *, as_json: bool) -> int:
    if as_json:
        print_json({"recipe": None, "decisions": [each.to_dict() for each in search.decisions]})
        return FAILED
    _print_decisions([each.to_dict() for each in search.decisions])
    failed = search.failed
    if failed is not None:
        print(f"\nStep {failed.step}, {failed.name}, fails: {clean(failed.reason)}.")
        if failed.advice:
            print(f"Do: {clean(failed.advice)}.")
    print("Nothing was trained. Mend it and tune again under another name, or go on with --force.")
    return FAILED


def _show(summary: dict[str, Any]) -> None:
    recipe, cost = summary["recipe"], summary["cost"]
    _print_decisions(summary["decisions"])
    length = f"{recipe['epochs']:g} epochs" if "epochs" in recipe else f"{recipe['steps']:,} steps"
    print(
        f"\nChosen: lr {recipe['lr']:g}, momentum {recipe['momentum']:g}, weight decay {recipe['weight_decay']:g}, "
        f"batch {recipe['batch_size']}, {recipe['schedule']['kind']} schedule, {length}"
    )
    print(
        f"Cost of the search: {cost['trainings']:.2f} final trainings, {cost['search_seconds']:.0f} s "
        f"(budget {cost['budget']})"
    )
    for text in summary["unchecked"]:
        print(f"Not checked: {clean(text)}.")
    steps, epochs = summary["steps"], summary["epochs"]
    code = plain_pytorch(from_dict(Recipe, recipe), steps, round(steps / epochs))
    print(f"\nIn plain PyTorch\n{_indented(code)}\n")


def _print_decisions(decisions: list[dict[str, Any]]) -> None:
    made = [Decision.from_dict(each) for each in decisions]
    rows = [(each.step, each.name, each.verdict, f"{each.seconds:.1f} s", each.reason) for each in made]
    print_table(("step", "name", "verdict", "took", "reason"), rows, left=("name", "verdict", "reason"))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.splitlines())
