"""What steps read and write on the device in place of the host: rates, orders and draws ahead, and what they saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from surefoot.data.batches import fetch_rows, resized
from surefoot.data.epochs import epoch_draws, epoch_rows
from surefoot.optim.plan import Plan
from surefoot.training.task import Task

STEPS = 512
"""Steps for which there is room, after which the host reads at the latest: without it a failure would show late. Chosen
by hand."""


class Tables:
    """Tables of a run whose addresses stay, and the counters by which a step finds its place in them.

    Args:
        task, plan: of the run.

    Attributes:
        done: steps since the host read last, int64 [1].
        update: number of the update, from 0, int64 [1].
        ok: whether all losses and gradients were finite so far, a bool scalar.
        side: to which images are brought, in pixels; None for their full size.
    """

    def __init__(self, task: Task, plan: Plan) -> None:
        device = task.machine.device
        self._task, self._plan = task, plan
        self._rates = torch.zeros(STEPS, dtype=torch.float64, device=device)
        self._seen = torch.zeros(STEPS, 3, dtype=torch.float64, device=device)
        self.done, self.update, self._batch = (torch.zeros(1, dtype=torch.int64, device=device) for _ in range(3))
        self.ok = torch.ones((), dtype=torch.bool, device=device)
        rows = plan.steps_per_epoch * plan.batch_size
        self._order = torch.zeros(rows, dtype=torch.int64, device=device)
        self._draws = epoch_draws(task.augment, plan.examples, task.seed, 0, device).clone()
        self._epoch: int | None = None
        self.side: int | None = None

    @property
    def changed(self) -> list[Tensor]:
        """The tensors that a step changes."""
        return [self._seen, self.done, self.update, self._batch, self.ok]

    def begin(self, at: int, rates: Sequence[float]) -> None:
        """Make all ready for these updates, at most `STEPS`, from number `at`."""
        self._rates[: len(rates)].copy_(torch.tensor(rates, dtype=torch.float64))
        self.done.zero_()
        self.update.fill_(at)
        self._epoch = None

    def turn_to(self, at: int) -> None:
        """Put size, order and draws of update number `at` in their place, the last two if of another epoch."""
        self.side = self._plan.side_at(at)
        epoch, batch = divmod(at, self._plan.steps_per_epoch)
        if epoch != self._epoch:
            examples, seed, device = self._plan.examples, self._task.seed, self._order.device
            self._order.copy_(epoch_rows(examples, seed, epoch, device)[: len(self._order)])
            self._draws.copy_(epoch_draws(self._task.augment, examples, seed, epoch, device))
            self._batch.fill_(batch)
            self._epoch = epoch

    def batches(self, pieces: int) -> tuple[list[int], Any]:
        """Return the sizes of the pieces of the step's batch, and what yields them: inputs and targets."""
        batch_size = self._plan.batch_size
        at = self._batch.remainder(self._plan.steps_per_epoch)  # the trial of a graph may go on beyond an epoch's end
        rows = self._order.view(-1, batch_size).index_select(0, at)[0].tensor_split(pieces)
        data, augment = self._task.data, self._task.augment

        def piece(of_piece: Tensor) -> tuple[Any, Any]:
            draws = self._draws.index_select(0, of_piece)
            x, y = fetch_rows(data, data.train, of_piece, augment=augment, draws=draws)
            return (x if self.side is None else resized(x, self.side)), y

        return [len(each) for each in rows], map(piece, rows)

    @property
    def lr(self) -> Tensor:
        """The learning rate of the step, a float64 scalar."""
        return self._rates.index_select(0, self.done.remainder(STEPS))[0]

    def note(self, loss: Tensor, grad_norm: Tensor, correct: Tensor) -> None:
        """Write down what the step saw, float64 scalars, and go on to the next."""
        self._seen.index_copy_(0, self.done.remainder(STEPS), torch.stack([loss, grad_norm, correct])[None])
        for counter in (self.done, self.update, self._batch):
            counter.add_(1)

    def read(self, steps: int) -> list[list[float]]:
        """Return losses, gradient norms and correct predictions of the steps since `begin`: waits for the device."""
        return self._seen[:steps].T.tolist()
