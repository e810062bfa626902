"""The pictures of the steps of the procedure, drawn from the evidence of their decisions and from the trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt

from surefoot.errors import ConfigError
from surefoot.record.decision import Decision
from surefoot.record.trial import TrialResult
from surefoot.report.charts import COLORS
from surefoot.report.figure import GREY, WIDTH, Figure, dressed, values
from surefoot.report.maps import map_chart
from surefoot.report.noise import noise_chart
from surefoot.report.rates import rates_chart

Draw = Callable[[Decision, Sequence[TrialResult]], tuple[str, str, Any] | None]


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
    except (KeyError, TypeError, ValueError, IndexError, ConfigError):
        return None  # evidence of another version: the table of the evidence shows what there is
    return None if drawn is None else Figure(name=name, title=drawn[0], caption=drawn[1], chart=drawn[2])


def members_of(decision: Decision, tried: Sequence[TrialResult]) -> list[TrialResult]:
    """Return the trials that a decision was made from."""
    keys = decision.evidence.get("members")
    if isinstance(keys, list) and keys and all(isinstance(key, str) for key in keys):
        wanted = set(keys)
        return [each for each in tried if each.trial.key in wanted]
    return [each for each in tried if each.trial.stage == decision.name]


def _initial_loss(decision: Decision, _: Sequence[TrialResult]) -> tuple[str, str, Any] | None:
    seen = decision.evidence
    if seen.get("chance") is None or seen.get("loss") is None:
        return None
    bars = [{"what": "measured", "loss": seen["loss"]}, {"what": "chance", "loss": seen["chance"]}]
    error = seen.get("standard_error") or 0.0
    y = alt.Y("what:N", title=None, sort=["measured", "chance"])
    ends = [{"what": "measured", "low": seen["loss"] - 2 * error, "high": seen["loss"] + 2 * error}]
    color = alt.Color(
        "what:N", legend=None, scale=alt.Scale(domain=["measured", "chance"], range=[COLORS[0], "#999999"])
    )
    chart = alt.layer(
        alt.Chart(values(bars)).mark_bar().encode(
            x=alt.X("loss:Q", title="loss"), y=y, color=color, tooltip=["what:N", "loss:Q"]),
        alt.Chart(values(ends)).mark_rule(strokeWidth=3).encode(x="low:Q", x2="high:Q", y=y),
    ).properties(width=WIDTH - 100, height=70)  # fmt: skip
    return "Initial loss against chance", "The line is two standard errors to each side.", dressed(chart)


def _overfit(decision: Decision, _: Sequence[TrialResult]) -> tuple[str, str, Any] | None:
    points = [
        {"run": f"{i}: lr {run['lr']:.2g}" if run.get("lr") else str(i), "step": step, "loss": loss}
        for i, run in enumerate(decision.evidence["runs"])
        for step, loss in zip(run["steps"], run.get("losses") or run["loss"], strict=False)
        if loss is not None and loss > 0
    ]
    if not points:
        return None
    chart = alt.Chart(values(points), width=WIDTH - 160, height=220).mark_line(point=True).encode(
        x=alt.X("step:Q", title="step (updates)"),
        y=alt.Y("loss:Q", title="loss on the sample", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g")),
        color=alt.Color("run:N", title="run", scale=alt.Scale(range=list(COLORS))),
        tooltip=["run:N", "step:Q", "loss:Q"],
    )  # fmt: skip
    return "A small sample, learned by heart", "A sound model brings this loss close to 0.", dressed(chart)


def _rates(decision: Decision, _: Sequence[TrialResult]) -> tuple[str, str, Any]:
    caption = "From too small to diverging: the bracket is where the loss drops, at constant rates, in short runs."
    return "Loss against learning rate", caption, rates_chart(decision.to_dict())


def _batch(decision: Decision, _: Sequence[TrialResult]) -> tuple[str, str, Any]:
    caption = "Predicted seconds to the same loss, examples per second, and the gradient noise scale."
    return "Batch size against predicted time", caption, noise_chart(decision.to_dict())


def _map(decision: Decision, tried: Sequence[TrialResult]) -> tuple[str, str, Any] | None:
    return map_chart(decision, members_of(decision, tried))


def _schedules(decision: Decision, tried: Sequence[TrialResult]) -> tuple[str, str, Any] | None:
    points = [
        {"schedule": each.trial.recipe.schedule.kind, "loss": each.val_loss, "seed": each.trial.seed}
        for each in members_of(decision, tried)
        if each.finished
    ]
    if not points:
        return None
    base = alt.Chart(values(points)).encode(
        x=alt.X("loss:Q", title="validation loss", scale=alt.Scale(zero=False)), y=alt.Y("schedule:N", title=None)
    )
    chart = alt.layer(
        base.mark_circle(size=60, opacity=0.6, color=COLORS[0]).encode(tooltip=["schedule:N", "loss:Q", "seed:N"]),
        base.mark_tick(color=GREY, thickness=3, size=22).encode(x="mean(loss):Q"),
    ).properties(width=WIDTH - 120, height=alt.Step(34))
    return "Schedules side by side", "A point for each training, a bar at their mean.", dressed(chart)


_DRAWN: Mapping[str, Draw] = {
    "initial-loss": _initial_loss,
    "overfit-sample": _overfit,
    "learning-rate": _rates,
    "batch-size": _batch,
    "coarse-grid": _map,
    "refine": _map,
    "schedule": _schedules,
}
