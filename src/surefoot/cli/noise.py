"""`surefoot noise`: how noisy the gradient is, what each batch size costs, and which one is predicted to be first."""

from __future__ import annotations

import datetime
import json as jsons
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from surefoot.cli.answer import check_plot, exit_code
from surefoot.cli.flags import with_settings
from surefoot.cli.report import say_report
from surefoot.cli.tables import clean, number, print_json, print_table
from surefoot.config import Config
from surefoot.errors import ConfigError
from surefoot.record import store
from surefoot.record.lines import plain
from surefoot.settings import flat_settings, merged, nested, read_toml

if TYPE_CHECKING:
    from surefoot.record.decision import Decision

_SAY_SECONDS = 1.0
"""Between two lines of progress. Chosen by hand."""


@with_settings
def noise(
    data: str | None = None,
    *,
    sizes: Annotated[list[int] | None, Parameter(consume_multiple=True, negative=())] = None,
    probe_steps: int = 200,
    points: int = 5,
    groups: int = 32,
    group_size: int = 64,
    plot: Path | None = None,
    no_report: Annotated[bool, Parameter(negative=())] = False,
    name: str | None = None,
    runs_dir: Path = Path("runs"),
    config: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(alias="-q", negative=())] = False,
    **settings: Any,
) -> int:
    """Measure gradient noise and throughput, predict the time to a loss at each batch size, and suggest one.

    It takes the flags of `surefoot train`, save those of length and schedule; --lr and --batch-size are those of a
    short run along which noise is measured, so the rate should be one that trains. The decision is kept in a folder,
    with its report. Exit code 3: it diverges.

    Args:
        data: A named set (digits, cifar10), or a folder of images by class, an .npz or a .csv.
        sizes: Batch sizes to compare; powers of two up to where memory, data or throughput end if left out.
        probe_steps: Updates of the short run.
        points: Times at which noise is measured along it.
        groups: Independent micro-batches of each measurement, at least 8.
        group_size: Examples in each micro-batch; more narrow the intervals, and with batch norm it is what is measured.
        plot: Draw the measurements into this file, .png, .svg or .html.
        no_report: Do not draw report.html into the folder at the end, which takes seconds.
        name: Name of the folder; date, data and model if left out.
        runs_dir: Folder in which it is made.
        config: TOML file of settings; flags go before it.
        json: Print the decision as JSON, with all measurements, per layer too.
        quiet: Show no progress.
    """
    _refuse_unused(settings)
    check_plot(plot)
    file = read_toml(config) if config else {}
    from surefoot.steps.batch_size.choose import BatchSizeSearch
    from surefoot.training.open import resolve

    search = BatchSizeSearch(
        sizes=None if sizes is None else tuple(sizes), probe_steps=probe_steps, points=points, groups=groups,
        group_size=group_size,
    )  # fmt: skip
    chosen = resolve(merged(file, nested({"data": data, **settings})))
    folder = _folder(chosen, name, runs_dir)
    decision = _measured(chosen, search, quiet=quiet)
    _write(decision, folder)
    if plot is not None:
        if decision.value is None:
            print("nothing to draw", file=sys.stderr)
            plot = None
        else:
            from surefoot.report.charts import save_chart
            from surefoot.report.noise import noise_chart

            save_chart(noise_chart(decision.to_dict()), plot)
            print(f"wrote {plot}", file=sys.stderr)
    if json:
        print_json(decision.to_dict() | {"folder": str(folder), "picture": None if plot is None else str(plot)})
    else:
        _show(decision.to_dict(), _next_command(chosen, settings, config), plot)
    if not no_report:
        say_report(folder, as_json=json, quiet=quiet)
    return exit_code(decision)


def _folder(config: Config, name: str | None, runs_dir: Path) -> Path:
    if name is None:
        moment = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-noise"
        return runs_dir / store.new_name(config.data, config.model, runs_dir, moment)
    folder = runs_dir / store.check_name(name)
    if folder.exists():
        raise ConfigError(f"name = {name}", f"{folder} is there already", "choose another name, or remove it")
    return folder


def _write(decision: Decision, folder: Path) -> None:
    """Write the folder: the decision as a search of one step leaves it, and the command."""
    folder.mkdir(parents=True)
    store.write_bytes(folder / store.DECISIONS, (jsons.dumps(plain(decision.to_dict())) + "\n").encode())
    store.write_bytes(folder / store.COMMAND, (shlex.join(["surefoot", *sys.argv[1:]]) + "\n").encode())


def _refuse_unused(settings: dict[str, Any]) -> None:
    known = flat_settings()
    for name, value in settings.items():
        if value is not None and (name in ("epochs", "steps") or known[name].path[:2] == ("recipe", "schedule")):
            raise ConfigError(
                f"--{name.replace('_', '-')} with noise", "the short run has --probe-steps updates at a constant rate",
                "leave it out",
            )  # fmt: skip


def _measured(config: Config, search: Any, *, quiet: bool) -> Decision:
    from surefoot.data.load import load
    from surefoot.steps.batch_size.choose import choosing_batch_size
    from surefoot.training.task import task

    data = load(
        config.data, data_dir=config.data_dir, validation=config.validation, seed=config.seed,
        image_size=config.image_size, label=config.label, target=config.target,
    )  # fmt: skip
    work = task(
        data, config.model, augment=config.augment, seed=config.seed, device=config.device,
        precision=config.precision, threads=config.threads,
    )  # fmt: skip
    measuring, said = choosing_batch_size(work, config.recipe, search), 0.0
    while True:
        try:
            seen = next(measuring)
        except StopIteration as end:
            return end.value
        if not quiet and time.monotonic() - said > _SAY_SECONDS:
            said = time.monotonic()
            print(f"{seen.steps_done:>7,} of {seen.steps_planned:,} steps  {seen.doing}", file=sys.stderr, flush=True)


def _show(decision: dict[str, Any], command: str, plot: Path | None) -> None:
    evidence, value = decision["evidence"], decision["value"]
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
        print(f"\nSuggested: {clean(decision['reason'])}.")
    else:
        print(_sentence(decision["reason"]))
    for finding in decision["findings"]:
        said = finding["verdict"] != "pass" or finding["name"] in ("batch-norm", "noise-along")
        if said and finding["reason"] != decision["reason"]:
            word = "note" if finding["verdict"] == "pass" else finding["verdict"]
            print(f"{word}: {_sentence(finding['reason'])} {_sentence(finding['advice'] or '')}".rstrip())
    print(_sentence(decision["advice"] or ""))
    if value is not None:
        print(f"\nFind its rate with\n  {command.replace('SIZE', str(value['batch_size']))}")
        if plot is None:
            print("Draw with --plot noise.png (or .svg, .html); noise per layer is in --json.")


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


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _next_command(config: Config, settings: dict[str, Any], file: Path | None) -> str:
    """The command that finds the rate with the same settings; SIZE stands for the batch size."""
    words = ["surefoot", "find-lr", config.data, "--model", config.model]
    if file is not None:
        words += ["--config", str(file)]
    for name, value in settings.items():
        if value is None or name in ("model", "lr", "batch_size"):
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return f"{clean(shlex.join(words))} --batch-size SIZE"
