"""The curves of one run on one axis of epochs, and of several runs over each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from surefoot.record.run import Row
from surefoot.report.charts import COLORS, DASHES
from surefoot.report.contents import MOST_LOSSES, MOST_ROWS, Contents, thinned
from surefoot.report.figure import GREY, WIDTH, Figure, dressed, values, zoom

_TRAIN, _VALIDATION = COLORS[0], COLORS[1]
_LOSS = {"training, mean of a row": _TRAIN, "moving average": "#000000", "validation": _VALIDATION}
_PIN_ROWS = 4
"""Rows in which the names of findings stand above each other in the loss panel. Chosen by hand."""
_SMOOTHED = 0.03
"""Share of the run over which the moving average of the mini-batch losses reaches: a short run's line would lag behind
its points with a weight for any length, and a long run's would not smooth them. Chosen by hand."""


_EPOCHS = alt.Axis(format=".6~g", tickCount=8, labelFlush=False, labelOverlap=True)


def run_figure(contents: Contents, pins: Sequence[Mapping[str, Any]] = ()) -> Figure | None:
    """Return the curves of a run, one above the other on one axis; None for a run without rows.

    Args:
        contents: of the run's folder.
        pins: findings that show at a place of the curve: `step` and `finding`.
    """
    rows = contents.shown_rows
    if not rows:
        return None
    per_epoch = rows[-1].step / rows[-1].epoch if rows[-1].epoch else 1.0
    x, named = (
        alt.X("epoch:Q", title=title, scale=alt.Scale(domain=[0, rows[-1].epoch], nice=False), axis=_EPOCHS)
        for title in (None, "epoch")
    )
    placed = [{**each, "epoch": each["step"] / per_epoch} for each in sorted(pins, key=lambda each: each["step"])]
    panels = [_loss_panel(contents, rows, x, placed)]
    if any(row.train_accuracy is not None for row in rows):
        panels.append(_accuracy_panel(rows, x, placed))
    panels.append(_line_panel(rows, x, "lr", "learning rate", "#000000", log=False))
    panels.append(_line_panel(rows, x, "grad_norm", "gradient norm", COLORS[2], log=True))
    under = x if contents.noise else named  # the last panel says what the axis of all is
    panels.append(_line_panel(rows, under, "update_ratio", "update / weight", COLORS[3], log=True))
    if contents.noise:
        panels.append(_noise_panel(contents, named, per_epoch))
    chart = alt.vconcat(*panels, spacing=12).resolve_scale(color="independent", x="shared")
    last = rows[-1]
    caption = (
        f"Points are mini-batch losses, the black line their moving average over {_SMOOTHED:.0%} of the run; the band "
        "lies between training and validation accuracy. About 0.001 is a healthy ratio of update to weight. "
        f"Last row: epoch {last.epoch:.4g}, training loss {last.train_loss:.4g}"
        + (f", validation loss {last.val_loss:.4g}" if last.val_loss else "")
    )
    said = "; ".join(f"{each['finding']} at epoch {each['epoch']:.3g}, step {each['step']:,}" for each in placed)
    less = _less(contents)
    caption += "." + (f" Dashed lines mark findings: {said}." if said else "") + (f" {less}" if less else "")
    return Figure(name="curves", title="How it went", caption=caption, chart=dressed(chart))


def _less(contents: Contents) -> str:
    """What of the run the curves leave out, in words; "" if nothing."""
    rows, losses = len(contents.rows), sum(len(row.losses) for row in contents.rows)
    parts = [f"{MOST_ROWS:,} of {rows:,} rows"] if rows > MOST_ROWS else []
    if losses > MOST_LOSSES:
        parts.append(f"the lowest and highest mini-batch loss of each {_every(losses):,}, of {losses:,}")
    return f"Drawn: {' and '.join(parts)}; metrics.jsonl has all." if parts else ""


