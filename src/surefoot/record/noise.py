"""What gradient noise was at one point of training, as plain data: estimates with intervals, per layer and in total.

Along a run it lies in a file of its own beside the rows, `NOISE`, a line for each measurement. The file's presence says
that this run measures noise, so that a run that is resumed goes on measuring.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surefoot.record.lines import append_lines, plain, read_lines, truncate_lines

NOISE = "noise.jsonl"

QUANTITIES = (
    "second_moment", "grad_norm_sq", "trace", "batch_variance", "signal_to_noise", "noise_scale",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: the estimate. NaN where it is not defined, infinite where a divisor was estimated as nothing.
        low, high: the interval's ends. An infinite `high` says that the interval is open: no bound above is known.
    """

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate of `factor` times the quantity, for a factor above 0.

        >>> Estimate(value=2.0, low=1.0, high=math.inf).scaled(3.0).low
        3.0
        """
        return Estimate(value=factor * self.value, low=factor * self.low, high=factor * self.high)


@dataclass(frozen=True, kw_only=True)
class LayerNoise:
    """The gradient noise of a layer, or of all layers together. F is the loss over the training part, g_i of example i.

    | here | is | elsewhere |
    |---|---|---|
    | `second_moment` | E||g_i||^2 | "the variance" of lectures that bound SGD by it: Bottou et al. 2018, section 4.1 |
    | `grad_norm_sq` | ||grad F||^2 | |G|^2 in McCandlish et al. 2018 |
    | `trace` | tr(Sigma), Sigma = Cov(g_i) | the variance proper; second_moment - grad_norm_sq |
    | `batch_variance` | tr(Sigma) / B | E||g_B - grad F||^2, the variance of a mini-batch gradient |
    | `signal_to_noise` | ||grad F||^2 B / tr(Sigma) | 1 / theta^2 of the norm test, Byrd et al. 2012, section 3 |
    | `noise_scale` | tr(Sigma) / ||grad F||^2 | B_simple, "simple noise scale", McCandlish et al. 2018, section 2.2 |

    The noise scale is in examples: a batch of that size has as much noise as signal. It stands in for the critical
    batch size, which also weighs by curvature and is found only by training at several sizes; how well it does so is
    disputed (Merrill et al. 2025, arXiv 2505.23971, measured critical sizes that it does not follow).

    Attributes:
        name: of the module that holds the parameters; "total" for all.
        parameters: how many numbers.
        second_moment, grad_norm_sq, trace, batch_variance, signal_to_noise, noise_scale: see above. The first four are
            unbiased, so `grad_norm_sq` can come out below 0 where noise hides it; the ratios are of unbiased parts.
    """

    name: str
    parameters: int
    second_moment: Estimate
    grad_norm_sq: Estimate
    trace: Estimate
    batch_variance: Estimate
    signal_to_noise: Estimate
    noise_scale: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values: [value, low, high] for each quantity; what is not finite becomes None."""
        estimates = {name: getattr(self, name) for name in QUANTITIES}
        numbers = {name: [found.value, found.low, found.high] for name, found in estimates.items()}
        return plain({"name": self.name, "parameters": self.parameters, **numbers})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LayerNoise:
        """Return what `to_dict` wrote; a missing value comes back as NaN, a missing end as infinity."""
        estimates = {}
        for name in QUANTITIES:
            value, low, high = values[name]
            estimates[name] = Estimate(value=_number(value, math.nan), low=_number(low, math.inf),
                                       high=_number(high, math.inf))  # fmt: skip
        return cls(name=values["name"], parameters=values["parameters"], **estimates)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The gradient noise at one point of training.

    Attributes:
        step: updates done.
        batch_size: B, of `batch_variance` and `signal_to_noise`.
        groups: K, independent micro-batch gradients that it was measured from.
        micro_batch_size: b, examples in each.
        loss: mean over the micro-batches, in training mode.
        batch_norm: whether an example's gradient depends on its batch. Then Sigma / b is the covariance of the gradient
            of micro-batches of b, each with its own statistics, and F their mean loss; it changes with b.
        total: of all trainable parameters.
        layers: of each module that holds some, in the model's order.
    """

    step: int
    batch_size: int
    groups: int
    micro_batch_size: int
    loss: float
    batch_norm: bool
    total: LayerNoise
    layers: tuple[LayerNoise, ...]

    @property
    def examples(self) -> int:
        """Examples that it was measured on."""
        return self.groups * self.micro_batch_size

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        numbers = {name: getattr(self, name) for name in ("step", "batch_size", "groups", "micro_batch_size", "loss")}
        return {
            **plain(numbers), "batch_norm": self.batch_norm, "total": self.total.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Noise:
        """Return what `to_dict` wrote."""
        return cls(**{
            **values, "loss": _number(values["loss"], math.nan), "total": LayerNoise.from_dict(values["total"]),
            "layers": tuple(LayerNoise.from_dict(layer) for layer in values["layers"]),
        })  # fmt: skip


_WANTED = "a measurement of noise"


def append_noise(folder: Path, noise: Noise) -> None:
    """Add a measurement to a run's noise."""
    append_lines(folder / NOISE, [noise.to_dict()])


def read_noise(folder: Path) -> tuple[Noise, ...]:
    """Return the noise of a run, oldest first; empty where none was measured. See `read_lines` for a damaged file."""
    return tuple(read_lines(folder / NOISE, Noise.from_dict, _WANTED))


def truncate_noise(folder: Path, until_step: int) -> tuple[Noise, ...]:
    """Drop what was measured after a step, which a run that goes on from there measures again; return the rest.

    Makes the file where there is none.
    """
    return tuple(truncate_lines(folder / NOISE, Noise.from_dict, _WANTED, until_step))


def _number(value: float | None, missing: float) -> float:
    return missing if value is None else value
