"""The pictures of a comparison of rules: loss on three axes, the search, rates, cost and noise of a step.

Each takes the comparison's plain record and needs no torch. A loss that is not finite leaves the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import altair as alt

from surefoot.record.comparison import Comparison, RuleResult
from surefoot.report.charts import COLORS, DASHES

GREY = "#555555"
KINDS = {"too small": "#56B4E9", "good": "#009E73", "too large": "#E69F00", "diverging": "#D55E00"}
"""Colours of rates by what they do, the same in every picture."""
_ABOVE = 3.0
"""Losses are drawn up to so many times the initial one. Chosen by hand."""
_SMALLEST = 1e-12
"""A loss of 0 is drawn there on logarithmic axes. Chosen by hand."""


def figures(comparison: Comparison) -> dict[str, Any]:
    """Return every picture that this comparison has, by the name of its file."""
    from surefoot.report import slices

    found = {"loss": loss_chart(comparison)}
    if any(rule.tried for rule in comparison.rules):
        found["search"] = search_chart(comparison)
    if any(rule.direction is not None for rule in comparison.rules):
        found["cost-and-noise"] = cost_chart(comparison)
    if comparison.rates:
        found["rates"] = rates_chart(comparison)
    if comparison.averaging is not None:
        found["averaging"] = averaging_chart(comparison)
    if comparison.slice is not None:
        found["paths"] = slices.paths_chart(comparison)
    return found | {f"known-{each.name}": slices.surface_chart(each) for each in comparison.surfaces}


def loss_chart(comparison: Comparison) -> Any:
    """Return the training loss against steps, examples seen and seconds: the median of the seeds, and their range."""
    units: list[tuple[str, Callable[[RuleResult], float]]] = [
        ("steps", lambda _: 1.0),
        ("examples seen", lambda rule: float(rule.batch_size)),
        ("seconds of training steps", lambda rule: rule.step_seconds),
    ]
    panels = [_loss_panel(comparison, unit, worth, first=i == 0) for i, (unit, worth) in enumerate(units)]
    text = (
        f"Training loss of {comparison.model} on {comparison.data}: one budget of examples, each rule at its best rate"
    )
    under = f"median and range of {len(comparison.seeds)} seeds" + (
        f"; dashed: the target, {comparison.target_loss:.3g}" if comparison.target_loss is not None else ""
    )
    return dressed(alt.hconcat(*panels, spacing=16, title=heading(text, under)).resolve_scale(y="shared"))


def _loss_panel(comparison: Comparison, unit: str, worth: Callable[[RuleResult], float], *, first: bool) -> Any:
    top = comparison.initial_loss * _ABOVE
    points = []
    for rule in comparison.rules:
        for at, mark in enumerate(rule.marks):
            seen = sorted(run[at] for run in rule.losses if math.isfinite(run[at]))
            if mark > 0 and len(seen) == len(rule.losses) and seen[0] <= top:
                low, middle, high = (max(each, _SMALLEST) for each in (seen[0], seen[len(seen) // 2], seen[-1]))
                points.append({"rule": rule.name, "x": mark * worth(rule), "loss": middle, "low": low, "high": high})
    values = [point["x"] for point in points]
    y_axis = alt.Axis(format="~g", title="training loss" if first else None, labels=first)
    x = alt.X("x:Q", title=unit, scale=alt.Scale(type="log", nice=False), axis=_decades(values))
    y = alt.Y("loss:Q", scale=alt.Scale(type="log", clamp=True, nice=False, padding=4), axis=y_axis)
    base = alt.Chart(alt.Data(values=points))
    layers = [
        base.mark_area(opacity=0.15).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=_color(comparison)),
        base.mark_line(strokeWidth=2).encode(
            x=x, y=y, color=_color(comparison), strokeDash=_dash(comparison),
            tooltip=["rule:N", "x:Q", "loss:Q", "low:Q", "high:Q"],
        ),
    ]  # fmt: skip
    if comparison.target_loss is not None:
        mark = alt.Chart(alt.Data(values=[{"loss": comparison.target_loss}]))
        layers.append(mark.mark_rule(strokeDash=[4, 4], color=GREY).encode(y=y))
    return alt.layer(*layers).properties(width=270, height=300)


def search_chart(comparison: Comparison) -> Any:
    """Return the loss at the end of the budget against the rate, for each rule: the search that made the rates fair."""
    top = comparison.initial_loss * _ABOVE
    points = [
        {
            "rule": rule.name,
            "lr": trial.lr,
            "loss": max(min(trial.score, top), _SMALLEST),
            "chosen": trial.lr == rule.lr,
        }
        for rule in comparison.rules
        for trial in rule.tried
    ]
    base = alt.Chart(alt.Data(values=points))
    x = alt.X("lr:Q", title="learning rate", scale=alt.Scale(type="log", nice=False, padding=12),
              axis=_decades([point["lr"] for point in points]))  # fmt: skip
    y = alt.Y("loss:Q", title="training loss at the end", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g"))
    lines = base.mark_line(strokeWidth=1.5).encode(x=x, y=y, color=_color(comparison), strokeDash=_dash(comparison))
    dots = base.mark_circle(size=30, opacity=0.8).encode(x=x, y=y, color=_color(comparison), tooltip=["rule:N", "lr:Q"])
    chosen = base.transform_filter("datum.chosen").mark_point(size=140, strokeWidth=2).encode(
        x=x, y=y, color=_color(comparison)
    )  # fmt: skip
    text = "Every rule's rate by the same search: the ring is the one it runs with"
    under = f"one seed, the whole budget at each rate; what diverged stands at the top ({top:.3g})"
    return dressed(alt.layer(lines, dots, chosen, title=heading(text, under)).properties(width=620, height=300))


def cost_chart(comparison: Comparison) -> Any:
    """Return the noise of a step's direction against what a step costs: the trade that the batch size makes."""
    seen = [(rule, rule.direction) for rule in comparison.rules if rule.direction is not None]
    noisy = [direction.variance for _, direction in seen if direction.variance > 0]
    floor = min(noisy, default=1.0) / 10
    points = [
        {"rule": rule.name, "ms": 1e3 * rule.step_seconds, "noise": max(direction.variance, floor),
         "text": rule.name + (" (no noise)" if direction.variance == 0 else "")}
        for rule, direction in seen
    ]  # fmt: skip
    base = alt.Chart(alt.Data(values=points))
    x = alt.X("ms:Q", title="milliseconds of one step", scale=alt.Scale(type="log", padding=60, nice=False),
              axis=alt.Axis(format="~g", tickCount=5))  # fmt: skip
    y = alt.Y("noise:Q", title="variance of the step's direction / squared gradient",
              scale=alt.Scale(type="log", padding=16, nice=False), axis=alt.Axis(format="~g", tickCount=5))  # fmt: skip
    color = alt.Color(
        "rule:N",
        sort=_names(comparison),
        legend=alt.Legend(title=None, orient="bottom", columns=3, labelLimit=330),
        scale=alt.Scale(domain=_names(comparison), range=palette(_names(comparison))),
    )
    dots = base.mark_point(size=160, strokeWidth=2.5, filled=False).encode(
        x=x, y=y, color=color, shape=_shape(comparison)
    )
    text = "What a step costs, and how noisy its direction is"
    under = "variance: all rules at the same weights; 1 is as much noise as signal" + (
        "; gradient descent without noise stands at the bottom" if len(noisy) < len(seen) else ""
    )
    return dressed(alt.layer(dots, title=heading(text, under)).properties(width=620, height=320))


