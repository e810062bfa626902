"""Step 2 of the procedure: a model that is to learn anything must be able to learn a small sample by heart."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from torch import nn

from surefoot.config import Recipe
from surefoot.data.tree import leaves
from surefoot.errors import ConfigError
from surefoot.models.build import Factory
from surefoot.record.decision import Decision, cost_in_examples, decision
from surefoot.record.progress import Progress, finished
from surefoot.record.run import Outcome, Record, Row
from surefoot.rules import update_rule
from surefoot.rules.optimizer import NAME as OF_CALLER
from surefoot.steps.answers import dense, one_class_each
from surefoot.steps.follow import follow, rate_plan
from surefoot.steps.overfit.judge import Facts, beyond, judge, loss_enough
from surefoot.steps.overfit.sample import VARIES_EXAMPLES, measure_sample, parameters_of, sample_task
from surefoot.steps.probe import probe_task
from surefoot.steps.untouched import untouched
from surefoot.switches import usual_switches
from surefoot.training.call import Forward, LossFn
from surefoot.training.losses import Loss
from surefoot.training.population.engine import Engine
from surefoot.training.population.member import Member
from surefoot.training.state import State
from surefoot.training.task import Task

RATES = 7
"""Rates, two a decade, from the first of the rule's range on, a decade higher since it is meant to be learned quickly:
for SGD the lecture's "good rates to try", 1e-4 to 1e-1, and so 1e-3 to 1. Widened where the best lies on the border."""
BATCHES = 8
BATCH_SIZE = 16
"""Batches of the sample, and examples per update: 128 in all. Chosen by hand."""
LEAST_BATCH_SIZE = 2
"""Batch norm needs two."""
MOST_STEPS = 800
"""Updates of each rate at most: a hundred passes over the sample. Chosen by hand."""
LEAST_LOOKS = 2
"""Looks that must be paid for before the step is begun inside a search: after one or two each shipped model knows the
sample of digits by heart, and 20 of 33 sound models (tests/support/faults.py) do."""
_PASSES_AT_ONCE = 5
"""Passes over the sample between two looks at it. Chosen by hand."""


