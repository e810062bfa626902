"""Adam, AdamW and RMSProp with the face of torch.optim, filled by the rules of `surefoot.rules`; and what SGD's face
shares with them.

Arguments, parameter groups and state have PyTorch's names, so a loop, a scheduler or a checkpoint that was made for
torch.optim's works, and the other way round. The update itself is `kernels.move_`, the one that `surefoot.train` does.
"""
# torch._foreach_* are what torch.optim is built on; they have no public name.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT, _use_grad_for_differentiable

from surefoot.errors import ConfigError, nearest
from surefoot.optim.kernels import move_, new_number
from surefoot.optim.update import clip_, global_norm
from surefoot.rules import update_rule

_ADAM, _ADAMW, _RMSPROP = (update_rule(name).defaults for name in ("adam", "adamw", "rmsprop"))


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


def _states(state: Mapping[str, Any]) -> list[tuple[Tensor, dict[str, Any]]]:
    """Return the weights that were moved and what a state has of each; a hook may have put other things beside them."""
    weights = (p for group in state["param_groups"] for p in group["params"])
    return [(p, state["state"][p]) for p in weights if state["state"].get(p)]


def check_state(face: Face, state: Mapping[str, Any], settings: Iterable[str], names: Iterable[str]) -> None:
    """Raise where a state cannot be that of an optimizer with these settings and these names in its state."""
    lacking = [name for name in settings if any(name not in group for group in state["param_groups"])]
    lacking += [name for name in names if any(name not in each for _, each in _states(state))]
    if lacking:
        raise ConfigError(
            f"a state without {', '.join(lacking)}",
            f"surefoot.{type(face).__name__} goes on from its own states and from those of torch.optim.{face.twin}",
            "load it into an optimizer of the kind that saved it",
        )  # fmt: skip


_KERNELS: dict[str, Any] = {"foreach": None, "fused": None}
"""Options of PyTorch's that name a kernel and change no number: ours is chosen by itself, whatever they are."""
_ONLY: dict[str, Any] = {"maximize": False, "differentiable": False, "capturable": False}
"""Options of PyTorch's that our rules have in this form alone."""
_INSTEAD = {
    "maximize": "take the negative of the loss", "decoupled_weight_decay": "take the other of surefoot.Adam and AdamW",
}  # fmt: skip


