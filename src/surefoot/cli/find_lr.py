"""`surefoot find-lr`: a bracket of learning rates, measured, with a picture."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from surefoot.cli.answer import check_plot, exit_code
from surefoot.cli.flags import with_settings
from surefoot.cli.tables import clean, number, print_json, print_table
from surefoot.config import Config
from surefoot.errors import ConfigError
from surefoot.settings import flat_settings, merged, nested, read_toml

if TYPE_CHECKING:
    from surefoot.record.decision import Decision

SMALL_WEIGHT_DECAY = 1e-4
"""The procedure's "small weight decay"; more would hide a rate that is too small."""
UNUSED = ("rows_per_epoch", "checkpoint_seconds", "lr", "epochs", "steps", "schedule", "ema_decay")
"""Settings of a run's record, averaged weights, which are not read here, and what a file says of rate and length."""
_SAY_SECONDS = 1.0
"""Between two lines of progress. Chosen by hand."""


@with_settings
def find_lr(
    data: str | None = None,
    *,
    low: float = 1e-4,
    high: float = 1e-1,
    points_per_decade: int = 4,
    steps: int = 100,
    seeds: int = 3,
    plot: Path | None = None,
    config: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(alias="-q", negative=())] = False,
    **settings: Any,
) -> int:
    """Measure between which learning rates the loss drops within 100 steps, and suggest one.

    It takes the flags of `surefoot train`, save those of rate, length and schedule. Exit code 3: no rate works.

    Args:
        data: A named set (digits, cifar10), or a folder of images by class, an .npz or a .csv.
        low: First rate of the grid, which is widened by itself where the answer lies on its border.
        high: Last rate of the grid.
        points_per_decade: Rates per factor of 10.
        steps: Updates at each rate.
        seeds: Repetitions, each with its own initial weights and batches.
        plot: Draw the measurements into this file, .png, .svg or .html.
        config: TOML file of settings; flags go before it.
        json: Print the decision as JSON, with all measurements.
        quiet: Show no progress.
    """
    _refuse_unused(settings)
    check_plot(plot)
    typed = {"data": data, **settings}
    file = read_toml(config) if config else {}
    from surefoot.training.opening import resolve
    from surefoot.tuning.lr_runs import LrSearch

    search = LrSearch(low=low, high=high, points_per_decade=points_per_decade, steps=steps, seeds=seeds)
    chosen = resolve(merged(file, nested(typed)))
    given = {**file, **file.get("recipe", {}), **{name: value for name, value in settings.items() if value is not None}}
    if "weight_decay" not in given:
        decay = min(chosen.recipe.weight_decay, SMALL_WEIGHT_DECAY)
        chosen = dataclasses.replace(chosen, recipe=dataclasses.replace(chosen.recipe, weight_decay=decay))
    _say_unused(given)
    decision = _measured(chosen, search, batch_given="batch_size" in given, quiet=quiet)
    if plot is not None:
        from surefoot.report.charts import save_chart
        from surefoot.report.rates import rates_chart

        save_chart(rates_chart(decision.to_dict()), plot)
        print(f"wrote {plot}", file=sys.stderr)
    if json:
        print_json(decision.to_dict() | {"picture": None if plot is None else str(plot)})
    else:
        _show(decision, _next_command(chosen, settings, config), plot)
    return exit_code(decision)


def _refuse_unused(settings: dict[str, Any]) -> None:
    known = flat_settings()
    for name, value in settings.items():
        if value is not None and (name in ("lr", "epochs") or known[name].path[:2] == ("recipe", "schedule")):
            raise ConfigError(
                f"--{name.replace('_', '-')} with find-lr", "each rate is held for --steps updates", "leave it out"
            )  # fmt: skip


def _say_unused(given: dict[str, Any]) -> None:
    """Name what is for a long training and has no effect on short runs at constant rates."""
    unused = [name for name in UNUSED if name in given]
    if unused:
        print(f"not used by find-lr: {', '.join(unused)}", file=sys.stderr, flush=True)


def _measured(config: Config, search: Any, *, batch_given: bool, quiet: bool) -> Decision:
    from surefoot.data.load import load
    from surefoot.training.task import task
    from surefoot.tuning.find_lr import searching

    data = load(
        config.data, data_dir=config.data_dir, validation=config.validation, seed=config.seed,
        image_size=config.image_size, label=config.label, target=config.target,
    )  # fmt: skip
    work = task(
        data, config.model, augment=config.augment, seed=config.seed, device=config.device,
        precision=config.precision, threads=config.threads,
    )  # fmt: skip
    recipe = config.recipe
    size = data.examples if recipe.batch_size == "full" else recipe.batch_size
    if not batch_given:  # the shipped size may be more than there is; one that was asked for is as in training
        size = min(size, data.examples)
    # The table of rates stands in for the schedule; averaged weights are not read here.
    recipe = dataclasses.replace(recipe, batch_size=size, ema_decay=None)
    measuring, said = searching(work, recipe, search), 0.0
    while True:
        try:
            seen = next(measuring)
        except StopIteration as end:
            return end.value
        if not quiet and time.monotonic() - said > _SAY_SECONDS:
            said = time.monotonic()
            print(f"{seen.steps_done:>7,} of {seen.steps_planned:,} steps  {seen.text}", file=sys.stderr, flush=True)


def _show(decision: Decision, command: str, plot: Path | None) -> None:
    evidence = decision.evidence
    print_table(
        ("lr", f"loss after {evidence['steps']}", "half range", "seeds", "what it did"),
        [_line(rate) for rate in evidence["rates"]],
        left=("what it did",),
    )
    start = evidence["initial_losses"]
    answer = _sentence(decision.reason) if decision.value is None else f"Suggested: {decision.reason}."
    print(f"\nThe loss starts at {sum(start) / len(start):.4g}. {answer}")
    for finding in decision.findings:
        if finding.verdict != "pass" and finding.reason != decision.reason:
            print(f"{finding.verdict}: {_sentence(finding.reason)} {_sentence(finding.advice or '')}".rstrip())
    print(_sentence(decision.advice or ""))
    if decision.value is not None:
        lr = f"{decision.value['lr']:.2g}"
        print(f"\nGo on with\n  {command.replace('LR', lr)}")
        if plot is None:
            print("Draw with --plot rates.png (or .svg, .html).")


def _line(rate: dict[str, Any]) -> tuple[object, ...]:
    finals = rate["final_losses"]
    mean = sum(finals) / len(finals)
    spread = (max(finals) - min(finals)) / 2 if len(finals) > 1 else None
    finite = mean < float("inf")
    return (
        f"{rate['lr']:.3g}", number(mean, ".4g") if finite else "inf", number(spread, ".2g") if finite else None,
        len(finals), rate["word"],
    )  # fmt: skip


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _next_command(config: Config, settings: dict[str, Any], file: Path | None) -> str:
    """The command that trains with the same settings; LR stands for the rate."""
    words = ["surefoot", "train", config.data, "--model", config.model]
    if file is not None:
        words += ["--config", str(file)]
    for name, value in settings.items():
        if value is None or name == "model":
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return f"{clean(shlex.join(words))} --lr LR"
