"""A whole step of a stack, gradient and update, as one compiled function: many small layers become a few loops."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.nn.attention import SDPBackend, sdpa_kernel

from surefoot.errors import ConfigError
from surefoot.optim.stacked import formula, slot_names
from surefoot.training.compiled import whole_functorch
from surefoot.training.groups import thaw
from surefoot.training.population.member import Member
from surefoot.training.population.memberwise import norms_of, wide
from surefoot.training.population.stack import Found, Stack


class CompiledStep:
    """A `Compute` that is compiled at its first call, for one `shape` of stack.

    A member whose numbers are not finite is masked inside: nothing is decided on the way, and nothing is compiled anew
    for the others. Where this machine or this model has no compiler that works, the call raises what that one raises.

    Args:
        backend: of `torch.compile`.

    Attributes:
        ready: whether it has been compiled.
    """

    def __init__(self, backend: str = "inductor") -> None:
        self.ready = False
        # The compiler counts what it has compiled of one code object, and refuses the ninth shape: each has its own.
        fresh = FunctionType(_compute.__code__.replace(), _compute.__globals__)
        self._compute: Any = torch.compile(fresh, dynamic=False, fullgraph=True, backend=backend)

    def __call__(self, stack: Stack) -> Found:
        pieces, _ = stack.tables.batch()
        (x, y), *others = pieces
        if others:
            raise ValueError("a compiled step takes its batch in one piece")
        if thaw(stack.members[0].plan.recipe.groups):
            raise ConfigError(
                "a compiled step with groups that are frozen at first", "what is compiled trains the same weights in "
                "every step", "leave the engine's way out, or take Way('stacked', ...)",
            )  # fmt: skip
        lr = stack.tables.rates
        rule = stack.rule[0 if stack.at == 0 else 1].at(lr)
        settings = (rule.rule, rule.words, rule.decaying, stack.factors)
        given = (lr, rule.numbers, stack.smoothing, stack.clip, stack.tables.alive)
        # vmap has no rule for the other kinds of attention: it would compute members one by one.
        with whole_functorch(), warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
            if not self.ready:  # the compiler warns of its own parts
                warnings.simplefilter("ignore")
            found = self._compute(stack.network, stack.weights, stack.buffers, stack.slots, x, y, given, settings)
        self.ready = True
        return found


def shape(members: Sequence[Member]) -> Hashable:
    """Return what decides, within a kind, what is compiled: how many members, and which parts of the rule they use."""
    recipes = [member.plan.recipe for member in members]
    parts = (
        *slot_names(recipes), any(recipe.decay > 0 for recipe in recipes),
        any(recipe.label_smoothing for recipe in recipes), any(recipe.clip_norm is not None for recipe in recipes),
    )  # fmt: skip
    return len(members), len({member.task.seed for member in members}) == 1, parts


def _compute(
    network: Any, weights: dict[str, Tensor], buffers: dict[str, Tensor], slots: dict[str, list[Tensor]], x: Any,
    y: Any, given: tuple[Any, ...], settings: tuple[Any, ...],
) -> Found:  # fmt: skip
    """Change weights and slots in place and return what was seen: `Network.total` and the rule's formula in one."""
    lr, numbers, smoothing, clip, alive = given
    rule, words, decaying, factors = settings
    by_name, (_, (loss, correct, *_)) = grad_and_value(network.total, has_aux=True)(weights, buffers, x, y, smoothing)
    grads, params = list(by_name.values()), list(weights.values())
    norms = norms_of(grads)
    norm = torch.linalg.vector_norm(norms, dim=0)
    moved = loss.isfinite() & norm.isfinite() & alive
    if clip is not None:
        scale = torch.clamp(clip / norm, max=1.0)
        grads = [grad * wide(scale, grad) for grad in grads]
    for i, (w, g) in enumerate(zip(params, grads, strict=True)):
        wides = {name: wide(number, w) for name, number in numbers.items()}
        values = {**words, "stacked": True, "lr": wide(lr, w), **wides}
        old = {name: each[i] for name, each in slots.items()}
        of_weight = factors[i] if decaying else factors[i]._replace(weight_decay=0.0)
        with network.task.machine.updating(rule):
            new_w, new = formula(rule, w, g, old, values, of_weight)
        w.copy_(torch.where(wide(moved, w), new_w, w))
        for name, value in new.items():
            old[name].copy_(torch.where(wide(moved, value), value, old[name]))
    return loss, correct, norms, moved
