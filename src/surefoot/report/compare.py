"""The pictures of a comparison of rules: loss on three axes, the search, rates, cost and noise of a step.

Each takes the comparison's plain record and needs no torch. A loss that is not finite leaves the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from surefoot.record.comparison import Averaging, Comparison
from surefoot.report.look import COLORS, Figure, chart_of, dashed, heading, line_of_each, palette, styled
from surefoot.report.slices import paths_chart, surface_chart

_ABOVE = 3.0
"""Losses are drawn up to so many times the initial one. Chosen by hand."""
_SMALLEST = 1e-12
"""A loss of 0 is drawn there on logarithmic axes. Chosen by hand."""
_SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right"]
_CAPTIONS = {
    "loss": "The same runs against steps, examples and seconds: who is first depends on what is counted.",
    "search": "Every rule got its rate by the same search; the ring marks the rate of its final runs.",
    "cost": "To the left a step is cheap, to the bottom its direction is sure. Larger batches go right and down.",
    "averaging": "Single gradients scatter around the full one; steps with momentum average them.",
    "paths": "Where the weights went, on the plane that holds most of their movement; dark is a low loss.",
    "known": "A surface whose answer theory knows, as a check of the rules themselves.",
}
"""How to read each picture of a comparison, by the first word of its name."""


def comparison_figures(comparison: Comparison) -> list[Figure]:
    """Return every picture that this comparison has."""
    charts = {"loss": loss_chart(comparison)}
    if any(rule.tried for rule in comparison.rules):
        charts["search"] = search_chart(comparison)
    if any(rule.direction is not None for rule in comparison.rules):
        charts["cost-and-noise"] = cost_chart(comparison)
    if comparison.averaging is not None:
        charts["averaging"] = averaging_chart(comparison.averaging)
    if comparison.slice is not None:
        charts["paths"] = paths_chart(comparison.slice)
    charts |= {f"known-{surface.name}": surface_chart(surface) for surface in comparison.surfaces}
    return [
        Figure(name=name, title=name.replace("-", " ").capitalize(), caption=_CAPTIONS[name.split("-")[0]], chart=chart)
        for name, chart in charts.items()
    ]


def loss_chart(comparison: Comparison) -> Any:
    """Return the training loss against steps, examples seen and seconds: the median of the seeds, and their range."""
    rules = comparison.rules
    units = {
        "steps": {rule.name: 1.0 for rule in rules},
        "examples seen": {rule.name: float(rule.batch_size) for rule in rules},
        "seconds of training steps": {rule.name: rule.step_seconds for rule in rules},
    }
    panels = [_loss_panel(comparison, unit, worth, first=unit == "steps") for unit, worth in units.items()]
    text = (
        f"Training loss of {comparison.model} on {comparison.data}: one budget of examples, each rule at its best rate"
    )
    under = f"median and range of {len(comparison.seeds)} seeds" + (
        f"; dashed: the target, {comparison.target_loss:.3g}" if comparison.target_loss is not None else ""
    )
    return styled(alt.hconcat(*panels, spacing=16, title=heading(text, under)).resolve_scale(y="shared"))


def _loss_panel(comparison: Comparison, unit: str, worth: dict[str, float], *, first: bool) -> Any:
    top = comparison.initial_loss * _ABOVE
    points = []
    for rule in comparison.rules:
        for at, mark in enumerate(rule.marks):
            losses = sorted(run[at] for run in rule.losses if math.isfinite(run[at]))
            if mark > 0 and len(losses) == len(rule.losses) and losses[0] <= top:
                ends = (losses[len(losses) // 2], losses[0], losses[-1])
                shown = dict(zip(("loss", "low", "high"), (max(loss, _SMALLEST) for loss in ends), strict=True))
                points.append({"rule": rule.name, "x": mark * worth[rule.name], **shown})
    y_axis = alt.Axis(format="~g", title="training loss" if first else None, labels=first)
    x_axis = _decades([point["x"] for point in points])
    x = alt.X("x:Q", title=unit, scale=alt.Scale(type="log", nice=False), axis=x_axis)
    y = alt.Y("loss:Q", scale=alt.Scale(type="log", clamp=True, nice=False, padding=4), axis=y_axis)
    base, lines = chart_of(points), _lines(comparison)
    layers = [
        base.mark_area(opacity=0.15).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=lines["color"]),
        base.mark_line(strokeWidth=2).encode(
            x=x, y=y, **lines, tooltip=["rule:N", "x:Q", "loss:Q", "low:Q", "high:Q"]
        ),
    ]  # fmt: skip
    if comparison.target_loss is not None:
        layers.append(dashed([{"loss": comparison.target_loss}]).encode(y=y))
    return alt.layer(*layers).properties(width=270, height=300)


def search_chart(comparison: Comparison) -> Any:
    """Return the loss at the end of the budget against the rate, for each rule: the search that made the rates fair."""
    top = comparison.initial_loss * _ABOVE
    points = [
        {"rule": rule.name, "lr": trial.lr, "loss": max(min(trial.score, top), _SMALLEST),
         "chosen": trial.lr == rule.lr}
        for rule in comparison.rules for trial in rule.tried
    ]  # fmt: skip
    base, lines = chart_of(points), _lines(comparison)
    x = alt.X("lr:Q", title="learning rate", scale=alt.Scale(type="log", nice=False, padding=12),
              axis=_decades([point["lr"] for point in points]))  # fmt: skip
    y = alt.Y("loss:Q", title="training loss at the end", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g"))
    color = lines["color"]
    dots = base.mark_circle(size=30, opacity=0.8).encode(x=x, y=y, color=color, tooltip=["rule:N", "lr:Q"])
    chosen = base.transform_filter("datum.chosen").mark_point(size=140, strokeWidth=2).encode(x=x, y=y, color=color)
    text = "Every rule's rate by the same search: the ring is the one it runs with"
    under = f"one seed, the whole budget at each rate; what diverged stands at the top ({top:.3g})"
    layers = (base.mark_line(strokeWidth=1.5).encode(x=x, y=y, **lines), dots, chosen)
    return styled(alt.layer(*layers, title=heading(text, under)).properties(width=620, height=300))


def cost_chart(comparison: Comparison) -> Any:
    """Return the noise of a step's direction against what a step costs: the trade that the batch size makes."""
    rules = [(rule, rule.direction) for rule in comparison.rules if rule.direction is not None]
    noisy = [direction.variance for _, direction in rules if direction.variance > 0]
    floor = min(noisy, default=1.0) / 10
    points = [
        {"rule": rule.name, "ms": 1e3 * rule.step_seconds, "noise": max(direction.variance, floor)}
        for rule, direction in rules
    ]
    x = alt.X("ms:Q", title="milliseconds of one step", scale=alt.Scale(type="log", padding=60, nice=False),
              axis=alt.Axis(format="~g", tickCount=5))  # fmt: skip
    y = alt.Y("noise:Q", title="variance of the step's direction / squared gradient",
              scale=alt.Scale(type="log", padding=16, nice=False), axis=alt.Axis(format="~g", tickCount=5))  # fmt: skip
    every = [rule.name for rule in comparison.rules]
    names = [rule.name for rule, _ in rules]
    colors = dict(zip(every, palette(every), strict=True))  # as in the other pictures
    shapes = [_SHAPES[every.index(name) % len(_SHAPES)] for name in names]
    under = alt.Legend(title=None, orient="bottom", columns=3, labelLimit=330)
    dots = chart_of(points).mark_point(size=160, strokeWidth=2.5, filled=False).encode(
        x=x, y=y,
        color=alt.Color("rule:N", sort=names, scale=alt.Scale(domain=names, range=[colors[name] for name in names]),
                        legend=under),
        shape=alt.Shape("rule:N", sort=names, scale=alt.Scale(domain=names, range=shapes), legend=under),
    )  # fmt: skip
    text = "What a step costs, and how noisy its direction is"
    note = "variance: all rules at the same weights; 1 is as much noise as signal" + (
        "; gradient descent without noise stands at the bottom" if len(noisy) < len(rules) else ""
    )
    if left_out := [name for name in every if name not in names]:
        note += f"; not of {' and '.join(left_out)}, whose steps are no sum of gradients"
    return styled(alt.layer(dots, title=heading(text, note)).properties(width=620, height=320))


