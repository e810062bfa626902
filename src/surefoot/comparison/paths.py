"""The loss along runs, at log-spaced steps, on the same training examples for all; and the weights on the way."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from surefoot.data.dataset import DataSet, Part
from surefoot.data.split import stratified
from surefoot.optim.plan import Plan
from surefoot.training.evaluate import evaluate_part
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, start_many
from surefoot.training.population.member import Member
from surefoot.training.state import State, trainable


@dataclass(frozen=True)
class Path:
    """What was seen along one run.

    Attributes:
        losses: training loss at each mark, [P]; infinite from where the run diverged.
        weights: trainable parameters as one vector at each mark, [P, D] float32; None unless asked for.
        state: at the end.
    """

    losses: tuple[float, ...]
    weights: Tensor | None
    state: State


def log_marks(steps: int, points: int) -> tuple[int, ...]:
    """Return steps at which to look, 0 and then evenly spaced in their logarithm, each once.

    Args:
        steps: T, the last of them.
        points: how many after 0, at most.

    >>> log_marks(100, 5)
    (0, 1, 3, 10, 32, 100)
    """
    found = {max(1, round(float(step))) for step in np.geomspace(1, steps, points)}
    return (0, *sorted(found | {steps}))


def part_of(data: DataSet, part: Part, examples: int, stream: str) -> Part:
    """Return so many examples of a part, with the same mix of classes; the part itself where it has no more.

    Args:
        data: says whether there are classes.
        part: of it.
        examples: at least 1.
        stream: name of the random stream; the choice depends on nothing else.

    >>> import surefoot
    >>> digits = surefoot.load("digits")
    >>> len(part_of(digits, digits.train, 100, "few"))
    100
    """
    if examples >= len(part):
        return part
    labels = part.y.cpu().numpy() if data.classes is not None else None
    _, chosen = stratified(labels, len(part), examples / len(part), 0, stream)
    rows = torch.from_numpy(chosen)
    where = rows.to(part.y.device)
    return Part(part.x[where], part.y[where], part.source.taken(chosen))


def unseen_rows(plan: Plan) -> Plan:
    """Return the plan with one row at its end: the marks are evaluated outside the loop."""
    return dataclasses.replace(plan, row_steps=(plan.steps,))


def flat(model: nn.Module) -> Tensor:
    """Return the trainable parameters as one vector, [D] float32 on the CPU."""
    return torch.cat([each.detach().float().reshape(-1).cpu() for each in trainable(model).values()])


def follow(
    members: Sequence[Member], marks: Sequence[int], judged: Part, engine: Engine, keep: Sequence[int] = ()
) -> Generator[int, None, list[Path]]:
    """Train members of one length and return what was seen of each.

    Args:
        members: [K], whose plans have as many steps.
        marks: from `log_marks`.
        judged: training examples on which the loss is evaluated, in evaluation mode.
        engine: computes the steps.
        keep: positions of the members whose weights are kept.

    Yields:
        updates of single members that the last piece of work was worth.
    """
    states = start_many(members)
    losses: list[list[float]] = [[] for _ in members]
    weights: dict[int, list[Tensor]] = {i: [] for i in keep}
    at = 0
    for mark in marks:
        if mark > at:
            states, _ = advance_many(members, states, mark, engine)
        for i, (member, state) in enumerate(zip(members, states, strict=True)):
            losses[i].append(_loss(member, state, judged))
            if i in weights:
                weights[i].append(flat(state.model))
        yield len(members) * (mark - at)
        at = mark
    kept = [torch.stack(weights[i]) if i in weights else None for i in range(len(members))]
    return [Path(tuple(own), w, state) for own, w, state in zip(losses, kept, states, strict=True)]


def _loss(member: Member, state: State, judged: Part) -> float:
    if state.outcome is not None and state.outcome.kind == "diverged":
        return math.inf
    loss = evaluate_part(member.task, state.model, state.weights, judged).loss
    return loss if math.isfinite(loss) else math.inf
