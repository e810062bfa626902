"""Adam, AdamW, RMSProp and Muon with the face of torch.optim, filled by the rules of `surefoot.rules`.

Arguments, parameter groups and state have PyTorch's names, so a loop, a scheduler or a checkpoint that was made for
torch.optim's works, and the other way round. The update itself is `kernels.move_`, the one that `surefoot.train` does.
"""
# torch._foreach_* are what torch.optim is built on; they have no public name.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from surefoot.errors import ConfigError, nearest
from surefoot.optim.face import Face, check_settings, check_state, states_of
from surefoot.optim.kernels import move_, new_number
from surefoot.rules import update_rule
from surefoot.rules.muon import COEFFICIENTS, EPS, NS_STEPS

_ADAM, _ADAMW, _RMSPROP, _MUON = (update_rule(name).defaults for name in ("adam", "adamw", "rmsprop", "muon"))

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
        states: by the rule's names of state, PyTorch's, which counts the updates in every rule but Muon.
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
        check_state(self, state, settings, [self.states[name] for name in self._kinds(rule.defaults)])
        here = self.__dict__.get("param_groups") or [{} for _ in state["param_groups"]]
        for group, old in zip(state["param_groups"], here, strict=True):
            group.update({**_KERNELS, **self.only, "clip_norm": old.get("clip_norm"), **group, "capturable": False})
            self._check(group)
        super().__setstate__(state)
        for p, each in states_of(self.__dict__) if "updates" in self.states else ():
            # PyTorch before 1.12 saved plain numbers
            each["step"] = torch.as_tensor(each["step"], dtype=torch.float32, device=_place(p))

    def _kinds(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return the state of a weight, and the count where PyTorch has one, by name: "weight" or "number"."""
        count = {"updates": "number"} if "updates" in self.states else {}
        return {**update_rule(self.rule).slots(values), **count}

    def _check(self, group: dict[str, Any]) -> None:
        for name, form in self.only.items():
            value = group[name]
            if value is not None and (bool(value) if isinstance(form, bool) else value) != form:
                raise ConfigError(
                    f"{name} = {value}", f"surefoot.{type(self).__name__} has {name} = {form} alone",
                    f"{_INSTEAD.get(name, f'leave {name} out')}, or use torch.optim.{self.twin}",
                )  # fmt: skip
        check_settings(_named(group))
        if (refused := update_rule(self.rule).refuses(_named(group))) is not None:
            raise ConfigError(*refused)

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
                for name, kind in self._kinds(values).items():
                    if self.states[name] not in state:  # momentum that was 0 until now has a slot that is new
                        state[self.states[name]] = torch.zeros_like(p) if kind == "weight" else new_number(_place(p))
            slots = {name: [state[self.states[name]] for _, state in some] for name in kinds}
            grads = [p.grad for p, _ in some if p.grad is not None]
            move_(rule, values, [p for p, _ in some], grads, slots, values["lr"], first)
            if "updates" in self.states and "updates" not in kinds:
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


class Muon(RuleFace):
    """Muon for a loop of your own: momentum whose step for a matrix is orthogonalised, Jordan et al. 2024
    (kellerjordan.github.io/posts/muon); formulas in `surefoot.rules.muon`.

    Takes the place of `torch.optim.Muon`, and weights of any shape: of more than two dimensions as [first, all others],
    of fewer by SGD with Nesterov momentum at the same rate, so give biases and norms a group with their own. States are
    loaded from it and by it. Left out, `lr` is 0.02, the author's own (PyTorch's is 0.001). Products are in the
    precision of the weights, or of a `torch.autocast` around the step (PyTorch's are in bfloat16). What is refused is
    what `Adam` refuses, and other options of PyTorch's than nesterov=True, its five steps, coefficients and eps, and
    adjust_lr_fn="original".

    Args:
        params: as those of `Adam`, as are weight_decay, clip_norm and options.
        lr: learning rate, at least 0: the length of a matrix's step in the spectral norm.
        weight_decay: decoupled, W <- W - lr wd W.
        momentum: in [0, 1).

    >>> w = torch.nn.Parameter(torch.eye(2))
    >>> optimizer = Muon([w], lr=0.1, weight_decay=0)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> [round(value, 1) for value in w.flatten().tolist()]
    [0.9, 0.0, 0.0, 0.9]
    """

    rule, twin, states = "muon", "Muon", {"velocity": "momentum_buffer"}
    only: ClassVar = {
        **_ONLY, "nesterov": True, "ns_coefficients": COEFFICIENTS, "eps": EPS, "ns_steps": NS_STEPS,
        "adjust_lr_fn": "original",
    }  # fmt: skip

    def __init__(
        self, params: ParamsT, lr: float | Tensor = _MUON["lr"], weight_decay: float = _MUON["weight_decay"],
        momentum: float = _MUON["momentum"], *, clip_norm: float | None = None, **options: Any,
    ) -> None:  # fmt: skip
        settings = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "clip_norm": clip_norm}
        super().__init__(params, settings, options)