def averaging_chart(averaging: Averaging) -> Any:
    """Return what momentum makes of noisy gradients: their cloud and that of its steps, and their cosines."""
    plain, averaged = f"gradients of {averaging.batch_size}", f"steps with momentum {averaging.momentum:g}"
    scale = alt.Scale(domain=[plain, averaged], range=[COLORS[5], COLORS[1]])
    below = alt.Legend(title=None, orient="bottom", labelLimit=300, symbolOpacity=1)
    color = alt.Color("what:N", scale=scale, legend=below)
    cloud = [
        {"what": name, "along": x, "across": y}
        for name, points in ((plain, averaging.gradients), (averaged, averaging.steps))
        for x, y in points
    ]
    x = alt.X("along:Q", title="along the full gradient")
    y = alt.Y("across:Q", title="across it, where the noise is largest")
    dots = chart_of(cloud).mark_circle(size=34, opacity=0.65).encode(x=x, y=y, color=color)
    truth = chart_of([{"along": 1.0, "across": 0.0, "text": "full gradient"}]).encode(x="along:Q", y="across:Q")
    cross = truth.mark_point(shape="cross", size=180, color="black", filled=True)
    label = truth.mark_text(dy=-14, fontSize=12, fontWeight="bold").encode(text="text:N")
    cosines = [
        {"what": name, "step": step, "cosine": value}
        for name, values in ((plain, averaging.gradient_cosines), (averaged, averaging.step_cosines))
        for step, value in enumerate(values, start=1)
    ]
    lines = chart_of(cosines, width=330, height=300).mark_line(strokeWidth=2).encode(
        x=alt.X("step:Q", title="step, from a velocity of 0"),
        y=alt.Y("cosine:Q", title="cosine with the full gradient", scale=alt.Scale(domainMax=1)),
        color=color,
    )  # fmt: skip
    title = heading(
        "Momentum averages noisy gradients",
        "weights held still; steps are divided by their mean gain, 1 / (1 - momentum)",
    )
    left = alt.layer(dots, cross, label).properties(width=330, height=300)
    return styled(alt.hconcat(left, lines, spacing=24, title=title))


def _lines(comparison: Comparison) -> dict[str, Any]:
    """A line of each rule; rules may lie on each other, as two forms of momentum do at a constant rate."""
    return line_of_each("rule", [rule.name for rule in comparison.rules], crossing=True)


def _decades(values: Sequence[float]) -> alt.Axis:
    """Ticks at powers of ten: the labels of all others would cover each other."""
    above = [value for value in values if value > 0]
    if not above:
        return alt.Axis()
    low, high = math.floor(math.log10(min(above))), math.ceil(math.log10(max(above)))
    every = max(1, (high - low) // 6)
    return alt.Axis(values=[10.0**k for k in range(low, high + 1, every)], format="~g")