def rates_chart(comparison: Comparison) -> Any:
    """Return the loss at a rate that is too small, good, too large and diverging, side by side."""
    top = comparison.initial_loss * 1.3
    ends = [loss for each in comparison.rates for loss in each.losses if math.isfinite(loss)]
    low = max(min(ends, default=1.0), _SMALLEST)
    panels = []
    for i, each in enumerate(comparison.rates):
        shown = []
        for mark, loss in zip(each.marks, each.losses, strict=True):
            if not math.isfinite(loss):
                break
            shown.append({"step": mark, "loss": max(loss, _SMALLEST)})
        gone = len(shown) < len(each.losses)
        y = alt.Y("loss:Q", title="training loss" if i == 0 else None, axis=alt.Axis(format="~g", labels=i == 0),
                  scale=alt.Scale(type="log", domain=[low / 1.2, top], nice=False))  # fmt: skip
        line = (
            alt.Chart(alt.Data(values=shown), title=f"{each.kind}: {each.lr:.3g}" + (" (not finite)" if gone else ""))
            .mark_line(strokeWidth=2.5, clip=True, color=KINDS[each.kind])
            .encode(x=alt.X("step:Q", title="step", axis=alt.Axis(tickCount=4, format="~s")), y=y)
        )  # fmt: skip
        start = alt.Chart(alt.Data(values=[{"loss": each.losses[0]}])).mark_rule(strokeDash=[4, 4], color=GREY)
        panels.append(alt.layer(start.encode(y=y), line).properties(width=190, height=220))
    text = f"Learning rates of {comparison.rates_of}, from too small to diverging"
    return dressed(alt.hconcat(*panels, spacing=14, title=heading(text, "one seed; dashed: the loss at the start")))


