"""The pictures of step 3, drawn from its decision's evidence alone: loss curves, loss against rate, the range test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from surefoot.errors import ConfigError
from surefoot.report.look import COLORS, GREY, WIDTH, chart_of, dashed, panel_title, short_numbers, styled
from surefoot.report.run_folder import thinned

MOST_CURVES = 16
"""Loss curves drawn at most, evenly chosen among the rates: a search over five decades has 11. Chosen by hand."""
ABOVE_INITIAL = 1.3
"""Losses are drawn up to so many times the initial one; what explodes leaves the picture. Chosen by hand."""


def lr_range_chart(decision: Mapping[str, Any]) -> Any:
    """Return the pictures of step 3, one above the other.

    Above, the loss of some rates against the step; in the middle, the loss at the end against the rate, each seed a
    point, with the bracket shaded and its suggestion a line; below, where there was one, the range test and what the
    usual rules read from it.

    Args:
        decision: of `find_lr`, as `Decision.to_dict()` gives it.

    Raises:
        ConfigError: it is not a decision of this step.

    >>> rates = [{"lr": 0.1, "final_losses": [1.0, 1.1], "drop": 1.2, "word": "drops", "curve": [2.3, 1.0]}]
    >>> evidence = {"rates": rates, "curve_steps": [1.0, 2.0], "initial_losses": [2.3, 2.3], "steps": 2}
    >>> type(lr_range_chart({"value": None, "evidence": evidence})).__name__
    'VConcatChart'
    """
    evidence = decision.get("evidence", {})
    if not evidence.get("rates"):
        raise ConfigError("a decision without rates", "these pictures are those of find_lr", "give its decision")
    panels = [_curves(evidence), _against_rate(evidence, decision.get("value"))]
    if evidence.get("range_test"):
        panels.append(_range_test(evidence["range_test"], decision.get("value")))
    return styled(alt.vconcat(*panels, spacing=28).resolve_scale(color="independent", x="independent"))


def _curves(evidence: Mapping[str, Any]) -> Any:
    top = _top(evidence["initial_losses"])
    chosen = thinned(evidence["rates"], MOST_CURVES)
    names = [_name(rate) for rate in chosen]
    points = [
        {"rate": _name(rate), "step": step, "loss": loss}
        for rate in chosen
        for step, loss in _until_gone(evidence["curve_steps"], rate["curve"], top)
    ]
    # Viridis (van der Walt & Smith 2015) without its yellow, which is lost on white.
    shades = alt.SchemeParams(name="viridis", extent=[0, 0.85])
    scale = alt.Scale(domain=names, scheme=shades)
    legend = alt.Legend(title="learning rate", labelFontSize=12, labelLimit=220, symbolStrokeWidth=3, symbolSize=200)
    x = alt.X("step:Q", title="step (updates)", scale=alt.Scale(domain=[0, evidence["steps"]], nice=False))
    y = alt.Y("loss:Q", title="training loss", scale=alt.Scale(domain=_span(points, top), nice=False))
    line = (
        chart_of(points)
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=x, y=y,
            # From dark for the lowest to light for the highest: the order of the rates is that of the colours.
            color=alt.Color("rate:N", sort=names, scale=scale, legend=legend),
            tooltip=["rate:N", "step:Q", "loss:Q"],
        )
    )  # fmt: skip
    title = panel_title("The loss at constant rates, first seed")
    return line.properties(title=title, width=WIDTH - 160, height=260)


def _against_rate(evidence: Mapping[str, Any], value: Mapping[str, Any] | None) -> Any:
    rates = evidence["rates"]
    top = _top(evidence["initial_losses"])
    seeds = [
        {"lr": rate["lr"], "loss": loss, "seed": str(seed)}
        for rate in rates
        for seed, loss in enumerate(rate["final_losses"])
        if _shown(loss, top)
    ]
    means = [
        {"lr": rate["lr"], "loss": sum(rate["final_losses"]) / len(rate["final_losses"]), "word": rate["word"]}
        for rate in rates
        if all(_shown(loss, top) for loss in rate["final_losses"])
    ]
    span = _span(seeds, top)
    x = _rate_axis([rate["lr"] for rate in rates])
    y = alt.Y("loss:Q", title=f"loss after {evidence['steps']} steps", scale=alt.Scale(domain=span, nice=False))
    start = sum(evidence["initial_losses"]) / len(evidence["initial_losses"])
    layers = [
        *_bracket(value, x, span),
        dashed([{"loss": start}]).encode(y=y),
        chart_of(means).mark_line(strokeWidth=2, color=COLORS[0], clip=True).encode(x=x, y=y),
        chart_of(seeds).mark_circle(size=36, opacity=0.65, color=COLORS[0], clip=True)
        .encode(x=x, y=y, tooltip=["lr:Q", "loss:Q", "seed:N"]),
    ]  # fmt: skip
    what = "Loss against rate: a point for each seed, the bracket shaded, dashed the initial loss"
    return alt.layer(*layers, title=panel_title(what)).properties(width=WIDTH, height=260)


def _bracket(value: Mapping[str, Any] | None, x: alt.X, span: Sequence[float]) -> list[Any]:
    """The bracket as a band, its ends' intervals as fainter bands, and its suggestion as a line with its number."""
    if value is None:
        return []

    def band(ends: Sequence[float], opacity: float) -> Any:
        chart = chart_of([{"lr": ends[0], "to": ends[1]}])
        return chart.mark_rect(color=COLORS[2], opacity=opacity, clip=True).encode(x=x, x2="to:Q")

    mark = chart_of([{"lr": value["lr"], "loss": span[1], "text": f"lr {value['lr']:.2g}"}])
    return [
        band([value["low"], value["high"]], 0.18),
        band(value["low_interval"], 0.18),
        band(value["high_interval"], 0.18),
        mark.mark_rule(color=COLORS[2], strokeWidth=2).encode(x=x),
        mark.mark_text(align="left", dx=5, dy=10, fontSize=12, color=COLORS[2], fontWeight="bold").encode(
            x=x, y=alt.Y("loss:Q"), text="text:N"
        ),
    ]


