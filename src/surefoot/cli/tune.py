"""`surefoot tune`: the seven steps of the procedure, from data and model to a trained model."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.cli.app import StopSignals
from surefoot.cli.display import SearchDisplay
from surefoot.cli.flags import Data, Quiet, RunsDir, Switch, reference, typed_command, with_settings
from surefoot.cli.probe import FAILED, print_decisions, print_doubts
from surefoot.cli.process import loading, report_ahead
from surefoot.cli.report import REPORT, say_report
from surefoot.cli.tables import clean, print_json
from surefoot.cli.train import Output, follow, print_result
from surefoot.config import Config, Recipe
from surefoot.record import store
from surefoot.record.decision import Decision
from surefoot.record.stored import read_config
from surefoot.report.loss_code import Calls
from surefoot.report.pytorch_code import program_of
from surefoot.settings import from_dict

if TYPE_CHECKING:
    from surefoot.search.search import Search


@with_settings
def tune(
    data: Data = None,
    *,
    budget: str = "2x",
    force: Switch = False,
    config: Path | None = None,
    name: str | None = None,
    runs_dir: RunsDir = Path("runs"),
    tensorboard: Switch = False,
    no_report: Switch = False,
    json: Switch = False,
    quiet: Quiet = False,
    **settings: Any,
) -> int:
    """Choose batch size, learning rate, momentum, weight decay and schedule by measurement, and train with them.

    A setting that you give stays as it is, and is not searched. The same command with the same --name goes on with a
    search that was stopped. Exit code 3: a step fails, and training is not worth it yet.

    Args:
        budget: Time for everything (90s, 5m, 1h), or what the search may cost in multiples of the final training (2x).
        force: Go on after a step that fails.
        config: TOML file of settings to start from; a search of them may change them, and nothing else does.
        name: Name of the run's folder; date, data and model if left out.
        tensorboard: Write TensorBoard event files of the final training too, into the folder tensorboard of the run's.
        no_report: Do not draw report.html into the run's folder at the end, which takes seconds.
        json: Print the result as JSON, with recipe, decisions and cost.
    """
    with report_ahead(not no_report) as drawer:
        with loading():
            from surefoot.search.search import open_search
            from surefoot.search.tune import asked_for
        words = {"data": data, "model": settings.pop("model", None)}
        start, terms = asked_for(words, settings, config, budget, force=force, runs_dir=runs_dir)
        output = Output(report=not no_report, as_json=json, quiet=quiet, tensorboard=tensorboard, drawer=drawer)
        with (
            StopSignals() as signals,
            open_search(start, terms, name=name, runs_dir=runs_dir, command=typed_command()) as search,
        ):
            return _carried_out(search, signals, output)


def resume(folder: Path, output: Output, data: Path | None = None) -> int:
    """Go on with the search, or the final training after it, in a folder; `data` is where its data was moved to."""
    with loading():
        from surefoot.search.search import open_search, read_asked
        from surefoot.training.configure import Objects
    start, terms = read_asked(folder)
    opened = open_search(
        start, terms, name=folder.name, runs_dir=folder.parent, objects=Objects(data=data), resumed=True
    )
    with StopSignals() as signals, opened as search:
        return _carried_out(search, signals, output)


def _carried_out(search: Search, signals: StopSignals, output: Output) -> int:
    folder = search.folder
    assert folder is not None
    if (folder / store.RESULT).is_file() and "decisions" in store.read_sealed(folder / store.RESULT):
        print(f"{folder} is finished; this is its result of {store.finished_at(folder)}", file=sys.stderr)
        summary = store.read_sealed(folder / store.RESULT)
    else:
        stopped = _searched(search, signals, folder, quiet=output.quiet)
        if stopped is not None:
            print(f"stopped; go on with: surefoot resume {reference(folder)}", file=sys.stderr)
            return stopped
        if search.recipe is None:
            _show_failed(search, as_json=output.as_json)
            if output.report:
                say_report(folder, as_json=output.as_json, quiet=output.quiet)
            return FAILED
        with search.open_final() as run:
            stopped = follow(run, signals, output, (*search.executor.task.data.notes, *search.notes))
            if stopped is not None:
                return stopped
            summary = search.complete(run.finish(), run)
    if output.drawer is not None:
        output.drawer.ask(folder, folder / REPORT)
    if output.as_json:
        print_json(summary)
    else:
        _show(summary, search.config)
    if output.report:
        say_report(folder, as_json=output.as_json, quiet=output.quiet, drawer=output.drawer)
    return 0 if summary["outcome"] == "finished" else 1


def _searched(search: Search, signals: StopSignals, folder: Path, *, quiet: bool) -> int | None:
    """Run the search before the user's eyes; return the exit code of a signal that stopped it."""
    signals.patient = True
    with SearchDisplay(quiet=quiet) as display:
        for note in search.executor.task.data.notes:
            display.say(f"note: {clean(note)}")
        display.say(f"search   {folder}, budget {search.request.terms.budget}")
        for note in search.notes:
            display.say(f"note: {note}")
        shown = 0
        while not search.done:
            now = search.advance()
            display.show(search.decisions[shown:])
            shown = len(search.decisions)
            display.move(now)
            if signals.received is not None and not search.done:
                search.close()  # which saves what is being trained
                return 128 + signals.received
    signals.patient = False
    return None


