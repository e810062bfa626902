"""The updates of one run on a CPU as one compiled function, gradient and update: small operations become a few loops.

The step of a perceptron is then computed in less than half of the time, but compiling takes seconds: see
`strategy.compiling_pays`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value

from surefoot.data.batches import batch_indices
from surefoot.optim.plan import Plan
from surefoot.optim.stacked import formula
from surefoot.seeds import StepSeeds
from surefoot.training.alone import Alone
from surefoot.training.state import State, trainable
from surefoot.training.step import Step, Stretch
from surefoot.training.task import Task


class Compiled:
    """The updates of one run: a `Stepper` of the loop.

    The first update, and those in which a row measures weights, go operation by operation, as `Alone` does them: which
    these are does not depend on how a run is divided. Where there is no compiler that works, or none for this model,
    all do; the state says so. It is for models that draw no random numbers and have no buffers.

    Args:
        task, plan, state: of the run.
        backend: of `torch.compile`.
    """

    def __init__(self, task: Task, plan: Plan, state: State, backend: str = "inductor") -> None:
        self.task, self.plan, self.state = task, plan, state
        self._alone, self._step = Alone(task, plan, state), Step(task, plan, state)
        recipe = plan.recipe
        rule, values = recipe.update_rule, recipe.rule_values
        told = {**rule.words(values), **rule.numbers(values, False)}
        self._settings = (rule, told, tuple(self._step.factors), recipe.label_smoothing, recipe.clip_norm)
        self._lr = torch.zeros((), dtype=torch.float32)
        # The compiler counts what it has compiled of one code object, and refuses the ninth shape: each has its own.
        fresh = FunctionType(_update.__code__.replace(), _update.__globals__)
        self._function: Any = torch.compile(fresh, dynamic=False, fullgraph=True, backend=backend)
        self._ready = False
        state.computed = "compiled"

    def is_of(self, task: Task, plan: Plan, state: State) -> bool:
        """Return whether this computes the updates of that run, whose parameters may have been exchanged meanwhile."""
        same = task is self.task and plan is self.plan and state is self.state
        now = list(trainable(state.model).values()) if same else []
        return same and list(map(id, now)) == list(map(id, self._step.parameters))

    def run(self, stretches: Sequence[Stretch], seeds: StepSeeds) -> None:
        """Do the updates of one stretch, as `Stepper` says."""
        (stretch,) = stretches
        steps = len(stretch.rates)
        while stretch.done < steps and not stretch.failed:
            done = stretch.done
            measured = stretch.measure_update and done == steps - 1
            if stretch.first + done == 0 or measured or self._function is None:
                many = steps if self._function is None else done + 1
                self._by_operations(stretch, stretch.rates[done:many], seeds, measure=measured)
            else:
                self._compiled(stretch, steps - stretch.measure_update)

    def settle(self, run: int) -> None:
        """Do nothing: all is up to date after every step."""

    def _by_operations(self, stretch: Stretch, rates: Sequence[float], seeds: StepSeeds, *, measure: bool) -> None:
        ends = stretch.measure_update and stretch.done + len(rates) == len(stretch.rates)
        some = Stretch(stretch.run, stretch.first + stretch.done, rates, measure or ends)
        try:
            self._alone.run([some], seeds)
        finally:
            stretch.losses += some.losses
            stretch.grad_norms += some.grad_norms
            stretch.correct += some.correct
            stretch.update_ratio, stretch.layers = some.update_ratio, some.layers

    def _compiled(self, stretch: Stretch, until: int) -> None:
        """Do updates up to this one of a stretch; none of what cannot be compiled."""
        step, task, plan = self._step, self.task, self.plan
        weights = {name: parameter.data for name, parameter in zip(step.names, step.parameters, strict=True)}
        for i in range(stretch.done, until):
            at = stretch.first + i
            epoch, rows = batch_indices(plan.examples, plan.batch_size, task.seed, at)
            x, y = step.loader.batch(rows, epoch)
            self._lr.fill_(stretch.rates[i])
            given = (task, self.state.model, weights, self.state.slots, x, y, self._lr, self._settings)
            seen = self._function(*given) if self._ready else self._first(given)
            if seen is None:
                return
            loss, grad_norm, correct = seen.tolist()
            stretch.losses.append(loss * task.loss_unit)
            stretch.grad_norms.append(grad_norm)
            if stretch.failed:
                return
            stretch.correct += correct
            step.average(at)

    def _first(self, given: tuple[Any, ...]) -> Tensor | None:
        """Compile, and return what the step saw; None where that fails."""
        try:
            with whole_functorch(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler warns of its own parts
                seen = self._function(*given)
        except Exception as error:  # no compiler that works here, or none for this model
            self._function, self.state.computed = None, f"loop; not compiled: {type(error).__name__}"
            return None
        self._ready = True
        return seen


@contextmanager
def whole_functorch() -> Iterator[None]:
    """Take away what a transform leaves that fails inside a compiled step: its level, and saved tensor hooks forbidden.

    Both stay for good otherwise, and nothing else of the process computes gradients as before.
    """
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]  # no public names
    hooks: Any = torch._C._autograd  # pyright: ignore[reportAttributeAccessIssue]  # likewise
    depth, allowed = functorch.get_dynamic_layer_stack_depth(), hooks._saved_tensors_hooks_is_enabled()
    try:
        yield
    except BaseException:  # Ctrl-C too leaves them behind; it is raised again
        functorch.pop_dynamic_layer_stack_and_undo_to_depth(depth)
        if allowed:
            hooks._saved_tensors_hooks_enable()
        raise


def _update(
    task: Task, model: Any, weights: dict[str, Tensor], slots: dict[str, list[Tensor]], x: Any, y: Any, lr: Tensor,
    settings: tuple[Any, ...],
) -> Tensor:  # fmt: skip
    """Change weights and slots in place, and return loss, gradient norm and correct predictions, float64 [3]."""
    rule, told, factors, smoothing, clip = settings

    def objective(weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        with task.machine.autocast():
            outputs = task.outputs_with(model, weights, x, y, tie_weights=True)
        loss, _ = task.training_loss(outputs, y, smoothing)
        right = (
            task.right(outputs, y).double() if task.counts_right else loss.detach().new_zeros((), dtype=torch.float64)
        )
        return loss, right

    by_name, (loss, correct) = grad_and_value(objective, has_aux=True)(weights)
    grads = list(by_name.values())
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for grad in grads]))
    moved = loss.isfinite() & norm.isfinite()
    if clip is not None:
        scale = torch.clamp(clip / norm, max=1.0)
        grads = [grad * scale for grad in grads]
    for i, (w, g) in enumerate(zip(weights.values(), grads, strict=True)):
        old = {name: values[i] for name, values in slots.items()}
        with task.machine.updating(rule):
            new_w, new = formula(rule, w, g, old, {**told, "lr": lr}, factors[i])
        w.copy_(torch.where(moved, new_w, w))
        for name, value in new.items():
            old[name].copy_(torch.where(moved, value, old[name]))
    return torch.stack([loss.detach().double(), norm.double(), correct])
