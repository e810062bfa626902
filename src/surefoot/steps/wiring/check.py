"""Step 0 of the procedure: do data, model, loss and training step fit together at all."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch
from torch import nn

from surefoot.data.dataset import DataSet
from surefoot.errors import ConfigError
from surefoot.models.build import Factory, build, embeds
from surefoot.record.decision import Decision, Finding, cost_in_examples, decision, fails, passes, worst
from surefoot.steps.probe import lenient_data
from surefoot.steps.untouched import untouched
from surefoot.steps.wiring.dependence import MOST_EXAMPLES, dependence, may_be_asked
from surefoot.steps.wiring.inputs import inputs_examples, measure_inputs
from surefoot.steps.wiring.judge import Fit, judge, judge_fit
from surefoot.steps.wiring.judge_inputs import judge_inputs
from surefoot.steps.wiring.judge_training import judge_dependence, judge_user_step, not_asked
from surefoot.steps.wiring.measure import measure, measure_fit, measured_examples
from surefoot.steps.wiring.user_step import UserStep, try_user_step
from surefoot.switches import usual_switches
from surefoot.training.call import Forward, LossFn, function_of
from surefoot.training.integers import with_integers_for
from surefoot.training.losses import Loss
from surefoot.training.machine import machine
from surefoot.training.make import task
from surefoot.training.population.engine import Engine
from surefoot.training.preprocessed import Preprocessed
from surefoot.training.task import Task

_CLAIM = "data, model, loss and step fit together: the loss reaches every weight, falls along it, and the inputs matter"


@usual_switches
def check_wiring(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | str | None = None,
    *,
    forward: Forward | str | None = None,
    loss_fn: LossFn | str | None = None,
    step: UserStep | None = None,
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
    along the negative gradient lowers the loss; that outputs depend on each input, on no other example of the batch,
    and not on the answers, as a language model without a causal mask does; that what a moment's training learns carries
    over to examples that were held out, or labels do not depend on inputs; and your own training step. All but the last
    on copies.

    Args:
        model: a shipped name, "package.module:factory", a factory, or a module, in the state it starts training from.
        data: whatever `surefoot.load` takes, a DataLoader, or any collection of batches (x, y).
        loss: a name, or (outputs, targets) -> scalar, [B] or (sum, count), as in `surefoot.task`; None chooses by the
            targets.
        forward, loss_fn: as in `surefoot.task`. What a loss of your own does not show is not asked.
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
        whole, findings = fitting_task(
            model, data, loss, forward=forward, loss_fn=loss_fn, seed=seed, device=device, precision=precision,
            threads=threads,
        )  # fmt: skip
        evidence: dict[str, Any] = {}
        if whole is not None:
            with whole.machine.computing():
                findings += _checked(whole, evidence, most_examples, engine)
                if step is not None and isinstance(model, nn.Module):
                    facts = try_user_step(whole, model, step, optimizer)
                    evidence["own_step"] = dataclasses.asdict(facts)
                    findings += judge_user_step(facts)
    more: dict[str, Any] = {"evidence": evidence, "untouched": proof.digest, "seconds": time.perf_counter() - began}
    if worst(findings) == "pass":
        more["reason"] = f"all {len(findings)} checks passed"
    return decision(0, "wiring", _CLAIM, findings, **more)


def light_examples(task: Task) -> int:
    """Return what step 0 costs without a moment's training where nothing is wrong, in training examples."""
    trained, evaluated = measured_examples(task)
    return cost_in_examples(trained, evaluated + inputs_examples(task))


