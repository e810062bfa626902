"""From what is perhaps wrong to a task that can be measured, or to the findings that say why there is none."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from surefoot.data.dataset import DataSet
from surefoot.errors import ConfigError
from surefoot.models.build import Factory, build
from surefoot.record.decision import Decision, Finding, worst
from surefoot.steps.probe import lenient_data
from surefoot.steps.wiring import judge
from surefoot.steps.wiring.measure import Fit, fit
from surefoot.training.machine import machine
from surefoot.training.task import Loss, Task, task


def prepared(
    model: str | nn.Module | Factory,
    data: Any,
    loss: Loss | None,
    *,
    seed: int,
    device: str,
    precision: str,
    threads: int | None,
) -> tuple[Task | None, list[Finding]]:
    """Return the task, if there is one, and what was found on the way to it.

    A model may have more outputs than labels occur; the data then gets the classes that are missing. With a loss of
    the user's own, outputs that are not one logit per class are let be, and the labels are what that loss takes.

    Raises:
        ConfigError, DataError: there is no such model, data or device.
    """
    given, refused = lenient_data(data, seed=seed)
    template = build(model, given.input_shape, given.outputs, seed)
    place = machine(device, precision, threads, template, given.input_shape)
    seen = fit(given, template, place, seed)
    findings = judge.shapes(**dataclasses.asdict(seen), refused=refused, own_loss=loss is not None)
    if worst(findings) == "fail":
        return None, findings
    try:
        whole = _with_all_classes(given, seen, own_loss=loss is not None)
        return task(whole, model, loss=loss, seed=seed, device=device, precision=precision, threads=threads), findings
    except ConfigError as error:  # model, data and machine passed before, so it is how they fit
        name = "gradients" if "trainable parameter" in error.given else "shapes"
        reason = f"{error.given}: {error.allowed}"
        return None, [*findings, Finding(name=name, verdict="fail", reason=reason, advice=error.do)]


def _with_all_classes(data: DataSet, seen: Fit, *, own_loss: bool) -> DataSet:
    if data.classes is None or seen.outputs is None:
        return data
    if own_loss and (len(seen.outputs) != 2 or seen.outputs[1] == 1):
        return dataclasses.replace(data, classes=None)
    more = range(len(data.classes), seen.outputs[1])
    return dataclasses.replace(data, classes=(*data.classes, *map(str, more)))


def decided(step: int, name: str, claim: str, findings: list[Finding], **more: Any) -> Decision:
    """Return the decision of a step that passes or fails: its reason is that of its gravest finding."""
    verdict = worst(findings)
    first = next((finding for finding in findings if finding.verdict == verdict), None)
    if verdict == "pass" or first is None:
        reason, advice = f"all {len(findings)} checks passed", None
    else:
        reason, advice = first.reason, first.advice
    return Decision(
        step=step,
        name=name,
        claim=claim,
        verdict=verdict,
        reason=reason,
        advice=advice,
        findings=tuple(findings),
        **more,
    )
