"""A schedule as the text of a Python function that needs `math` alone: for a program that has to do without us.

Each text is the formula of the function of the same name in `schedules`, or of a preset's shape in `published`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from surefoot.config import Schedule
from surefoot.optim import published
from surefoot.optim.plan import curve_of
from surefoot.optim.presets import preset
from surefoot.optim.published import Preset

Lines = list[str]


def rate_lines(shape: Schedule, peak: float, steps: int, steps_per_epoch: int) -> Lines:
    """Return the lines of a function `rate(t)`, the learning rate of update t, counted from 0.

    What plateau makes of it is not in it: that depends on the record.

    Args:
        shape: the settings.
        peak: highest learning rate.
        steps: T.
        steps_per_epoch: updates per pass.

    >>> rate_lines(Schedule(kind="linear"), 0.1, 100, 10)
    ['def rate(t):', '    return 0.1 * (1 - min(t / 100, 1.0))']
    """
    if shape.kind == "preset":
        body = _of_preset(preset(shape.preset or "").rescaled(steps)[0], peak)
    else:
        curve = curve_of(shape, steps, steps_per_epoch)
        body, warm = _CURVES[curve.name](peak, curve.numbers), curve.warmup_steps
        if warm:
            shift = [f"t = t - {warm}"] if curve.seam == "shift" else []
            body = _ramp(peak, warm, shape.warmup_start) + shift + body
    return ["def rate(t):", *(f"    {line}" for line in body)]


def _ramp(peak: float, steps: int, start: float = 0.0) -> Lines:
    share = f"t / {steps!r}" if start == 0 else f"({start!r} + {1 - start!r} * t / {steps!r})"
    return [f"if t < {steps!r}:", f"    return {peak!r} * {share}"]


def _to_end(peak: float, end: float, share: str) -> str:
    """Text of peak (end + (1 - end) share)."""
    return f"return {peak!r} * ({share})" if end == 0 else f"return {peak!r} * ({end!r} + {1 - end!r} * ({share}))"


def _constant(peak: float, n: Mapping[str, Any]) -> Lines:
    return [f"return {peak!r}"]


def _step(peak: float, n: Mapping[str, Any]) -> Lines:
    return [f"return {peak!r} * {n['factor']!r} ** sum(t >= drop for drop in {tuple(n['milestones'])!r})"]


def _cosine(peak: float, n: Mapping[str, Any]) -> Lines:
    share = f"0.5 * (1 + math.cos(math.pi * min(t / {n['steps']!r}, 1.0)))"
    return [_to_end(peak, n["end"], share)]


def _polynomial(peak: float, n: Mapping[str, Any]) -> Lines:
    share = f"1 - min(t / {n['steps']!r}, 1.0)"
    return [_to_end(peak, n["end"], share if n.get("power", 1.0) == 1 else f"({share}) ** {n['power']!r}")]


def _exponential(peak: float, n: Mapping[str, Any]) -> Lines:
    return [f"return {peak!r} * {n['factor']!r} ** (t / {n['every']!r})"]


def _inverse_sqrt(peak: float, n: Mapping[str, Any]) -> Lines:
    return [f"return {peak!r} / math.sqrt(1 + t / {n['timescale']!r})"]


def _one_cycle(peak: float, n: Mapping[str, Any]) -> Lines:
    top, down, start, end = n["peak_step"], n["steps"] - n["peak_step"], n.get("start", 1 / 25), n["end"]
    side = "{}" if n.get("shape") == "linear" else "0.5 * (1 - math.cos(math.pi * {}))"
    rise, fall = side.format(f"t / {top!r}"), side.format(f"min((t - {top!r}) / {down!r}, 1.0)")
    return [
        f"if t < {top!r}:",
        f"    return {peak!r} * ({start!r} + {1 - start!r} * ({rise}))",
        f"return {peak!r} * (1 - {1 - end!r} * ({fall}))",
    ]


def _wsd(peak: float, n: Mapping[str, Any]) -> Lines:
    flat = n["steps"] - n["decay_steps"]
    share = f"1 - min(max(t - {flat!r}, 0) / {n['decay_steps']!r}, 1.0)"
    return [_to_end(peak, n["end"], share)]


def _sgdr(peak: float, n: Mapping[str, Any]) -> Lines:
    return [
        f"length = {n['first']!r}",
        "while t >= length:  # a warm restart",
        f"    t, length = t - length, length * {n['mult']!r}",
        _to_end(peak, n.get("end", 0.0), "0.5 * (1 + math.cos(math.pi * t / length))"),
    ]


_CURVES: dict[str, Callable[[float, Mapping[str, Any]], Lines]] = {
    "constant": _constant, "step": _step, "cosine": _cosine, "linear": _polynomial, "polynomial": _polynomial,
    "exponential": _exponential, "inverse_sqrt": _inverse_sqrt, "one_cycle": _one_cycle, "wsd": _wsd, "sgdr": _sgdr,
}  # fmt: skip
"""By the name of the function in `schedules`; what they get are its arguments."""


def _of_preset(original: Preset, peak: float) -> Lines:
    """Return the body of a preset's function; its shape is one of those of `published`."""
    of_shape = getattr(original.shape, "keywords", {})
    lengths = [position for _, position in original.lengths]
    return _SHAPES[getattr(original.shape, "func", original.shape)](peak, original.steps, lengths, of_shape)


