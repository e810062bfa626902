"""`surefoot train` and `surefoot resume`."""

from __future__ import annotations

import sys
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.cli.app import StopSignals
from surefoot.cli.display import TrainingDisplay
from surefoot.cli.flags import (
    ConfigFile,
    Data,
    Quiet,
    RunsDir,
    Settings,
    Switch,
    reference,
    typed_command,
    with_settings,
)
from surefoot.cli.process import loading, report_ahead
from surefoot.cli.report import REPORT, say_report
from surefoot.cli.tables import chosen_by_it, clean, counted, loss_text, metrics_text, print_entries, print_json, said
from surefoot.config import Config, Recipe, is_path
from surefoot.errors import CheckpointError
from surefoot.integrations.tensorboard import EVENTS, Events
from surefoot.record import store
from surefoot.record.figures import reached_text
from surefoot.record.intervals import wilson
from surefoot.record.lock import is_held
from surefoot.record.noise import NOISE
from surefoot.record.stored import IN_MEMORY, run_folders
from surefoot.record.test_time import words_of
from surefoot.rules.groups import texts_of

if TYPE_CHECKING:
    from surefoot.record.decision import Decision
    from surefoot.report.ahead import Drawer
    from surefoot.steps.batch_size.along_run import NoiseLog
    from surefoot.training.configure import Objects
    from surefoot.training.run import Run
    from surefoot.training.task import Task

_SHOWN = {
    "outcome", "reason", "test_accuracy", "test_loss", "test_examples", "val_accuracy", "val_loss", "epochs", "steps",
    "train_seconds", "folder",
}  # fmt: skip
"""What is read from a finished run's result."""
_SHOWN_CLASSES = 10
"""Most classes whose weights are printed, about a line. Chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a run writes and shows beside its record.

    Attributes:
        report: draw its report at the end.
        as_json: give the result as JSON on stdout.
        quiet: show no progress.
        measure_noise: measure gradient noise along it. A run that was begun so goes on so, without being told.
        tensorboard: write TensorBoard event files. A run that was begun so goes on so.
        drawer: who draws the report; None: this process does.
    """

    report: bool = True
    as_json: bool = False
    quiet: bool = False
    measure_noise: bool = False
    tensorboard: bool = False
    drawer: Drawer | None = None


@with_settings
def train(
    data: Data = None,
    *,
    config: ConfigFile = None,
    name: str | None = None,
    runs_dir: RunsDir = Path("runs"),
    measure_noise: Switch = False,
    tensorboard: Switch = False,
    no_report: Switch = False,
    json: Switch = False,
    quiet: Quiet = False,
    **settings: Any,
) -> int:
    """Train a model by SGD.

    The same command with the same --name goes on with an unfinished run and prints the result of a finished one.

    Args:
        name: Name of the run's folder; date, data and model if left out.
        measure_noise: Measure gradient noise along the run, into its noise.jsonl; the run stays the same, bit for bit.
        tensorboard: Write TensorBoard event files too, into the folder tensorboard of the run's.
        no_report: Do not draw report.html into the run's folder at the end, which takes seconds.
        json: Print the result as JSON.
    """
    typed = Settings.read({"data": data, **settings}, config)
    with report_ahead(not no_report) as drawer:
        with loading():
            from surefoot.training.configure import resolve
            from surefoot.training.open import open_run  # noqa: F401  # which `_train` uses
        output = Output(
            report=not no_report, as_json=json, quiet=quiet, measure_noise=measure_noise, tensorboard=tensorboard,
            drawer=drawer,
        )  # fmt: skip
        return _train(resolve(typed.nested, runs_dir=runs_dir), name, runs_dir, output)


