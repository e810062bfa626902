"""Step 0 of the procedure: do data, model, loss and training step fit together at all."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch
from torch import nn

from surefoot.diagnose import wiring as judge
from surefoot.diagnose.own_step import own_step as judge_step
from surefoot.errors import ConfigError
from surefoot.measure.activations import RELU_BATCHES, rectifiers
from surefoot.measure.dependence import MOST_EXAMPLES, dependence
from surefoot.measure.gradients import reach
from surefoot.measure.own_step import OwnStep, own_step
from surefoot.measure.untouched import untouched
from surefoot.measure.wiring import DESCENT_PASSES, MODES_PASSES, batch, descent, forward, loss_kind, modes
from surefoot.models.build import Factory
from surefoot.record.decision import Decision, Finding, cost_in_examples
from surefoot.training.population.engine import Engine
from surefoot.training.task import Loss, Task
from surefoot.tuning.prepared import decided, prepared

_CLAIM = "data, model, loss and step fit together: the loss reaches every weight, falls along it, and the inputs matter"

_FORWARD_PASSES = 1 + MODES_PASSES + RELU_BATCHES
"""Batches whose outputs alone are looked at, besides those of `descent`."""


def check_wiring(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | None = None,
    *,
    step: OwnStep | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    most_examples: int | None = None,
    engine: Engine | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Decision:
    """Look for what is wired wrongly before anything is trained; a mistake is a finding, with its number and cause.

    Checked are: shapes and the range of labels; probabilities where the loss takes logits; the sign of the loss; that
    training and evaluation mode agree; that every trainable parameter gets a gradient; dead ReLUs; that a small step
    along the negative gradient lowers the loss; that what a moment's training learns carries over to examples that were
    held out, or labels do not depend on inputs; and your own training step. All but the last on copies.

    Args:
        model: a shipped name, "package.module:factory", a factory, or a module, in the state it starts training from.
        data: whatever `surefoot.load` takes, a DataLoader, or any collection of batches (x, y).
        loss: (outputs, targets) -> scalar or [B]; None chooses by the targets.
        step: your own training step, called as step(model, x, y): zero_grad, backward and the optimizer's step. It is
            run on the model itself, which is put back byte for byte.
        optimizer: that the step uses, to be put back too.
        most_examples: what all checks may cost, in training examples; None: what they need. The first ones take about
            1,200. A moment's training, to see that what is learned carries over, gets the rest, 84,000 at most, and is
            left out where that is too little for one look.
        engine: computes that training; None makes one.
        seed: of everything random.
        device, precision, threads: as in `Config`.

    Returns:
        A decision without a value.

    Raises:
        ConfigError, DataError: the model, data or device does not exist or cannot be read; a step is given without a
            module; data that can be gone through only once; most_examples is below 0.

    References: Karpathy 2019, "A recipe for training neural networks"; Zhang et al. 2021 (AUTOTRAINER) and Wardat et
    al. 2021 (DeepLocalize) for dead units and modes.

    >>> check_wiring("mlp", "digits").verdict
    'pass'
    """
    if most_examples is not None and most_examples < 0:
        raise ConfigError(
            f"most_examples = {most_examples}", "most_examples must be at least 0", "leave most_examples out"
        )
    began = time.perf_counter()
    if step is not None and not isinstance(model, nn.Module):
        raise ConfigError(
            "a step without the module that it trains",
            "step is called with the model that was given, so that must be an nn.Module",
            "pass the module whose parameters the optimizer holds",
        )
    with untouched(model, optimizer, data) as proof:
        task, findings = prepared(model, data, loss, seed=seed, device=device, precision=precision, threads=threads)
        evidence: dict[str, Any] = {}
        if task is not None:
            with task.machine.computing():
                findings += _checked(task, evidence, most_examples, engine)
                if step is not None and isinstance(model, nn.Module):
                    seen = own_step(task, model, step, optimizer)
                    evidence["own_step"] = dataclasses.asdict(seen)
                    findings += judge_step(**evidence["own_step"])
    seconds = time.perf_counter() - began
    return decided(0, "wiring", _CLAIM, findings, evidence=evidence, untouched=proof.digest, seconds=seconds)


def light_examples(task: Task) -> int:
    """Return what step 0 costs without a moment's training where nothing is wrong, in training examples."""
    size = len(batch(task)[1])
    return cost_in_examples(2 * size, (_FORWARD_PASSES + DESCENT_PASSES) * size)


def _checked(task: Task, evidence: dict[str, Any], most_examples: int | None, engine: Engine | None) -> list[Finding]:
    """Return what every check on copies of the model found, and put its numbers into `evidence`."""
    x, y = batch(task)
    with torch.no_grad():
        outputs = forward(task, task.fresh_model().train(), x)
    kind, both = loss_kind(task, outputs, y), modes(task)
    relus, examples = rectifiers(task)
    reached, slope = reach(task), descent(task)
    layers = [(each.units, each.dead) for each in relus]
    evidence["loss"] = {**dataclasses.asdict(kind), **dataclasses.asdict(both)}
    evidence["gradients"] = dataclasses.asdict(reached)
    evidence["relus"] = {"units": [units for units, _ in layers], "dead": [dead for _, dead in layers]}
    evidence["descent"] = dataclasses.asdict(slope)
    evidence["trained_examples"] = (reached.batches + 1) * len(y)
    evidence["evaluated_examples"] = (_FORWARD_PASSES + 1 + len(slope.changes)) * len(y)
    found = judge.loss_and_outputs(
        **_without(evidence["loss"], "sums"), classes=task.data.outputs if task.classifies else None
    )
    dead = any(units >= judge.LEAST_UNITS and dead == units for units, dead in layers)
    found += judge.gradients(**_without(evidence["gradients"], "batches"), dead_layer=dead)
    found += [judge.dead_relus(layers, examples), judge.descent(**evidence["descent"])]
    if all(finding.verdict != "fail" for finding in found):  # else it would only be found again
        found += _carried_over(task, evidence, most_examples, engine)
    return found


def _carried_over(
    task: Task, evidence: dict[str, Any], most_examples: int | None, engine: Engine | None
) -> list[Finding]:
    """Return whether a moment's training carries over, as far as what is left allows, and book what it took."""
    spent = cost_in_examples(evidence["trained_examples"], evidence["evaluated_examples"])
    left = MOST_EXAMPLES if most_examples is None else min(MOST_EXAMPLES, most_examples - spent)
    learned = dependence(task, left, engine)
    if learned is None:
        return []
    evidence["dependence"] = dataclasses.asdict(learned)
    for name in ("trained_examples", "evaluated_examples"):
        evidence[name] += sum(getattr(look, name) for look in learned.looks)
    return [judge.dependence(**_without(evidence["dependence"], "looks", "seconds"))]


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
