"""The trials of a search as pictures, in coordinates in which rate, momentum and weight decay act apart.

These are lr / (1 - momentum), the length of a step in the long run, and lr x weight_decay, the share by which weights
shrink in a step where decay is coupled (Loshchilov & Hutter 2019, section 2).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from surefoot.record.decision import Decision
from surefoot.record.trial import TrialResult
from surefoot.report.look import GREY, WIDTH, chart_of, palette, styled, values

_MOST_BANDS = 8
"""Different values of a coordinate that get a band each. Of more, stretches are made: a search that draws its recipes
at random has a value of its own for each, and a map of single points says nothing of their spread. Chosen by hand."""
_FEWEST_STRETCHES, _MOST_STRETCHES = 3, 6
"""Stretches of equal length on a logarithmic axis: so many that a cell holds two trials, on average, between these
bounds. Chosen by hand."""
_DASH = "\N{EN DASH}"
_RATE, _DECAY = "effective learning rate, lr / (1 - momentum)", "lr × weight decay"
_LINE = 14
"""Height of a line of a cell, in pixels. Chosen by hand."""


def map_chart(decision: Decision, tried: Sequence[TrialResult]) -> tuple[str, str, Any] | None:
    """Return title, caption and chart of a decision's trials; None without trials.

    On top a map whose cells say mean, spread and number; under it each trial against both coordinates, coloured by
    momentum, where a coordinate has more than one value.

    Args:
        decision: of a grid or its refinement; its value is marked.
        tried: its trials.
    """
    if not tried:
        return None
    panels = [_map(map_cells(tried)), *_against(decision.value or {}, tried)]
    chart = panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=18).resolve_scale(color="independent")
    caption = (
        f"{len(tried)} short training{'s' if len(tried) > 1 else ''}. A cell says the mean validation loss of its "
        "trainings; of several also their spread (half the range), after ±, and how many. Grey: all diverged. In these "
        "coordinates rate and decay act apart."
    )
    if len(panels) > 1:
        caption += " Below, each training by itself: were momentum only a longer step, its colours would lie mixed."
    return f"The map of step {decision.step}, {decision.name}", caption, styled(chart)


def map_cells(tried: Sequence[TrialResult]) -> list[dict[str, Any]]:
    """Return the cells of a map of trials: mean, spread and number of the validation losses of each.

    Args:
        tried: trials, finished or diverged.
    """
    columns, rows = _bands([_step(result) for result in tried]), _bands([_shrink(result) for result in tried])
    cells: dict[tuple[int, int], list[TrialResult]] = {}
    for result in tried:
        cells.setdefault((_band(_step(result), columns), _band(_shrink(result), rows)), []).append(result)
    told = [
        {"column": column, "row": row, "lr": _words(columns[column]).replace(" to ", _DASH), "decay": _words(rows[row]),
         **_cell(inside)}
        for (column, row), inside in sorted(cells.items())
    ]  # fmt: skip
    means = [cell["mean"] for cell in told if cell["mean"] is not None]
    ends = (min(means), max(means)) if means else (0.0, 0.0)
    # Halfway is that of the logarithm, where there is one.
    middle = (ends[0] * ends[1]) ** 0.5 if ends[0] > 0 else sum(ends) / 2
    # Low losses are yellow and high ones violet: white letters are read on the violet half alone.
    return [{**cell, "dark": cell["mean"] is not None and cell["mean"] > middle} for cell in told]


def _cell(inside: Sequence[TrialResult]) -> dict[str, Any]:
    ended = {result.val_loss: result for result in inside if result.finished and result.val_loss is not None}
    losses = [result.val_loss for result in inside if result.finished and result.val_loss is not None]
    mean = sum(losses) / len(losses) if losses else None
    spread = (max(losses) - min(losses)) / 2 if len(losses) > 1 else None
    lines = ["diverged" if mean is None else f"{mean:.3g}"]
    if spread is not None:
        lines.append(f"±{spread:.1g}")
    if len(inside) > 1:
        lines.append(f"n = {len(inside)}")
    best = (ended[min(ended)] if ended else inside[0]).trial.recipe
    return {
        "mean": mean, "spread": spread, "runs": len(inside), "diverged": len(inside) - len(losses),
        "label": "\n".join(lines), "lines": len(lines),
        "best": f"lr {best.lr:g}, {best.update_rule.memory} {best.memory:g}, weight decay {best.weight_decay:g}",
    }  # fmt: skip


def _map(cells: Sequence[Mapping[str, Any]]) -> Any:
    rates = list(dict.fromkeys(cell["lr"] for cell in sorted(cells, key=lambda cell: cell["column"])))
    decays = list(dict.fromkeys(cell["decay"] for cell in sorted(cells, key=lambda cell: -cell["row"])))
    lines = max(cell["lines"] for cell in cells)
    wide = 110 if any(_DASH in rate for rate in rates) else 74
    base = alt.Chart().encode(
        x=alt.X("lr:O", sort=rates, title=_RATE, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("decay:O", sort=decays, title=_DECAY),
        tooltip=["lr:O", "decay:O", "mean:Q", "spread:Q", "runs:Q", "diverged:Q", "best:N"],
    )
    log = all(cell["mean"] is None or cell["mean"] > 0 for cell in cells)
    scale = alt.Scale(scheme="viridis", reverse=True, type="log" if log else "linear")
    shade = alt.Color("mean:Q", title="validation loss", scale=scale, legend=alt.Legend(format=".3g", tickCount=3))
    ink = alt.condition("datum.dark", alt.value("white"), alt.value("#111111"))
    layers = [
        base.mark_rect(stroke="white").encode(color=alt.condition("datum.mean === null", alt.value("#DDDDDD"), shade)),
        *(  # a text of several lines begins where one line would stand, so each number of lines has its own place
            base.transform_filter(f"datum.lines === {n}")
            .mark_text(fontSize=11, lineBreak="\n", lineHeight=_LINE, baseline="middle", dy=-_LINE * (n - 1) / 2)
            .encode(text="label:N", color=ink)
            for n in sorted({cell["lines"] for cell in cells})
        ),
    ]
    width, height = max(220, min(WIDTH - 130, wide * len(rates))), max(70, (16 + _LINE * lines) * len(decays))
    return alt.layer(*layers, data=values([dict(cell) for cell in cells])).properties(width=width, height=height)


def _against(value: Mapping[str, Any], tried: Sequence[TrialResult]) -> list[Any]:
    """Each trial against each coordinate that was varied, if momentum was too: its colours tell whether it matters."""
    points = [
        {"step": _step(result), "shrink": _shrink(result), "momentum": f"{result.trial.recipe.memory:g}",
         "lr": result.trial.recipe.lr, "weight_decay": result.trial.recipe.weight_decay, "loss": result.val_loss}
        for result in tried if result.finished
    ]  # fmt: skip
    momenta = sorted({point["momentum"] for point in points}, key=float)
    if len(momenta) < 2:
        return []
    chosen = {}
    if all(isinstance(value.get(name), int | float) for name in ("lr", "momentum", "weight_decay")):
        chosen = {"step": value["lr"] / (1 - value["momentum"]), "shrink": value["lr"] * value["weight_decay"]}
    losses = [point["loss"] for point in points]
    scale = alt.Scale(zero=False)
    if min(losses) > 0:
        scale = alt.Scale(type="log", domain=[min(losses) / 1.1, max(losses) * 1.1], nice=False)
    colors = alt.Scale(domain=momenta, range=palette(momenta))
    base = chart_of(points).mark_circle(size=50, opacity=0.8).encode(
        y=alt.Y("loss:Q", title="validation loss", axis=alt.Axis(format="~g", tickCount=4), scale=scale),
        color=alt.Color("momentum:N", sort=momenta, scale=colors),
        tooltip=["lr:Q", "momentum:N", "weight_decay:Q", "loss:Q"],
    )  # fmt: skip
    panels = []
    for field, title in {"step": _RATE, "shrink": _DECAY}.items():
        places = [point[field] for point in points]
        if len(set(places)) < 2 or min(places) <= 0:
            continue
        mark = chosen.get(field) if chosen.get(field, 0.0) > 0 else None
        ends = places if mark is None else [*places, mark]
        log = alt.Scale(type="log", domain=[min(ends) / 1.2, max(ends) * 1.2], nice=False)
        x = alt.X(f"{field}:Q", title=title, scale=log, axis=alt.Axis(format="~g", labelOverlap=True))
        layers = [base.encode(x=x)]
        if mark is not None:
            marked = chart_of([{field: mark, "text": "chosen"}]).encode(x=x)
            layers.append(marked.mark_rule(color=GREY, strokeDash=[4, 3]))
            text = marked.mark_text(align="left", dx=4, color=GREY)
            layers.append(text.encode(y=alt.value(8), text="text:N"))
        panels.append(alt.layer(*layers).properties(width=WIDTH - 130, height=150))
    return panels


def _step(result: TrialResult) -> float:
    return float(f"{result.trial.recipe.effective_lr:.2g}")


def _shrink(result: TrialResult) -> float:
    return float(f"{result.trial.recipe.lr * result.trial.recipe.decay:.2g}")


def _bands(places: Sequence[float]) -> list[tuple[float, float]]:
    """Return the bands of an axis, from low to high: single values, or stretches of equal length on a log axis."""
    different = sorted(set(places))
    if len(different) <= _MOST_BANDS:
        return [(value, value) for value in different]
    above = [value for value in different if value > 0]
    count = max(_FEWEST_STRETCHES, min(_MOST_STRETCHES, round(math.sqrt(len(places) / 2))))
    ends = [above[0] * (above[-1] / above[0]) ** (i / count) for i in range(count + 1)]
    ends[0], ends[-1] = above[0], above[-1]  # not a rounding inside them
    stretches = list(itertools.pairwise(ends))
    return [*((value, value) for value in different if value <= 0), *stretches]


def _band(value: float, bands: Sequence[tuple[float, float]]) -> int:
    return next(i for i, (_, high) in enumerate(bands) if value <= high)


def _words(band: tuple[float, float]) -> str:
    low, high = band
    return f"{low:.3g}" if low == high else f"{_brief(low)} to {_brief(high)}"


def _brief(value: float) -> str:
    """A number in few letters: five columns of them have to stand under a map on a phone."""
    return f"{value:.0e}".replace("e-0", "e-") if 0 < value < 0.001 else f"{value:.2g}"
