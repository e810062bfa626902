"""The pictures of the steps of the procedure, drawn from the evidence of their decisions and from the trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt

from surefoot.record.decision import Decision
from surefoot.record.trial import TrialResult
from surefoot.report.look import COLORS, GREY, WIDTH, Figure, chart_of, dashed, panel_title, short_numbers, styled
from surefoot.report.lr_range import lr_range_chart
from surefoot.report.maps import map_chart

OPEN_FACTOR = 3.0
"""An interval without an upper end is drawn up to so many times the largest number there is. Chosen by hand."""
Drawn = tuple[str, str, Any]
"""Title, caption and chart."""
Draw = Callable[[Decision, Sequence[TrialResult]], Drawn | None]


def step_figure(decision: Decision, tried: Sequence[TrialResult], name: str) -> Figure | None:
    """Return the picture of a decision, or None where none is known or its evidence is not there.

    Args:
        decision: of any step.
        tried: all finished trials of the search; the decision's own are chosen by its evidence, else by its name.
        name: of the figure.
    """
    draw = _DRAWN.get(decision.name)
    try:
        drawn = draw(decision, tried) if draw is not None else None
    except (KeyError, TypeError, ValueError, IndexError):
        return None  # evidence of another version: the table of the evidence shows what there is
    return None if drawn is None else Figure(name=name, title=drawn[0], caption=drawn[1], chart=drawn[2])


def members_of(decision: Decision, tried: Sequence[TrialResult]) -> list[TrialResult]:
    """Return the trials that a decision was made from."""
    keys = decision.evidence.get("members")
    if isinstance(keys, list) and keys and all(isinstance(key, str) for key in keys):
        wanted = set(keys)
        return [result for result in tried if result.trial.key in wanted]
    return [result for result in tried if result.trial.stage == decision.name]


def batch_size_chart(decision: Mapping[str, Any]) -> Any:
    """Return the pictures of the batch size, one above the other.

    Above, the predicted seconds to the target loss against the batch size, with its interval and the suggestion; in the
    middle, examples per second; below, the noise scale along the short run, with its interval, an open one drawn to the
    top with an arrow, and the batch size of that run for comparison.

    Args:
        decision: of the batch size, as `Decision.to_dict()` gives it.

    >>> size = {"batch_size": 64, "step_seconds": [0.1], "examples_per_second": 640.0, "steps": [9.0, 8.0, 10.0],
    ...     "seconds": [0.9, 0.8, 1.0]}
    >>> noise = {"step": 10, "total": {"noise_scale": [300.0, 100.0, None]}}
    >>> evidence = {"sizes": [size], "noise": [noise], "batch_size": 64, "target_loss": 1.0, "steps": 20}
    >>> value = {"batch_size": 64, "noise_scale": 300.0, "noise_scale_interval": [100.0, None]}
    >>> type(batch_size_chart({"value": value, "evidence": evidence})).__name__
    'VConcatChart'
    """
    evidence, value = decision["evidence"], decision["value"]
    sizes = sorted({size["batch_size"] for size in evidence["sizes"]})
    scale = alt.Scale(type="log", base=2, domain=[sizes[0] / 1.3, sizes[-1] * 1.3], nice=False)
    x = alt.X("batch:Q", title="batch size", scale=scale, axis=alt.Axis(values=sizes, format=",d"))
    panels = [_seconds(evidence, value, x), _throughput(evidence, x), _noise_scale(evidence)]
    return styled(alt.vconcat(*panels, spacing=28))


def _seconds(evidence: Mapping[str, Any], value: Mapping[str, Any], x: alt.X) -> Any:
    points = [
        {"batch": size["batch_size"], "seconds": size["seconds"][0], "low": size["seconds"][1],
         "high": size["seconds"][2], "steps": size["steps"][0]}
        for size in evidence["sizes"]
    ]  # fmt: skip
    y = _log_y("seconds", "seconds", [point[end] for end in ("low", "high") for point in points])
    base = chart_of(points).encode(x=x, y=y)
    best = next(point for point in points if point["batch"] == value["batch_size"])
    best = best | {"text": f"batch {best['batch']}, {best['seconds']:.3g} s"}
    mark = chart_of([best]).encode(x=x, y=y)
    layers = [
        chart_of(points).mark_area(opacity=0.18, color=COLORS[0]).encode(
            x=x, y=alt.Y("low:Q", title="seconds"), y2="high:Q"),
        base.mark_line(strokeWidth=2, color=COLORS[0]),
        base.mark_circle(size=45, color=COLORS[0], opacity=1).encode(
            tooltip=["batch:Q", "seconds:Q", "low:Q", "high:Q", "steps:Q"]),
        mark.mark_circle(size=110, color=COLORS[2], opacity=1),
        mark.mark_text(align="center", dy=-16, fontSize=12, fontWeight="bold", color=COLORS[2]).encode(text="text:N"),
    ]  # fmt: skip
    title = panel_title(f"Predicted time to a training loss of {evidence['target_loss']:.3g}, with its interval")
    return alt.layer(*layers, title=title).properties(width=WIDTH, height=230)


def _throughput(evidence: Mapping[str, Any], x: alt.X) -> Any:
    points = [{"batch": size["batch_size"], "rate": size["batch_size"] / seconds}
              for size in evidence["sizes"] for seconds in size["step_seconds"]]  # fmt: skip
    medians = [{"batch": size["batch_size"], "rate": size["examples_per_second"]} for size in evidence["sizes"]]
    y = _log_y("rate", "examples per second", [point["rate"] for point in points])
    dots = chart_of(points).mark_circle(size=30, opacity=0.6, color=COLORS[0])
    layers = [
        chart_of(medians).mark_line(strokeWidth=2, color=COLORS[0]).encode(x=x, y=y),
        dots.encode(x=x, y=y, tooltip=["batch:Q", "rate:Q"]),
    ]
    title = panel_title("Throughput: a point for each timing")
    return alt.layer(*layers, title=title).properties(width=WIDTH, height=170)


def _noise_scale(evidence: Mapping[str, Any]) -> Any:
    scales = [(noise["step"], *noise["total"]["noise_scale"]) for noise in evidence["noise"]]
    finite = [end for _, *ends in scales for end in ends if end is not None and end > 0]
    finite.append(float(evidence["batch_size"]))
    top = OPEN_FACTOR * max(finite)
    points = [
        {"step": step, "scale": scale, "low": max(low if low is not None else top, min(finite)),
         "high": top if high is None else high, "open": high is None}
        for step, scale, low, high in scales
    ]  # fmt: skip
    x = alt.X("step:Q", title="step (updates)", scale=alt.Scale(domain=[0, evidence["steps"]], nice=False))
    title = "noise scale (examples)"
    y = _log_y("scale", title, [*finite, top])
    arrows = chart_of([point for point in points if point["open"]]).mark_point(
        shape="triangle-up", size=70, filled=True, color=COLORS[1], opacity=1
    )
    dots = chart_of([point for point in points if point["scale"] is not None])
    layers = [
        dashed([{"scale": evidence["batch_size"]}]).encode(y=y),
        chart_of(points).mark_rule(strokeWidth=2, color=COLORS[0], opacity=0.6).encode(
            x=x, y=alt.Y("low:Q", scale=y["scale"], title=title), y2="high:Q"),
        arrows.encode(x=x, y=alt.Y("high:Q", scale=y["scale"], title=title)),
        dots.mark_circle(size=60, color=COLORS[0], opacity=1).encode(
            x=x, y=y, tooltip=["step:Q", "scale:Q", "low:Q", "high:Q"]),
    ]  # fmt: skip
    what = "Noise scale along the short run (arrow: open above; dashed: its batch size)"
    return alt.layer(*layers, title=panel_title(what)).properties(width=WIDTH, height=200)


def _log_y(field: str, title: str, values: Sequence[float]) -> alt.Y:
    """A logarithmic axis around these numbers."""
    above = [value for value in values if value > 0 and math.isfinite(value)]
    scale = alt.Scale(type="log", domain=[min(above) / 1.3, max(above) * 1.6], nice=False)
    return alt.Y(f"{field}:Q", title=title, scale=scale, axis=short_numbers(tickCount=4))


def _overfit(decision: Decision, _: Sequence[TrialResult]) -> Drawn | None:
    points = [
        {"run": f"{i}: lr {run['lr']:.2g}" if run.get("lr") else str(i), "step": step, "loss": loss}
        for i, run in enumerate(decision.evidence["runs"])
        for step, loss in zip(run["steps"], run.get("losses") or run["loss"], strict=False)
        if loss is not None and loss > 0
    ]
    if not points:
        return None
    chart = chart_of(points, width=WIDTH - 160, height=220).mark_line(point=True).encode(
        x=alt.X("step:Q", title="step (updates)"),
        y=alt.Y("loss:Q", title="loss on the sample", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g")),
        color=alt.Color("run:N", title="run", scale=alt.Scale(range=list(COLORS))),
        tooltip=["run:N", "step:Q", "loss:Q"],
    )  # fmt: skip
    return "A small sample, learned by heart", "A sound model brings this loss close to 0.", styled(chart)


def _learning_rate(decision: Decision, _: Sequence[TrialResult]) -> Drawn:
    caption = "From too small to diverging: the bracket is where the loss drops, at constant rates, in short runs."
    return "Loss against learning rate", caption, lr_range_chart(decision.to_dict())


def _batch_size(decision: Decision, _: Sequence[TrialResult]) -> Drawn:
    caption = "Predicted seconds to the same loss, examples per second, and the gradient noise scale."
    return "Batch size against predicted time", caption, batch_size_chart(decision.to_dict())


def _map(decision: Decision, tried: Sequence[TrialResult]) -> Drawn | None:
    return map_chart(decision, members_of(decision, tried))


def _schedules(decision: Decision, tried: Sequence[TrialResult]) -> Drawn | None:
    compared = decision.evidence.get("errors") or {}
    points = [
        {"schedule": result.trial.recipe.schedule.kind, "loss": compared.get(result.trial.key, result.val_loss),
         "seed": result.trial.seed}
        for result in members_of(decision, tried)
        if result.finished
    ]  # fmt: skip
    if not points:
        return None
    title = str(decision.evidence.get("measure", "validation loss"))
    base = chart_of(points).encode(
        x=alt.X("loss:Q", title=title, scale=alt.Scale(zero=False)), y=alt.Y("schedule:N", title=None)
    )
    chart = alt.layer(
        base.mark_circle(size=60, opacity=0.6, color=COLORS[0]).encode(tooltip=["schedule:N", "loss:Q", "seed:N"]),
        base.mark_tick(color=GREY, thickness=3, size=22).encode(x="mean(loss):Q"),
    ).properties(width=WIDTH - 120, height=alt.Step(34))
    return "Schedules side by side", "A point for each training, a bar at their mean.", styled(chart)


_DRAWN: Mapping[str, Draw] = {
    "overfit-sample": _overfit,
    "learning-rate": _learning_rate,
    "batch-size": _batch_size,
    "coarse-grid": _map,
    "refine": _map,
    "schedule": _schedules,
}