class RuleFace(Face):
    """A face that a rule fills; its children say which, and have PyTorch's constructors.

    Attributes:
        rule: its name.
        states: by the rule's names of state, PyTorch's, which counts the updates in every rule.
        only: options of PyTorch's that change numbers, with the form that the rule has.
    """

    rule: ClassVar[str]
    states: ClassVar[dict[str, str]]
    only: ClassVar[dict[str, Any]]

    def __init__(self, params: ParamsT, settings: dict[str, Any], options: dict[str, Any]) -> None:
        defaults = {**settings, **_KERNELS, **self.only}
        for name, value in options.items():
            if name not in defaults:
                allowed = f"it is no setting of surefoot.{type(self).__name__}"
                raise ConfigError(f"{name} = {value!r}", allowed, nearest(name, settings))
        self._check(defaults | options)
        super().__init__(params, defaults | options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as PyTorch does, with its own settings checked like the optimizer's."""
        if isinstance(param_group, dict):  # else PyTorch says what is wrong
            self._check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state, of ours or of PyTorch's twin. Clipping stays as it is here where the state has none.

        Raises:
            ConfigError: it is another optimizer's, or has an option that the rule has in another form.
        """
        rule = update_rule(self.rule)
        settings = ["betas" if name == "beta1" else name for name in rule.defaults if name != "beta2"]
        check_state(
            self, state, settings, [self.states[name] for name in {**rule.slots(rule.defaults), "updates": "number"}]
        )
        here = self.__dict__.get("param_groups") or [{} for _ in state["param_groups"]]
        for group, old in zip(state["param_groups"], here, strict=True):
            group.update({**_KERNELS, **self.only, "clip_norm": old.get("clip_norm"), **group, "capturable": False})
            self._check(group)
        super().__setstate__(state)
        for p, each in _states(self.__dict__):  # PyTorch before 1.12 saved plain numbers
            each["step"] = torch.as_tensor(each["step"], dtype=torch.float32, device=_place(p))

    def _check(self, group: dict[str, Any]) -> None:
        for name, form in self.only.items():
            if bool(group[name]) != form:
                raise ConfigError(
                    f"{name} = {group[name]}", f"surefoot.{type(self).__name__} has {name} = {form} alone",
                    f"{_INSTEAD.get(name, f'leave {name} out')}, or use torch.optim.{self.twin}",
                )  # fmt: skip
        check_settings(_named(group))

    def _check_gradients(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for p in params:
            assert p.grad is not None
            if p.grad.layout != torch.strided or p.is_complex():
                kind = f"{'complex' if p.is_complex() else 'sparse'} gradient of a weight of shape {list(p.shape)}"
                raise ConfigError(
                    f"a {kind}", f"surefoot.{type(self).__name__} moves real weights by dense gradients",
                    "use surefoot.SGD, which takes both, or torch.optim.SparseAdam for sparse ones",
                )  # fmt: skip

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        rule, named = update_rule(self.rule), _named(group)
        values = {name: _number(named[name]) for name in rule.defaults}
        kinds = rule.slots(values)
        states = [self.state[p] for p in params]
        fresh = [not state for state in states]  # a weight whose first gradient comes late begins then
        for first in set(fresh):
            some = [(p, state) for p, state, new in zip(params, states, fresh, strict=True) if new is first]
            for p, state in some:
                for name, kind in {**kinds, "updates": "number"}.items():
                    if self.states[name] not in state:  # momentum that was 0 until now has a slot that is new
                        state[self.states[name]] = torch.zeros_like(p) if kind == "weight" else new_number(_place(p))
            slots = {name: [state[self.states[name]] for _, state in some] for name in kinds}
            grads = [p.grad for p, _ in some if p.grad is not None]
            move_(rule, values, [p for p, _ in some], grads, slots, values["lr"], first)
            if "updates" not in kinds:
                counts = [state["step"] for _, state in some]
                torch._foreach_add_(counts, torch.ones((), device=counts[0].device))


def _place(p: Tensor) -> torch.device | str:
    """Return where the count of a weight's updates lies: the fused kernel of a card reads it there."""
    return p.device if p.is_cuda else "cpu"


def _number(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return value.item() if isinstance(value, Tensor) else float(value)


def _named(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group's settings by the names that rules have for them: PyTorch's betas are a pair."""
    if "betas" not in group:
        return dict(group)
    try:
        beta1, beta2 = group["betas"]
    except (TypeError, ValueError):
        raise ValueError(f"Invalid betas: {group['betas']}. They must be two numbers, as (0.9, 0.999).") from None
    return {**group, "beta1": beta1, "beta2": beta2}


_COUNT = {"updates": "step"}
_MOMENTS = {"mean": "exp_avg", "square": "exp_avg_sq", **_COUNT}


class Adam(RuleFace):
    """Adam for a loop of your own: Kingma & Ba 2014 (arXiv 1412.6980), algorithm 1; weight decay is coupled.

       M <- beta1 M + (1 - beta1) g;  S <- beta2 S + (1 - beta2) g^2, g with wd W added to it;
       W <- W - lr M / (1 - beta1^t) / (sqrt(S / (1 - beta2^t)) + eps), t the updates of this weight

    Takes the place of `torch.optim.Adam`: its arguments, defaults, parameter groups, state and errors, and `clip_norm`.
    States are loaded from it and by it. The kernel is chosen by itself (`foreach` and `fused` change nothing);
    `amsgrad`, `maximize`, `differentiable`, `capturable`, complex weights and sparse gradients are refused.

    Args:
        params: tensors, named tensors, or groups of either with their own settings.
        lr: learning rate, at least 0, a number or a one-element tensor (read as a number), as all the others may be.
        betas: decay of the mean gradient and of the mean squared one, in [0, 1).
        eps: added to the root, at least 0.
        weight_decay: at least 0. To leave out biases and norms give them a group with weight_decay=0.
        clip_norm: before the step, scale the gradients in place so that the L2 norm over all groups together is at
            most this; None is off.
        options: others of PyTorch's, in the form that is said above.

    Raises:
        ValueError: a value out of its range, in PyTorch's words.
        ConfigError: an option that it does not have; in `step`, a gradient that it does not take.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = Adam([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 4)
    0.9
    """

    rule, twin, states = "adam", "Adam", _MOMENTS
    only: ClassVar = {**_ONLY, "amsgrad": False, "decoupled_weight_decay": False}

    def __init__(
        self, params: ParamsT, lr: float | Tensor = _ADAM["lr"],
        betas: tuple[float | Tensor, float | Tensor] = (_ADAM["beta1"], _ADAM["beta2"]), eps: float = _ADAM["eps"],
        weight_decay: float = _ADAM["weight_decay"], *, clip_norm: float | None = None, **options: Any,
    ) -> None:  # fmt: skip
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "clip_norm": clip_norm}
        super().__init__(params, settings, options)


class AdamW(RuleFace):
    """AdamW for a loop of your own: `Adam` with its weight decay beside it, W <- W - lr wd W before the step.

    Loshchilov & Hutter 2017 (arXiv 1711.05101), algorithm 2, as `torch.optim.AdamW`. Arguments, errors and what is
    refused are those of `Adam`.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = AdamW([{"params": [w], "weight_decay": 0.5}], lr=0.1, betas=(0.9, 0.95), clip_norm=1.0)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 4)
    0.85
    """

    rule, twin, states = "adamw", "AdamW", _MOMENTS
    only: ClassVar = {**_ONLY, "amsgrad": False, "decoupled_weight_decay": True}

    def __init__(
        self, params: ParamsT, lr: float | Tensor = _ADAMW["lr"],
        betas: tuple[float | Tensor, float | Tensor] = (_ADAMW["beta1"], _ADAMW["beta2"]), eps: float = _ADAMW["eps"],
        weight_decay: float = _ADAMW["weight_decay"], *, clip_norm: float | None = None, **options: Any,
    ) -> None:  # fmt: skip
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "clip_norm": clip_norm}
        super().__init__(params, settings, options)


class RMSProp(RuleFace):
    """RMSProp for a loop of your own: Tieleman & Hinton 2012, "Lecture 6.5", in the form of `torch.optim.RMSprop`.

       S <- alpha S + (1 - alpha) g^2, g with wd W added to it;  V <- momentum V + g / (sqrt(S) + eps);  W <- W - lr V

    `lr` left out is Hinton's 0.001 (PyTorch's is 0.01). What is refused is what `Adam` refuses, and `centered`.

    Args:
        params: as those of `Adam`, as are lr, eps, weight_decay, clip_norm and options.
        alpha: decay of the mean squared gradient, in [0, 1).
        momentum: at least 0.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = RMSProp([w], lr=0.01, momentum=0.9)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 4)
    0.9
    """

    rule, twin, states = "rmsprop", "RMSprop", {"square": "square_avg", "velocity": "momentum_buffer", **_COUNT}
    only: ClassVar = {**_ONLY, "centered": False}

    def __init__(
        self, params: ParamsT, lr: float | Tensor = _RMSPROP["lr"], alpha: float = _RMSPROP["alpha"],
        eps: float = _RMSPROP["eps"], weight_decay: float = _RMSPROP["weight_decay"],
        momentum: float = _RMSPROP["momentum"], *, clip_norm: float | None = None, **options: Any,
    ) -> None:  # fmt: skip
        settings = {
            "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
            "clip_norm": clip_norm,
        }  # fmt: skip
        super().__init__(params, settings, options)
