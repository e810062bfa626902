"""`surefoot noise`: how noisy the gradient is, what each batch size costs, and which one is predicted to be first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from surefoot.cli.flags import OF_A_RUN, ConfigFile, Data, Quiet, Settings, Switch, of_schedule, with_settings
from surefoot.cli.probe import exit_code, make_folder, measured, new_folder, print_findings, say_batch, sentence
from surefoot.cli.process import loading
from surefoot.cli.report import say_report
from surefoot.cli.tables import clean, number, print_json, print_table, say_notes
from surefoot.record import store
from surefoot.record.lines import append_lines, plain

if TYPE_CHECKING:
    from surefoot.record.decision import Decision


@with_settings
def noise(
    data: Data = None,
    *,
    sizes: Annotated[list[int] | None, Parameter(consume_multiple=True, negative=())] = None,
    probe_steps: int = 200,
    points: int = 5,
    micro_batches: int = 32,
    micro_batch_examples: int = 64,
    no_report: Switch = False,
    name: str | None = None,
    runs_dir: Path = Path("runs"),
    config: ConfigFile = None,
    json: Switch = False,
    quiet: Quiet = False,
    **settings: Any,
) -> int:
    """Measure gradient noise and throughput, predict the time to a loss at each batch size, and suggest one.

    It takes the flags of `surefoot train`, save those of length and schedule; --lr and --batch-size are those of a
    short run along which noise is measured, so the rate should be one that trains. The decision is kept in a folder,
    with its report. Exit code 3: it diverges.

    Args:
        sizes: Batch sizes to compare; powers of two up to where memory, data or throughput end if left out.
        probe_steps: Updates of the short run.
        points: Times at which noise is measured along it.
        micro_batches: Independent ones of each measurement, at least 8.
        micro_batch_examples: Examples in each; more narrow the intervals, and with batch norm it is what is measured.
        no_report: Do not draw report.html into the folder at the end, which takes seconds.
        name: Name of the folder; date, data and model if left out.
        runs_dir: Folder in which it is made.
        json: Print the decision as JSON, with all measurements, per layer too.
    """
    typed = Settings.read({"data": data, **settings}, config)
    length = ("epochs", "steps", *(of_schedule() - {"preset"}))  # which says the rule, too
    typed.refuse("noise", dict.fromkeys(length, "the short run has --probe-steps updates at a constant rate"))
    with loading():
        from surefoot.steps.batch_size.choose import choosing_batch_size
        from surefoot.steps.batch_size.measure import BatchSizeSearch
        from surefoot.training.configure import Objects, make_task, recipe_for, resolve

    search = BatchSizeSearch(
        sizes=None if sizes is None else tuple(sizes), probe_steps=probe_steps, points=points,
        micro_batches=micro_batches, micro_batch_examples=micro_batch_examples,
    )  # fmt: skip
    chosen = resolve(typed.nested, runs_dir=runs_dir)
    typed.say_unused("noise", (*length, *OF_A_RUN))
    folder = new_folder("noise", chosen, name, runs_dir)
    task = make_task(chosen, Objects())
    say_notes(task.data.notes, quiet=quiet)
    say_batch(chosen.recipe, task.data.examples, quiet=quiet)
    decision = measured(choosing_batch_size(task, recipe_for(chosen, task.data), search), quiet=quiet)
    make_folder(folder)  # as a search of one step leaves it
    append_lines(folder / store.DECISIONS, [plain(decision.to_dict())])
    if json:
        print_json(decision.to_dict() | {"folder": str(folder)})
    else:
        start = ["find-lr", chosen.data, "--model", chosen.model]
        _show(decision, typed.command(start, without=("lr", "batch_size")))
    if not no_report:
        say_report(folder, as_json=json, quiet=quiet)
    return exit_code(decision)


def _show(decision: Decision, command: str) -> None:
    evidence, value = decision.to_dict()["evidence"], decision.value
    if value is not None:
        print(f"To a training loss of {evidence['target_loss']:.4g}, which {evidence['steps']} steps of "
              f"{evidence['batch_size']} at rate {evidence['lr']:.2g} reach:\n")  # fmt: skip
        print_table(
            ("batch", "examples/s", "ms a step", "steps", "seconds", "95 % interval", ""),
            [_size(size, value["batch_size"]) for size in evidence["sizes"]], left=("",),
        )  # fmt: skip
        print(f"\nThe sizes end there: {evidence['sizes_end']}.\n")
        print_table(
            ("after", "loss", "noise scale", "95 % interval", f"signal/noise at {evidence['batch_size']}",
             "||grad F||^2", "tr(Sigma)"),
            [_point(noise) for noise in evidence["noise"]],
        )  # fmt: skip
        print(f"\nSuggested: {clean(decision.reason)}.")
    else:
        print(sentence(decision.reason))
    print_findings(decision, notes=("batch-norm", "noise-along"))
    if value is not None:
        print(f"\nFind its rate with\n  {command} --batch-size {value['batch_size']}")
        print("Noise per layer is in --json.")


def _size(size: dict[str, Any], chosen: int) -> tuple[object, ...]:
    times = sorted(size["step_seconds"])
    value, low, high = size["seconds"]
    return (
        size["batch_size"], f"{size['examples_per_second']:,.0f}", number(1e3 * times[len(times) // 2], ".3g"),
        number(size["steps"][0], ",.0f"), number(value, ".3g"), f"{low:.3g} to {high:.3g}",
        "<- first" if size["batch_size"] == chosen else "",
    )  # fmt: skip


def _point(noise: dict[str, Any]) -> tuple[object, ...]:
    total = noise["total"]
    value, low, high = total["noise_scale"]
    return (
        noise["step"], number(noise["loss"], ".4g"), "open" if value is None else f"{value:.3g}",
        f"{low:.3g} to {'open' if high is None else f'{high:.3g}'}" if low is not None else None,
        number(total["signal_to_noise"][0], ".2g"), number(total["grad_norm_sq"][0], ".3g"),
        number(total["trace"][0], ".3g"),
    )  # fmt: skip
