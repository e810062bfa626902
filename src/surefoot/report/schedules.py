"""Learning-rate schedules as a chart: the rate against the step, several on one pair of axes where they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from surefoot.errors import ConfigError
from surefoot.report.look import chart_of, line_of_each, panel_title, styled


@dataclass(frozen=True, eq=False)
class Curve:
    """One line of a chart: a name and its points, `steps` [n] and `lr` [n], in rising order of steps."""

    name: str
    steps: np.ndarray
    lr: np.ndarray


def schedule_chart(curves: Sequence[Curve]) -> Any:
    """Return a chart of learning rate against step.

    Curves that share their last step and are within a factor of 20 in height share one pair of axes; others are
    drawn one above the other, each on its own.

    Args:
        curves: at least one.

    >>> chart = schedule_chart([Curve("linear", np.arange(3), np.array([1.0, 0.5, 0.0]))])
    >>> type(chart).__name__
    'Chart'
    """
    if not curves:
        raise ConfigError("no curves to draw", "a chart needs at least one", "name a schedule")
    peaks = [float(np.max(curve.lr)) for curve in curves]
    together = len({int(curve.steps[-1]) for curve in curves}) == 1 and max(peaks) <= 20 * min(peaks)
    if together:
        return styled(_panel(curves, title="Learning rate", height=320))
    return styled(alt.vconcat(*(_panel([curve], title=curve.name, height=150) for curve in curves)))


def _panel(curves: Sequence[Curve], *, title: str, height: int) -> Any:
    names = [curve.name for curve in curves]
    peak = max(float(np.max(curve.lr)) for curve in curves)
    scale = alt.Scale(type="linear", domain=[0.0, 1.05 * peak], nice=False)
    points = [
        {"name": curve.name, "step": int(step), "lr": float(lr)}
        for curve in curves
        for step, lr in zip(curve.steps, curve.lr, strict=True)
    ]
    lines = line_of_each("name", names, orient="right", columns=1, labelLimit=220)
    if len(names) == 1:
        lines = {channel: encoding.legend(None) for channel, encoding in lines.items()}
    return (
        chart_of(points, title=panel_title(title), width=640, height=height)
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=alt.X("step:Q", title="step (updates)", axis=alt.Axis(format=",d", tickCount=6)),
            y=alt.Y("lr:Q", title="learning rate", scale=scale, axis=alt.Axis(format="~g", tickCount=5)),
            tooltip=["name:N", "step:Q", "lr:Q"],
            **lines,
        )
    )