def _range_test(test: Mapping[str, Any], value: Mapping[str, Any] | None) -> Any:
    top = _top([test["smoothed"][0]]) if test["smoothed"] else 1.0
    points = [
        {"lr": lr, "loss": loss, "smooth": smooth}
        for lr, loss, smooth in zip(test["lrs"], test["losses"], test["smoothed"], strict=True)
        if _shown(loss, math.inf)
    ]
    rules = sorted(
        (lr, name + (" (raw rate)" if name == "lightning" else ""))
        for name, lr in test["suggestions"].items()
        if lr is not None
    )
    # Names stand in rows of their own, so that rules that say nearly the same do not cover each other.
    span = _span([{"loss": point["loss"]} for point in points], top)
    marked = [
        {"lr": lr, "text": f"{name} {lr:.1g}", "loss": span[0] + (span[1] - span[0]) * (0.42 - 0.075 * row)}
        for row, (lr, name) in enumerate(rules)
    ]
    x = _rate_axis([*test["lrs"], *(lr for lr, _ in rules)])
    y = alt.Y("loss:Q", title="training loss", scale=alt.Scale(domain=span, nice=False))
    smooth = alt.Y("smooth:Q", title="training loss", scale=alt.Scale(domain=span, nice=False))
    labels = chart_of(marked)
    layers = [
        *_bracket(value, x, span),
        chart_of(points).mark_circle(size=16, opacity=0.5, color=GREY, clip=True).encode(x=x, y=y),
        chart_of(points).mark_line(strokeWidth=2, color=COLORS[0], clip=True).encode(x=x, y=smooth),
        labels.mark_rule(color=COLORS[1], strokeDash=[3, 3]).encode(x=x),
        labels.mark_text(align="left", dx=4, fontSize=11, color=COLORS[1]).encode(x=x, y=y, text="text:N"),
    ]
    what = "Range test, for comparison: batch losses, smoothed, and what the usual rules read from it"
    return alt.layer(*layers, title=panel_title(what)).properties(width=WIDTH, height=260)


def _rate_axis(lrs: Sequence[float]) -> alt.X:
    domain = [min(lrs) / 1.3, max(lrs) * 1.3]
    first, last = math.ceil(math.log10(domain[0])), math.floor(math.log10(domain[1]))
    axis = short_numbers(values=[10.0**k for k in range(first, last + 1)])
    return alt.X("lr:Q", title="learning rate", scale=alt.Scale(type="log", domain=domain, nice=False), axis=axis)


def _name(rate: Mapping[str, Any]) -> str:
    lr = rate["lr"]
    return f"{lr:.2g}  {rate['word']}" if lr < 99.5 else f"{lr:,.0f}  {rate['word']}"


def _top(initial: Sequence[float]) -> float:
    """Where the axis of losses ends: a little above the start, whatever its sign."""
    start = max(initial)
    return start + (ABOVE_INITIAL - 1) * abs(start)


def _shown(loss: float | None, top: float) -> bool:
    return loss is not None and math.isfinite(loss) and loss <= top


def _until_gone(steps: Sequence[float], curve: Sequence[float | None], top: float) -> list[tuple[float, float]]:
    """The points of a curve up to the first that is not finite; one far above is kept just outside the picture."""
    points = []
    for step, loss in zip(steps, curve, strict=True):
        if loss is None or not math.isfinite(loss):
            break
        points.append((step, min(loss, top + abs(top))))
    return points


def _span(points: Sequence[Mapping[str, Any]], top: float) -> list[float]:
    inside = [point["loss"] for point in points if point["loss"] <= top]
    least = min(inside, default=0.0)
    return [min(0.0, least) if least < 0.3 * abs(top) else least - 0.05 * (top - least), top]
