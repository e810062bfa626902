"""Charts of plain arrays, as PNG, SVG or a page of HTML that needs no network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import vl_convert

from surefoot.errors import ConfigError

# Okabe & Ito 2008, "Color Universal Design": told apart by colour-blind readers; without its yellow, which a white
# page swallows.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
FORMATS = (".png", ".svg", ".html")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (Bray et al. 2008, section 2.2, Char) does not allow."""
LOG_DECADES = 4
"""How far below the peak a logarithmic axis reaches; chosen by hand: lower rates move nothing."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One line of a chart: a name and its points, `steps` [n] and `lr` [n], in rising order of steps."""

    name: str
    steps: np.ndarray
    lr: np.ndarray


def schedule_chart(curves: Sequence[Curve], *, log: bool = False) -> Any:
    """Return a chart of learning rate against step.

    Curves that share their last step and are within a factor of 20 in height share one pair of axes; others are
    drawn one above the other, each on its own.

    Args:
        curves: at least one.
        log: logarithmic rates. Rates of 0 are left out then, and the axis covers the upper four decades.

    >>> chart = schedule_chart([Curve("linear", np.arange(3), np.array([1.0, 0.5, 0.0]))])
    >>> type(chart).__name__
    'Chart'
    """
    if not curves:
        raise ConfigError("no curves to draw", "a chart needs at least one", "name a schedule")
    lasts = {int(curve.steps[-1]) for curve in curves}
    peaks = [float(np.max(curve.lr)) for curve in curves]
    together = len(lasts) == 1 and max(peaks) <= 20 * min(peaks)
    if together:
        chart = _panel(curves, log=log, title="Learning rate", height=320)
    else:
        chart = alt.vconcat(*(_panel([curve], log=log, title=curve.name, height=150) for curve in curves))
    return chart.configure(background="white", font="sans-serif").configure_axis(
        labelFontSize=12, titleFontSize=13, titleFontWeight="normal", gridColor="#E4E4E4", labelColor="#222222"
    )


def save_chart(chart: Any, path: str | Path) -> Path:
    """Write a chart as what the file's ending says: .png (two pixels per point), .svg or .html (self-contained).

    Raises:
        ConfigError: another ending, or a folder that does not exist or cannot be written.
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in FORMATS:
        raise ConfigError(f"out = {path}", f"the file must end in {', '.join(FORMATS)}", "choose one of these endings")
    try:
        target.write_bytes(_rendered(drawable(chart.to_dict()), kind))
    except OSError as error:
        given = f"out = {path} ({error.strerror or error})"
        raise ConfigError(given, "its folder must exist and be writable", "check the path") from None
    return target


def drawable(spec: Any) -> Any:
    r"""Return a chart's specification with U+FFFD for every character that an SVG, which is XML, cannot hold.

    One such character in a name ends the process inside vl-convert: no exception comes of it that could be caught.

    >>> drawable({"name": ["cat\x00", 1.5]})
    {'name': ['cat\ufffd', 1.5]}
    """
    if isinstance(spec, str):
        return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", spec)
    if isinstance(spec, dict):
        return {drawable(name): drawable(value) for name, value in spec.items()}
    return [drawable(each) for each in spec] if isinstance(spec, list) else spec


def _rendered(spec: dict[str, Any], kind: str) -> bytes:
    if kind == ".png":
        return vl_convert.vegalite_to_png(spec, scale=2)
    page = vl_convert.vegalite_to_svg(spec) if kind == ".svg" else vl_convert.vegalite_to_html(spec, bundle=True)
    return page.encode()


def _panel(curves: Sequence[Curve], *, log: bool, title: str, height: int) -> Any:
    names = [curve.name for curve in curves]
    peak = max(float(np.max(curve.lr)) for curve in curves)
    bottom = peak * 10.0**-LOG_DECADES if log else 0.0
    scale = alt.Scale(type="log" if log else "linear", domain=[bottom, (1.5 if log else 1.05) * peak], nice=False)
    shades = [COLORS[i % len(COLORS)] for i in range(len(names))]
    # Beyond seven lines colours come round again; the dash tells those apart.
    dashes = [DASHES[i // len(COLORS) % len(DASHES)] for i in range(len(names))]
    legend = alt.Legend(title=None, labelFontSize=12, labelLimit=220, symbolSize=300) if len(names) > 1 else None
    heading = alt.TitleParams(title, anchor="start", frame="group")
    return (
        alt.Chart(alt.Data(values=_points(curves, log=log)), title=heading, width=640, height=height)
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=alt.X("step:Q", title="step (updates)", axis=alt.Axis(format=",d", tickCount=6)),
            y=alt.Y("lr:Q", title="learning rate", scale=scale, axis=alt.Axis(format="~g", tickCount=5)),
            color=alt.Color("name:N", sort=names, scale=alt.Scale(domain=names, range=shades), legend=legend),
            strokeDash=alt.StrokeDash("name:N", sort=names, scale=alt.Scale(domain=names, range=dashes), legend=legend),
            tooltip=["name:N", "step:Q", "lr:Q"],
        )
    )


def _points(curves: Sequence[Curve], *, log: bool) -> list[dict[str, Any]]:
    return [
        {"name": curve.name, "step": int(step), "lr": float(lr)}
        for curve in curves
        for step, lr in zip(curve.steps, curve.lr, strict=True)
        if lr > 0 or not log
    ]
