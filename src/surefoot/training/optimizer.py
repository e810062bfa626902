"""An optimizer of the caller's in place of an update rule: made, asked for a step, and its state as plain values.

Any `torch.optim.Optimizer` whose `step()` needs no closure. The rate of a recipe is that of its first parameter group;
other groups keep their ratio to it, so the schedule and a search scale them all.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.rules.groups import Factors
from surefoot.rules.optimizer import NAME
from surefoot.training.groups import factors_of
from surefoot.training.state import packed, trainable, unpacked

OptimizerFactory = Callable[[Any], Optimizer]
"""(parameters, or parameter groups where the recipe has groups) -> optimizer."""

_SHARE = "lr_share"
"""In a parameter group: its rate over that of the first."""
_ALLOWED = "optimizer= is a function of parameters that makes a torch.optim.Optimizer, or such a class"
_EXAMPLE = "pass for example lambda params: torch.optim.NAdam(params, lr=2e-3)"
_GIVEN_GROUPS = "with groups or decay_on it is given parameter groups, and hands them on to the optimizer as they are"
_IN_FUNCTION = "leave groups and decay_on out, and make all groups in optimizer="
_TRIED_STEPS = 2
"""Steps that an optimizer is tried with: what it has of state beside the first shows in the second."""


def own_rate(factory: OptimizerFactory) -> float:
    """Return the rate that an optimizer has by itself: of its first group, made for small weights.

    Raises:
        ConfigError: it cannot be made.

    >>> own_rate(lambda params: torch.optim.NAdam(params, lr=2e-3))
    0.002
    """
    matrices = [nn.Parameter(torch.zeros(2, 2)) for _ in range(4)]
    small = [nn.Parameter(torch.zeros(2)) if i % 2 else weight for i, weight in enumerate(matrices)]
    try:
        return _rate(_called(factory, small).param_groups[0])
    except ConfigError:  # as Muon, which is for matrices alone
        with contextlib.suppress(ConfigError):
            return _rate(_called(factory, matrices).param_groups[0])
        raise


def optimizer_for(factory: OptimizerFactory, recipe: Recipe, model: nn.Module) -> Optimizer:
    """Return a fresh optimizer for the trained parameters of a model, its groups multiplied as the recipe's say.

    Raises:
        ConfigError: the function does not make one for these parameters, or not one that can be trained by.
    """
    buckets: dict[Factors, list[nn.Parameter]] = {}
    for parameter, factors in zip(trainable(model).values(), factors_of(model, recipe).values(), strict=True):
        buckets.setdefault(factors._replace(frozen_epochs=0.0), []).append(parameter)
    if set(buckets) == {Factors()}:
        optimizer = _called(factory, buckets[Factors()])
    else:
        optimizer = _called(factory, [{"params": each} for each in buckets.values()])
    theirs = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not theirs <= {id(parameter) for parameter in trainable(model).values()}:
        raise ConfigError("an optimizer of other parameters than those that it was given", _ALLOWED, _EXAMPLE)
    first = _rate(optimizer.param_groups[0])
    for group in optimizer.param_groups:
        group[_SHARE] = _rate(group) / first
    if set(buckets) != {Factors()}:
        _multiply(optimizer, list(buckets))
    return optimizer


def _multiply(optimizer: Optimizer, factors: list[Factors]) -> None:
    if len(optimizer.param_groups) != len(factors):
        raise ConfigError(
            f"optimizer= that makes {len(optimizer.param_groups)} parameter groups of {len(factors)}",
            _GIVEN_GROUPS,
            _IN_FUNCTION,
        )
    for group, factor in zip(optimizer.param_groups, factors, strict=True):
        group[_SHARE] *= factor.lr
        if "weight_decay" in group:
            group["weight_decay"] *= factor.weight_decay
        elif factor.weight_decay != 1:
            raise ConfigError(
                f"a multiplier of weight_decay with {type(optimizer).__name__}", "it has no weight decay",
                "leave weight_decay out of groups, and decay_on",
            )  # fmt: skip


def _called(factory: OptimizerFactory, parameters: list[Any]) -> Optimizer:
    if isinstance(factory, Optimizer):
        raise ConfigError(f"optimizer= is a {type(factory).__name__}", _ALLOWED, _EXAMPLE)
    try:
        optimizer = factory(parameters)
    except Exception as error:  # it may be anyone's, and raise anything
        first = (str(error) or repr(error)).splitlines()[0]
        groups = isinstance(parameters[0], dict)
        raise ConfigError(
            f"optimizer= called with parameter{' groups' if groups else 's'}: {type(error).__name__}: {first}",
            _GIVEN_GROUPS if groups else _ALLOWED, _IN_FUNCTION if groups else _EXAMPLE,
        ) from error  # fmt: skip
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(f"optimizer= makes a {type(optimizer).__name__}", _ALLOWED, _EXAMPLE)
    return optimizer


def _rate(group: Mapping[str, Any]) -> float:
    rate = float(group.get("lr", math.nan))
    if not 0 < rate < math.inf:
        raise ConfigError(
            f"an optimizer with lr = {group.get('lr')}", "the schedule multiplies its rate, which must be above 0",
            "set its lr",
        )  # fmt: skip
    return rate


def stepped(optimizer: Optimizer, grads: Mapping[nn.Parameter, Tensor], lr: float) -> None:
    """Do one update in place.

    Args:
        optimizer: from `optimizer_for`.
        grads: the gradients, of those parameters that have one; the others stay as they are.
        lr: of the first group.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group[_SHARE]
    for parameter, grad in grads.items():
        parameter.grad = grad
    try:
        with torch.enable_grad():
            optimizer.step()
    finally:
        for parameter in grads:
            parameter.grad = None


