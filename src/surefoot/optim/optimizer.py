"""SGD and schedules with the faces of torch.optim, for people with their own loop; other rules are in `faces`."""

from __future__ import annotations

import math
import warnings
from typing import Any, get_args

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer, ParamsT, _device_dtype_check_for_fused
from torch.optim.sgd import sgd as torch_sgd

from surefoot.errors import ConfigError
from surefoot.optim.face import Face, check_settings, check_state
from surefoot.optim.presets import Preset, preset
from surefoot.optim.schedules import ScheduleFn
from surefoot.optim.update import MomentumForm, WeightDecayForm, sgd_


class StepScheduler(LRScheduler):
    """Sets each group's rate to initial rate * multiplier(step), in closed form; call `step()` after each update.

    Its state is the number of steps, so it resumes from `state_dict` exactly; the multipliers at some of the steps
    that were done go with it, by which another schedule is told apart. Made by `lr_scheduler`.
    """

    def __init__(self, optimizer: Optimizer, multiplier: ScheduleFn, last_epoch: int = -1) -> None:
        self.multiplier = multiplier
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each group for the next update."""
        last = getattr(self, "_last_lr", None)
        if self.last_epoch > 0 and last is not None:
            now = [float(group["lr"]) for group in self.optimizer.param_groups]
            if now != [float(rate) for rate in last]:
                warnings.warn(
                    f"The learning rate was {now} and not {last}, which this schedule had set: something else changed "
                    "it, perhaps another scheduler. A schedule in closed form sets it anew and the change is lost: "
                    "use one scheduler, or torch.optim.lr_scheduler.SequentialLR for one after the other.",
                    UserWarning, stacklevel=4,
                )  # fmt: skip
        return self._get_closed_form_lr()

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        multiplier = self.multiplier(self.last_epoch)
        if not math.isfinite(multiplier):
            raise ConfigError(
                f"a schedule that is {multiplier} at step {self.last_epoch}", "a rate must be finite",
                "check its peak and lengths",
            )  # fmt: skip
        return [base * multiplier for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values; the schedule itself is given anew by whoever resumes."""
        state = {name: value for name, value in super().state_dict().items() if name != "multiplier"}
        return state | {"multipliers": self._multipliers(self.last_epoch)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state of the same schedule.

        Raises:
            ConfigError: it is that of another schedule or of another number of groups.
        """
        state = dict(state_dict)
        then = state.pop("multipliers", None)  # states of older versions have none
        now = None if then is None else self._multipliers(state["last_epoch"])
        if len(state["base_lrs"]) != len(self.base_lrs) or not _alike(then, now):
            raise ConfigError(
                f"the state of another scheduler, at step {state['last_epoch']}",
                "a state fits the schedule and the number of groups that it was saved with",
                "make the scheduler with the same schedule and steps, or start it anew",
            )
        super().load_state_dict(state)

    def _multipliers(self, step: int) -> list[float]:
        """Return the multipliers at the steps 0, 1, 2, 4, ... up to this one, and at it."""
        steps = [0, *(2**k for k in range(max(0, step).bit_length())), max(0, step)]
        return [float(self.multiplier(each)) for each in steps]


def _alike(then: list[float] | None, now: list[float] | None) -> bool:
    # The last bits may be another processor's; 1e-9 of the peak is far below what any schedule differs by.
    if then is None or now is None:
        return True
    return len(then) == len(now) and all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) for a, b in zip(then, now, strict=True)
    )


def lr_scheduler(optimizer: Optimizer, schedule: ScheduleFn | Preset | str, steps: int | None = None) -> StepScheduler:
    """Return PyTorch's kind of scheduler for a schedule, to be stepped once per update.

    Each group's own `lr` is its peak: it is multiplied by the schedule's value at the step.

    Args:
        optimizer: any PyTorch optimizer.
        schedule: a function of the step that gives the multiplier (such as `schedules.cosine(1.0, T)`), a preset, or
            a preset's name. Of a preset only the shape is used.
        steps: length of the run. A preset is rescaled to it (None: its own length); any schedule keeps the value of
            update steps - 1 from then on.

    Raises:
        ConfigError: no preset has that name, it does not fit into so few steps, or a rate is not finite, of the
            schedule (at that step) or of a group.

    Warns:
        UserWarning: something else changed the rate since the last step, such as another scheduler: it is set anew.

    >>> import torch
    >>> from surefoot.optim import schedules
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    >>> scheduler = lr_scheduler(optimizer, schedules.linear(1.0, 4), steps=4)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """
    if steps is not None and steps < 1:
        raise ConfigError(f"steps = {steps}", "a run has at least 1 step", "give its number of updates")
    for group in optimizer.param_groups:
        if not math.isfinite(group.get("initial_lr", group["lr"])):
            raise ConfigError(f"lr = {group['lr']} of a group", "a peak must be finite", "give for example lr = 0.1")
    if isinstance(schedule, str):
        schedule = preset(schedule)
    if isinstance(schedule, Preset):
        published = schedule if steps is None else schedule.rescaled(steps)[0]
        schedule, steps = published.schedule(1.0), published.steps
    curve, last = schedule, steps
    if last is None:
        return StepScheduler(optimizer, curve)
    return StepScheduler(optimizer, lambda step: curve(min(step, last - 1)))


_OPTIONS: dict[str, Any] = {
    "maximize": False, "nesterov": False, "differentiable": False, "foreach": None, "fused": None,
    "momentum_form": "pytorch", "weight_decay_form": "coupled", "clip_norm": None,
}  # fmt: skip
"""What a saved state may lack: it is older, or another optimizer's."""


class SGD(Face):
    """SGD with momentum in three forms, coupled or decoupled weight decay, and clipping; formulas in `optim.update`.

    A drop-in for `torch.optim.SGD`: the same arguments, defaults, state ("momentum_buffer") and errors, to which come
    the last three. Where PyTorch's own implementation is asked for (`foreach`, `differentiable`) or needed (sparse
    gradients), the step is done by PyTorch's functional `optim`.

    With `fused`, a `torch.amp.GradScaler` leaves the scaled gradients to the optimizer: they are divided by the scale
    first, in place, then clipped. A step with an infinite gradient does nothing; to know it, the host waits for the
    device, as it does with every other optimizer.

    Args:
        params: tensors, named tensors, or groups of either with their own settings.
        lr: learning rate, a number or a one-element tensor, at least 0.
        momentum: beta, at least 0, a number or a one-element tensor, as are dampening and weight_decay.
        dampening: dampening of the gradient inside the velocity.
        weight_decay: at least 0. To leave out biases and norms give them a group with weight_decay=0.
        nesterov: the same as momentum_form="nesterov".
        maximize: go up the gradient.
        foreach: as PyTorch's.
        differentiable: as PyTorch's.
        fused: as PyTorch's, where its kernel is right: see `update.sgd_`.
        momentum_form: "pytorch", "sutskever" or "nesterov".
        weight_decay_form: "coupled" or "decoupled".
        clip_norm: before the step, scale the gradients in place so that the L2 norm over all groups together is at
            most this; None is off.

    Raises:
        ValueError: a value out of its range, in PyTorch's words.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = SGD([w], lr=0.1, momentum=0.9, momentum_form="sutskever")
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 4)
    0.8
    """

    twin = "SGD"

    def __init__(
        self, params: ParamsT, lr: float | Tensor = 1e-3, momentum: float | Tensor = 0,
        dampening: float | Tensor = 0, weight_decay: float | Tensor = 0, nesterov: bool = False, *,
        maximize: bool = False, foreach: bool | None = None, differentiable: bool = False,
        fused: bool | None = None, momentum_form: MomentumForm = "pytorch",
        weight_decay_form: WeightDecayForm = "coupled", clip_norm: float | None = None,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov or momentum_form == "nesterov", "maximize": maximize, "foreach": foreach,
            "differentiable": differentiable, "fused": fused, "momentum_form": momentum_form,
            "weight_decay_form": weight_decay_form, "clip_norm": clip_norm,
        }  # fmt: skip
        _check(defaults)
        super().__init__(params, defaults)
        if fused:
            self._step_supports_amp_scaling = True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as PyTorch does, with its own settings checked like the optimizer's."""
        if isinstance(param_group, dict):  # else PyTorch says what is wrong
            if "momentum_form" in param_group:  # "nesterov" says the same thing: what the group gives counts for both
                param_group.setdefault("nesterov", param_group["momentum_form"] == "nesterov")
            elif "nesterov" in param_group and self.defaults["momentum_form"] == "nesterov":
                param_group["momentum_form"] = "pytorch"
            _check({**self.defaults, "nesterov": False, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state. In one saved by `torch.optim.SGD` the decay's form and clipping stay as they are here.

        Raises:
            ConfigError: it is another optimizer's.
            ValueError: a state without forms for a group with momentum_form="sutskever", whose velocity has another
                scale.
        """
        check_state(self, state, ("lr", "momentum", "dampening", "weight_decay"), ())
        here = self.__dict__.get("param_groups") or [{} for _ in state["param_groups"]]
        for group, old in zip(state["param_groups"], here, strict=True):
            if "momentum_form" not in group and old.get("momentum_form") == "sutskever" and group["momentum"] != 0:
                raise ValueError(
                    "A state of torch.optim.SGD cannot be loaded with momentum_form='sutskever': its velocity is "
                    "without the learning rate. Use momentum_form='pytorch', or start with fresh velocities."
                )
            for name, default in _OPTIONS.items():
                group.setdefault(
                    name, old.get(name, default) if name in ("weight_decay_form", "clip_norm") else default
                )
        super().__setstate__(state)

    def _check_gradients(self, group: dict[str, Any], params: list[Tensor]) -> None:
        if group["fused"]:
            for p in params:
                _device_dtype_check_for_fused(p)

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        grads = [p.grad for p in params if p.grad is not None]
        buffers = [self.state[p].get("momentum_buffer") for p in params] if group["momentum"] != 0 else []
        if group["foreach"] is not None or group["differentiable"] or any(grad.is_sparse for grad in grads):
            _step_by_torch(group, params, grads, buffers)
        else:
            _step_ours(group, params, grads, buffers)
        for p, buffer in zip(params, buffers, strict=False):
            self.state[p]["momentum_buffer"] = buffer


def _form(group: dict[str, Any]) -> MomentumForm:
    return "nesterov" if group["nesterov"] else group["momentum_form"]


def _step_ours(group: dict[str, Any], params: list[Tensor], grads: list[Tensor], buffers: list[Tensor | None]) -> None:
    # A parameter that gets its first gradient later than the others starts its velocity then.
    fresh = [i for i in range(len(params)) if not buffers or buffers[i] is None]
    for part in (fresh, sorted(set(range(len(params))) - set(fresh))):
        if not part:
            continue
        velocity = None if part is fresh else [buffer for i in part if (buffer := buffers[i]) is not None]
        velocity = sgd_(
            [params[i] for i in part], [grads[i] for i in part], velocity,
            lr=group["lr"], momentum=float(group["momentum"]), momentum_form=_form(group),
            dampening=float(group["dampening"]),
            weight_decay=float(group["weight_decay"]), weight_decay_form=group["weight_decay_form"],
            maximize=group["maximize"],
        )  # fmt: skip
        for i, buffer in zip(part, velocity or [], strict=False):
            buffers[i] = buffer


def _step_by_torch(
    group: dict[str, Any], params: list[Tensor], grads: list[Tensor], buffers: list[Tensor | None]
) -> None:
    if _form(group) == "sutskever" and group["momentum"] != 0:
        raise RuntimeError(
            "momentum_form='sutskever' with sparse gradients, foreach or differentiable: it has one "
            "implementation, for dense gradients. Leave those options out or use momentum_form='pytorch'."
        )
    decay = group["weight_decay"]
    if group["weight_decay_form"] == "decoupled":
        for p in params:
            p.mul_(1 - group["lr"] * decay)
        decay = 0.0
    torch_sgd(
        params, grads, buffers if group["momentum"] != 0 else [None] * len(params), weight_decay=decay,
        momentum=group["momentum"], lr=group["lr"], dampening=group["dampening"], nesterov=_form(group) == "nesterov",
        maximize=group["maximize"], has_sparse_grad=any(grad.is_sparse for grad in grads),
        foreach=False if group["differentiable"] else group["foreach"], fused=False,
    )  # fmt: skip


def _check(settings: dict[str, Any]) -> None:
    """Raise what `torch.optim.SGD` raises, and the like for what it does not have."""
    check_settings(settings)
    if settings["nesterov"] and (settings["momentum"] <= 0 or settings["dampening"] != 0):
        raise ValueError("Nesterov momentum requires a momentum and zero dampening")
    for name, form in (("momentum_form", MomentumForm), ("weight_decay_form", WeightDecayForm)):
        if settings[name] not in get_args(form):
            raise ValueError(f"Invalid {name}: {settings[name]!r}. It must be one of {', '.join(get_args(form))}.")
    if settings["nesterov"] and settings["momentum_form"] == "sutskever":
        raise ValueError("nesterov=True with momentum_form='sutskever': choose one of them.")
    if settings["fused"] and settings["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")
