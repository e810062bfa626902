"""Step 1 of the procedure: the loss before training is that of chance."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

from torch import nn

from surefoot.diagnose import initial_loss as judge
from surefoot.errors import ConfigError
from surefoot.measure.initial_loss import BATCHES, LEAST_BATCHES, PASSES, initial_loss
from surefoot.measure.untouched import untouched
from surefoot.measure.wiring import batch
from surefoot.models.build import Factory
from surefoot.record.decision import Decision, cost_in_examples
from surefoot.training.task import Loss, Task
from surefoot.tuning.prepared import decided, prepared


def check_initial_loss(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | None = None,
    *,
    weight_decay: float = 5e-4,
    most_examples: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Decision:
    """Measure the loss before training, without weight decay, against that of chance: ln C for C classes.

    An excess is traced to its cause: weights, or inputs that were not normalised, in which case the loss is right once
    they are. A loss below chance is none: the model is trained already, or its bias carries the classes' shares. A
    regression is compared with outputs of zero; a loss of your own that has no chance only has to be finite.

    Args:
        model, data, loss, seed, device, precision, threads: as in `check_wiring`.
        weight_decay: to say what it adds, weight_decay / 2 * ||W||^2.
        most_examples: what it may cost, in training examples; None: eight batches, 1,024. There are at least two.

    Returns:
        A decision whose value has `loss`, `chance`, and `with_weight_decay`; None where model and data do not fit.

    Raises:
        ConfigError, DataError: as `check_wiring`, or the weight decay or most_examples is below 0.

    Reference: CS231n notes, neural-networks-3, "Before learning: sanity checks": "look for correct loss at chance
    performance", 2.302 for 10 classes, and "increasing the regularization strength should increase the loss".

    >>> found = check_initial_loss("linear", "digits")
    >>> found.verdict, round(found.value["loss"], 3)
    ('pass', 2.303)
    """
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ConfigError(f"weight_decay = {weight_decay}", "weight_decay must be at least 0", "try 5e-4")
    if most_examples is not None and most_examples < 0:
        raise ConfigError(
            f"most_examples = {most_examples}", "most_examples must be at least 0", "leave most_examples out"
        )
    began = time.perf_counter()
    with untouched(model, data) as proof:
        task, findings = prepared(model, data, loss, seed=seed, device=device, precision=precision, threads=threads)
        value, evidence, claim = None, dict[str, Any](), "the loss before training is that of chance"
        if task is not None:
            batches = _batches(task, most_examples)
            with task.machine.computing():
                seen = initial_loss(task, weight_decay, batches)
            evidence = dataclasses.asdict(seen)
            claim += f", {seen.chance:.4g} for {seen.classes} classes" if seen.classes is not None else ""
            value = {"loss": seen.loss, "chance": seen.chance, "with_weight_decay": seen.loss + seen.penalty}
            findings = judge.initial_loss(**evidence)  # what led here is step 0's
            evidence["evaluated_examples"] = PASSES * batches * seen.examples
    seconds = time.perf_counter() - began
    decision = decided(
        1, "initial-loss", claim, findings, value=value, evidence=evidence, untouched=proof.digest, seconds=seconds
    )
    return dataclasses.replace(decision, reason=findings[0].reason) if decision.passed else decision


def initial_loss_examples(task: Task, batches: int = LEAST_BATCHES) -> int:
    """Return what step 1 costs, in training examples, with so many batches."""
    return cost_in_examples(0, PASSES * batches * len(batch(task)[1]))


def _batches(task: Task, most_examples: int | None) -> int:
    """Return how many batches are paid for, within what is sensible."""
    affordable = BATCHES if most_examples is None else most_examples // initial_loss_examples(task, 1)
    return max(LEAST_BATCHES, min(BATCHES, affordable))
