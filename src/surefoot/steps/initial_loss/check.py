"""Step 1 of the procedure: the loss before training is that of chance."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surefoot.config import LossName, Recipe
from surefoot.errors import ConfigError
from surefoot.models.build import Factory
from surefoot.optim.plan import weight_decay_of
from surefoot.record.decision import Decision, cost_in_examples, decision
from surefoot.steps.initial_loss.judge import InitialLoss, judge
from surefoot.steps.untouched import untouched
from surefoot.steps.wiring.check import fitting_task
from surefoot.steps.wiring.measure import batch, forward, loss_kind, loss_or_nan
from surefoot.switches import usual_switches
from surefoot.training.losses import Loss
from surefoot.training.task import Task

LEAST_BATCHES, BATCHES = 2, 8
"""Batches of 128 examples whose losses are averaged, at least and usually: the standard error shows if that is enough.
Chosen by hand."""
_PASSES = 3
"""Forward passes of each: as it is, standardised, and in evaluation mode."""


@usual_switches
def check_initial_loss(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | LossName | None = None,
    *,
    weight_decay: float | Literal["auto"] = 5e-4,
    most_examples: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Decision:
    """Measure the loss before training, without weight decay, against that of chance: ln C for C classes.

    An excess is traced to its cause: weights, or inputs that were not normalised, in which case the loss is right once
    they are. A loss below chance is none: the model is trained already, or its bias carries the classes' shares. A
    regression is compared with outputs of zero, the variance where targets are standardised; a loss of your own that
    has no chance only has to be finite.

    Args:
        model, data, loss, seed, device, precision, threads: as in `check_wiring`.
        weight_decay: to say what it adds, weight_decay / 2 * ||W||^2; auto as in a recipe.
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
    recipe = Recipe(weight_decay=weight_decay)  # which checks it
    if most_examples is not None and most_examples < 0:
        raise ConfigError(
            f"most_examples = {most_examples}", "most_examples must be at least 0", "leave most_examples out"
        )
    began = time.perf_counter()
    value, evidence, claim = None, dict[str, Any](), "the loss before training is that of chance"
    with untouched(model, data) as proof:
        task, findings = fitting_task(model, data, loss, seed=seed, device=device, precision=precision, threads=threads)
        if task is not None:
            affordable = BATCHES if most_examples is None else most_examples // initial_loss_examples(task, 1)
            batches = max(LEAST_BATCHES, min(BATCHES, affordable))
            with task.machine.computing():
                facts = measure(task, weight_decay_of(recipe, task.data.examples), batches)
            evidence = dataclasses.asdict(facts) | {"evaluated_examples": _PASSES * batches * facts.examples}
            claim += f", {facts.chance:.4g} for {facts.classes} classes" if facts.classes is not None else ""
            value = {"loss": facts.loss, "chance": facts.chance, "with_weight_decay": facts.loss + facts.penalty}
            findings = judge(facts)  # what led here is step 0's
    seconds = time.perf_counter() - began
    return decision(
        1, "initial-loss", claim, findings, value=value, evidence=evidence, untouched=proof.digest, seconds=seconds
    )


def initial_loss_examples(task: Task, batches: int = LEAST_BATCHES) -> int:
    """Return what step 1 costs, in training examples, with so many batches."""
    return cost_in_examples(0, _PASSES * batches * len(batch(task)[1]))


def measure(task: Task, weight_decay: float = 5e-4, most_batches: int = BATCHES) -> InitialLoss:
    """Return the loss of an untrained copy and what explains it.

    Args:
        task: what is to be learned.
        weight_decay: of the penalty.
        most_batches: whose losses are averaged, at least 2.

    >>> import surefoot
    >>> facts = measure(surefoot.task(surefoot.load("digits"), "linear"))
    >>> round(facts.loss, 4), round(facts.chance, 4), facts.penalty  # ln 10; the weights start at zero
    (2.3026, 2.3026, 0.0)
    """
    batches = [batch(task, number) for number in range(most_batches)]
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    outputs = _outputs(task, [x for x, _ in batches])
    losses, whole = _losses(task, outputs, batches), torch.cat(outputs)
    standardised = outputs
    if x.is_floating_point():
        mean, std = x.mean(0, keepdim=True), x.std(0, keepdim=True, correction=0).clamp_min(1e-6 * float(x.abs().max()))
        standardised = _outputs(task, [(x - mean) / std.clamp_min(1e-30) for x, _ in batches])
    kind = loss_kind(task, outputs[0], batches[0][1])
    chance, prior = _without_inputs(task, whole, y)
    model = task.fresh_model().eval()
    with torch.no_grad():
        evaluated = [forward(task, model, x) for x, _ in batches]
    weights = [parameter for parameter in task.template.parameters() if parameter.requires_grad]
    return InitialLoss(
        loss=float(np.mean(losses)),
        standard_error=float(np.std(losses, ddof=1) / math.sqrt(len(losses))),
        batches=len(losses),
        eval_loss=float(np.mean(_losses(task, evaluated, batches))),
        chance=chance,
        prior=prior,
        classes=task.data.outputs if task.classifies else 2 if kind.binary else None,
        output_scale=_scale(whole - whole.mean(1, keepdim=True)) if task.classifies else _scale(whole),
        target_scale=None if task.classifies else _scale(y.float()),
        input_scale=_scale(x),
        standardised_loss=float(np.mean(_losses(task, standardised, batches))),
        penalty=weight_decay / 2 * sum(float(weight.detach().double().square().sum()) for weight in weights),
        standard_loss=kind.cross_entropy or kind.binary or task.criterion is not None,
        sums=kind.sums,
        right=kind.right,
        wrong=kind.wrong,
        examples=len(batches[0][1]),
    )


def _outputs(task: Task, inputs: list[Tensor]) -> list[Tensor]:
    """Return the outputs of each batch in training mode, each from the untrained state."""
    with torch.no_grad():
        return [forward(task, task.fresh_model(), x) for x in inputs]


def _losses(task: Task, outputs: list[Tensor], batches: list[tuple[Tensor, Tensor]]) -> list[float]:
    with torch.no_grad():
        return [float(task.mean_loss(out, y)) for out, (_, y) in zip(outputs, batches, strict=True)]


def _without_inputs(task: Task, outputs: Tensor, y: Tensor) -> tuple[float, float | None]:
    """Return the loss of outputs that are all alike, and that of the best answer that does not look at the input."""
    if not task.classifies:
        zero = loss_or_nan(task, torch.zeros_like(outputs), y) * task.loss_unit
        variance = float(y.float().var(0, correction=0).mean()) * task.loss_unit
        return zero, variance if task.criterion == "mse" else None
    # Log-probabilities where the model gives those; a loss that takes logits does not feel the shift.
    normed = bool(torch.allclose(outputs.logsumexp(1), torch.zeros(len(y), device=outputs.device), atol=1e-2))
    level = -math.log(outputs.shape[1]) if normed else 0.0
    chance = loss_or_nan(task, torch.full_like(outputs, level), y)
    shares = torch.bincount(y, minlength=outputs.shape[1]).float() / len(y)
    prior = loss_or_nan(task, shares.clamp_min(1e-8).log().expand_as(outputs), y)
    built_in = not task.custom_loss or abs(chance - float(F.cross_entropy(torch.zeros_like(outputs), y))) < 1e-3
    return chance, prior if built_in else None


def _scale(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())
