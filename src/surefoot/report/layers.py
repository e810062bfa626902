"""Update-to-weight ratio and gradient norm of each layer along a run, as two maps: a row a layer, a column a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from surefoot.record.run import Row
from surefoot.report.look import WIDTH, Figure, panel_title, styled, tips, values
from surefoot.report.run_folder import thinned

_MOST_LAYERS = 40
_MOST_COLUMNS = 60
"""Layers and times that are drawn: 2,400 cells. Chosen by hand."""
_HEALTHY = 1e-3
"""Update / weight that the CS231n notes call healthy ("Ratio of weights:updates"): the middle of the colours."""
_APART = 100.0
"""The colours of that ratio end so many times above and below it. A rate that falls to zero would stretch them over
seven decades and leave all of the run before in one shade. Chosen by hand."""
_MAPS = {"update_ratio": "update / weight", "grad_norm": "gradient norm"}


def drawn_layers(rows: Sequence[Row]) -> tuple[list[int], list[str]]:
    """Return which rows the maps show, as places in `rows`, and the names of all layers, the first of the model first.

    Args:
        rows: of the run, oldest first; those that saw no layers are left out.
    """
    places = [i for i, row in enumerate(rows) if row.layers]
    return thinned(places, _MOST_COLUMNS), list(dict.fromkeys(name for i in places for name in rows[i].layers))


def carried(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as the page carries them: without mini-batch losses, and with layers where the maps show them.

    All layers of all rows would weigh more, in a deep model, than the rest of the page.

    Args:
        rows: of the run, oldest first.
    """
    places, names = drawn_layers(rows)
    drawn, shown = set(places), set(thinned(names, _MOST_LAYERS))
    values = []
    for i, row in enumerate(rows):
        plain = row.to_dict()
        del plain["losses"]
        plain["layers"] = {name: pair for name, pair in plain["layers"].items() if i in drawn and name in shown}
        values.append(plain)
    return values


def layers_figure(rows: Sequence[Row]) -> Figure | None:
    """Return the maps of a run's layers, the first layer on top; None where fewer than two were seen.

    Args:
        rows: of the run, oldest first.
    """
    places, names = drawn_layers(rows)
    if len(names) < 2:  # one layer is what the curves show already
        return None
    shown, drawn = thinned(names, _MOST_LAYERS), [rows[i] for i in places]
    ends = [rows[places[0] - 1].epoch if places[0] else 0.0]  # a run that an older version began has layers later
    ends += [(before.epoch + after.epoch) / 2 for before, after in itertools.pairwise(drawn)]
    ends.append(drawn[-1].epoch)
    cells = [
        {"layer": name, "epoch": row.epoch, "step": row.step, "from": low, "to": high,
         "grad_norm": _drawable(row.layers[name][0]), "update_ratio": _drawable(row.layers[name][1])}
        for row, (low, high) in zip(drawn, itertools.pairwise(ends), strict=True)
        for name in shown if name in row.layers
    ]  # fmt: skip
    panels = [_map(cells, shown, field, title) for field, title in _MAPS.items() if any(cell[field] for cell in cells)]
    if not panels:
        return None
    chart = alt.vconcat(*panels, data=values(cells), spacing=14).resolve_scale(color="independent")
    return Figure(name="layers", title="Layer by layer", caption=_caption(drawn[-1], names, shown), chart=styled(chart))


def _map(cells: list[dict[str, Any]], names: list[str], field: str, title: str) -> Any:
    if field == "update_ratio":  # orange moves more than is healthy, purple less, the palest as much as is
        domain, scheme = [_HEALTHY / _APART, _HEALTHY * _APART], "purpleorange"
    else:
        drawn = [cell[field] for cell in cells if cell[field]]
        low, high = min(drawn), max(drawn)
        domain, scheme = [low, high if high > low else low * 10], "viridis"
    color = alt.Color(
        f"{field}:Q",
        scale=alt.Scale(type="log", domain=domain, scheme=scheme, clamp=True),
        legend=alt.Legend(title=None, format=".1~g", tickCount=3),
    )
    return (
        alt.Chart()
        .transform_filter(f"datum.{field} > 0")
        .mark_rect()
        .encode(
            x=alt.X("from:Q", title="epoch", scale=alt.Scale(nice=False, zero=True)),
            x2="to:Q",
            y=alt.Y("layer:N", title=None, sort=names, axis=alt.Axis(labelLimit=160), scale=alt.Scale(domain=names)),
            color=color,
            tooltip=tips("layer:N", "epoch:Q", "step:Q", "update_ratio:Q", "grad_norm:Q"),
        )
        .properties(
            width=WIDTH - 120, height=max(60, 16 * len(names)), title=panel_title(title),
            view=alt.ViewBackground(fill="#DDDDDD"),
        )
    )  # fmt: skip


def _caption(last: Row, names: list[str], shown: list[str]) -> str:
    ratios = {name: ratio for name, (_, ratio) in last.layers.items() if _drawable(ratio)}
    text = "A row is a layer, the first on top; each colour is the number of one step. Grey: zero or not measured."
    if ratios:
        least, most = min(ratios, key=lambda name: ratios[name]), max(ratios, key=lambda name: ratios[name])
        text += (
            f" Orange layers move more than the healthy {_HEALTHY:g} of their weights in a step, purple ones less."
            f" At the end {least} moves by {ratios[least]:.2g} of its weights and {most} by {ratios[most]:.2g}."
        )
    return text + (f" Drawn: {len(shown)} of {len(names)} layers." if len(shown) < len(names) else "")


def _drawable(value: float) -> float | None:
    """A logarithmic colour has no place for zero, nor for what is not finite."""
    return value if math.isfinite(value) and value > 0 else None
