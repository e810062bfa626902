"""Paths on planes of the loss: the slice through the paths of a comparison, and the surfaces that theory knows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from surefoot.errors import ConfigError
from surefoot.record.comparison import Comparison, SurfaceResult
from surefoot.report.look import chart_of, heading, line_of_each, palette, styled

KINDS = {"too small": "#56B4E9", "good": "#009E73", "too large": "#E69F00", "diverging": "#D55E00"}
"""Colours of rates by what they do, the same in every picture."""
BANDS = 14
"""Bands of equal ratio of the loss, which read as contours. Chosen by hand."""
FINE = 90
"""Cells of a picture on each side; a coarser grid is interpolated. Chosen by hand."""
SIDE = 400
THEORY = {"quadratic": "slope", "rates": "slope", "noise": "floor"}
"""What theory says of each surface."""
MOST_DOTS = 120
"""Points of a path that are drawn as dots, at most. Chosen by hand."""


def paths_chart(comparison: Comparison) -> Any:
    """Return the paths of all rules on the plane of their two main directions, over the loss on that plane.

    Raises:
        ConfigError: the comparison has no slice.
    """
    plane = comparison.slice
    if plane is None:
        raise ConfigError("a comparison without a slice", "its paths must have been kept", "compare with slice points")
    points = [
        {"rule": name, "x": x, "y": y, "order": i, "loss": loss if math.isfinite(loss) else None}
        for name, path, losses in zip(plane.rules, plane.paths, plane.path_losses, strict=True)
        for i, ((x, y), loss) in enumerate(zip(path, losses, strict=True))
    ]
    a, b = plane.shares
    x = alt.X("x:Q", title=f"first direction ({a:.0%})", scale=_fit(plane.a))
    y = alt.Y("y:Q", title=f"second direction ({b:.0%})", scale=_fit(plane.b))
    start = {"x": plane.paths[0][0][0], "y": plane.paths[0][0][1], "text": "start"}
    layers = [_bands(plane.losses, x, y), *_paths(points, x, y, line_of_each("rule", plane.rules, crossing=True)),
              *_marked(start)]  # fmt: skip
    title = heading(
        "The paths on the slice of the loss through them",
        f"PCA of the weights along all paths, first seed: the axes hold {a:.0%} and {b:.0%} of their variance",
    )
    return styled(alt.layer(*layers, title=title).properties(width=SIDE + 60, height=SIDE + 60))


def surface_chart(result: SurfaceResult) -> Any:
    """Return rules on a known surface: their paths on it, and their losses with what theory says."""
    names = [run.name for run in result.runs]
    colors = [KINDS.get(name, color) for name, color in zip(names, palette(names), strict=True)]
    lines = line_of_each("rule", names, colors=colors, crossing=True)
    x, y = alt.X("x:Q", title="w1", scale=_fit(result.x)), alt.Y("y:Q", title="w2", scale=_fit(result.y))
    goal = {"x": result.minimum[0], "y": result.minimum[1], "text": "minimum"}
    height = round(SIDE * (result.y[-1] - result.y[0]) / (result.x[-1] - result.x[0]))
    left = alt.layer(_bands(result.losses, x, y), *_paths(_inside(result), x, y, lines), *_marked(goal))
    right = _against_step(result, lines["color"])
    theory = {name: f"; dashed: the {what} that theory gives" for name, what in THEORY.items()}
    under = "lr " + ", ".join(f"{run.lr:.3g} ({run.name})" for run in result.runs) + theory.get(result.name, "")
    return styled(
        alt.hconcat(
            left.properties(width=SIDE, height=max(160, height)), right.properties(width=330, height=max(200, height)),
            spacing=24, title=heading(f"{result.text[:1].upper()}{result.text[1:]}", under),
        )
    )  # fmt: skip


def _against_step(result: SurfaceResult, color: alt.Color) -> Any:
    """The loss against the step, and theory's line: a contraction, squared since the loss is a square; or a floor."""
    measured, theory = [], []
    top = result.runs[0].losses[0] * 100
    for run in result.runs:
        losses = _smoothed(run.losses) if run.floor is not None else list(run.losses)
        measured += [{"rule": run.name, "step": i, "loss": loss} for i, loss in enumerate(losses) if 1e-10 < loss < top]
        last = len(run.losses) - 1
        if run.floor is not None:
            theory += [{"rule": run.name, "step": step, "loss": run.floor} for step in (0, last)]
        elif run.theory is not None:
            ends = [(step, run.losses[0] * run.theory ** (2 * step)) for step in range(last + 1)]
            theory += [{"rule": run.name, "step": step, "loss": loss} for step, loss in ends if 1e-10 < loss < top]
    x = alt.X("step:Q", title="step")
    y = alt.Y("loss:Q", title="loss", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g", tickCount=6))
    lines = chart_of(measured).mark_line(strokeWidth=2).encode(x=x, y=y, color=color)
    line = chart_of(theory).mark_line(strokeWidth=1.5, strokeDash=[5, 4], opacity=0.9).encode(x=x, y=y, color=color)
    return alt.layer(lines, line) if theory else lines


def _smoothed(losses: Sequence[float], window: int = 20) -> list[float]:
    """Means over windows: single losses of a noisy run scatter over decades."""
    return [sum(part) / len(part) for i in range(len(losses)) if (part := losses[max(0, i - window + 1) : i + 1])]


def _inside(result: SurfaceResult) -> list[dict[str, Any]]:
    """The points of the paths up to the first outside the picture, which is drawn at its edge."""
    points = []
    for run in result.runs:
        for i, (x, y) in enumerate(run.path):
            outside = not (result.x[0] <= x <= result.x[-1] and result.y[0] <= y <= result.y[-1])
            points.append({"rule": run.name, "x": x, "y": y, "order": i})
            if outside:
                break
    return points


def _paths(points: list[dict[str, Any]], x: alt.X, y: alt.Y, lines: dict[str, Any]) -> list[Any]:
    base = chart_of(points).encode(x=x, y=y, order="order:Q")
    if len(points) > MOST_DOTS * len(lines["color"]["sort"]):  # dots and halos of long paths would hide all
        return [base.mark_line(strokeWidth=1.5, clip=True, opacity=0.85).encode(color=lines["color"])]
    halo = base.mark_line(strokeWidth=4, color="white", opacity=0.7, clip=True).encode(detail="rule:N")
    dots = chart_of(points).mark_circle(size=14, clip=True, opacity=1)
    return [halo, base.mark_line(strokeWidth=2, clip=True).encode(**lines),
            dots.encode(x=x, y=y, color=lines["color"], tooltip=["rule:N", "order:Q"])]  # fmt: skip


def _marked(point: dict[str, Any]) -> list[Any]:
    chart = chart_of([point]).encode(x="x:Q", y="y:Q")
    text = chart.mark_text(dy=-13, fontSize=12, fontWeight="bold", color="black").encode(text="text:N")
    return [chart.mark_point(shape="cross", filled=True, size=110, color="black"), text]


def _fit(values: Sequence[float]) -> alt.Scale:
    return alt.Scale(domain=[values[0], values[-1]], nice=False, zero=False)


def _bands(losses: Sequence[Sequence[float]], x: alt.X, y: alt.Y) -> Any:
    """The loss as bands of grey: dark is low. What is not finite is the lightest."""
    finite = [loss for row in losses for loss in row if math.isfinite(loss)]
    high = max(*finite, 1e-12)
    low = max(min(finite), high * 1e-6, 1e-12)
    logs = np.log(np.clip(losses, 1e-12, None))
    middles = (np.arange(FINE) + 0.5) / FINE
    for _ in range(2):  # along one side, then along the other: the mean logarithm of the four neighbours
        places = middles * (len(logs) - 1)
        first = places.astype(int)
        upper = (places - first)[:, None]
        with np.errstate(invalid="ignore"):
            logs = ((1 - upper) * logs[first] + upper * logs[first + 1]).T
    share = (logs - math.log(low)) / (math.log(high / low) or 1.0)
    bands = np.where(np.isfinite(logs), np.clip(share * BANDS, 0, BANDS - 1), BANDS - 1).astype(int)
    (left, right), (bottom, top) = x["scale"]["domain"], y["scale"]["domain"]
    width, height = (right - left) / FINE, (top - bottom) / FINE
    cells = []
    for (i, j), band in np.ndenumerate(bands):
        a, b = left + j * width, bottom + i * height
        cells.append((a, a + 1.05 * width, b, b + 1.05 * height, int(band)))  # over the next, so that no seam shows
    shades = alt.Scale(domain=[0, BANDS - 1], range=["#8FA9BF", "#F6F4EF"])
    return (
        chart_of(_merged(cells))
        .mark_rect(strokeWidth=0)
        .encode(x=x, x2="x2:Q", y=y, y2="y2:Q", fill=alt.Fill("band:Q", scale=shades, legend=None))
    )


def _merged(cells: Sequence[tuple[float, float, float, float, int]]) -> list[dict[str, float]]:
    """Neighbours of a row in one band become one rectangle, so that a picture has thousands and not ten thousands."""
    merged: list[dict[str, float]] = []
    for x, x2, y, y2, band in cells:
        last = merged[-1] if merged else None
        if last is not None and last["band"] == band and last["y"] == y:
            last["x2"] = x2
        else:
            merged.append({"x": x, "x2": x2, "y": y, "y2": y2, "band": band})
    return merged