def _pinned(pins: Sequence[Mapping[str, Any]], x: alt.X, last: float, *, named: bool) -> list[Any]:
    """Findings at their place: a dashed line, and the name in one of four rows, so that neighbours stay readable."""
    layers = []
    for row, side in ((row, side) for row in range(_PIN_ROWS) for side in ("left", "right")):
        mine = [
            dict(each)
            for i, each in enumerate(pins)
            if i % _PIN_ROWS == row and ("right" if each["epoch"] > 0.55 * last else "left") == side
        ]
        if not mine:
            continue
        marked = alt.Chart(values(mine))
        layers.append(
            marked.mark_rule(color=GREY, strokeDash=[4, 3], strokeWidth=1.5).encode(
                x=x, tooltip=["finding:N", "step:Q", "epoch:Q"]
            )
        )
        if named:
            shift = 4 if side == "left" else -4
            text = {"align": side, "dx": shift, "fontSize": 12, "fontWeight": "bold", "limit": WIDTH // 2}
            place = {"x": x, "y": alt.value(10 + 16 * row), "text": "finding:N"}
            layers.append(marked.mark_text(**text, stroke="white", strokeWidth=4).encode(**place))
            layers.append(marked.mark_text(**text, color="#222222").encode(**place))
    return layers


def several_figure(runs: Sequence[Contents]) -> Figure | None:
    """Return loss and accuracy on the validation part of several runs, over each other; None without rows."""
    names = [each.name for each in runs if each.rows]
    if not names:
        return None
    points = [
        {"run": each.name, "epoch": row.epoch, "step": row.step, "train": _finite(row.train_loss),
         "loss": _finite(row.val_loss), "accuracy": row.val_accuracy}
        for each in runs for row in thinned(each.rows, max(50, 4000 // len(runs)))
    ]  # fmt: skip
    shades = [COLORS[i % len(COLORS)] for i in range(len(names))]
    dashes = [DASHES[i // len(COLORS) % len(DASHES)] for i in range(len(names))]
    picks = {
        name: alt.selection_point(fields=["run"], bind="legend", name=f"picked_{name}")
        for name in ("train", "loss", "accuracy")
    }
    legend = alt.Legend(title=None, orient="bottom", columns=3, symbolType="stroke", labelLimit=200)
    wanted = [("train", "training loss"), ("loss", "validation loss"), ("accuracy", "validation accuracy")]
    panels = [
        alt.Chart(values(points), width=WIDTH, height=190)
        .mark_line(strokeWidth=2, point=len(points) < 300)
        .encode(
            x=alt.X("epoch:Q", title="epoch" if name == "accuracy" else None, axis=_EPOCHS),
            y=alt.Y(f"{name}:Q", title=title, scale=alt.Scale(zero=False)),
            color=alt.Color("run:N", sort=names, scale=alt.Scale(domain=names, range=shades), legend=legend),
            strokeDash=alt.StrokeDash("run:N", sort=names, scale=alt.Scale(domain=names, range=dashes), legend=legend),
            opacity=alt.condition(picks[name], alt.value(1.0), alt.value(0.15)),
            tooltip=["run:N", "epoch:Q", "step:Q", f"{name}:Q"],
        )
        .add_params(zoom(f"zoom_{name}"), picks[name])
        for name, title in wanted
        if any(point[name] is not None for point in points)
    ]
    caption = f"{len(names)} runs over each other. A click on a name in the legend shows that run alone."
    chart = dressed(alt.vconcat(*panels, spacing=14))
    return Figure(name="runs", title="Curves of all runs", caption=caption, chart=chart)


def _loss_panel(contents: Contents, rows: Sequence[Row], x: alt.X, pins: Sequence[Mapping[str, Any]]) -> Any:
    scatter = _scatter(contents.rows)
    seen = [point["loss"] for point in scatter] + [row.train_loss for row in rows if math.isfinite(row.train_loss)]
    seen += [row.val_loss for row in rows if row.val_loss is not None and math.isfinite(row.val_loss)]
    top = max(seen, default=1.0)
    scale = alt.Scale(domain=[min(0.0, *seen) if seen else 0.0, 1.05 * top if top > 0 else 1.0], nice=False)
    y = alt.Y("loss:Q", title="loss", scale=scale)
    shades = alt.Scale(domain=list(_LOSS), range=list(_LOSS.values()))
    color = alt.Color("what:N", scale=shades, legend=alt.Legend(title=None, orient="top", symbolType="stroke"))
    lines = [
        {"epoch": row.epoch, "step": row.step, "loss": _finite(loss), "what": what}
        for row in rows
        for what, loss in (("training, mean of a row", row.train_loss), ("validation", row.val_loss))
        if loss is not None
    ]
    average = [{**point, "what": "moving average", "loss": point["smooth"]} for point in scatter]
    layers: list[Any] = [
        alt.Chart(values(scatter)).mark_circle(size=10, opacity=0.35, color=_TRAIN, clip=True)
        .encode(x=x, y=y, tooltip=["epoch:Q", "loss:Q"]),
        alt.Chart(values(lines)).mark_line(strokeWidth=2, clip=True, point={"size": 18} if len(rows) < 60 else False)
        .encode(x=x, y=y, color=color, tooltip=["what:N", "epoch:Q", "step:Q", "loss:Q"]),
        alt.Chart(values(average)).mark_line(strokeWidth=1.5, clip=True)
        .encode(x=x, y=y, color=color, tooltip=["what:N", "epoch:Q", "loss:Q"]),
        *_pinned(pins, x, rows[-1].epoch, named=True),
    ]  # fmt: skip
    # All panels share one axis of epochs, which can follow one selection alone: that of the loss.
    return alt.layer(*layers).properties(width=WIDTH, height=240).add_params(zoom("zoom"))


def _accuracy_panel(rows: Sequence[Row], x: alt.X, pins: Sequence[Mapping[str, Any]]) -> Any:
    points = [
        {"epoch": row.epoch, "step": row.step, "training": row.train_accuracy, "validation": row.val_accuracy}
        for row in rows
    ]
    y = alt.Y("training:Q", title="accuracy", scale=alt.Scale(zero=False), axis=alt.Axis(format="%"))
    tooltip = ["epoch:Q", "step:Q", *(alt.Tooltip(f"{name}:Q", format=".2%") for name in ("training", "validation"))]
    base = alt.Chart(values(points))
    layers = [base.mark_line(strokeWidth=2, color=_TRAIN).encode(x=x, y=y, tooltip=tooltip)]
    if any(row.val_accuracy is not None for row in rows):
        layers.insert(0, base.mark_area(opacity=0.18, color=GREY).encode(x=x, y=y, y2="validation:Q"))
        layers.append(
            base.mark_line(strokeWidth=2, color=_VALIDATION, point={"size": 18, "color": _VALIDATION}).encode(
                x=x, y=alt.Y("validation:Q", title="accuracy"), tooltip=tooltip
            )
        )
    return alt.layer(*layers, *_pinned(pins, x, rows[-1].epoch, named=False)).properties(width=WIDTH, height=170)


def _line_panel(rows: Sequence[Row], x: alt.X, field: str, title: str, color: str, *, log: bool) -> Any:
    points = [
        {"epoch": row.epoch, "step": row.step, field: value}
        for row in rows
        if (value := _finite(getattr(row, field))) is not None and (value > 0 or not log)
    ]
    scale = alt.Scale(type="log", nice=True) if log else alt.Scale(zero=True)
    return (
        alt.Chart(values(points), width=WIDTH, height=100)
        .mark_line(
            strokeWidth=2, color=color, clip=True, point={"color": color, "size": 16} if len(rows) < 60 else False
        )
        .encode(
            x=x,
            y=alt.Y(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(tickCount=3, format="~g")),
            tooltip=["epoch:Q", "step:Q", f"{field}:Q"],
        )
    )


def _noise_panel(contents: Contents, x: alt.X, per_epoch: float) -> Any:
    scales = [(each.step, each.total.noise_scale) for each in contents.noise]
    # An open end, or one at nothing, is drawn a factor of 100 away: a logarithmic axis has no place for it.
    points = [
        {
            "epoch": step / per_epoch, "step": step, "noise_scale": scale.value,
            "low": scale.low if scale.low > scale.value / 100 else scale.value / 100,
            "high": scale.high if scale.high < scale.value * 100 else scale.value * 100,
        }
        for step, scale in scales
        if math.isfinite(scale.value) and scale.value > 0
    ]  # fmt: skip
    y = alt.Y("noise_scale:Q", title="noise scale (examples)", scale=alt.Scale(type="log"),
              axis=alt.Axis(tickCount=3, format="~g"))  # fmt: skip
    base = alt.Chart(values(points))
    tooltip = ["step:Q", "noise_scale:Q", "low:Q", "high:Q"]
    layers = [
        base.mark_rule(strokeWidth=2, opacity=0.5, color=COLORS[4]).encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_line(point={"color": COLORS[4]}, color=COLORS[4]).encode(x=x, y=y, tooltip=tooltip),
    ]
    return alt.layer(*layers).properties(width=WIDTH, height=100)


def _scatter(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Mini-batch losses with their moving average, placed evenly between their row and the one before.

    Of many, each stretch keeps its lowest and its highest: a spike of one step stays in the picture.
    """
    seen: list[tuple[float, float, float]] = []
    before, smooth = 0.0, None
    weight = min(0.5, 1 / (_SMOOTHED * max(1, sum(len(row.losses) for row in rows))))
    for row in rows:
        for i, loss in enumerate(row.losses):
            if math.isfinite(loss):
                smooth = loss if smooth is None else (1 - weight) * smooth + weight * loss
                seen.append((before + (row.epoch - before) * (i + 1) / len(row.losses), loss, smooth))
        before = row.epoch
    if len(seen) > MOST_LOSSES:
        every = _every(len(seen))
        stretches = [range(at, min(at + every, len(seen))) for at in range(0, len(seen), every)]
        ends = [(min(part, key=lambda at: seen[at][1]), max(part, key=lambda at: seen[at][1])) for part in stretches]
        seen = [seen[at] for pair in ends for at in sorted(set(pair))]
    return [{"epoch": _short(epoch), "loss": _short(loss), "smooth": _short(mean)} for epoch, loss, mean in seen]


def _every(losses: int) -> int:
    """Losses of a stretch, of which two are drawn."""
    return math.ceil(2 * losses / MOST_LOSSES)


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