def resume(
    run: str | None = None,
    *,
    data: Path | None = None,
    runs_dir: RunsDir = Path("runs"),
    json: Switch = False,
    quiet: Quiet = False,
) -> int:
    """Go on with an unfinished run from its newest checkpoint, bit for bit.

    Args:
        run: Name of the run, or its folder; the newest that is not finished if left out.
        data: Where its data lies now, if it was moved.
        json: Print the result as JSON.
    """
    folder = store.run_folder(_unfinished(runs_dir) if run is None else run, runs_dir, searches=True)
    folder = folder if folder.name else folder.resolve()  # "." has no name
    with report_ahead(wanted=True) as drawer:
        output = Output(as_json=json, quiet=quiet, drawer=drawer)
        if (folder / store.TUNE).is_file():
            from surefoot.cli.tune import resume as resume_search

            return resume_search(folder, output, data)
        with loading():
            from surefoot.training.configure import Objects
            from surefoot.training.open import read_config
        return _train(read_config(folder), folder.name, folder.parent, output, Objects(data=data))


def _unfinished(runs_dir: Path) -> Path:
    """Return the folder of the newest run or search that is not done and that nobody works on."""
    searches = (path.parent for path in runs_dir.glob(f"*/{store.TUNE}"))
    there = {folder for folder in (*run_folders(runs_dir), *searches) if not (folder / store.RESULT).is_file()}
    newest = sorted(there, key=lambda folder: (folder.stat().st_mtime, folder.name), reverse=True)
    found = next((folder for folder in newest if not is_held(folder)), None)
    if found is None:
        held = f", and {len(newest)} in work" if newest else ""
        raise CheckpointError(
            f"no unfinished run under {runs_dir}{held}", "resume goes on with a run that was stopped",
            "list the runs with surefoot show, or start one with surefoot train",
        )  # fmt: skip
    return found


def _train(config: Config, name: str | None, runs_dir: Path, output: Output, resumed: Objects | None = None) -> int:
    """Train a run; `resumed` has the place of the data of one that goes on, where it was moved."""
    if name is not None and (runs_dir / store.check_name(name) / store.RESULT).is_file():
        return _finished(config, runs_dir / name, as_json=output.as_json, resumed=resumed)
    from surefoot.training.open import open_run

    opened = open_run(
        config, name=name, runs_dir=runs_dir, objects=resumed, command=typed_command(), resumed=resumed is not None
    )
    with StopSignals() as signals, opened as run:
        stopped = follow(run, signals, output)
        if stopped is not None:
            return stopped
        result = run.finish()
    if output.drawer is not None:
        output.drawer.ask(result.folder, result.folder / REPORT)
    from surefoot.curves.advice import judge_run

    said_of_it = judge_run(result.record.rows, result.record.outcome, result.config, result.summary)
    print_result(result.summary, said_of_it, as_json=output.as_json)
    if output.report:
        say_report(result.folder, as_json=output.as_json, quiet=output.quiet, drawer=output.drawer)
    return 0 if result.record.outcome.kind == "finished" else 1


def follow(run: Run, signals: StopSignals, output: Output, told: Collection[str] = ()) -> int | None:
    """Train a run to the end of its steps and show how it goes; return the exit code of a signal that stopped it.

    Notes that were told before are not told again.
    """
    with TrainingDisplay(run.plan.steps, quiet=output.quiet) as display, _events(run, output) as events:
        said = len(run.notes)
        for note in (note for note in run.notes if note not in told):
            display.say(f"note: {clean(note)}")
        display.say(_introduction(run))
        noise = _noise_log(run, display) if output.measure_noise or (run.folder / NOISE).is_file() else None
        display.show_rows(run.rows)
        signals.patient = True
        while not run.done and signals.received is None:
            if noise is not None:
                noise.measure_if_due()
            rows = run.advance()
            for note in run.notes[said:]:
                display.say(f"note: {clean(note)}")
            said = len(run.notes)
            display.show_rows(rows)
            display.move(run.now)
            if events is not None:
                events.add(rows)
        if run.done and noise is not None:
            noise.measure_if_due()
        if signals.received is None:
            signals.patient, signals.trained = False, True  # what is left writes files, and can be done again
            return None
        run.save()
        display.say(f"stopped at step {run.state.step} of {run.plan.steps}, and saved")
        display.say(f"go on with: surefoot resume {reference(run.folder)}")
        return 128 + signals.received