def _drops(peak: float, steps: int, lengths: Sequence[int], how: Mapping[str, Any]) -> Lines:
    return _step(peak, {"milestones": lengths, "factor": how.get("factor", 0.1)})


def _low_then_drops(peak: float, steps: int, lengths: Sequence[int], how: Mapping[str, Any]) -> Lines:
    return [f"if t < {lengths[0]}:", f"    return {peak * how['start']!r}", *_drops(peak, steps, lengths[1:], how)]


def _ramp_then_drops(peak: float, steps: int, lengths: Sequence[int], how: Mapping[str, Any]) -> Lines:
    return _ramp(peak, lengths[0], how["start"]) + _drops(peak, steps, lengths[1:], how)


def _cycles(peak: float, steps: int, lengths: Sequence[int], how: Mapping[str, Any]) -> Lines:
    return _sgdr(peak, {"first": lengths[0], "mult": how["mult"]})


def _ramp_then_decay(peak: float, steps: int, lengths: Sequence[int], how: Mapping[str, Any]) -> Lines:
    (warm, *later), start, seam = lengths, how.get("start", 0.0), how["seam"]
    last = later[0] if later else steps
    body = _CURVES[how["decay"].__name__](
        peak, {"steps": last - warm if seam == "shift" else last, "end": how.get("end", 0.0)}
    )
    if seam == "meet":
        top = how["decay"](peak, last, end=how.get("end", 0.0))(warm)
        ramp = [f"if t < {warm}:", f"    return {start * peak!r} + {top - start * peak!r} * t / {warm}"]
    else:
        ramp = _ramp(peak, warm, start)
    return ramp + ([f"t = t - {warm}"] if seam == "shift" else []) + body


def _gpt_cosine(peak: float, steps: int, lengths: Sequence[int], how: Mapping[str, Any]) -> Lines:
    ramp = [f"if t <= {lengths[0]}:", f"    return {peak!r} * t / {lengths[0]}"]
    return ramp + _cosine(peak, {"steps": steps, "end": 0.0})


def _gpt_linear(peak: float, steps: int, lengths: Sequence[int], how: Mapping[str, Any]) -> Lines:
    seam, fall = how["share"] * steps, f"(1 - min(t / {steps}, 1.0))"
    return [f"if t < {seam!r}:", f"    return {peak!r} * t / {seam!r} * {fall}", f"return {peak!r} * {fall}"]


def _stairs(peak: float, steps: int, lengths: Sequence[int], how: Mapping[str, Any]) -> Lines:
    return [f"t = t // {lengths[0]} * {lengths[0]}", *_cosine(peak, {"steps": steps, "end": 0.0})]


def _triangle(peak: float, steps: int, lengths: Sequence[int], how: Mapping[str, Any]) -> Lines:
    top = int(how["share"] * steps)
    numbers = {"steps": steps, "peak_step": top, "start": how["start"], "end": how["end"], "shape": "linear"}
    return _one_cycle(peak, numbers)


_SHAPES: dict[Any, Callable[[float, int, Sequence[int], Mapping[str, Any]], Lines]] = {
    published.drops: _drops, published.low_then_drops: _low_then_drops, published.ramp_then_drops: _ramp_then_drops,
    published.cycles: _cycles, published.ramp_then_decay: _ramp_then_decay, published.gpt_cosine: _gpt_cosine,
    published.gpt_linear: _gpt_linear, published.stairs: _stairs, published.triangle: _triangle,
}  # fmt: skip
