"""A figure of a report: a chart that is data, what it shows in words, and how all charts look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from surefoot.report.charts import drawable

WIDTH = 680
GREY = "#555555"


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
        return {"image/svg+xml": vl_convert.vegalite_to_svg(drawable(self.chart.to_dict())),
                "text/plain": f"{self.title}. {self.caption}"}  # fmt: skip


def dressed(chart: Any) -> Any:
    """Return a chart in the look of the page."""
    return (
        chart.configure(background="white", font="sans-serif", padding=8)
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=12, titleFontSize=13, titleFontWeight="normal", gridColor="#E8E8E8", labelColor="#222222"
        )
        .configure_legend(labelFontSize=12, titleFontSize=12, symbolStrokeWidth=3, labelLimit=260)
    )


def values(points: Sequence[dict[str, Any]]) -> alt.Data:
    """Return points as the data of a chart, inline: a report fetches nothing.

    Altair copies a chart, with every number of a list in it, each time that it is layered, stacked or dressed. A tuple
    it hands on: a page of 100,000 steps took 5.1 s of a processor with lists and takes 3.5 s (medians of 5).
    """
    return alt.Data(values=tuple(points))


def zoom(name: str) -> Any:
    """Return the selection by which the wheel and dragging zoom and pan along x; double click puts it back."""
    return alt.selection_interval(bind="scales", encodings=["x"], name=name)
