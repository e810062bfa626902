"""One look for every chart: figures, colours, lines, titles and axes; and a chart as a file or a picture.

Charts carry their data: a report and a file fetch nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from surefoot.errors import ConfigError

# Okabe & Ito 2008, "Color Universal Design": told apart by colour-blind readers; without its yellow, which a white
# page swallows.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
GREY = "#555555"
WIDTH = 680
FORMATS = (".png", ".svg", ".html")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (Bray et al. 2008, section 2.2, Char) does not allow."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One picture.

    Attributes:
        name: in letters, digits and '-': of its file and of its place in the page.
        title: what it shows, in a few words.
        caption: how to read it, in one or two sentences, for who cannot see it too.
        chart: the Altair chart.
    """

    name: str
    title: str
    caption: str
    chart: Any

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return the picture as a notebook shows it: SVG, which needs no network, and its caption for who reads it."""
        return {"image/svg+xml": svg(self.chart.to_dict()), "text/plain": f"{self.title}. {self.caption}"}


def styled(chart: Any) -> Any:
    """Return a chart in the look of all charts; said in one call, since Altair copies a chart at each."""
    return chart.configure(
        background="white",
        font="sans-serif",
        padding=8,
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            labelFontSize=12, titleFontSize=13, titleFontWeight="normal", gridColor="#E8E8E8", labelColor="#222222"
        ),
        legend=alt.LegendConfig(labelFontSize=12, titleFontSize=12, symbolStrokeWidth=3, labelLimit=260),
    )


def values(points: Sequence[dict[str, Any]]) -> alt.Data:
    """Return points as the data of a chart, which carries them.

    Altair copies a chart, with every number of a list in it, each time that it is layered, stacked or styled. A tuple
    it hands on: a page of 100,000 steps took 5.1 s of a processor with lists and takes 3.5 s (medians of 5).
    """
    return alt.Data(values=tuple(points))


def chart_of(points: Sequence[dict[str, Any]], **more: Any) -> alt.Chart:
    """Return a chart of points; `more` is what `alt.Chart` takes, such as `width` and `height`."""
    return alt.Chart(values(points), **more)


def tips(*fields: str | alt.Tooltip) -> list[alt.Tooltip]:
    """Return what a mark says of itself under the pointer.

    Altair makes the same of a list of words, but takes a tenth of the time of a page to find out what they are.
    """
    return [alt.Tooltip(field) if isinstance(field, str) else field for field in fields]


def dashed(points: Sequence[dict[str, Any]]) -> alt.Chart:
    """Return grey dashed rules at points, for what others are compared with."""
    return chart_of(points).mark_rule(strokeDash=[4, 4], color=GREY)


def palette(names: Sequence[str]) -> list[str]:
    """Return a colour for each name; beyond seven they come round again."""
    return [COLORS[i % len(COLORS)] for i in range(len(names))]


def line_of_each(
    field: str, names: Sequence[str], *, colors: Sequence[str] | None = None, crossing: bool = False, **more: Any
) -> dict[str, Any]:
    """Return the encodings by which each name has a line of its own: its colour, and its dash.

    Args:
        field: that holds the name.
        names: in the order of the legend.
        colors: of the names; those of the palette if left out.
        crossing: whether lines may lie on each other: neighbours then have different dashes. Else dashes tell apart
            those of one colour, beyond seven.
        more: what the legend has differently.
    """
    every = 1 if crossing else len(COLORS)
    dashes = [DASHES[i // every % len(DASHES)] for i in range(len(names))]
    look = {"title": None, "orient": "bottom", "columns": 3, "labelLimit": 330, "symbolType": "stroke"}
    legend = alt.Legend(**{**look, "symbolSize": 400, "symbolOpacity": 1, **more})
    named: dict[str, Any] = {"shorthand": f"{field}:N", "sort": list(names), "legend": legend}
    return {
        "color": alt.Color(**named, scale=alt.Scale(domain=list(names), range=list(colors or palette(names)))),
        "strokeDash": alt.StrokeDash(**named, scale=alt.Scale(domain=list(names), range=dashes)),
    }


def heading(text: str, under: str = "") -> alt.TitleParams:
    """Return the title of a chart and a line under it, at the left."""
    return alt.TitleParams(text, subtitle=under, anchor="start", fontSize=15, subtitleFontSize=12, subtitleColor=GREY)


def panel_title(text: str) -> alt.TitleParams:
    """Return the title of one of several panels."""
    return alt.TitleParams(text, anchor="start", frame="group", fontSize=13)


def short_numbers(**more: Any) -> alt.Axis:
    """Return an axis whose numbers are short at any size: 1e-5, 0.01, 1,000."""
    return alt.Axis(
        labelExpr="datum.value < 0.001 ? format(datum.value, '~e') : format(datum.value, ',~g')", **more
    )  # fmt: skip


def zoom(name: str) -> Any:
    """Return the selection by which the wheel and dragging zoom and pan along x; double click puts it back."""
    return alt.selection_interval(bind="scales", encodings=["x"], name=name)


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
    return [drawable(value) for value in spec] if isinstance(spec, list) else spec


def svg(spec: dict[str, Any]) -> str:
    """Return a chart's specification as SVG."""
    return vl_convert.vegalite_to_svg(drawable(spec))


def save_chart(chart: Any, path: str | Path) -> Path:
    """Write a chart as what the file's ending says: .png (two pixels per point), .svg or .html (self-contained).

    Raises:
        ConfigError: another ending, or a folder that does not exist or cannot be written.
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in FORMATS:
        raise ConfigError(f"out = {path}", f"the file must end in {', '.join(FORMATS)}", "choose one of these endings")
    spec = drawable(chart.to_dict())
    try:
        if kind == ".png":
            target.write_bytes(vl_convert.vegalite_to_png(spec, scale=2))
        else:
            page = svg(spec) if kind == ".svg" else vl_convert.vegalite_to_html(spec, bundle=True)
            target.write_bytes(page.encode())
    except OSError as error:
        raise unwritable("out", path, error) from None
    return target


def unwritable(flag: str, path: str | Path, error: OSError) -> ConfigError:
    """Return the error of a file that cannot be written."""
    what = f"{flag} = {path} ({error.strerror or error})"
    return ConfigError(what, "its folder must exist and be writable", "check the path")