def averaging_chart(comparison: Comparison) -> Any:
    """Return what momentum makes of noisy gradients: their cloud and that of its steps, and their cosines."""
    seen = comparison.averaging
    assert seen is not None
    plain, averaged = f"gradients of {seen.batch_size}", f"steps with momentum {seen.momentum:g}"
    scale = alt.Scale(domain=[plain, averaged], range=[COLORS[5], COLORS[1]])
    color = alt.Color(
        "what:N", scale=scale, legend=alt.Legend(title=None, orient="bottom", labelLimit=300, symbolOpacity=1)
    )
    cloud = [
        {"what": name, "along": x, "across": y}
        for name, points in ((plain, seen.gradients), (averaged, seen.steps))
        for x, y in points
    ]
    x = alt.X("along:Q", title="along the full gradient")
    y = alt.Y("across:Q", title="across it, where the noise is largest")
    dots = alt.Chart(alt.Data(values=cloud)).mark_circle(size=34, opacity=0.65).encode(x=x, y=y, color=color)
    truth = alt.Chart(alt.Data(values=[{"along": 1.0, "across": 0.0, "text": "full gradient"}]))
    cross = truth.mark_point(shape="cross", size=180, color="black", filled=True).encode(x="along:Q", y="across:Q")
    label = truth.mark_text(dy=-14, fontSize=12, fontWeight="bold").encode(x="along:Q", y="across:Q", text="text:N")
    cosines = [
        {"what": name, "step": step, "cosine": value}
        for name, values in ((plain, seen.gradient_cosines), (averaged, seen.step_cosines))
        for step, value in enumerate(values, start=1)
    ]
    lines = alt.Chart(alt.Data(values=cosines)).mark_line(strokeWidth=2).encode(
        x=alt.X("step:Q", title="step, from a velocity of 0"),
        y=alt.Y("cosine:Q", title="cosine with the full gradient", scale=alt.Scale(domainMax=1)),
        color=color,
    )  # fmt: skip
    text = "Momentum averages noisy gradients"
    under = "weights held still; steps are divided by their mean gain, 1 / (1 - momentum)"
    left = alt.layer(dots, cross, label).properties(width=330, height=300)
    return dressed(alt.hconcat(left, lines.properties(width=330, height=300), spacing=24, title=heading(text, under)))


def heading(text: str, under: str = "") -> alt.TitleParams:
    """Return a title and a line under it, at the left."""
    return alt.TitleParams(text, subtitle=under, anchor="start", fontSize=15, subtitleFontSize=12, subtitleColor=GREY)


def dressed(chart: Any) -> Any:
    """Return a chart in the house's look."""
    return (
        chart.configure(background="white", font="sans-serif", padding=12)
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=12, titleFontSize=13, titleFontWeight="normal", gridColor="#E8E8E8", labelColor="#222222"
        )
        .configure_legend(labelFontSize=12, titleFontSize=12, symbolStrokeWidth=3)
    )


def palette(names: Sequence[str]) -> list[str]:
    """Return a colour for each name; beyond seven they come round again, and dashes tell them apart."""
    return [COLORS[i % len(COLORS)] for i in range(len(names))]


def _names(comparison: Comparison) -> list[str]:
    return [rule.name for rule in comparison.rules]


def _color(comparison: Comparison) -> alt.Color:
    names = _names(comparison)
    legend = alt.Legend(
        title=None, orient="bottom", columns=3, labelLimit=330, symbolSize=400, symbolOpacity=1,
        symbolType="stroke",
    )  # fmt: skip
    return alt.Color("rule:N", sort=names, scale=alt.Scale(domain=names, range=palette(names)), legend=legend)


def _dash(comparison: Comparison) -> alt.StrokeDash:
    """Dashes too, since rules may lie on each other, as two forms of momentum do at a constant rate."""
    names = _names(comparison)
    dashes = [DASHES[i % len(DASHES)] for i in range(len(names))]
    legend = alt.Legend(title=None, orient="bottom", columns=3, labelLimit=330, symbolType="stroke", symbolSize=400)
    return alt.StrokeDash("rule:N", sort=names, scale=alt.Scale(domain=names, range=dashes), legend=legend)


def _shape(comparison: Comparison) -> alt.Shape:
    names = _names(comparison)
    shapes = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right"]
    scale = alt.Scale(domain=names, range=[shapes[i % len(shapes)] for i in range(len(names))])
    return alt.Shape(
        "rule:N", sort=names, scale=scale, legend=alt.Legend(title=None, orient="bottom", columns=3, labelLimit=330)
    )


def _decades(values: Sequence[float]) -> alt.Axis:
    """Ticks at powers of ten: the labels of all others would cover each other."""
    known = [value for value in values if value > 0]
    if not known:
        return alt.Axis()
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    every = max(1, (high - low) // 6)
    return alt.Axis(values=[10.0**k for k in range(low, high + 1, every)], format="~g")
