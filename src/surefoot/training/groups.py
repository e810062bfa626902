"""What a recipe's groups make of a model: the factors of each parameter, and what stands still, for ever or at first.

A module all of whose parameters a group freezes stands still as a whole while they are frozen: it is in evaluation
mode, so batch norm uses its running statistics and leaves them as they are, and dropout leaves nothing out. Where its
batch norm is to go on, another pattern says "trained" of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn

from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.optim.plan import Plan
from surefoot.rules.groups import Factors, Group, factors_by_name

_factors: WeakKeyDictionary[nn.Module, dict[object, dict[str, Factors]]] = WeakKeyDictionary()


def factors_of(model: nn.Module, recipe: Recipe) -> dict[str, Factors]:
    """Return the factors of each trained parameter, by name, in the order of the slots.

    With decay_on "weights" those of under two dimensions do not decay: biases, and the scales and shifts of norms (He
    et al. 2018, "Bag of tricks", arXiv 1812.01187, section 3.1).

    >>> factors_of(nn.Linear(2, 3), Recipe(decay_on="weights", groups={"bias": {"lr": 2}}))["bias"]
    Factors(lr=2.0, weight_decay=0.0, frozen_epochs=0.0)
    """
    key, of_model = (recipe.groups, recipe.decay_on), _factors.setdefault(model, {})
    if key not in of_model:
        plain = recipe.decay_on == "all"
        of_model[key] = {
            name: factors if plain or model.get_parameter(name).dim() > 1 else factors._replace(weight_decay=0.0)
            for name, factors in _of_all(model, recipe.groups).items() if model.get_parameter(name).requires_grad
        }  # fmt: skip
    return of_model[key]


def check_trained(now: Sequence[str], before: Sequence[str], step: int) -> None:
    """Raise ConfigError where other parameters of a model are trained than when its run began.

    The rule's state has a tensor for each of those; with others it would be that of another parameter.

    Args:
        now, before: names of trained parameters, in the order of the slots.
        step: at which that is.
    """
    if now == before:
        return
    name = next(iter(sorted(set(now) ^ set(before))), now[0] if now else "")
    word = "is trained" if name in now else "is not trained any more"
    raise ConfigError(
        f"{name} {word} at step {step}, other than when the run began",
        "which parameters are trained is settled at the beginning, so that a run can go on from a checkpoint",
        f"set requires_grad before it, give groups = {{'{name}': {{'frozen_epochs': 2}}}}, or start another run from "
        "this one with from_run",
    )


def freeze_(model: nn.Module, groups: tuple[Group, ...]) -> nn.Module:
    """Freeze what groups freeze for ever, in place, and return the model.

    Raises:
        ConfigError: a group matches nothing, or only what the model itself has frozen, or has no effect; or nothing is
            left that is trained from the beginning.

    >>> model = freeze_(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1)), Recipe(groups={"0": "frozen"}).groups)
    >>> [(module.training, module.weight.requires_grad) for module in model]
    [(False, False), (True, True)]
    """
    if not groups:
        return model
    factors = _of_all(model, groups)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for group in groups:
        matched = [name for name in factors if group.matches([name])]
        if matched and group.frozen_epochs != math.inf and not trained.intersection(matched):
            raise ConfigError(
                f"groups: '{group.pattern}'", "the model itself has frozen all that it matches: requires_grad is False",
                "leave it out, or set requires_grad of these parameters",
            )  # fmt: skip
    if all(factors[name].frozen_epochs > 0 for name in trained):
        first = min(factors[name].frozen_epochs for name in trained)
        when = "for ever" if first == math.inf else f"for the first {first:g} epochs"
        raise ConfigError(
            f"groups that freeze all parameters {when}", "something must be trained from the beginning",
            "leave some out, as the head of the model with NAME=trained after the others",
        )  # fmt: skip
    frozen = {name for name in trained if factors[name].frozen_epochs == math.inf}
    for module in _standing_still(model, frozen):
        module.training = False
    for name in frozen:
        model.get_parameter(name).requires_grad = False
    return model


def check_weights(model: nn.Module, recipe: Recipe) -> None:
    """Raise ConfigError where a recipe's rule is not for the weights of a model that are trained."""
    trained = [model.get_parameter(name) for name in factors_of(model, recipe)]
    if (refused := recipe.update_rule.refuses_weights(trained)) is not None:
        raise ConfigError(*refused)


def asleep(model: nn.Module, plan: Plan, step: int) -> list[str]:
    """Return the names of the parameters that are frozen at a step and will be trained later."""
    if not thaw(plan.recipe.groups):
        return []
    return [name for name, until in thaws(model, plan).items() if step < until]


def thaw(groups: tuple[Group, ...]) -> bool:
    """Return whether some parameters are frozen at first and trained later."""
    return any(0 < (group.frozen_epochs or 0) < math.inf for group in groups)


def thaws(model: nn.Module, plan: Plan) -> dict[str, int]:
    """Return for each trained parameter the number of the update with which it begins to be trained, from 0."""
    factors = factors_of(model, plan.recipe)
    return {name: round(each.frozen_epochs * plan.steps_per_epoch) for name, each in factors.items()}


@contextmanager
def sleeping(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Let these parameters of a model stand still: without gradients, and their modules in evaluation mode."""
    still = _standing_still(model, names) if names else []
    for module in still:
        module.training = False
    for name in names:
        model.get_parameter(name).requires_grad = False
    try:
        yield
    finally:
        for module in still:
            module.training = True
        for name in names:
            model.get_parameter(name).requires_grad = True


def check_lengths(plan: Plan) -> None:
    """Raise ConfigError where a group is frozen for all of a run, and not called so."""
    for group in plan.recipe.groups:
        if plan.steps / plan.steps_per_epoch <= (group.frozen_epochs or 0) < math.inf:
            raise ConfigError(
                f"groups: '{group.pattern}' with frozen_epochs = {group.frozen_epochs:g}, in a run of "
                f"{plan.steps / plan.steps_per_epoch:g}", "it would never be trained",
                f"give fewer or a longer run, or set {group.pattern}=frozen",
            )  # fmt: skip


def _of_all(model: nn.Module, groups: tuple[Group, ...]) -> dict[str, Factors]:
    """Return the factors of all parameters, those that the model has frozen too; a tied one has all of its names."""
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    found = factors_by_name(groups, tuple(map(tuple, names.values())))
    return {first: factors for (first, *_), factors in zip(names.values(), found, strict=True)}


def _standing_still(model: nn.Module, frozen: Collection[str]) -> list[nn.Module]:
    """Return the modules in training mode all of whose parameters stand still where `frozen` do, these among them,
    and the modules in them.
    """
    still = {id(model.get_parameter(name)) for name in frozen}
    found: dict[int, nn.Module] = {}
    for module in model.modules():
        parameters = list(module.parameters())
        moving = [each for each in parameters if each.requires_grad and id(each) not in still]
        if not moving and any(id(each) in still for each in parameters):
            found |= {id(each): each for each in module.modules() if each.training}
    return list(found.values())
