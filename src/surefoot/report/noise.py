"""The pictures of the batch size, drawn from its decision's evidence alone: time to a loss, throughput, noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from surefoot.errors import ConfigError
from surefoot.report.charts import COLORS

WIDTH = 680
OPEN_FACTOR = 3.0
"""An interval without an upper end is drawn up to so many times the largest number there is. Chosen by hand."""
_GREY = "#555555"


def noise_chart(decision: Mapping[str, Any]) -> Any:
    """Return the pictures of the batch size, one above the other.

    Above, the predicted seconds to the target loss against the batch size, with its interval and the suggestion; in the
    middle, examples per second; below, the noise scale along the short run, with its interval, an open one drawn to the
    top with an arrow, and the batch size of that run for comparison.

    Args:
        decision: of `choosing_batch_size`, as `Decision.to_dict()` gives it.

    Raises:
        ConfigError: it is not a decision of this step, or one without a choice.

    >>> size = {"batch_size": 64, "step_seconds": [0.1], "examples_per_second": 640.0, "steps": [9.0, 8.0, 10.0],
    ...     "seconds": [0.9, 0.8, 1.0]}
    >>> noise = {"step": 10, "total": {"noise_scale": [300.0, 100.0, None]}}
    >>> evidence = {"sizes": [size], "noise": [noise], "batch_size": 64, "target_loss": 1.0, "steps": 20}
    >>> value = {"batch_size": 64, "noise_scale": 300.0, "noise_scale_interval": [100.0, None]}
    >>> type(noise_chart({"value": value, "evidence": evidence})).__name__
    'VConcatChart'
    """
    evidence, value = decision.get("evidence", {}), decision.get("value")
    if not evidence.get("sizes") or value is None or "noise_scale" not in value:
        raise ConfigError("a decision without a choice of batch size", "these pictures are those of surefoot noise",
                          "give its decision")  # fmt: skip
    panels = [_seconds(evidence, value), _throughput(evidence), _noise(evidence)]
    return (
        alt.vconcat(*panels, spacing=28)
        .configure(background="white", font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=12, titleFontSize=13, titleFontWeight="normal", gridColor="#E4E4E4", labelColor="#222222"
        )
    )


def _seconds(evidence: Mapping[str, Any], value: Mapping[str, Any]) -> Any:
    points = [
        {"batch": size["batch_size"], "seconds": size["seconds"][0], "low": size["seconds"][1],
         "high": size["seconds"][2], "steps": size["steps"][0]}
        for size in evidence["sizes"]
    ]  # fmt: skip
    x = _size_axis([point["batch"] for point in points])
    y = alt.Y("seconds:Q", title="seconds", scale=_log([p["low"] for p in points] + [p["high"] for p in points]),
              axis=_plain_axis())  # fmt: skip
    base = alt.Chart(alt.Data(values=points))
    best = next(point for point in points if point["batch"] == value["batch_size"])
    mark = alt.Chart(alt.Data(values=[best | {"text": f"batch {best['batch']}, {best['seconds']:.3g} s"}]))
    layers = [
        base.mark_area(opacity=0.18, color=COLORS[0]).encode(x=x, y=alt.Y("low:Q", title="seconds"), y2="high:Q"),
        base.mark_line(strokeWidth=2, color=COLORS[0]).encode(x=x, y=y),
        base.mark_circle(size=45, color=COLORS[0], opacity=1).encode(
            x=x, y=y, tooltip=["batch:Q", "seconds:Q", "low:Q", "high:Q", "steps:Q"]
        ),
        mark.mark_circle(size=110, color=COLORS[2], opacity=1).encode(x=x, y=y),
        mark.mark_text(align="center", dy=-16, fontSize=12, fontWeight="bold", color=COLORS[2]).encode(
            x=x, y=y, text="text:N"
        ),
    ]
    what = f"Predicted time to a training loss of {evidence['target_loss']:.3g}, with its interval"
    return alt.layer(*layers, title=_title(what)).properties(width=WIDTH, height=230)


def _throughput(evidence: Mapping[str, Any]) -> Any:
    points = [{"batch": s["batch_size"], "rate": s["batch_size"] / seconds}
              for s in evidence["sizes"] for seconds in s["step_seconds"]]  # fmt: skip
    medians = [{"batch": size["batch_size"], "rate": size["examples_per_second"]} for size in evidence["sizes"]]
    x = _size_axis([point["batch"] for point in points])
    y = alt.Y("rate:Q", title="examples per second", scale=_log([point["rate"] for point in points]),
              axis=_plain_axis())  # fmt: skip
    layers = [
        alt.Chart(alt.Data(values=medians)).mark_line(strokeWidth=2, color=COLORS[0]).encode(x=x, y=y),
        alt.Chart(alt.Data(values=points))
        .mark_circle(size=30, opacity=0.6, color=COLORS[0])
        .encode(x=x, y=y, tooltip=["batch:Q", "rate:Q"]),
    ]
    return alt.layer(*layers, title=_title("Throughput: a point for each timing")).properties(width=WIDTH, height=170)


def _noise(evidence: Mapping[str, Any]) -> Any:
    scales = [(noise["step"], *noise["total"]["noise_scale"]) for noise in evidence["noise"]]
    finite = [v for _, *ends in scales for v in ends if v is not None and v > 0] + [float(evidence["batch_size"])]
    top = OPEN_FACTOR * max(finite)
    points = [
        {"step": step, "scale": scale, "low": max(low if low is not None else top, min(finite)),
         "high": top if high is None else high, "open": high is None}
        for step, scale, low, high in scales
    ]  # fmt: skip
    x = alt.X("step:Q", title="step (updates)", scale=alt.Scale(domain=[0, evidence["steps"]], nice=False))
    scale = _log([*finite, top])
    y = alt.Y("scale:Q", title="noise scale (examples)", scale=scale, axis=_plain_axis())
    known = [point for point in points if point["scale"] is not None]
    base = alt.Chart(alt.Data(values=points))
    layers = [
        alt.Chart(alt.Data(values=[{"scale": evidence["batch_size"]}]))
        .mark_rule(strokeDash=[4, 4], color=_GREY).encode(y=y),
        base.mark_rule(strokeWidth=2, color=COLORS[0], opacity=0.6).encode(
            x=x, y=alt.Y("low:Q", scale=scale, title="noise scale (examples)"), y2="high:Q"
        ),
        alt.Chart(alt.Data(values=[point for point in points if point["open"]]))
        .mark_point(shape="triangle-up", size=70, filled=True, color=COLORS[1], opacity=1)
        .encode(x=x, y=alt.Y("high:Q", scale=scale, title="noise scale (examples)")),
        alt.Chart(alt.Data(values=known)).mark_circle(size=60, color=COLORS[0], opacity=1).encode(
            x=x, y=y, tooltip=["step:Q", "scale:Q", "low:Q", "high:Q"]
        ),
    ]  # fmt: skip
    what = "Noise scale along the short run (arrow: open above; dashed: its batch size)"
    return alt.layer(*layers, title=_title(what)).properties(width=WIDTH, height=200)


def _title(text: str) -> alt.TitleParams:
    return alt.TitleParams(text, anchor="start", frame="group", fontSize=13)


def _size_axis(sizes: Sequence[int]) -> alt.X:
    values = sorted(set(sizes))
    scale = alt.Scale(type="log", base=2, domain=[values[0] / 1.3, values[-1] * 1.3], nice=False)
    return alt.X("batch:Q", title="batch size", scale=scale, axis=alt.Axis(values=values, format=",d"))


def _log(values: Sequence[float]) -> alt.Scale:
    """A logarithmic scale around these numbers."""
    above = [value for value in values if value > 0 and math.isfinite(value)]
    return alt.Scale(type="log", domain=[min(above) / 1.3, max(above) * 1.6], nice=False)


def _plain_axis() -> alt.Axis:
    return alt.Axis(labelExpr="datum.value < 0.001 ? format(datum.value, '~e') : format(datum.value, ',~g')",
                    tickCount=4)  # fmt: skip
