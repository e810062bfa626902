"""K states as one: their weights, slots and buffers stacked as [K, ...], in place, and a step of all of them.

A member whose loss or gradient is not finite is masked: its row stays as it was before that step, and its fellows never
know. A step takes nothing from the host but the seed of its draws, so on a card it is one CUDA graph.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from surefoot.optim.stacked import hyperparameters, slot_names, stacked_
from surefoot.record.run import Row
from surefoot.seeds import StepSeeds
from surefoot.training.graph import new_stream, side_stream, tried
from surefoot.training.groups import asleep, factors_of, sleeping, thaw, thaws
from surefoot.training.loop import advance_alike
from surefoot.training.population.member import Member
from surefoot.training.population.memberwise import copied, ema_shares, keep_, norms_of, survivors, tensors_of, wide
from surefoot.training.population.network import Network, has_rules
from surefoot.training.population.tables import Tables
from surefoot.training.state import State, trainable
from surefoot.training.step import Stretch

Found = tuple[Tensor, Tensor, Tensor, Tensor]
"""What a step saw of K members: mean losses [K], correct predictions [K], the norms of P weights' gradients [P, K], and
which members moved, bool [K]."""

Compute = Callable[["Stack"], Found]
"""(stack) -> what was seen, its loss the objective. It moves members that were alive and whose numbers are finite."""

_EVERY = {"cpu": 16, "cuda": 512}
"""Steps after which the host looks at the latest, and members that have ended leave. Chosen by hand: a CPU's host looks
for nothing, on a card it waits for all that is under way."""
_MOVING = {"cpu": 1.0, "cuda": 0.5}
"""They leave where at most this share of the rows still moves. Chosen by hand: on a card others take a new graph."""


class Stack:
    """K members that stand at one step, with everything that their steps need: a `Stepper` of the loop.

    Attributes:
        rows: positions, among all members that the stack is of, of those that it has.
        members: of the rows, in order.
        network: the model and loss that all of them share.
        tables: their batches and rates, and what steps saw.
        weights: the trained parameters by name, each [K, ...]; like all of the following they change in place.
        buffers: buffers and parameters that are not trained, by name, each [K, ...].
        slots: the rule's state by name, one for each weight, each [K, ...] or [K]: all that any member needs.
        averages: moving averages by name, each [K, ...]; None where none is kept.
        at: number of the update that is computed.
        used: names of the weights that took part in the last step; one without a gradient is left as it is.
        factors: of rate and weight decay of each weight.
        began: the step with which each weight begins to be trained.
        smoothing, clip: label smoothing and longest gradient, [K]; None where no member has one.
        rule: the hyperparameters of a weight's first step and those of all later ones, but for their rates.
        eager: why steps are not one graph on a card, in words; empty where they are, or where nothing was tried yet.
        torn: whether an update is half done; what interrupts it then takes its stretch with it.
    """

    def __init__(
        self, members: Sequence[Member], states: Sequence[State], compute: Compute | None = None,
        going: Sequence[int] | None = None, *, graphed: bool | None = None,
    ) -> None:  # fmt: skip
        """`graphed`: whether a step is to be a graph; None where there is a card."""
        self.all, self.states, self.compute = list(members), states, compute or eager
        task, plan = members[0].task, members[0].plan
        self.device = task.machine.device
        self.graphed = self.device.type == "cuda" if graphed is None else graphed
        model = task.fresh_model(plan.recipe.groups)
        self.trained = trainable(model)
        self.network = Network(task, model, len({member.task.seed for member in members}) == 1, has_rules(model))
        self.factors = tuple(factors_of(model, plan.recipe).values())
        self.began = list(thaws(model, plan).values())
        self._slot_names = slot_names([member.plan.recipe for member in members])
        self._stream, self.eager, self.at = new_stream(self.device), "", 0
        self._take(going)

    def is_of(self, members: Sequence[Member], states: Sequence[State], going: Sequence[int]) -> bool:
        """Return whether it would be the same made anew for these, but for the values of its tensors."""
        same = [a.task is b.task and a.plan is b.plan for a, b in zip(self.all, members, strict=False)]
        return len(members) == len(self.all) and all(same) and self._rows(states, going)[0] == self.rows

    @torch.no_grad()
    def load(self, states: Sequence[State], going: Sequence[int]) -> None:
        """Take over the values of other states of the same members, in place."""
        self.states = states
        _, self._ends = self._rows(states, going)
        self._fill()

    def _rows(self, states: Sequence[State], going: Sequence[int] | None) -> tuple[list[int], dict[int, int]]:
        """Return which members are rows, and of those that have ended the updates that they did."""
        asked = range(len(states)) if going is None else going
        if self.compute is not eager:  # what is compiled is for so many
            return list(range(len(states))), {}
        step = states[asked[0]].step
        ends = {i: state.step for i, state in enumerate(states) if state.outcome is not None and state.step < step}
        return self._left(ends, sorted({*asked, *ends}), step), ends

    def _left(self, ends: Mapping[int, int], rows: Sequence[int], step: int) -> list[int]:
        return survivors(ends, rows, step, _EVERY[self.device.type], _MOVING[self.device.type])

    def _take(self, going: Sequence[int] | None) -> None:
        self.rows, self._ends = self._rows(self.states, going)
        first, many = self.states[self.rows[0]], len(self.rows)

        def room(like: Tensor, shape: str = "weight") -> Tensor:
            return like.detach().new_zeros((many, *like.shape) if shape == "weight" else (many,))

        tensors = tensors_of(first.model)
        self.weights = {name: room(tensors[name]) for name in self.trained}
        self.buffers = {name: room(value) for name, value in tensors.items() if name not in self.trained}
        self.slots = {
            name: [room(tensors[weight], shape) for weight in self.trained] for name, shape in self._slot_names.items()
        }
        average = next((self.states[row].average for row in self.rows if self.states[row].average is not None), None)
        self.averages = None if average is None else {name: room(value) for name, value in average.items()}
        self.used = list(self.weights)
        self._fill()
        self._tabulate()

    @torch.no_grad()
    def _fill(self) -> None:
        states, self.torn, self._gone = [self.states[row] for row in self.rows], False, set[int]()
        self._slots: dict[int, dict[str, list[Tensor]]] = {}  # room after a first update: `settle` takes no memory
        for row in self.rows:
            names = () if self.states[row].slots else slot_names([self.all[row].plan.recipe])
            self._slots[row] = {name: [torch.empty_like(value[0]) for value in self.slots[name]] for name in names}
        tensors = [tensors_of(state.model) for state in states]
        for name, value in (*self.weights.items(), *self.buffers.items()):
            torch.stack([of_one[name].detach() for of_one in tensors], out=value)
        for name, values in self.slots.items():
            for place, value in enumerate(values):
                zeros = torch.zeros_like(value[0])
                torch.stack([state.slots[name][place] if name in state.slots else zeros for state in states], out=value)
        for name, value in (self.averages or {}).items():
            torch.stack([state.average[name] for state in states if state.average is not None], out=value)

    def _tabulate(self) -> None:
        """Look up all that is the same in each step of the rows as they are."""
        self.members = [self.all[row] for row in self.rows]
        recipes = [member.plan.recipe for member in self.members]

        def column(values: list[float]) -> Tensor | None:
            return torch.tensor(values, device=self.device) if any(values) else None

        self.smoothing = column([recipe.label_smoothing for recipe in recipes])
        clipped = any(recipe.clip_norm is not None for recipe in recipes)
        self.clip = column([recipe.clip_norm or math.inf for recipe in recipes]) if clipped else None
        rates = torch.zeros(len(recipes), device=self.device)
        self.rule = tuple(hyperparameters(recipes, rates, first=first) for first in (True, False))
        self.tables = Tables(self.members, _EVERY[self.device.type], self.device, shared=self.network.shared_batches)
        self._replay: Callable[[], None] | None = None
        self._warm = False

    @torch.no_grad()
    def run(self, stretches: Sequence[Stretch], seeds: StepSeeds) -> None:
        """Do the updates of a stretch of each, as the loop's `Stepper` says; none of them if one is `torn`."""
        live, done, steps = list(stretches), 0, len(stretches[0].rates)
        try:
            with side_stream(self.device, self._stream):
                while live and done < steps:
                    first, every = stretches[0].first + done, self.tables.steps
                    self._keep(self._left(self._ends, self.rows, first))
                    many = min(steps - done, every - first % every)
                    self._some(live, done, many, seeds)
                    live, done = [stretch for stretch in live if not stretch.failed], done + many
        finally:
            for stretch in stretches if self.torn else ():
                if stretch.run not in self._gone:
                    stretch.losses, stretch.grad_norms, stretch.correct = [], [], 0

    def _some(self, live: Sequence[Stretch], done: int, many: int, seeds: StepSeeds) -> None:
        """Do so many updates of stretches, and read what they saw."""
        first, places = live[0].first + done, [self.rows.index(stretch.run) for stretch in live]
        rates = np.zeros((many, len(self.rows)))
        rates[:, places] = np.array([stretch.rates[done : done + many] for stretch in live]).T
        self.tables.begin([i in places for i in range(len(self.rows))], rates, ema_shares(self.members, first, many))
        measured = live[0].measure_update and done + many == len(live[0].rates)
        before, steps = {}, 0
        try:
            for at in range(first, first + many):
                if measured and at == first + many - 1:
                    before = {name: value.clone() for name, value in self.weights.items()}
                self._one(at, seeds, plain=bool(before))
                steps += 1
        finally:
            self._read(live, places, first, steps)
        if before:
            self.torn = True  # without its measurement the last step would have no row
            self._measure(live, places, self._norms, before)
            self.torn = False

    def _one(self, at: int, seeds: StepSeeds, *, plain: bool) -> None:
        """Do update number `at`, replayed if it may be."""
        self.go_to(at)
        begins = at in self.began or at in self.members[0].plan.turns
        if begins:  # other weights are trained from here, or images have another size
            self._replay, self._warm = None, False
        if not plain and not begins and self._captured(at, seeds):
            assert self._replay is not None
            seeds.at(at)
            self._replay()
            return
        seeds.at(at)
        self._update()
        self._warm = self._warm or not begins

    def go_to(self, step: int) -> None:
        """Make ready for the batch of a step, and let stand still what does so in it."""
        self.at = step
        self.tables.turn_to(step)
        plan = self.members[0].plan
        self.still = asleep(self.network.model, plan, step) if thaw(plan.recipe.groups) else []

    def _captured(self, at: int, seeds: StepSeeds) -> bool:
        """Return whether a step is a graph, after a trial where none was tried."""
        if self._replay is not None or not self.graphed or not self._warm or self.eager:
            return self._replay is not None
        task = self.network.task
        if task.draws or self.tables.refusal is not None:
            self.eager = self.tables.refusal or "the model draws from NumPy's or Python's generators"
            return False
        models = [self.network.model, *(loss for loss in [task.loss] if isinstance(loss, nn.Module))]
        graph = tried(self._update, self._changing, models, self.device, lambda i: seeds.at(at + i))
        if isinstance(graph, str):
            self.eager = graph
            return False
        self._replay = graph
        return True

    def _changing(self) -> list[Tensor]:
        slots = itertools.chain(*self.slots.values())
        averages = (self.averages or {}).values()
        return [*self.weights.values(), *self.buffers.values(), *slots, *averages, *self.tables.changing]

    @torch.no_grad()
    def _update(self) -> None:
        """Do one update of all that move."""
        self.torn = True
        loss, correct, self._norms, moved = self.compute(self)
        if self.averages is not None:
            shares, averages, mask = self.tables.shares, list(self.averages.values()), self.mask(moved)
            before = copied(averages) if mask is not None else []
            for name, value in self.averages.items():
                now = self.weights[name] if name in self.weights else self.buffers[name]
                value.lerp_(now, wide(shares, value).to(value.dtype))
            keep_(averages, before, mask)
        self.tables.note(loss, torch.linalg.vector_norm(self._norms, dim=0), correct, moved)
        self.torn = False

    def mask(self, moved: Tensor) -> Tensor | None:
        """Return which members move; None for all of them, where the host may look."""
        return None if self.device.type == "cpu" and not self.graphed and bool(moved.all()) else moved

    def _read(self, live: Sequence[Stretch], places: Sequence[int], first: int, steps: int) -> None:
        """Note what steps saw of each member up to the one that was not finite, if there is such a one."""
        if steps == 0:
            return
        seen = self.tables.read(steps)
        finite: Any = np.isfinite(seen[:, :2]).all(1)
        for stretch, place in zip(live, places, strict=True):
            ended = not finite[:, place].all()
            many = int(finite[:, place].argmin()) if ended else steps
            losses, norms, correct = seen[: many + ended, :, place].T.tolist()
            stretch.losses += [loss * self.network.task.loss_unit for loss in losses]
            stretch.grad_norms += norms
            stretch.correct += sum(correct[:many])
            if ended:
                self._ends[stretch.run] = first + many

    def settle(self, run: int) -> None:
        """Copy one member's tensors back into its state. Its slots begin with its first update."""
        if run not in self._gone and not self.torn:
            self._store(self.rows.index(run), self.states[run].step)

    @torch.no_grad()
    def _store(self, place: int, updates: int) -> None:
        tensors = tensors_of((state := self.states[self.rows[place]]).model)
        for name, value in (*self.weights.items(), *self.buffers.items()):
            tensors[name].copy_(value[place])
        if updates > 0:
            state.slots = state.slots or self._slots[self.rows[place]]
        for name, values in state.slots.items():
            for i, value in enumerate(values):
                value.copy_(self.slots[name][i][place])
        for name, value in (self.averages or {}).items():
            assert state.average is not None
            state.average[name].copy_(value[place])

    def _keep(self, rows: Sequence[int]) -> None:
        """Let go of the members that are not among these rows, all of which have ended."""
        if rows == self.rows:
            return
        self.torn = True
        for place, row in enumerate(self.rows):
            if row not in rows:
                self._store(place, self._ends[row])
                self._gone.add(row)
        index = torch.as_tensor([self.rows.index(row) for row in rows], device=self.device)
        for table in (self.weights, self.buffers, self.averages or {}):
            for name in table:
                table[name] = table[name].index_select(0, index)
        self.slots = {name: [value.index_select(0, index) for value in values] for name, values in self.slots.items()}
        self.rows, self.torn = list(rows), False
        self._tabulate()

    def gradient(self) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return losses, correct predictions and the gradient of each weight that took part, [K, ...].

        They are accumulated over the pieces of a batch as in one run.
        """
        pieces, shares = self.tables.batch()
        network, still = self.network, self.still
        with sleeping(network.model, still):
            found = [network.gradient(self.weights, self.buffers, x, y, self.smoothing, still) for x, y in pieces]
        if len(found) == 1:
            return found[0][0], found[0][1], found[0][3]
        counts = [count for _, _, count, _ in found if count is not None]
        weights: Any = shares  # of each piece, by what its loss counts or by its examples
        if counts:
            by_count = torch.stack(counts)
            weights = by_count / by_count.sum(0).clamp_min(1e-30)
        grads: dict[str, Tensor] = {}
        for (_, _, _, of_piece), weight in zip(found, weights, strict=True):
            for name, grad in of_piece.items():
                share = wide(weight, grad) if counts else weight
                grads[name] = grads[name].add_(grad * share) if name in grads else grad * share
        loss = torch.stack([loss * weight for (loss, *_), weight in zip(found, weights, strict=True)]).sum(0)
        return loss, torch.stack([correct for _, correct, _, _ in found]).sum(0), grads

    def _measure(
        self, live: Sequence[Stretch], places: Sequence[int], norms: Tensor, before: dict[str, Tensor]
    ) -> None:
        """Note the relative update of each member, and of each of its layers."""
        moves = norms_of([self.weights[name] - before[name] for name in self.used])
        sizes = norms_of([before[name] for name in self.used])
        total, size = (torch.linalg.vector_norm(each, dim=0) for each in (moves, sizes))
        ratios = torch.where(size > 0, total / size, torch.zeros_like(size)).tolist()
        table = torch.stack([norms, torch.where(sizes > 0, moves / sizes, torch.full_like(sizes, math.nan))])
        layers = [(i, name) for i, name in enumerate(self.used) if self.trained[name].dim() > 1]
        columns = table.double().permute(2, 1, 0).tolist()  # [K, P, 2]
        for stretch, place in zip(live, places, strict=True):
            if not stretch.failed:
                stretch.update_ratio = ratios[place]
                stretch.layers = {name.removesuffix(".weight"): (*columns[place][i],) for i, name in layers}


def eager(stack: Stack) -> Found:
    """Compute one step operation by operation: convolutions grouped, linear layers as batched products."""
    buffers = [stack.buffers[name] for name, _ in stack.network.model.named_buffers()]
    former = copied(buffers)
    try:
        loss, correct, grads = stack.gradient()
    except BaseException:  # Ctrl-C too: nothing of the step is left
        for value, before in zip(buffers, former, strict=True):
            value.copy_(before)
        stack.torn = False
        raise
    stack.used = list(grads)
    norms = norms_of(list(grads.values()))
    norm = torch.linalg.vector_norm(norms, dim=0)
    moved = loss.isfinite() & norm.isfinite() & stack.tables.alive
    names, mask = list(stack.weights), stack.mask(moved)
    weights, places = [stack.weights[name] for name in grads], [names.index(name) for name in grads]
    slots = {name: [values[place] for place in places] for name, values in stack.slots.items()}
    moving = [*weights, *itertools.chain(*slots.values())]
    before = copied(moving) if mask is not None else []
    if stack.clip is not None:
        scale = torch.clamp(stack.clip / norm, max=1.0)
        for grad in grads.values():
            grad.mul_(wide(scale, grad))
    moves, lr = list(grads.values()), stack.tables.rates
    for first in (True, False):
        some = [i for i, place in enumerate(places) if (stack.began[place] == stack.at) is first]
        of_some = {name: [values[i] for i in some] for name, values in slots.items()}
        rule, factors = stack.rule[0 if first else 1].at(lr), [stack.factors[places[i]] for i in some]
        with stack.network.task.machine.updating(rule.rule):
            stacked_([weights[i] for i in some], [moves[i] for i in some], of_some, rule, factors)
    keep_([*moving, *buffers], [*before, *former], mask)
    return loss, correct, norms, moved


def advance_stack(
    members: Sequence[Member], states: Sequence[State], until_step: int, compute: Compute | None = None,
    going: Sequence[int] | None = None, stack: Stack | None = None, rows: list[list[Row]] | None = None,
) -> list[list[Row]]:  # fmt: skip
    """Advance members that `groups` found alike as one, change their states, and return the new rows of each.

    `compute` None goes operation by operation; `going` are the positions of those that are advanced, None is all;
    `stack` is of these states, None makes one; `rows` as in `advance_alike`.
    """
    runs = [(member.task, member.plan) for member in members]
    return advance_alike(runs, states, until_step, stack or Stack(members, states, compute, going), going, rows)
