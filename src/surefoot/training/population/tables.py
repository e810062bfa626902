"""What K members read and write on the device, step by step: rates, orders and draws ahead, and what was seen.

All stay where they are, and a step finds its place in them by counters that lie beside them: so a CUDA graph can hold
it, and nothing is uploaded or read back until a stretch is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from surefoot.data import tree
from surefoot.data.batches import batch_indices, capture_refusal, fetch, fetch_rows, resized
from surefoot.data.epochs import epoch_draws, epoch_order, epoch_rows, uploaded
from surefoot.training.population.member import Member


class Tables:
    """The tables of members that are computed as one.

    Args:
        members: those of the rows of a stack, [K].
        steps: for how many there is room.
        device: where they lie.
        shared: whether all members see one batch.

    Attributes:
        refusal: why batches cannot be taken on the device alone, in words; None where they can.
        alive: which members still move, bool [K].
    """

    def __init__(self, members: Sequence[Member], steps: int, device: torch.device, *, shared: bool) -> None:
        task, self.plan, self.steps, self.device = members[0].task, members[0].plan, steps, device
        self.refusal = capture_refusal(task.data, task.augment)
        self.shared = shared
        self._tasks = [task] if self.shared else [member.task for member in members]
        self.alive = torch.ones(len(members), dtype=torch.bool, device=device)
        self._ahead = torch.zeros(steps, 2, len(members), device=device)
        self._seen = torch.zeros(steps, 3, len(members), dtype=torch.float64, device=device)
        self._done, self._batch = (torch.zeros(1, dtype=torch.int64, device=device) for _ in range(2))
        self._epoch: int | None = None
        self._held: list[Any] = []
        self._at = 0
        if self.refusal is None:
            examples = self.plan.examples
            begins = torch.arange(len(self._tasks), device=device)[:, None] * examples
            self._order = torch.zeros(len(self._tasks), examples, dtype=torch.int64, device=device)
            self._draws = torch.cat([self._draws_of(one, 0) for one in self._tasks])
            self._begins = begins if self._draws.shape[1] and not self.shared else None

    @property
    def changing(self) -> list[Tensor]:
        """The tensors that a step changes, and those that are exchanged between steps."""
        batches = [self._order, self._draws] if self.refusal is None else []
        return [self.alive, self._ahead, self._seen, self._done, self._batch, *batches]

    def begin(self, alive: Sequence[bool], rates: np.ndarray, shares: np.ndarray) -> None:
        """Make ready for some steps, at most `steps`.

        Args:
            alive: which members still move, [K].
            rates: their learning rates, [T, K].
            shares: by which their averages move, [T, K].
        """
        self.alive.copy_(uploaded(np.array(alive), self.device))
        self._ahead[: len(rates)].copy_(uploaded(np.stack([rates, shares], 1).astype(np.float32), self.device))
        self._done.zero_()
        self._epoch = None

    def turn_to(self, step: int) -> None:
        """Put the orders and draws of a step in their places, if they are of another epoch."""
        self._at = step
        epoch, batch = divmod(step, self.plan.steps_per_epoch)
        if epoch == self._epoch:
            return
        self._epoch, examples = epoch, self.plan.examples
        if self.refusal is not None:  # held, so that each is drawn once however many members take turns
            self._held = [
                (epoch_order(examples, task.seed, epoch), self._draws_of(task, epoch)) for task in self._tasks
            ]
            return
        for i, task in enumerate(self._tasks):
            self._order[i].copy_(epoch_rows(examples, task.seed, epoch, self.device))
            self._draws[i * examples : (i + 1) * examples].copy_(self._draws_of(task, epoch))
        self._batch.fill_(batch)

    def _draws_of(self, task: Any, epoch: int) -> Tensor:
        return epoch_draws(task.augment, self.plan.examples, task.seed, epoch, self.device)

    @property
    def rates(self) -> Tensor:
        """The learning rates of the step, [K]."""
        return self._now[0]

    @property
    def shares(self) -> Tensor:
        """The shares by which averages move in the step, [K]."""
        return self._now[1]

    @property
    def _now(self) -> Tensor:
        return self._ahead.index_select(0, self._done)[0]

    def batch(self) -> tuple[list[tuple[Any, Any]], list[float]]:
        """Return the pieces of the step's batch and the share of each: x [B, ...] if shared, else [K, B, ...]."""
        plan, task = self.plan, self._tasks[0]
        count = math.ceil(plan.batch_size / plan.recipe.micro_batch_size)
        if self.refusal is not None:
            return self._fetched(count)
        per_epoch, many = plan.steps_per_epoch, len(self._tasks)
        orders = self._order[:, : per_epoch * plan.batch_size].unflatten(1, (per_epoch, plan.batch_size))
        pieces, sizes = [], []
        for rows in orders.index_select(1, self._batch)[:, 0].tensor_split(count, 1):
            flat = rows.reshape(-1)
            places = flat if self._begins is None else (rows + self._begins).reshape(-1)
            draws = (
                self._draws.index_select(0, places) if self._draws.shape[1] else self._draws[:1].expand(len(flat), 0)
            )
            pair = self._sized(fetch_rows(task.data, task.data.train, flat, augment=task.augment, draws=draws))
            sizes.append(rows.shape[1])
            pieces.append(pair if self.shared else tree.map_leaves(lambda leaf: leaf.unflatten(0, (many, -1)), pair))
        return pieces, [size / plan.batch_size for size in sizes]

    def _fetched(self, count: int) -> tuple[list[tuple[Any, Any]], list[float]]:
        """Return the same where the host has a hand in each batch."""
        plan, pieces, shares = self.plan, [], []
        for task in self._tasks:
            epoch, indices = batch_indices(plan.examples, plan.batch_size, task.seed, self._at)
            rows = np.array_split(indices, count)
            shares = [len(some) / len(indices) for some in rows]
            settings: dict[str, Any] = {"augment": task.augment, "seed": task.seed, "epoch": epoch}
            pieces.append([self._sized(fetch(task.data, task.data.train, some, **settings)) for some in rows])
        if self.shared:
            return pieces[0], shares

        def stacked(*leaves: Tensor) -> Tensor:
            return torch.stack(leaves)

        return [
            tuple(tree.map_leaves(stacked, *side) for side in zip(*batches, strict=True))
            for batches in zip(*pieces, strict=True)
        ], shares

    def _sized(self, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        """Return a batch with its images as large as they are in this step."""
        x, y = batch
        side = self.plan.side_at(self._at)
        return (x if side is None else resized(x, side)), y

    def note(self, loss: Tensor, grad_norm: Tensor, correct: Tensor, moved: Tensor) -> None:
        """Write down what the step saw of each member, [K], and who moved, and go on to the next."""
        seen = torch.stack([loss.double(), grad_norm.double(), correct.double()])
        self._seen.index_copy_(0, self._done, seen[None])
        self.alive.copy_(moved)
        self._done.add_(1).remainder_(self.steps)  # the trial of a graph may go on beyond the end of a table
        self._batch.add_(1).remainder_(self.plan.steps_per_epoch)

    def read(self, steps: int) -> np.ndarray:
        """Return losses, gradient norms and correct predictions of the steps since `begin`, float64 [T, 3, K]."""
        return self._seen[:steps].cpu().numpy()