def state_of(optimizer: Optimizer) -> tuple[Any, dict[str, Tensor]]:
    """Return an optimizer's state as JSON values, and the tensors in it, to which those refer by name.

    Raises:
        ConfigError: it holds something that is neither a JSON value nor a tensor.
    """
    tensors: dict[str, Tensor] = {}
    return packed(optimizer.state_dict(), NAME, tensors), tensors


def restore_(optimizer: Optimizer, plain: Any, tensors: dict[str, Tensor], device: torch.device) -> None:
    """Give an optimizer the state that `state_of` made plain."""
    optimizer.load_state_dict(unpacked(plain, dict(tensors), device))


def try_optimizer(factory: OptimizerFactory, model: nn.Module, loss: Tensor) -> None:
    """Raise ConfigError where an optimizer cannot train a model, or cannot be saved and go on with the same bits.

    Args:
        factory: makes it.
        model: a copy, which is used up.
        loss: of it, a scalar.
    """
    named = trainable(model)
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    grads = {parameter: grad for parameter, grad in zip(named.values(), found, strict=True) if grad is not None}
    optimizer, again = (optimizer_for(factory, Recipe(rule=NAME, lr=1.0), model) for _ in range(2))
    lr = float(optimizer.param_groups[0]["lr"])
    for _ in range(_TRIED_STEPS):
        try:
            stepped(optimizer, {parameter: grad.clone() for parameter, grad in grads.items()}, lr)
        except Exception as error:  # it may be anyone's, and raise anything
            first = (str(error) or repr(error)).splitlines()[0]
            raise ConfigError(
                f"{type(optimizer).__name__}: {first}",
                "a step is step() after one dense gradient; one that computes the loss again by a closure is not",
                "choose another optimizer, or hold the loop yourself",
            ) from error
    plain, tensors = state_of(optimizer)
    device = next(iter(named.values())).device
    try:
        restore_(again, plain, {name: value.clone() for name, value in tensors.items()}, device)
        plain_again, tensors_again = state_of(again)
    except Exception as error:
        raise _not_resumable(optimizer, f"{type(error).__name__}: {error}") from error
    other = [name for name, value in tensors.items() if not _same(value, tensors_again.get(name))]
    if plain != plain_again or other:
        raise _not_resumable(optimizer, f"it is another after load_state_dict{f', at {other[0]}' if other else ''}")


def _same(a: Tensor, b: Tensor | None) -> bool:
    return b is not None and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())


def _not_resumable(optimizer: Optimizer, why: str) -> ConfigError:
    return ConfigError(
        f"the state of {type(optimizer).__name__}: {why}",
        "a run is saved and goes on by state_dict and load_state_dict",
        "choose another optimizer, or mend these two",
    )  # fmt: skip


def check_rule(factory: OptimizerFactory | None, recipe: Recipe) -> None:
    """Raise ConfigError where a recipe is for an optimizer of the caller's and there is none, or the reverse."""
    if recipe.rule == NAME and factory is None:
        raise ConfigError(
            f"rule = {NAME} without an optimizer", "a run with an optimizer of yours begins and goes on in Python",
            "pass optimizer=, the same as in the beginning, or choose another rule",
        )  # fmt: skip
    if recipe.rule != NAME and factory is not None:
        raise ConfigError(
            f"rule = {recipe.rule} and an optimizer=", "the weights are moved by one of them",
            f'leave one of them out; a recipe for an optimizer is Recipe(rule="{NAME}", lr=its rate)',
        )  # fmt: skip
