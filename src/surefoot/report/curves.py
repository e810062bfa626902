"""The curves of one run on one axis of epochs, and of several runs over each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from surefoot.record.measures import ACCURACY, SHARES
from surefoot.record.run import Row
from surefoot.report.look import COLORS, GREY, WIDTH, Figure, chart_of, line_of_each, styled, tips, zoom
from surefoot.report.run_folder import MOST_LOSSES, MOST_ROWS, RunFolder, thinned

_TRAIN, _VALIDATION = COLORS[0], COLORS[1]
_LOSS = {"training, mean of a row": _TRAIN, "moving average": "#000000", "validation": _VALIDATION}
_PIN_ROWS = 4
"""Rows in which the names of findings stand above each other in the loss panel. Chosen by hand."""
_SMOOTHED = 0.03
"""Share of the run over which the moving average of the mini-batch losses reaches: a short run's line would lag behind
its points with a weight for any length, and a long run's would not smooth them. Chosen by hand."""


_EPOCHS = alt.Axis(format=".6~g", tickCount=8, labelFlush=False, labelOverlap=True)


def run_figure(folder: RunFolder, pins: Sequence[Mapping[str, Any]] = ()) -> Figure | None:
    """Return the curves of a run, one above the other on one axis; None for a run without rows.

    Args:
        folder: of the run.
        pins: findings that show at a place of the curve: `step` and `finding`.
    """
    rows = folder.shown_rows
    if not rows:
        return None
    last = rows[-1]
    per_epoch = last.step / last.epoch if last.epoch else 1.0
    x = alt.X("epoch:Q", title=None, scale=alt.Scale(domain=[0, last.epoch], nice=False), axis=_EPOCHS)
    named = x.title("epoch")
    placed = [{**pin, "epoch": pin["step"] / per_epoch} for pin in sorted(pins, key=lambda pin: pin["step"])]
    measured = any(row.train_accuracy is not None for row in rows)
    panels = [_loss_panel(folder, rows, x, placed)]
    if measured:
        panels.append(_accuracy_panel(rows, x, placed))
    panels += [_metric_panel(rows, x, name) for name in (rows[-1].metrics if rows else ()) if name != ACCURACY]
    under = x if folder.noise else named  # the last panel says what the axis of all is
    panels += [
        _line_panel(rows, x, "lr", "learning rate", "#000000", log=False),
        _line_panel(rows, x, "grad_norm", "gradient norm", COLORS[2], log=True),
        _line_panel(rows, under, "update_ratio", "update / weight", COLORS[3], log=True),
    ]
    if folder.noise:
        panels.append(_noise_panel(folder, named, per_epoch))
    chart = alt.vconcat(*panels, spacing=12).resolve_scale(color="independent", x="shared")
    pinned = "; ".join(f"{pin['finding']} at epoch {pin['epoch']:.3g}, step {pin['step']:,}" for pin in placed)
    band = "; the band lies between training and validation accuracy" if measured else ""
    caption = (
        f"Points are mini-batch losses, the black line their moving average over {_SMOOTHED:.0%} of the run{band}. "
        "About 0.001 is a healthy ratio of update to weight. "
        f"Last row: epoch {last.epoch:.4g}, training loss {last.train_loss:.4g}"
        + (f", validation loss {last.val_loss:.4g}." if last.val_loss else ".")
        + (f" Dashed lines mark findings: {pinned}." if pinned else "")
        + _left_out(folder)
    )
    return Figure(name="curves", title="How it went", caption=caption, chart=styled(chart))


def _left_out(folder: RunFolder) -> str:
    """What of the run the curves leave out, in words; "" if nothing."""
    rows, losses = len(folder.rows), sum(len(row.losses) for row in folder.rows)
    drawn = [f"{MOST_ROWS:,} of {rows:,} rows"] if rows > MOST_ROWS else []
    if losses > MOST_LOSSES:
        drawn.append(f"the lowest and highest mini-batch loss of each {_every(losses):,}, of {losses:,}")
    return f" Drawn: {' and '.join(drawn)}; metrics.jsonl has all." if drawn else ""


