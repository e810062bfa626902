"""Step 2 of the procedure: a model that is to learn anything must be able to learn a small sample by heart."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Generator, Sequence
from typing import Any

from torch import nn

from surefoot.config import Recipe
from surefoot.diagnose import overfit as judge
from surefoot.errors import ConfigError
from surefoot.measure.overfit import (
    SPENT,
    Sample,
    describe,
    description_examples,
    look_examples,
    overfitting,
    sample_task,
)
from surefoot.measure.untouched import untouched
from surefoot.models.build import Factory
from surefoot.record.decision import Decision, cost_in_examples, worst
from surefoot.training.population.engine import Engine
from surefoot.training.task import Loss, Task
from surefoot.tuning.given import probe_task
from surefoot.tuning.progress import Progress, finished

LRS = (0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0)
"""The lecture's "good rates to try", 1e-4 to 1e-1, a decade higher since it is meant to be learned quickly, two rates a
decade; widened where the best lies on the border."""
BATCHES = 8
BATCH_SIZE = 16
"""Batches of the sample, and examples per update: 128 in all. Chosen by hand."""
LEAST_BATCH_SIZE = 2
"""Batch norm needs two."""
LEAST_LOOKS = 2
"""Looks that must be paid for before the step is begun inside a search: after one or two each shipped model knows the
sample of digits by heart, and 20 of 33 sound models (tests/support/faults.py) do."""


def overfit_sample(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | None = None,
    *,
    batches: int = BATCHES,
    batch_size: int | None = None,
    lrs: Sequence[float] | None = None,
    max_steps: int = 800,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Decision:
    """Train copies of the model on a few mini-batches at many rates, until one knows every example by heart.

    The same examples in every pass, no augmentation, no weight decay, torch's dropout modules off, momentum 0.9. A
    sample of classes is learned when all of it is classified right over a pass in training mode and after it in
    evaluation mode; a regression when its squared error is under 1 % of the targets' variance (with a loss of your
    own: under 1 % of the initial loss). Several rates at once, so that a failure means the model and not the rate.

    CS231n notes, neural-networks-3, "Before learning: sanity checks Tips/Tricks": "unless you pass this sanity check
    with a small dataset it is not worth proceeding to the full dataset".

    Args:
        model, data, loss: as in `surefoot.task`; nothing of them is changed.
        batches: mini-batches in the sample.
        batch_size: examples in each; None: 16, or fewer where the model has fewer parameters for each output than there
            would be examples, which not even a sound model could learn by heart.
        lrs: the rates; None: 0.001 to 1, widened where the best lies on the border.
        max_steps: updates of each rate at most.
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
    with untouched(model, data) as proof:
        task = probe_task(model, data, loss, seed=seed, device=device, precision=precision, threads=threads)
        decision = finished(overfitting_sample(task, batches, batch_size, lrs, max_steps))
    return dataclasses.replace(decision, untouched=proof.digest)


def _rates(lrs: Any) -> bool:
    if isinstance(lrs, str) or not isinstance(lrs, Sequence) or not lrs:
        return False
    return all(isinstance(each, (int, float)) and 0 < each < float("inf") for each in lrs)


