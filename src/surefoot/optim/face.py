"""What our faces of torch.optim share, SGD's too: the step, the ranges of settings, and whose a state is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, _use_grad_for_differentiable

from surefoot.errors import ConfigError
from surefoot.optim.update import clip_, global_norm


class Face(Optimizer, ABC):
    """The step that our faces share: closure, gradient scaler, clipping over all groups, then each group's update.

    Attributes:
        twin: the name of PyTorch's optimizer, with which states are exchanged.
    """

    twin: ClassVar[str]

    @_use_grad_for_differentiable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one update and return the closure's loss, or None without a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not self._unscale():
            return loss
        moving = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        for group, params in moving:  # all before the first: a step that is refused moves no weight
            self._check_gradients(group, params)
        self._clip(moving)
        for group, params in moving:
            if params:
                self._step_group(group, params)
        return loss

    @abstractmethod
    def _check_gradients(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Raise for a gradient that cannot be used; changes nothing."""

    @abstractmethod
    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Update the parameters of a group, which have gradients, in place."""

    def _unscale(self) -> bool:
        """Divide by the scale that a gradient scaler left here; False where it saw an infinite gradient."""
        found_inf, scale = getattr(self, "found_inf", None), getattr(self, "grad_scale", None)
        if found_inf is not None and float(found_inf) > 0:
            return False
        if scale is not None:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad.div_(scale.to(p.grad.device) if isinstance(scale, Tensor) else scale)
        return True

    def _clip(self, moving: list[tuple[dict[str, Any], list[Tensor]]]) -> None:
        if all(group["clip_norm"] is None for group, _ in moving):
            return
        grads = [[_entries(p) for p in params] for _, params in moving]
        norm = global_norm(grad for part in grads for grad in part)
        for (group, params), entries in zip(moving, grads, strict=True):
            if group["clip_norm"] is not None and group["differentiable"]:
                for p in params:  # out of place: the derivative of the norm needs the gradient as it was
                    p.grad = p.grad * (group["clip_norm"] / norm.clamp(min=group["clip_norm"]))
            elif group["clip_norm"] is not None:
                clip_(entries, norm, group["clip_norm"])


def _entries(p: Tensor) -> Tensor:
    """Return what can be nonzero in a parameter's gradient, in its own memory."""
    assert p.grad is not None
    if not p.grad.is_sparse:
        return p.grad
    p.grad = p.grad.coalesce()  # an index that stands twice would count as two entries in the norm
    return p.grad.values()


Range = tuple[Callable[[Any], bool], str]
_AT_LEAST_0: Range = (lambda value: value >= 0.0, "at least 0")
_FRACTION: Range = (lambda value: 0.0 <= value < 1.0, "at least 0 and below 1")
_NUMBERS: dict[str, tuple[str, Range]] = {
    "lr": ("learning rate", _AT_LEAST_0), "beta1": ("beta parameter at index 0", _FRACTION),
    "beta2": ("beta parameter at index 1", _FRACTION), "alpha": ("alpha value", _FRACTION),
    "eps": ("epsilon value", _AT_LEAST_0), "momentum": ("momentum value", _AT_LEAST_0),
    "dampening": ("dampening value", (lambda value: True, "a number")),
    "weight_decay": ("weight_decay value", _AT_LEAST_0),
    "clip_norm": ("clip_norm value", (lambda value: value > 0.0, "above 0, or None for no clipping")),
}  # fmt: skip
"""By the names of settings, what PyTorch calls them where they are out of their range, and the range."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise where a setting that our faces share is out of its range, in PyTorch's words.

    Args:
        settings: by name; what is not there is not looked at.

    Raises:
        ValueError: a number is out of its range, no number, or a tensor of several elements.
        RuntimeError: two kernels are asked for.

    >>> check_settings({"lr": -1})
    Traceback (most recent call last):
    ValueError: Invalid learning rate: -1. It must be at least 0.
    """
    for name, (words, (within, allowed)) in _NUMBERS.items():
        if name not in settings or (name == "clip_norm" and settings[name] is None):
            continue
        value = settings[name]
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"Tensor {name} must be 1-element")
        if not isinstance(value, Real | Tensor) or not within(value):
            raise ValueError(f"Invalid {words}: {value!r}. It must be {allowed}.")
    if settings.get("fused") and settings.get("foreach"):
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def states_of(state: Mapping[str, Any]) -> list[tuple[Tensor, dict[str, Any]]]:
    """Return the weights that were moved and what a state has of each; a hook may have put other things beside them."""
    weights = (p for group in state["param_groups"] for p in group["params"])
    return [(p, state["state"][p]) for p in weights if state["state"].get(p)]


def check_state(face: Face, state: Mapping[str, Any], settings: Iterable[str], names: Iterable[str]) -> None:
    """Raise where a state cannot be that of an optimizer with these settings and these names in its state."""
    lacking = [name for name in settings if any(name not in group for group in state["param_groups"])]
    lacking += [name for name in names if any(name not in each for _, each in states_of(state))]
    if lacking:
        raise ConfigError(
            f"a state without {', '.join(lacking)}",
            f"surefoot.{type(face).__name__} goes on from its own states and from those of torch.optim.{face.twin}",
            "load it into an optimizer of the kind that saved it",
        )  # fmt: skip
