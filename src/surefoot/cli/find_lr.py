"""`surefoot find-lr`: a bracket of learning rates, measured, with a picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.cli.flags import OF_A_RUN, ConfigFile, Data, Quiet, Settings, Switch, of_schedule, with_settings
from surefoot.cli.probe import check_picture, exit_code, measured, print_findings, save_picture, say_batch, sentence
from surefoot.cli.process import loading
from surefoot.cli.tables import number, print_json, print_table, say_notes

if TYPE_CHECKING:
    from surefoot.record.decision import Decision

UNUSED = (*OF_A_RUN, "lr", "epochs", "steps", "ema_decay", "progressive_resizing")
"""Settings of a run's record, averaged weights and sizes of images, which are not read here, and what a file says of
rate and length."""


@with_settings
def find_lr(
    data: Data = None,
    *,
    low: float | None = None,
    high: float | None = None,
    points_per_decade: int = 4,
    steps: int = 100,
    seeds: int = 3,
    plot: Path | None = None,
    config: ConfigFile = None,
    json: Switch = False,
    quiet: Quiet = False,
    **settings: Any,
) -> int:
    """Measure between which learning rates the loss drops within 100 steps, and suggest one.

    It takes the flags of `surefoot train`, save those of rate, length and schedule. Exit code 3: no rate works. With
    --from it measures in the middle of a training: from the weights of a run that is done, or of the newest checkpoint
    of one that is not.

    Args:
        low: First rate of the grid, which is widened by itself where the answer lies on its border. If left out, that
            of the rule: 1e-4 for SGD.
        high: Last rate of the grid.
        points_per_decade: Rates per factor of 10.
        steps: Updates at each rate.
        seeds: Repetitions, each with its own initial weights and batches.
        plot: Draw the measurements into this file, .png, .svg or .html.
        json: Print the decision as JSON, with all measurements.
    """
    typed = Settings.read({"data": data, **settings}, config)
    held = of_schedule() - {"preset"}  # which says the rule, too
    typed.refuse("find-lr", dict.fromkeys(("lr", "epochs", *held), "each rate is held for --steps updates"))
    check_picture("plot", plot)
    with loading():
        from surefoot.optim.plan import batch_size_of, weight_decay_of
        from surefoot.steps.lr_range.find_lr import searching, with_small_decay
        from surefoot.steps.lr_range.measure import LrSearch
        from surefoot.training.configure import Objects, make_task, recipe_for, resolve

    search = LrSearch(low=low, high=high, points_per_decade=points_per_decade, steps=steps, seeds=seeds)
    chosen = resolve(typed.nested)
    typed.say_unused("find-lr", (*UNUSED, *held))
    task = make_task(chosen, Objects())
    say_notes(task.data.notes, quiet=quiet)
    # The table of rates stands in for the schedule; averaged weights are not read here.
    recipe = dataclasses.replace(recipe_for(chosen, task.data), ema_decay=None)
    if "weight_decay" not in typed.flat and chosen.from_run is None:  # of a run it is the run's own
        decay = weight_decay_of(recipe, task.data.examples)
        recipe = with_small_decay(dataclasses.replace(recipe, weight_decay=decay))
    say_batch(recipe, task.data.examples, quiet=quiet)
    recipe = dataclasses.replace(
        recipe, batch_size=batch_size_of(recipe, task.data.examples),
        weight_decay=weight_decay_of(recipe, task.data.examples),
    )  # fmt: skip
    decision = measured(searching(task, recipe, search), quiet=quiet)
    if decision.value is None and chosen.from_run is not None:
        advice = (
            "these weights may have learned all that this data holds: train on, or start from an earlier checkpoint"
        )
        decision = dataclasses.replace(decision, advice=advice)
    if plot is not None:
        from surefoot.report.lr_range import lr_range_chart

        save_picture(lr_range_chart(decision.to_dict()), plot)
    if json:
        print_json(decision.to_dict() | {"picture": None if plot is None else str(plot)})
    else:
        _show(decision, typed.command(["train", chosen.data, "--model", chosen.model]), plot)
    return exit_code(decision)


def _show(decision: Decision, command: str, plot: Path | None) -> None:
    evidence = decision.evidence
    print_table(
        ("lr", f"loss after {evidence['steps']}", "half range", "seeds", "what it did"),
        [_line(rate) for rate in evidence["rates"]],
        left=("what it did",),
    )
    start = evidence["initial_losses"]
    answer = sentence(decision.reason) if decision.value is None else f"Suggested: {decision.reason}."
    print(f"\nThe loss starts at {sum(start) / len(start):.4g}. {answer}")
    print_findings(decision)
    if decision.value is not None:
        print(f"\nGo on with\n  {command} --lr {decision.value['lr']:.2g}")
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