def _pinned(pins: Sequence[Mapping[str, Any]], x: alt.X, last: float, *, named: bool) -> list[Any]:
    """Findings at their place: a dashed line, and the name in one of four rows, so that neighbours stay readable."""
    if not pins:
        return []
    places = [{"row": 10 + 16 * (i % _PIN_ROWS), "beside": "right" if pin["epoch"] > 0.55 * last else "left", **pin}
              for i, pin in enumerate(pins)]  # fmt: skip
    marked = chart_of(places).encode(x=x)
    rule = marked.mark_rule(color=GREY, strokeDash=[4, 3], strokeWidth=1.5)
    layers: list[Any] = [rule.encode(tooltip=tips("finding:N", "step:Q", "epoch:Q"))]
    inks: tuple[dict[str, Any], ...] = ({"stroke": "white", "strokeWidth": 4}, {"color": "#222222"})
    for ink in inks if named else ():
        text: dict[str, Any] = {"fontSize": 12, "fontWeight": "bold", "limit": WIDTH // 2, **ink}
        name = marked.mark_text(align=alt.expr("datum.beside"), dx=alt.expr("datum.beside == 'left' ? 4 : -4"), **text)
        layers.append(name.encode(y=alt.Y("row:Q", scale=None), text=alt.Text("finding:N")))
    return layers


def several_figure(runs: Sequence[RunFolder]) -> Figure | None:
    """Return loss and accuracy on the validation part of several runs, over each other; None without rows."""
    names = [run.name for run in runs if run.rows]
    if not names:
        return None
    points = [
        {"run": run.name, "epoch": row.epoch, "step": row.step, "train": _finite(row.train_loss),
         "loss": _finite(row.val_loss), "accuracy": row.val_accuracy}
        for run in runs for row in thinned(run.rows, max(50, 4000 // len(runs)))
    ]  # fmt: skip
    lines = line_of_each("run", names, labelLimit=200)
    titles = {"train": "training loss", "loss": "validation loss", "accuracy": "validation accuracy"}
    panels = []
    for name, title in titles.items():
        if all(point[name] is None for point in points):
            continue
        pick = alt.selection_point(fields=["run"], bind="legend", name=f"picked_{name}")
        panels.append(
            chart_of(points, width=WIDTH, height=190)
            .mark_line(strokeWidth=2, point=len(points) < 300)
            .encode(
                x=alt.X("epoch:Q", title="epoch" if name == "accuracy" else None, axis=_EPOCHS),
                y=alt.Y(f"{name}:Q", title=title, scale=alt.Scale(zero=False)),
                opacity=alt.condition(pick, alt.value(1.0), alt.value(0.15)),
                tooltip=tips("run:N", "epoch:Q", "step:Q", f"{name}:Q"),
                **lines,
            )
            .add_params(zoom(f"zoom_{name}"), pick)
        )
    return Figure(
        name="runs", title="Curves of all runs", chart=styled(alt.vconcat(*panels, spacing=14)),
        caption=f"{len(names)} runs over each other. A click on a name in the legend shows that run alone.",
    )  # fmt: skip


def _loss_panel(folder: RunFolder, rows: Sequence[Row], x: alt.X, pins: Sequence[Mapping[str, Any]]) -> Any:
    scatter = _scatter(folder.rows)
    lines = [
        {"epoch": row.epoch, "step": row.step, "loss": _finite(loss), "what": what}
        for row in rows
        for what, loss in (("training, mean of a row", row.train_loss), ("validation", row.val_loss))
        if loss is not None
    ]
    losses = [point["loss"] for point in (*scatter, *lines) if point["loss"] is not None]
    top = max(losses, default=1.0)
    scale = alt.Scale(domain=[min(0.0, *losses) if losses else 0.0, 1.05 * top if top > 0 else 1.0], nice=False)
    shades = alt.Scale(domain=list(_LOSS), range=list(_LOSS.values()))
    legend = alt.Legend(title=None, orient="top", symbolType="stroke")
    place: dict[str, Any] = {"x": x, "y": alt.Y("loss:Q", title="loss", scale=scale)}
    named: dict[str, Any] = {**place, "color": alt.Color("what:N", scale=shades, legend=legend)}
    average = [{**point, "what": "moving average", "loss": point["smooth"]} for point in scatter]
    marks = {"size": 18} if len(rows) < 60 else False
    layers: list[Any] = [
        chart_of(scatter).mark_circle(size=10, opacity=0.35, color=_TRAIN, clip=True)
        .encode(**place, tooltip=tips("epoch:Q", "loss:Q")),
        chart_of(lines).mark_line(strokeWidth=2, clip=True, point=marks)
        .encode(**named, tooltip=tips("what:N", "epoch:Q", "step:Q", "loss:Q")),
        chart_of(average).mark_line(strokeWidth=1.5, clip=True)
        .encode(**named, tooltip=tips("what:N", "epoch:Q", "loss:Q")),
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
    shares = (alt.Tooltip(f"{name}:Q", format=".2%") for name in ("training", "validation"))
    tooltip = tips("epoch:Q", "step:Q", *shares)
    base = chart_of(points).encode(x=x)
    layers = [base.mark_line(strokeWidth=2, color=_TRAIN).encode(y=y, tooltip=tooltip)]
    if any(row.val_accuracy is not None for row in rows):
        layers.insert(0, base.mark_area(opacity=0.18, color=GREY).encode(y=y, y2=alt.Y2("validation:Q")))
        line = base.mark_line(strokeWidth=2, color=_VALIDATION, point={"size": 18, "color": _VALIDATION})
        layers.append(line.encode(y=alt.Y("validation:Q", title="accuracy"), tooltip=tooltip))
    return alt.layer(*layers, *_pinned(pins, x, rows[-1].epoch, named=False)).properties(width=WIDTH, height=170)


def _line_panel(rows: Sequence[Row], x: alt.X, field: str, title: str, color: str, *, log: bool) -> Any:
    points = [
        {"epoch": row.epoch, "step": row.step, field: value}
        for row in rows
        if (value := _finite(getattr(row, field))) is not None and (value > 0 or not log)
    ]
    scale = alt.Scale(type="log", nice=True) if log else alt.Scale(zero=True)
    marks = {"color": color, "size": 16} if len(rows) < 60 else False
    return (
        chart_of(points, width=WIDTH, height=100)
        .mark_line(strokeWidth=2, color=color, clip=True, point=marks)
        .encode(
            x=x,
            y=alt.Y(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(tickCount=3, format="~g")),
            tooltip=tips("epoch:Q", "step:Q", f"{field}:Q"),
        )
    )


def _metric_panel(rows: Sequence[Row], x: alt.X, name: str) -> Any:
    """A metric of the validation part, whatever its name: it is data here, and no field of Vega's."""
    points = [
        {"epoch": row.epoch, "step": row.step, "value": value}
        for row in rows if (value := _finite(row.metrics.get(name))) is not None
    ]  # fmt: skip
    axis = alt.Axis(tickCount=3, format="%" if name in SHARES else "~g")
    marks = {"color": _VALIDATION, "size": 16} if len(rows) < 60 else False
    return (
        chart_of(points, width=WIDTH, height=100)
        .mark_line(strokeWidth=2, color=_VALIDATION, clip=True, point=marks)
        .encode(
            x=x,
            y=alt.Y("value:Q", title=name, scale=alt.Scale(zero=False), axis=axis),
            tooltip=tips("epoch:Q", "step:Q", alt.Tooltip("value:Q", title=name)),
        )
    )


def _noise_panel(folder: RunFolder, x: alt.X, per_epoch: float) -> Any:
    # An open end, or one at nothing, is drawn a factor of 100 away: a logarithmic axis has no place for it.
    points = [
        {
            "epoch": noise.step / per_epoch, "step": noise.step, "noise_scale": scale.value,
            "low": scale.low if scale.low > scale.value / 100 else scale.value / 100,
            "high": scale.high if scale.high < scale.value * 100 else scale.value * 100,
        }
        for noise in folder.noise
        if math.isfinite((scale := noise.total.noise_scale).value) and scale.value > 0
    ]  # fmt: skip
    y = alt.Y("noise_scale:Q", title="noise scale (examples)", scale=alt.Scale(type="log"),
              axis=alt.Axis(tickCount=3, format="~g"))  # fmt: skip
    base = chart_of(points).encode(x=x)
    layers = [
        base.mark_rule(strokeWidth=2, opacity=0.5, color=COLORS[4]).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q")),
        base.mark_line(point={"color": COLORS[4]}, color=COLORS[4]).encode(
            y=y, tooltip=tips("step:Q", "noise_scale:Q", "low:Q", "high:Q")
        ),
    ]
    return alt.layer(*layers).properties(width=WIDTH, height=100)


def _scatter(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Mini-batch losses with their moving average, placed evenly between their row and the one before.

    Of many, each stretch keeps its lowest and its highest: a spike of one step stays in the picture.
    """
    points: list[tuple[float, float, float]] = []  # epoch, loss, moving average
    begin, smooth = 0.0, None
    weight = min(0.5, 1 / (_SMOOTHED * max(1, sum(len(row.losses) for row in rows))))
    for row in rows:
        for i, loss in enumerate(row.losses):
            if math.isfinite(loss):
                smooth = loss if smooth is None else (1 - weight) * smooth + weight * loss
                points.append((begin + (row.epoch - begin) * (i + 1) / len(row.losses), loss, smooth))
        begin = row.epoch
    if len(points) > MOST_LOSSES:
        every = _every(len(points))
        stretches = [range(at, min(at + every, len(points))) for at in range(0, len(points), every)]
        ends = [{pick(stretch, key=lambda at: points[at][1]) for pick in (min, max)} for stretch in stretches]
        points = [points[at] for pair in ends for at in sorted(pair)]
    short = [[float(f"{value:.6g}") for value in point] for point in points]
    return [dict(zip(("epoch", "loss", "smooth"), point, strict=True)) for point in short]


def _every(losses: int) -> int:
    """Losses of a stretch, of which two are drawn."""
    return math.ceil(2 * losses / MOST_LOSSES)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