@usual_switches
def overfit_sample(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | str | None = None,
    *,
    forward: Forward | str | None = None,
    loss_fn: LossFn | str | None = None,
    batches: int = BATCHES,
    batch_size: int | None = None,
    lrs: Sequence[float] | None = None,
    max_steps: int = MOST_STEPS,
    rule: str = "sgd",
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Decision:
    """Train copies of the model on a few mini-batches at many rates, until one knows every example by heart.

    The same examples in every pass, no augmentation, no weight decay, torch's dropout modules off; what else the update
    rule reads is at its defaults, for SGD momentum 0.9. A sample of classes is learned when all of it is classified
    right over a pass in training mode and after it in evaluation mode; a regression when its squared error is under
    1 % of the targets' variance (with a loss of your own: under 1 % of the initial loss); pixels and tokens when nine
    tenths are gone of the loss that the best constant answer leaves over the least that this model can have: it cannot
    tell alike what stands in one context. A `loss_fn`, or a loss of targets of any form, has a least value that nobody
    knows: it has to fall by half. Several rates at once, so that a failure means the model and not the rate.

    CS231n notes, neural-networks-3, "Before learning: sanity checks Tips/Tricks": "unless you pass this sanity check
    with a small dataset it is not worth proceeding to the full dataset".

    Args:
        model, data, loss, forward, loss_fn: as in `surefoot.task`; nothing of them is changed.
        batches: mini-batches in the sample.
        batch_size: examples in each; None: 16, or fewer where the model has fewer parameters for each output than there
            would be examples, which not even a sound model could learn by heart.
        lrs: the rates; None: for SGD 0.001 to 1, for Adam 0.0003 to 0.3, widened where the best lies on the border.
        max_steps: updates of each rate at most.
        rule: that updates the weights.
        seed: of the sample and of the initialisation.
        device, precision, threads: as in `Config`.

    Returns:
        A decision; if the sample was learned, its value holds the quickest rate and the steps that it took.

    Raises:
        ConfigError, DataError: as `surefoot.load` and `surefoot.task`, and for a setting out of range.

    >>> overfit_sample("mlp", "digits").verdict
    'pass'
    """
    for name, given in (("batches", batches), ("batch_size", batch_size), ("max_steps", max_steps)):
        if given is not None and given < 1:
            raise ConfigError(f"{name} = {given}", f"{name} must be at least 1", f"leave {name} out")
    if lrs is not None and not _rates(lrs):
        raise ConfigError(f"lrs = {lrs!r}", "lrs must be a list of rates above 0", "leave lrs out")
    update_rule(rule)  # which checks it
    with untouched(model, data) as proof:
        task = probe_task(
            model, data, loss, forward=forward, loss_fn=loss_fn, seed=seed, device=device, precision=precision,
            threads=threads,
        )  # fmt: skip
        made = finished(overfitting_sample(task, batches, batch_size, lrs, max_steps, rule=rule))
    return dataclasses.replace(made, untouched=proof.digest)


def _rates(lrs: Any) -> bool:
    if isinstance(lrs, str) or not isinstance(lrs, Sequence) or not lrs:
        return False
    return all(isinstance(lr, (int, float)) and 0 < lr < float("inf") for lr in lrs)


def overfitting_sample(
    task: Task,
    batches: int = BATCHES,
    batch_size: int | None = None,
    lrs: Sequence[float] | None = None,
    max_steps: int = MOST_STEPS,
    *,
    rule: str = "sgd",
    most_examples: float = math.inf,
    engine: Engine | None = None,
) -> Generator[Progress, None, Decision]:
    """Do the work of `overfit_sample` on a task, a piece at a time, and return the decision.

    Args:
        task: what is learned.
        batches, batch_size, lrs, max_steps, rule: as in `overfit_sample`.
        most_examples: what it may cost, in training examples. Beyond the first look none is begun that would cost more;
            what is not decided by then is said to be open, and is no failure.
        engine: computes the steps; None makes one.
    """
    began = time.perf_counter()
    rule = "sgd" if rule == OF_CALLER else rule  # the rates of an optimizer of the caller's are not known
    size = min(batch_size or _fitting_batch(task, batches), task.data.examples)
    small = sample_task(task, min(task.data.examples, batches * size))
    sample = measure_sample(small, size)
    facts = Facts(sample, loss_enough(sample, custom_loss=small.custom_loss))
    done, waiting = 0, sorted(set(lrs or usual_rates(rule)))
    while waiting:
        planned, doing = done + len(waiting) * max_steps, f"rates {waiting[0]:.2g} to {waiting[-1]:.2g}"
        yield Progress(done, planned, doing)
        members, marks = _members(small, Recipe(rule=rule, batch_size=size, weight_decay=0.0), waiting, max_steps)
        for look in follow(members, marks, engine):
            done += look.steps
            yield Progress(done, planned, doing)
            runs = zip(waiting, look.states, look.rows, strict=True)
            records = {**facts.records, **{lr: _record(state, rows) for lr, state, rows in runs}}
            facts = dataclasses.replace(facts, records=records)
            if look.mark is not None and (facts.passed or not look.alive):
                break
            if look.mark is not None:
                passes = (min(mark for mark in marks if mark > look.mark) - look.mark) // (sample.examples // size)
                if look_examples(sample.examples, look.alive, passes) > most_examples - _cost(small, facts):
                    facts = dataclasses.replace(facts, cut=True)
                    break
        fitted = any(facts.learned_in_training(lr) for lr in facts.records)
        waiting = [] if facts.cut or fitted or lrs is not None else list(beyond(facts))
        if waiting and look_examples(sample.examples, len(waiting)) > most_examples - _cost(small, facts):
            facts, waiting = dataclasses.replace(facts, cut=True), []
    passed, (trained, evaluated) = facts.passed, _spent(small, facts)
    return decision(
        2,
        "overfit-sample",
        f"the model can learn {sample.examples} training examples by heart",
        judge(facts),
        value={"lr": passed[0], "steps": facts.records[passed[0]].rows[-1].step} if passed else None,
        evidence={
            "sample": dataclasses.asdict(sample),
            "rule": rule,
            "enough": facts.enough,
            "dropout": "the dropout of torch's modules is off; functional dropout cannot be switched off from outside",
            "runs": [_run(facts, lr) for lr in sorted(facts.records)],
            "trained_examples": trained,
            "evaluated_examples": evaluated,
        },
        seconds=time.perf_counter() - began,
    )


def overfit_examples(task: Task) -> int:
    """Return what step 2 costs until its second look, in training examples: less is not worth beginning."""
    size = min(_fitting_batch(task, BATCHES), task.data.examples)
    examples = min(task.data.examples, BATCHES * size)
    described = cost_in_examples(*_described_examples(task, examples, size))
    return described + LEAST_LOOKS * look_examples(examples, RATES)


def usual_rates(rule: str) -> list[float]:
    """Return the rates at which a rule first tries to learn a sample.

    >>> usual_rates("sgd")
    [0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0]
    """
    return [float(f"{update_rule(rule).lr_range[0] * 10 ** (1 + k / 2):.3g}") for k in range(RATES)]


def look_examples(examples: int, rates: int, passes: int = _PASSES_AT_ONCE) -> int:
    """Return what the passes until a look cost, each with an evaluation after it, in training examples.

    >>> look_examples(128, 7)  # 4/3 x 128 x 7 x 5
    5974
    """
    return cost_in_examples(passes * rates * examples, passes * rates * examples)


def _spent(task: Task, facts: Facts) -> tuple[int, int]:
    """Return on how many examples was trained so far, and for how many outputs were only computed."""
    sample, records = facts.sample, facts.records.values()
    trained, evaluated = _described_examples(task, sample.examples, sample.batch_size)
    trained += sample.batch_size * sum(record.outcome.step for record in records)
    return trained, evaluated + sample.examples * sum(len(record.rows) for record in records)


def _cost(task: Task, facts: Facts) -> int:
    return cost_in_examples(*_spent(task, facts))


def _described_examples(task: Task, examples: int, batch_size: int) -> tuple[int, int]:
    """Return on how many of a sample's examples `measure_sample` trains, and for how many it only computes outputs."""
    asked = examples if one_class_each(task) and not task.custom_loss else 0
    asked += examples if dense(task) and not task.custom_loss else 0
    return examples // batch_size * batch_size, asked + 2 * min(VARIES_EXAMPLES, examples)


def _fitting_batch(task: Task, batches: int) -> int:
    """D + 1 points in general position can be given any labels by an affine map of D inputs: parameters / outputs."""
    answers = math.prod(leaves(task.data.train.y)[0].shape[1:]) if dense(task) else 1
    most = min(task.data.examples, parameters_of(task) // max(1, task.data.outputs * answers))
    return max(LEAST_BATCH_SIZE, min(BATCH_SIZE, most // batches))


def _members(task: Task, recipe: Recipe, lrs: Sequence[float], max_steps: int) -> tuple[list[Member], list[int]]:
    """Return a member for each constant rate, with a row for each pass, and the steps at which to look at them."""
    steps_per_pass = task.data.examples // int(recipe.batch_size)
    steps = max(1, max_steps // steps_per_pass) * steps_per_pass
    passes = tuple(range(steps_per_pass, steps + 1, steps_per_pass))
    task = dataclasses.replace(task, optimizer=None)
    plans = [rate_plan(recipe, task.data.examples, np.full(steps, lr)) for lr in lrs]
    members = [Member(task, dataclasses.replace(plan, row_steps=passes)) for plan in plans]
    return members, [*passes[_PASSES_AT_ONCE - 1 : -1 : _PASSES_AT_ONCE], steps]


def _record(state: State, rows: Sequence[Row]) -> Record:
    stopped = Outcome(kind="interrupted", step=state.step, reason="the measurement ended before this run")
    return Record(rows=tuple(rows), outcome=state.outcome or stopped)


def _run(facts: Facts, lr: float) -> dict[str, Any]:
    record = facts.records[lr]
    return {
        "lr": lr, "fate": facts.fate(lr), "outcome": record.outcome.kind, "updates": record.outcome.step,
        "steps": [row.step for row in record.rows],
        "losses": [row.train_loss for row in record.rows], "accuracies": [row.train_accuracy for row in record.rows],
        "eval_losses": [row.val_loss for row in record.rows],
        "eval_accuracies": [row.val_accuracy for row in record.rows],
    }  # fmt: skip
