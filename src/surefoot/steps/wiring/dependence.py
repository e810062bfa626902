"""Do the targets depend on the inputs: short trainings, and a test on examples that they did not see."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from surefoot.config import Recipe, Schedule
from surefoot.data import tree
from surefoot.data.batches import epoch_order
from surefoot.data.dataset import Part
from surefoot.optim.plan import plan
from surefoot.record.decision import cost_in_examples
from surefoot.seeds import generator
from surefoot.steps.follow import follow
from surefoot.steps.wiring.judge_training import CLEAR, LEAST_HELD_OUT, Dependence, HeldOutTest
from surefoot.training.evaluate import outputs_of
from surefoot.training.population.engine import Engine
from surefoot.training.population.member import Member
from surefoot.training.state import State
from surefoot.training.task import Task

LEAST_STEPS = 30
"""Updates after which no dependence is evidence: 33 sound tasks (tests/support/faults.py) and the shipped models on
CIFAR-10 show theirs after 10 or 30."""
MOST_EXAMPLES = 84_000
"""What it may cost where nobody says: all looks, and as many at planted targets, with 600 examples held out. Where no
dependence is found that takes a second for perceptrons and 10 to 25 s for the shipped CNNs on digits, on one core."""
_RATES = (1e-1, 1e-2, 1e-3)
"""Learning rates, of which one should fit: the three larger ones that the procedure tries in step 3."""
_LOOKS = (10, 30, 60, 100, 150, 200)
"""Updates after which the test is made; a plain dependence shows at the first, and then training ends."""
_MOST_EXAMPLES = 2000
_HELD_OUT = 0.3
_BATCH = 64
"""All chosen by hand."""
_NONE = -99.0
"""z where no member could be asked."""


def dependence(task: Task, most_examples: int = MOST_EXAMPLES, engine: Engine | None = None) -> Dependence | None:
    """Return whether a network trained for a moment knows anything of targets that it did not see.

    The statistic is A = sum_i s_i(y_i), the score that outputs i give to target y_i: the log-probability of a class, or
    output times target for numbers. If targets do not depend on inputs, every matching of targets to outputs is as
    likely as the given one, and A has the mean and variance of a random matching (Hoeffding 1951, "A combinatorial
    central limit theorem"), so z = (A - E A) / sd(A). It asks for no prior, and holds for any imbalance of classes.

    A low z is evidence only beside a high one: that of targets planted in the same inputs, after a training of at most
    the same length. So each look that shows nothing is followed by one at planted targets, until these are clear. Where
    `LEAST_STEPS` updates and a look at planted targets cannot be paid for, a low z will be no evidence, and one look is
    taken: a plain dependence shows there.

    Args:
        task: what is learned; nothing of it is changed.
        most_examples: what it may cost, in training examples, repetitions counted: no look is begun that would cost
            more. One that only outputs are computed for counts a third.
        engine: computes the steps; None makes one.

    Returns:
        what was found; None where not one look can be paid for.
    """
    began = time.perf_counter()
    small, held = _parts(task)
    costs = _costs(small, held)
    if costs[0] > most_examples:
        return None
    training, control = _Training(small, held, engine := engine or Engine()), None
    enough = len(held) >= LEAST_HELD_OUT  # else a low z is no evidence, and all may be spent on finding a high one
    if enough and sum(costs[: _LOOKS.index(LEAST_STEPS) + 1]) + costs[0] <= most_examples:
        control = _Training(*_planted(small, held), engine, planted=True)

    def affordable(some: _Training) -> bool:
        spent = training.cost + (control.cost if control else 0)
        return some.open and spent + costs[len(some.tests)] <= most_examples

    while affordable(training):
        training.look()
        if control is None and enough:
            break
        if control is not None and training.open and affordable(control):
            control.look()
    steps = training.tests[-1].steps
    told = training.z < CLEAR and training.alive and steps >= LEAST_STEPS
    counts = torch.bincount(held.y) if task.classifies else None
    return Dependence(
        z=training.z,
        planted_z=control.z if control and control.tests and told else None,
        accuracy=training.accuracy,
        majority=float(counts.max() / len(held)) if counts is not None else None,
        examples=small.data.examples,
        held_out=len(held),
        steps=steps,
        looks=(*training.tests, *(control.tests if control else ())),
        seconds=time.perf_counter() - began,
    )


def may_be_asked(task: Task) -> bool:
    """Return whether outputs can be matched with targets, one by one: not those of pixels and tokens, nor a loss's."""
    return task.loss_fn is None and task.data.target in ("classes", "numbers", "multilabel")


def matching_z(scores: Tensor, targets: Tensor) -> float:
    """Return by how many standard deviations outputs match their own targets better than others'.

    Args:
        scores: what each output gives to each kind of target, [N, C]; for numbers, outputs [N, D].
        targets: classes, int64 [N]; or numbers [N, D].

    >>> y = torch.arange(100) % 4
    >>> [round(matching_z(F.one_hot(y).float(), targets), 1) for targets in (y, torch.arange(100) // 25)]
    [17.2, 0.7]
    """
    scores = scores.double().cpu()
    against = scores[:, targets.cpu()] if targets.dim() == 1 else scores @ targets.double().cpu().T  # [N, N]
    centred = against - against.mean(0, keepdim=True) - against.mean(1, keepdim=True) + against.mean()
    deviation = float((centred.square().sum() / (len(centred) - 1)).sqrt())
    z = float(centred.diagonal().sum()) / deviation if deviation > 1e-12 * float(scores.abs().max() + 1e-300) else 0.0
    return z if math.isfinite(z) else 0.0


def _parts(task: Task) -> tuple[Task, Part]:
    """Return the task on a part of its training examples, and other training examples to test on."""
    rows = epoch_order(task.data.examples, task.seed, 0)[:_MOST_EXAMPLES]
    held = max(1, round(_HELD_OUT * len(rows)))
    train = task.data.train.taken(rows[held:])
    data = dataclasses.replace(task.data, train=train, validation=None, test=None)
    return dataclasses.replace(task, data=data, augment=None), task.data.train.taken(rows[:held])


def _costs(task: Task, held: Part) -> list[int]:
    """Return what each look costs at most, with the training since the look before, in training examples."""
    size, rates = min(_BATCH, task.data.examples), len(_RATES)
    return [cost_in_examples(rates * size * int(steps), rates * len(held)) for steps in np.diff([0, *_LOOKS])]


class _Training:
    """The members at all rates on one set of targets, from look to look.

    Attributes:
        tests: made so far, one at each look.
        z: the largest of them, -99 before the first; accuracy: where it was.
        alive: whether some member has not diverged.
    """

    def __init__(self, task: Task, held: Part, engine: Engine, *, planted: bool = False) -> None:
        self.task, self.held, self.planted = task, held, planted
        self.size = min(_BATCH, task.data.examples)
        constant = Schedule(kind="constant")
        base = Recipe(steps=_LOOKS[-1], batch_size=self.size, weight_decay=0.0, schedule=constant)
        recipes = [dataclasses.replace(base, lr=lr) for lr in _RATES]
        task = dataclasses.replace(task, optimizer=None)
        self.looks = follow([Member(task, plan(recipe, task.data.examples)) for recipe in recipes], _LOOKS, engine)
        self.tests: list[HeldOutTest] = []
        self.z, self.accuracy, self.alive = _NONE, None, True

    @property
    def open(self) -> bool:
        """Whether another look can change anything."""
        return self.z < CLEAR and self.alive and len(self.tests) < len(_LOOKS)

    @property
    def cost(self) -> int:
        """What it has cost so far, in training examples."""
        trained = sum(test.trained_examples for test in self.tests)
        return cost_in_examples(trained, sum(test.evaluated_examples for test in self.tests))

    def look(self) -> None:
        """Train until the next look, and make the test there."""
        updates = 0
        for look in self.looks:
            updates += look.steps
            if look.mark is not None:
                self._test(look.mark, look.states, updates)
                return

    def _test(self, mark: int, states: Sequence[State], updates: int) -> None:
        asked = [state for state in states if state.outcome is None or state.outcome.kind == "finished"]
        answers = [_held_out_z(self.task, state.model, self.held) for state in asked]
        z, accuracy = max(answers, key=lambda answer: answer[0], default=(_NONE, None))
        if z > self.z:
            self.z, self.accuracy = z, accuracy
        trained, evaluated = updates * self.size, len(asked) * len(self.held)
        self.tests.append(HeldOutTest(self.planted, mark, trained, evaluated, max(z, _NONE)))
        self.alive = bool(asked)


def _held_out_z(task: Task, model: torch.nn.Module, held: Part) -> tuple[float, float | None]:
    pairs = list(outputs_of(task, model, model.state_dict(), held))
    if not all(isinstance(outputs, Tensor) for outputs, _ in pairs):
        return 0.0, None  # several outputs, of a loss of the user's: which one should match is not known
    outputs, y = torch.cat([outputs for outputs, _ in pairs]), torch.cat([y for _, y in pairs])
    if not bool(torch.isfinite(outputs).all()):
        return -math.inf, None
    if task.classifies:
        return matching_z(F.log_softmax(outputs, 1), y), float((outputs.argmax(1) == y).float().mean())
    targets = y.float().reshape(len(y), -1)
    scores = outputs.reshape(len(y), -1)
    if scores.shape[1] != targets.shape[1]:  # a loss of its own kind: ask only whether outputs and targets go together
        scores = scores[:, :1].expand(-1, targets.shape[1])
    return matching_z(scores, targets), None


def _planted(task: Task, held: Part) -> tuple[Task, Part]:
    """Return task and held-out part with targets that are a function of the inputs: their order along a direction.

    Classes keep their counts, numbers their values: the same targets, handed out by rank.
    """
    train = task.data.train
    leaves = [torch.cat(pair) for pair in zip(tree.leaves(train.x), tree.leaves(held.x), strict=True)]
    x = torch.cat([leaf.reshape(len(leaf), -1).double() for leaf in leaves], 1)
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    direction = generator(task.seed, "planted").normal(size=x.shape[1]) / math.sqrt(x.shape[1])
    ranks = torch.argsort(torch.argsort(x @ torch.from_numpy(direction).to(x.device)))
    y = torch.cat([train.y, held.y])
    flat = y.reshape(len(y), -1)[:, 0]
    planted = y[torch.argsort(flat, stable=True)][ranks]
    data = dataclasses.replace(task.data, train=dataclasses.replace(train, y=planted[: len(train)]))
    return dataclasses.replace(task, data=data), dataclasses.replace(held, y=planted[len(train) :])