def overfitting_sample(
    task: Task,
    batches: int = BATCHES,
    batch_size: int | None = None,
    lrs: Sequence[float] | None = None,
    max_steps: int = 800,
    *,
    most_examples: float = math.inf,
    engine: Engine | None = None,
) -> Generator[Progress, None, Decision]:
    """Do the work of `overfit_sample` on a task, a piece at a time, and return the decision.

    Args:
        task: what is learned.
        batches, batch_size, lrs, max_steps: as in `overfit_sample`.
        most_examples: what it may cost, in training examples. Beyond the first look none is begun that would cost more;
            what is not decided by then is said to be open, and is no failure.
        engine: computes the steps; None makes one.
    """
    began = time.perf_counter()
    size = min(batch_size or _fitting_batch(task, batches), task.data.examples)
    small = sample_task(task, min(task.data.examples, batches * size))
    sample = describe(small, size)
    enough = _enough(small, sample)
    recipe = Recipe(batch_size=size, momentum=0.9, weight_decay=0.0)
    trials = judge.Trials({}, judge.SampleFacts(**dataclasses.asdict(sample)), enough)
    spent, done, waiting = _spent(small, trials), 0, sorted(set(lrs or LRS))
    while waiting:
        left = most_examples - cost_in_examples(*spent)
        work = overfitting(small, recipe, waiting, max_steps, enough, left, engine)
        planned = done + len(waiting) * max_steps
        while True:
            yield Progress(done, planned, f"rates {waiting[0]:.2g} to {waiting[-1]:.2g}")
            try:
                done += next(work)
            except StopIteration as end:
                records = dict(zip(waiting, end.value, strict=True))
                break
        cut = any(record.outcome.reason == SPENT for record in records.values())
        trials = dataclasses.replace(trials, records={**trials.records, **records}, cut=cut)
        spent = _spent(small, trials)
        stop = cut or lrs is not None or any(trials.trained(lr) for lr in trials.records)
        waiting = [] if stop else sorted(judge.beyond(trials))
        if waiting and look_examples(sample.examples, len(waiting)) > most_examples - cost_in_examples(*spent):
            trials, waiting = dataclasses.replace(trials, cut=True), []
    return _decided(trials, sample, spent, began)


def overfit_examples(task: Task) -> int:
    """Return what step 2 costs until its second look, in training examples: less is not worth beginning."""
    size = min(_fitting_batch(task, BATCHES), task.data.examples)
    examples = min(task.data.examples, BATCHES * size)
    described = cost_in_examples(*description_examples(task, examples, size))
    return described + LEAST_LOOKS * look_examples(examples, len(LRS))


def _spent(task: Task, trials: judge.Trials) -> tuple[int, int]:
    """Return on how many examples was trained so far, and for how many outputs were only computed."""
    facts, records = trials.facts, trials.records.values()
    trained, evaluated = description_examples(task, facts.examples, facts.batch_size)
    trained += facts.batch_size * sum(record.outcome.step for record in records)
    return trained, evaluated + facts.examples * sum(len(record.rows) for record in records)


def _fitting_batch(task: Task, batches: int) -> int:
    """D + 1 points in general position can be given any labels by an affine map of D inputs: parameters / outputs."""
    parameters = sum(each.numel() for each in task.template.parameters() if each.requires_grad)
    most = min(task.data.examples, parameters // max(1, task.data.outputs))
    return max(LEAST_BATCH_SIZE, min(BATCH_SIZE, most // batches))


def _enough(task: Task, sample: Sample) -> float | None:
    if task.classifies:
        return None
    if task.loss is not None or sample.target_variance is None:
        return judge.LEARNED_VARIANCE * abs(sample.initial_loss)
    return judge.LEARNED_VARIANCE * sample.target_variance


def _decided(trials: judge.Trials, sample: Sample, spent: tuple[int, int], began: float) -> Decision:
    findings = judge.judged(trials)
    decisive = max(findings, key=lambda each: ("pass", "suspect", "fail").index(each.verdict))
    passed = trials.passed
    return Decision(
        step=2,
        name="overfit-sample",
        claim=f"the model can learn {sample.examples} training examples by heart",
        verdict=worst(findings),
        reason=decisive.reason,
        advice=decisive.advice,
        value={"lr": passed[0], "steps": trials.records[passed[0]].rows[-1].step} if passed else None,
        findings=findings,
        evidence={
            "sample": dataclasses.asdict(sample),
            "enough": trials.enough,
            "dropout": "the dropout of torch's modules is off; functional dropout cannot be switched off from outside",
            "runs": [_run(trials, lr) for lr in sorted(trials.records)],
            "trained_examples": spent[0],
            "evaluated_examples": spent[1],
        },
        seconds=time.perf_counter() - began,
    )


def _run(trials: judge.Trials, lr: float) -> dict[str, Any]:
    record = trials.records[lr]
    return {
        "lr": lr, "fate": trials.fate(lr), "outcome": record.outcome.kind, "updates": record.outcome.step,
        "steps": [row.step for row in record.rows],
        "losses": [row.train_loss for row in record.rows], "accuracies": [row.train_accuracy for row in record.rows],
        "eval_losses": [row.val_loss for row in record.rows],
        "eval_accuracies": [row.val_accuracy for row in record.rows],
    }  # fmt: skip
