"""The pictures of `regret.py`: regret against cost, the mean over tasks with its interval, and of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt

from surefoot.report.look import WIDTH, chart_of, heading, line_of_each, save_chart, short_numbers, styled

LEAST = 0.02
"""Points under which a regret is drawn as so many: the axis is logarithmic."""
FIRST = ("surefoot", "random", "halving", "tpe", "gp, pruned", "smac", "default")
"""Methods that are drawn, as far as they were played: more are not told apart."""
SIDE = 150
"""Of a task's panel, in points."""


def draw(figures: Mapping[str, Mapping[str, Any]], stem: Path, budgets: Sequence[float]) -> list[Path]:
    """Draw a half's figures as STEM_mean.svg and STEM_tasks.svg, and return the files.

    Args:
        figures: by method and budget, as `regret.summary` has them.
        stem: folder and beginning of the files' names.
        budgets: that are drawn.
    """
    drawn = [method for method in FIRST if method in figures]
    charts = {"mean": means(figures, drawn, budgets), "tasks": tasks(figures, drawn, budgets)}
    return [save_chart(chart, stem.with_name(f"{stem.name}_{name}.svg")) for name, chart in charts.items()]


def means(figures: Mapping[str, Mapping[str, Any]], drawn: Sequence[str], budgets: Sequence[float]) -> Any:
    """Return the picture of mean regret against cost; the band of the first method is its interval of 95 %."""
    points = [
        {"method": method, "budget": budget, "regret": max(LEAST, of["mean_regret"]),
         "low": max(LEAST, of["interval"][0]), "high": max(LEAST, of["interval"][1])}
        for method in drawn for budget in budgets if (of := figures[method].get(f"{budget:g}")) is not None
    ]  # fmt: skip
    x, y = _axes(budgets)
    line = chart_of(points, width=WIDTH, height=360).mark_line(strokeWidth=2.5, point=True)
    line = line.encode(x=x, y=y, **line_of_each("method", drawn))
    band = chart_of([each for each in points if each["method"] == drawn[0]]).mark_area(opacity=0.15)
    band = band.encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
    title = heading("Regret against the cost of choosing", f"mean over tasks; band: 95 % of {drawn[0]}")
    return styled((band + line).properties(title=title))


def tasks(figures: Mapping[str, Mapping[str, Any]], drawn: Sequence[str], budgets: Sequence[float]) -> Any:
    """Return the picture of every task's regret against cost, the mean over repetitions."""
    points = [
        {"method": method, "budget": budget, "task": task, "regret": max(LEAST, regret)}
        for method in drawn for budget in budgets if (of := figures[method].get(f"{budget:g}")) is not None
        for task, regret in of["regret_by_task"].items()
    ]  # fmt: skip
    x, y = _axes(budgets)
    line = chart_of(points, width=SIDE * 1.3, height=SIDE).mark_line(strokeWidth=2)
    line = line.encode(x=x, y=y, **line_of_each("method", drawn))
    return styled(line.facet(facet=alt.Facet("task:N", title=None), columns=4))


def _axes(budgets: Sequence[float]) -> tuple[alt.X, alt.Y]:
    ticks = short_numbers(values=list(budgets), grid=False)
    x = alt.X("budget:Q", title="trainings that the search may cost", scale=alt.Scale(type="log", base=2), axis=ticks)
    y = alt.Y("regret:Q", title="regret (points)", scale=alt.Scale(type="log"), axis=short_numbers())
    return x, y
