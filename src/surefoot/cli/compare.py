"""`surefoot compare`: update rules from one start with one budget, as a table, as JSON and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median_high
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from surefoot.cli.flags import ConfigFile, Data, Quiet, Settings, Switch, with_settings
from surefoot.cli.probe import make_folder, measured, new_folder, say_batch, sentence
from surefoot.cli.process import loading
from surefoot.cli.report import say_report
from surefoot.cli.tables import clean, number, print_json, print_table, say_notes, share
from surefoot.config import Config
from surefoot.record import store
from surefoot.settings import flat_settings, from_dict

if TYPE_CHECKING:
    from surefoot.record.comparison import Comparison, RuleResult

MODEL = "mlp"
"""The model where none is given: it trains in seconds and has no batch norm, with which a batch of one means little."""
_NO_EFFECT = {
    "steps": "all rules have the same budget of examples, --epochs",
    "momentum_form": "momentum, sutskever and nesterov are its forms, and rules",
    "checkpoint_seconds": "nothing is saved before the end",
    "rows_per_epoch": "losses are evaluated at log-spaced steps",
    "from_run": "rules are compared from fresh weights, several starts of them",
    "choose_by": "rules are compared by their training loss",
    "metrics": "rules are compared by their training loss",
    "weights": "rules are compared by their last weights",
    "early_stopping_epochs": "all rules have the same budget of examples, --epochs",
    "early_stopping_min_delta": "all rules have the same budget of examples, --epochs",
    "tta": "rules are compared by their training loss",
}


@with_settings
def compare(
    data: Data = None,
    *,
    rule: Annotated[list[str] | None, Parameter(negative=())] = None,
    epochs: float | None = None,
    examples: int | None = None,
    seeds: int = 3,
    low: float = 10**-2.5,
    high: float = 1.0,
    points_per_decade: int = 2,
    target_loss: float | None = None,
    slice_points: int = 31,
    pictures: bool = True,
    no_report: Switch = False,
    name: str | None = None,
    runs_dir: Path = Path("runs"),
    config: ConfigFile = None,
    json: Switch = False,
    quiet: Quiet = False,
    **settings: Any,
) -> int:
    """Compare gradient descent, SGD, mini-batches and momentum: one start, one budget, rates searched alike.

    Flags of recipe and schedule hold for all rules; if left out, the rate is constant, momentum 0.9, the batch 32, and
    there is no weight decay. The model is mlp if left out. Shipped settings are not used: they favour one rule.

    Args:
        rule: A rule, as "NAME setting=value ...", once for each; the six by name if left out. NAME is
            gradient-descent, sgd, mini-batch, momentum, sutskever or nesterov, or an update rule of surefoot train:
            adam, adamw, muon, rmsprop. A setting is any of recipe and schedule, by the name of its flag. lr= fixes the
            rate, preset= takes a published schedule alone, label= is what the rule is called. For example: --rule sgd
            --rule "momentum lr=0.1 batch_size=64 schedule=cosine" --rule adamw.
        epochs: Budget of each run, in passes over the training examples (5 if left out).
        examples: Training examples used; all if left out.
        seeds: Final runs of each rule, from as many starts, the same for all.
        low: First rate of the grid that every rule is searched on; widened where the best lies on its border. That of
            adam, adamw and rmsprop is as long, and lies as much lower as their usual rates; that of muon higher.
        high: Last rate of the grid.
        points_per_decade: Rates per factor of 10.
        target_loss: Training loss that rules are timed to; the least that all but the worst reach if left out.
        slice_points: Points on each side of the slice of the loss through the paths.
        pictures: Measure what only pictures show, and draw report.html into the folder.
        no_report: Do not draw report.html.
        name: Name of the folder; date, data and model if left out.
        runs_dir: Folder in which it is made.
        json: Print the comparison as JSON.
    """
    typed = Settings.read({"data": data, **settings}, config)
    typed.refuse("compare", _NO_EFFECT)
    # Shipped settings are left out: they belong to one rule, and would favour it.
    chosen = from_dict(Config, {"model": MODEL, **{k: value for k, value in typed.nested.items() if k != "recipe"}})
    common = {name: value for name, value in typed.flat.items() if flat_settings()[name].path[0] == "recipe"}
    folder = new_folder("compare", chosen, name, runs_dir)
    with loading():
        from surefoot.comparison.compare import EPOCHS, Comparing, compared
        from surefoot.comparison.rules import RULES, USUAL_BATCH, parse_rules
        from surefoot.record.comparison import NAME
        from surefoot.training.configure import Objects, make_task

    in_file = common.pop("epochs", EPOCHS)
    comparing = Comparing(
        epochs=in_file if epochs is None else epochs, examples=examples, seeds=seeds, low=low, high=high,
        points_per_decade=points_per_decade, target_loss=target_loss,
        slice_points=slice_points if pictures else None, surfaces=pictures,
    )  # fmt: skip
    rules = parse_rules(rule or RULES, common)
    task = make_task(chosen, Objects())
    say_notes(task.data.notes, quiet=quiet)
    for recipe in {rule.recipe.batch_size: rule.recipe for rule in rules}.values():
        say_batch(recipe, min(examples or task.data.examples, task.data.examples), USUAL_BATCH, quiet=quiet)
    comparison = measured(compared(task, rules, comparing), quiet=quiet)
    make_folder(folder)
    store.write_json(folder / NAME, comparison.to_dict())
    if json:
        print_json(comparison.to_dict() | {"folder": str(folder)})
    else:
        _show(comparison, folder)
    if pictures and not no_report:
        say_report(folder, as_json=json, quiet=quiet)
    return 0


def _show(comparison: Comparison, folder: Path) -> None:
    task = f"{clean(comparison.model)} on {clean(comparison.data)}: {comparison.examples:,} training examples"
    print(f"{task}, {comparison.budget_examples:,} examples a run, {len(comparison.seeds)} seeds\n")
    target = "-" if comparison.target_loss is None else f"{comparison.target_loss:.3g}"
    print_table(
        ("rule", "batch", "lr", "tried", "ms a step", "noise", "steps", "final loss",
         comparison.accuracy_on or "accuracy", f"steps to {target}", "examples", "seconds"),
        [_line(rule) for rule in comparison.rules], left=("rule",),
    )  # fmt: skip
    print(
        "\nMedian of the seeds, and least to largest in brackets. "
        f"Loss is of {comparison.evaluated_examples:,} training examples, {comparison.initial_loss:.3g} at the start. "
        f"The target is {comparison.target_reason}. "
        "Noise is the variance of a step's direction over the squared gradient, all rules at the same weights. "
        "Seconds are of training steps alone. An lr in brackets was given, others were found by the same search: "
        "over as wide a grid, as dense, each rate for the whole budget."
    )
    print()
    for finding in comparison.findings:
        word = "" if finding.verdict == "pass" else f"{finding.verdict}: "
        print(clean(f"{sentence(word + finding.reason)} {sentence(finding.advice or '')}".rstrip()))
    print(f"\nEverything is in {folder}.")


def _line(rule: RuleResult) -> tuple[object, ...]:
    reached = [steps for steps in rule.steps_to_target if steps is not None]
    all_seeds = len(reached) == len(rule.steps_to_target) > 0

    def cost(worth: float, form: str) -> str | None:
        return _spread([steps * worth for steps in reached], form) if all_seeds else None

    lr = f"{rule.lr:.3g}"
    return (
        rule.name, rule.batch_size, f"({lr})" if rule.given else lr, len(rule.tried) or None,
        number(1e3 * rule.step_seconds, ".3g"), number(rule.direction.variance if rule.direction else None, ".3g"),
        f"{rule.steps:,}", _spread(rule.final_losses, ".3g"),
        None if rule.accuracies is None else share(median_high(rule.accuracies)),
        cost(1.0, ",.0f"), cost(float(rule.batch_size), ",.0f"), cost(rule.step_seconds, ".3g"),
    )  # fmt: skip


def _spread(values: Sequence[float], form: str) -> str:
    """The median, and the range where there is one.

    >>> _spread([1.0, 3.0, 2.0], ".1f"), _spread([1.0], ".1f")
    ('2.0 [1.0, 3.0]', '1.0')
    """
    middle = format(median_high(values), form)
    if len(values) == 1:
        return middle
    return f"{middle} [{format(min(values), form)}, {format(max(values), form)}]"