def _checked(whole: Task, evidence: dict[str, Any], most_examples: int | None, engine: Engine | None) -> list[Finding]:
    """Return the findings of every check on copies of the model, and put their numbers into `evidence`."""
    facts = measure(whole)
    evidence["loss"] = dataclasses.asdict(facts.loss) | dataclasses.asdict(facts.modes)
    evidence["gradients"] = dataclasses.asdict(facts.reach)
    evidence["relus"] = {name: [getattr(relu, name) for relu in facts.rectifiers] for name in ("units", "dead")}
    evidence["descent"] = dataclasses.asdict(facts.descent)
    evidence["trained_examples"], evidence["evaluated_examples"] = facts.trained_examples, facts.evaluated_examples
    findings = judge(facts)
    if worst(findings) == "fail":  # what follows would only show it again
        return findings
    needed = measure_inputs(whole)
    evidence["inputs"] = dataclasses.asdict(needed)
    evidence["evaluated_examples"] += needed.evaluated_examples
    findings += judge_inputs(needed)
    if not may_be_asked(whole):
        return [*findings, not_asked(whole.data.target, shows_outputs=whole.loss_fn is None)]
    if worst(findings) == "fail":
        return findings
    left = MOST_EXAMPLES
    if most_examples is not None:
        left = min(left, most_examples - cost_in_examples(facts.trained_examples, evidence["evaluated_examples"]))
    learned = dependence(whole, left, engine)
    if learned is None:
        return findings
    evidence["dependence"] = dataclasses.asdict(learned)
    for name in ("trained_examples", "evaluated_examples"):
        evidence[name] += sum(getattr(look, name) for look in learned.looks)
    return [*findings, judge_dependence(learned)]


def fitting_task(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | str | None,
    *,
    seed: int,
    device: str,
    precision: str,
    threads: int | None,
    forward: Forward | str | None = None,
    loss_fn: LossFn | str | None = None,
) -> tuple[Task | None, list[Finding]]:
    """Return the task, if model, data and loss make one, and the findings on the way to it.

    A model may have more outputs than labels occur; the data then gets the classes that are missing. With a loss of
    the user's own, outputs that are not one logit per class are let be, and the labels are what that loss takes.

    Raises:
        ConfigError, DataError: there is no such model, data or device.
    """
    loss, call = function_of(loss, "loss"), function_of(forward, "forward")
    whole, refused = lenient_data(data, seed=seed)
    model = model.net if isinstance(model, Preprocessed) else model
    if whole.columns is not None and not embeds(model):
        from surefoot.data.columns import unembedded  # with pyarrow, which nothing but a table needs

        whole = unembedded(whole)
    findings = list[Finding]()
    if loss_fn is None and whole.target in ("classes", "numbers"):
        template = build(model, whole.input_shape, whole.outputs, seed, whole.categories)
        place = machine(device, precision, threads, template, whole.input_shape)
        whole = with_integers_for(whole, template)
        fit = measure_fit(whole, template, place, seed, call)
        findings = judge_fit(fit, refused, custom_loss=callable(loss))
        if worst(findings) == "fail":
            return None, findings
        whole = _with_all_classes(whole, fit, custom_loss=callable(loss))
    try:
        made = task(
            whole, model, loss=loss, forward=call, loss_fn=loss_fn, seed=seed, device=device, precision=precision,
            threads=threads,
        )  # fmt: skip
    except ConfigError as error:
        if not findings and not error.given.startswith(_OF_FIT):
            raise
        # Model, data and machine passed before, so it is how they fit.
        name = "gradients" if "trainable parameter" in error.given or "gradient" in error.given else "shapes"
        return None, [*findings, fails(name, f"{error.given}: {error.allowed}", error.do)]
    return made, findings or [passes("shapes", "model and loss take a batch")]


_OF_FIT = (
    "in training mode",
    "in evaluation mode",
    "a loss that",
    "the loss",
    "loss_fn:",
    "the gradient",
    "a gradient",
)
"""How `surefoot.task` begins what it says of model, data and loss together; all else is a wrong argument."""


def _with_all_classes(data: DataSet, fit: Fit, *, custom_loss: bool) -> DataSet:
    if data.classes is None or fit.outputs is None:
        return data
    if custom_loss and (len(fit.outputs) != 2 or fit.outputs[1] == 1):
        return dataclasses.replace(data, classes=None)
    more = range(len(data.classes), fit.outputs[1])
    return dataclasses.replace(data, classes=(*data.classes, *map(str, more)))