def _events(run: Run, output: Output) -> AbstractContextManager[Events | None]:
    """Return where rows go for TensorBoard, if they do; with those that the run has already."""
    if not (output.tensorboard or (run.folder / EVENTS).is_dir()):
        return nullcontext()
    fresh = not (run.folder / EVENTS).is_dir()
    events = Events(run.folder, after_step=run.state.step)
    if fresh:
        events.add(run.rows)
    return events


def _noise_log(run: Run, display: TrainingDisplay) -> NoiseLog:
    """Return the log of gradient noise, after saying how often it is measured."""
    from surefoot.steps.batch_size.along_run import SHARE, NoiseLog

    log = NoiseLog.of(run)
    if log.due:
        what = f"measured at {len(log.due)} rows, for about {SHARE:.1%} of the work, into {NOISE}"
    else:
        what = f"never measured: {SHARE:.1%} of this run's work is too little; surefoot noise measures at once"
    display.say(f"noise    {what}")
    return log


def _finished(config: Config, folder: Path, *, as_json: bool, resumed: Objects | None) -> int:
    from surefoot.curves.advice import read_stored
    from surefoot.record.stored import read_run
    from surefoot.training.configure import Objects, data_of, make_task
    from surefoot.training.open import agreed_config, check_data, check_identity

    config = agreed_config(config, folder)
    if resumed is None and Path(config.data).expanduser().exists():  # the user's, and may be other data now
        check_data(folder, data_of(config))
    if any(map(is_path, (config.model, config.loss, config.forward, config.loss_fn))):  # so may be the code of these
        check_identity(folder, make_task(config, resumed or Objects(), folder if resumed is not None else None))
    summary = store.read_sealed(folder / store.RESULT)
    lacking = _SHOWN - (summary.keys() if isinstance(summary, dict) else set())
    if lacking:
        raise CheckpointError(
            f"{folder / store.RESULT} lacks {', '.join(sorted(lacking))}",
            "it must be as the run wrote it",
            "restore it from a copy, or remove it: the same command then writes it again",
        )
    print(f"{folder} is finished; this is its result of {store.finished_at(folder)}", file=sys.stderr)
    print_result(summary, read_stored(read_run(folder)), as_json=as_json)
    return 0 if summary["outcome"] == "finished" else 1


def _introduction(run: Run) -> str:
    data, recipe, plan = run.task.data, run.config.recipe, run.plan
    parameters = sum(parameter.numel() for parameter in run.state.model.parameters())
    parts = ", ".join(
        f"{len(part.y):,} {name}"
        for name, part in (("training", data.train), ("validation", data.validation), ("test", data.test))
        if part is not None
    )
    place = run.task.machine
    in_memory = IN_MEMORY in (run.config.data, run.config.model)
    again = "" if in_memory or run.done else f"; if it is stopped: surefoot resume {reference(run.folder)}"
    return (
        f"run      {run.folder}{again}\n"
        f"data     {data.name}: {parts} examples\n"
        f"model    {run.config.model}, {parameters:,} parameters\n"
        f"recipe   {_of_rule(recipe, plan.batch_size)}, {recipe.schedule.kind} schedule\n"
        f"{_weights(run.task)}"
        f"{_groups(run)}"
        f"length   {plan.steps / plan.steps_per_epoch:g} epochs, {plan.steps:,} steps\n"
        f"machine  {place.device}, {place.precision}, {counted(place.threads, 'thread')}, seed {run.config.seed}"
    )


def _weights(task: Task) -> str:
    """The weights of the classes in the training loss, as a line; nothing where all are 1."""
    if task.class_weights is None or task.data.classes is None:
        return ""
    pairs = list(zip(task.data.classes, task.class_weights.tolist(), strict=True))
    more = f" and {len(pairs) - _SHOWN_CLASSES} more" if len(pairs) > _SHOWN_CLASSES else ""
    return f"weights  {', '.join(f'{clean(name)} {weight:.3g}' for name, weight in pairs[:_SHOWN_CLASSES])}{more}\n"


def _groups(run: Run) -> str:
    """The groups of parameters, as a line; nothing without any."""
    groups = run.config.recipe.groups
    if not groups:
        return ""
    trained = sum(parameter.numel() for parameter in run.state.model.parameters() if parameter.requires_grad)
    return f"groups   {clean(', '.join(texts_of(groups)))}: {trained:,} parameters are trained\n"


