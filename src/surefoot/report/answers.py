"""What a model does on the part that was scored, where each example has several answers: by class and by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from surefoot.report.look import COLORS, WIDTH, Figure, chart_of, styled

MOST_CLASSES = 50
"""Classes that are drawn, the worst. Chosen by hand."""
_OF = {
    "multilabel": ("label", "F1", "how well its yes is found: the harmonic mean of precision and recall"),
    "segmentation": ("class", "IoU", "of the pixels that are of a class or were predicted so, the share that is both"),
    "tokens": ("token", "F1", "how well it is found: the harmonic mean of precision and recall"),
}
"""Of each kind of targets: what is scored, by which number, and what that is."""


def answer_figures(scores: Mapping[str, Any], names: Sequence[str]) -> list[Figure]:
    """Return the pictures of answers of which each example has several.

    Args:
        scores: what `scores.json` holds, see `record.task_scores`.
        names: of its classes, as axes show them.
    """
    figures = [_by_class(scores, names)] if scores["per_class"] else []
    return [*figures, _by_position(scores)] if len(scores["loss_by_position"]) > 1 else figures


def _by_class(scores: Mapping[str, Any], names: Sequence[str]) -> Figure:
    what, measure, said = _OF[scores["kind"]]
    classes = [
        {"class": name, "value": each["f1"] / (2 - each["f1"]) if measure == "IoU" else each["f1"],
         "recall": each["recall"], "support": each["support"]}
        for name, each in zip(names, scores["per_class"], strict=True)
    ]  # fmt: skip
    shown = sorted(classes, key=lambda each: each["value"])[:MOST_CLASSES]
    chart = (
        chart_of(shown, width=WIDTH - 120, height=alt.Step(18))
        .mark_bar(color=COLORS[0])
        .encode(
            x=alt.X("value:Q", title=measure, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")),
            y=alt.Y("class:N", sort=[each["class"] for each in shown], title=None, axis=alt.Axis(labelLimit=110)),
            tooltip=["class:N", alt.Tooltip("value:Q", format=".2%", title=measure),
                     alt.Tooltip("recall:Q", format=".2%"), "support:Q"],
        )
    )  # fmt: skip
    less = f" The {MOST_CLASSES} worst of {len(classes)}." if len(shown) < len(classes) else ""
    return Figure(
        name="per-class", title=f"{measure} by {what}", chart=styled(chart),
        caption=f"{measure} of each {what}, the worst first: {said}.{less}",
    )  # fmt: skip


def _by_position(scores: Mapping[str, Any]) -> Figure:
    points = [
        {"position": at, "loss": loss} for at, loss in enumerate(scores["loss_by_position"], 1) if loss is not None
    ]
    chart = (
        chart_of(points, width=WIDTH, height=190)
        .mark_line(strokeWidth=2, color=COLORS[1], point=len(points) < 60)
        .encode(
            x=alt.X("position:Q", axis=alt.Axis(format="d", tickMinStep=1)),
            y=alt.Y("loss:Q", title="loss of a token", scale=alt.Scale(zero=False)),
            tooltip=["position:Q", "loss:Q"],
        )
    )
    return Figure(
        name="by-position", title="Loss by position", chart=styled(chart),
        caption="Mean loss of the token at each position: what comes first has less before it to go by.",
    )  # fmt: skip
