"""Step 1 of the procedure: the loss before training is that of chance."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from surefoot.config import Recipe
from surefoot.data.tree import is_leaf, leaves, map_leaves
from surefoot.errors import ConfigError
from surefoot.models.build import Factory
from surefoot.optim.plan import weight_decay_of
from surefoot.record.decision import Decision, cost_in_examples, decision
from surefoot.steps.answers import class_logits, dense, floats, joined
from surefoot.steps.initial_loss.judge import InitialLoss, judge
from surefoot.steps.untouched import untouched
from surefoot.steps.wiring.check import fitting_task
from surefoot.steps.wiring.measure import batch, batch_size, loss_kind, loss_or_nan, seen_outputs
from surefoot.switches import usual_switches
from surefoot.training.call import Forward, LossFn
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
    loss: Loss | str | None = None,
    *,
    forward: Forward | str | None = None,
    loss_fn: LossFn | str | None = None,
    weight_decay: float | Literal["auto"] = 5e-4,
    most_examples: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Decision:
    """Measure the loss before training, without weight decay, against that of chance: ln C for C classes.

    C are the classes of an example, a pixel, or a token; of a yes or no chance is ln 2. What is ignored is left out.

    An excess is traced to its cause: weights, or inputs that were not normalised, in which case the loss is right once
    they are. A loss below chance is none: the model is trained already, or its bias carries the classes' shares. A
    regression is compared with outputs of zero, the variance where targets are standardised; a loss of your own that
    has no chance only has to be finite.

    Args:
        model, data, loss, forward, loss_fn, seed, device, precision, threads: as in `check_wiring`.
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
        task, findings = fitting_task(
            model, data, loss, forward=forward, loss_fn=loss_fn, seed=seed, device=device, precision=precision,
            threads=threads,
        )  # fmt: skip
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
    return cost_in_examples(0, _PASSES * batches * batch_size(task))


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
    outputs = _outputs(task, batches[:1])
    # Of pixels and tokens a batch shows enough, and outputs are large.
    if isinstance(outputs[0], Tensor) and task.loss_fn is None and not dense(task):
        outputs += _outputs(task, batches[1:])
    losses = _losses(task, outputs, batches) + _losses_of(task, batches[len(outputs) :])
    whole, y = joined(outputs), joined([y for _, y in batches[: len(outputs)]])
    x = joined([x for x, _ in batches])
    felt = losses
    if floats(x):
        felt = _losses_of(task, [(_standardised(of_batch, x), targets) for of_batch, targets in batches])
    kind = loss_kind(task, outputs[0], batches[0][1])
    chance, prior = _without_inputs(task, whole, y)
    evaluated = _losses_of(task, batches, task.fresh_model().eval())
    answers = class_logits(task, whole, y)
    weights = [parameter for parameter in task.template.parameters() if parameter.requires_grad]
    return InitialLoss(
        loss=float(np.mean(losses)),
        standard_error=float(np.std(losses, ddof=1) / math.sqrt(len(losses))),
        batches=len(losses),
        eval_loss=float(np.mean(evaluated)),
        chance=chance,
        prior=prior,
        classes=answers[0].shape[1] if answers is not None else 2 if kind.binary else None,
        output_scale=_scale(whole if answers is None else answers[0] - answers[0].mean(1, keepdim=True)),
        target_scale=None if answers is not None else _scale(y),
        input_scale=_scale(x) if is_leaf(x) else max([_scale(leaf) for leaf in floats(x)], default=0.0),
        standardised_loss=float(np.mean(felt)),
        penalty=weight_decay / 2 * sum(float(weight.detach().double().square().sum()) for weight in weights),
        standard_loss=kind.cross_entropy or kind.binary or task.criterion is not None,
        sums=kind.sums,
        right=kind.right,
        wrong=kind.wrong,
        examples=len(leaves(batches[0][1])[0]),
    )


def _outputs(task: Task, batches: list[tuple[Any, Any]]) -> list[Any]:
    """Return the outputs of each batch in training mode, each from the untrained state."""
    with torch.no_grad():
        return [seen_outputs(task, task.fresh_model(), *each) for each in batches]


def _losses(task: Task, outputs: list[Any], batches: list[tuple[Any, Any]]) -> list[float]:
    with torch.no_grad():
        return [float(task.mean_loss(out, y)) for out, (_, y) in zip(outputs, batches, strict=False)]


def _losses_of(task: Task, batches: list[tuple[Any, Any]], model: nn.Module | None = None) -> list[float]:
    """Return the loss of each batch, whose outputs are let go of: by this model, or each by an untrained copy."""
    with torch.no_grad():
        return [
            float(task.mean_loss(seen_outputs(task, model or task.fresh_model(), *each), each[1])) for each in batches
        ]  # fmt: skip


def _standardised(x: Any, whole: Any) -> Any:
    """Return a batch with the leaves of floating point brought to mean 0 and deviation 1 over all batches."""

    def leaf(x: Tensor, whole: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        mean, std = whole.mean(0, keepdim=True), whole.std(0, keepdim=True, correction=0)
        return (x - mean) / std.clamp_min(1e-6 * float(whole.abs().max())).clamp_min(1e-30)

    return map_leaves(leaf, x, whole)


def _without_inputs(task: Task, outputs: Any, y: Any) -> tuple[float, float | None]:
    """Return the loss of outputs that are all alike, and that of the best answer that does not look at the input."""
    answers = class_logits(task, outputs, y)
    if answers is None:
        zero = loss_or_nan(task, map_leaves(torch.zeros_like, outputs), y) * task.loss_unit
        if task.data.target == "multilabel" and task.criterion is not None:
            return zero, loss_or_nan(task, torch.logit(y.float().mean(0), eps=1e-6).expand_as(y), y)
        variance = float(y.float().var(0, correction=0).mean()) * task.loss_unit if task.criterion == "mse" else None
        return zero, variance
    logits, targets = answers
    # Log-probabilities where the model gives those; a loss that takes logits does not feel the shift.
    normed = bool(torch.allclose(logits.logsumexp(1), torch.zeros(len(targets), device=logits.device), atol=1e-2))
    level = -math.log(logits.shape[1]) if normed else 0.0
    chance = loss_or_nan(task, torch.full_like(outputs, level), y)
    shares = torch.bincount(targets, minlength=logits.shape[1]).float() / len(targets)
    likelihoods = shares.clamp_min(1e-8).log()
    axis = 1 if task.data.target == "segmentation" else -1
    prior = loss_or_nan(task, likelihoods.expand_as(outputs.movedim(axis, -1)).movedim(-1, axis), y)
    built_in = not task.custom_loss or abs(chance - math.log(logits.shape[1])) < 1e-3
    return chance, prior if built_in else None


def _scale(values: Any) -> float:
    """Return the root mean square of all numbers of a tree."""
    numbers = torch.cat([leaf.detach().double().reshape(-1) for leaf in leaves(values) if isinstance(leaf, Tensor)])
    return float(numbers.square().mean().sqrt())