def _of_rule(recipe: Recipe, batch_size: int) -> str:
    """What decides a step: for SGD with the forms of its terms."""
    if recipe.rule == "sgd":
        return (
            f"lr {recipe.lr:g}, batch {batch_size}, momentum {recipe.momentum:g} ({recipe.momentum_form}), "
            f"weight decay {recipe.weight_decay:g} ({recipe.weight_decay_form})"
        )
    others = {name: value for name, value in recipe.rule_values.items() if name != "lr"}
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in others.items())
    return f"{recipe.rule}, lr {recipe.lr:g}, batch {batch_size}, {settings}"


def print_result(summary: dict[str, Any], curves: Decision | None = None, *, as_json: bool) -> None:
    """Show the result of a run that is done, and what its curves say."""
    from surefoot.cli.show import next_steps
    from surefoot.record.stored import read_run

    if as_json:
        print_json(summary if curves is None else summary | {"curves": curves.to_dict()})
        return
    lines = [("outcome", f"{summary['outcome']}: {summary['reason']}")]
    if summary["test_accuracy"] is not None:
        count = summary["test_examples"]
        low, high = wilson(round(summary["test_accuracy"] * count), count)
        accuracy = f"{summary['test_accuracy']:.2%} accuracy (95 % interval {low:.2%} to {high:.2%})"
        lines.append(("test", f"{accuracy}, loss {_loss(summary['test_loss'])}, {count:,} examples"))
    elif summary["test_loss"] is not None:
        lines.append(("test", f"loss {_loss(summary['test_loss'])}, {summary['test_examples']:,} examples"))
    if (text := metrics_text(summary["test_metrics"])) is not None:
        lines.append(("", f"{text}, of the test part"))
    if (text := words_of(summary)) is not None:
        lines.append(("", text))
    chosen_on = chosen_by_it(summary)
    if summary["val_accuracy"] is not None:
        accuracy = f"{summary['val_accuracy']:.2%} accuracy, loss {_loss(summary['val_loss'])}"
        lines.append(("validation", f"{accuracy}{chosen_on}"))
    elif summary["val_loss"] is not None:
        lines.append(("validation", f"loss {_loss(summary['val_loss'])}{chosen_on}"))
    if (text := metrics_text(summary["val_metrics"])) is not None:
        lines.append(("", f"{text}, of the validation part"))
    lines.append(
        ("training", f"{summary['epochs']:g} epochs, {summary['steps']:,} steps in {summary['train_seconds']:.1f} s")
    )
    if (text := reached_text(summary.get("reached"))) is not None:
        lines.append(("", text))
    lines += [("curves", clean(text)) for text in said(curves)]
    lines += [("weights", text) for text in weights_text(summary)]
    here = reference(Path(summary["folder"]))
    if summary["outcome"] == "finished":
        lines.append(("next", f"surefoot show {here}   surefoot evaluate {here}   surefoot predict {here} FILE..."))
    else:  # nobody is sent to use weights that went wrong
        lines += [("next", clean(text)) for text in next_steps(read_run(Path(summary["folder"])))]
    print_entries(lines, 11)


def weights_text(result: dict[str, Any]) -> list[str]:
    """Return where a run's weights lie, of which step they are, and what the best of them were."""
    folder, used, best = Path(result["folder"]), result.get("weights"), result.get("best")
    if used is None or best is None:
        return [str(folder / store.WEIGHTS)]
    value = f"{best['metric']} {best['value']:.4g}, of step {best['step']:,}"
    if best["step"] == result["weights_from_step"]:
        beside = [f"{folder / 'last.safetensors'}, of the last step, {result['steps']:,}; --weights last uses them"]
        return [f"{folder / store.WEIGHTS}, the best by {value}", *(beside if best["step"] < result["steps"] else [])]
    other = folder / "best.safetensors"
    return [
        f"{folder / store.WEIGHTS}, of the last step, {result['weights_from_step']:,}",
        f"{other}, the best by {value}; --weights best uses them",
    ]


def _loss(value: float | None) -> str:
    return loss_text(value) or "not finite"