def _show_failed(search: Search, *, as_json: bool) -> None:
    if as_json:
        print_json({"recipe": None, "decisions": [made.to_dict() for made in search.decisions]})
        return
    print_decisions(search.decisions)
    failed = search.failed
    if failed is not None:
        print(f"\nStep {failed.step}, {failed.name}, fails: {clean(failed.reason)}.")
        if failed.advice:
            print(f"Do: {clean(failed.advice)}.")
    print("Nothing was trained. Mend it and tune again under another name, or go on with --force.")


def _show(summary: dict[str, Any], config: Config) -> None:
    recipe, cost = summary["recipe"], summary["cost"]
    decisions = [Decision.from_dict(made) for made in summary["decisions"]]
    print_decisions(decisions)
    print_doubts(made for made in decisions if made.name != "curves")  # its own are below, with the result
    length = f"{recipe['epochs']:g} epochs" if "epochs" in recipe else f"{recipe['steps']:,} steps"
    chosen = from_dict(Recipe, recipe)
    print(
        f"\nChosen: {'' if chosen.rule == 'sgd' else chosen.rule + ', '}lr {chosen.lr:g}, {chosen.update_rule.memory} "
        f"{chosen.memory:g}, weight decay {chosen.weight_decay:g}, batch {chosen.batch_size}, {chosen.schedule.kind} "
        f"schedule, {length}"
    )
    searched = summary.get("searched", [])
    moved = "weight_decay" not in searched and chosen.weight_decay != config.recipe.weight_decay
    how = "fits the number of examples" if config.recipe.weight_decay == "auto" else "follows the rate"
    follows = f"weight decay {how}; " if moved else ""
    print(f"Searched: {', '.join(searched) or 'nothing'}; {follows}all else is as given, or a default")
    print(
        f"Cost of the search: {cost['trainings']:.2f} final trainings, {cost['search_seconds']:.0f} s "
        f"(budget {cost['budget']})"
    )
    for text in summary["unchecked"]:
        print(f"Not checked: {clean(text)}.")
    steps, epochs = summary["steps"], summary["epochs"]
    folder = Path(summary["folder"])
    config = read_config(folder)
    calls = Calls.of(store.read_sealed(folder / store.ENVIRONMENT), config.target)
    code = program_of(config, chosen, round(steps / epochs), calls)
    print(f"\nIn plain PyTorch\n{textwrap.indent(code, '  ')}")
    print_result(summary, decisions[-1] if decisions[-1].name == "curves" else None, as_json=False)
