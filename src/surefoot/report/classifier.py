"""What a trained model does on the part that was scored: who is taken for whom, per class, and how honest it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from surefoot.report.look import COLORS, GREY, WIDTH, Figure, chart_of, styled, tips

MOST_CLASSES = 50
"""Classes whose confusion is drawn as a whole; of more, only the most confused pairs are listed. Chosen by hand."""
_NUMBERED = 20
"""Most classes whose cells carry their numbers. Chosen by hand."""


def classifier_figures(scores: Mapping[str, Any]) -> list[Figure]:
    """Return the pictures of a model on the part that it was scored on; see `record.scores` for what `scores` holds."""
    if scores["kind"] == "numbers":
        return [_regression(scores)]
    names = labelled([each["name"] for each in scores["per_class"]])
    whole = [_confusion(scores, names)] if len(names) <= MOST_CLASSES else []
    return [*whole, _per_class(scores, names), _calibration(scores)]


def scored_part(scores: Mapping[str, Any]) -> str:
    """Return which part was scored: "validation" where there was no test part.

    >>> scored_part({"of": "houses.csv, validation part (there is no test part; choices may have been made on it)"})
    'validation'
    """
    found = re.search(r", (\w+) part(?: \(there is no test part[^()]*\))?$", str(scores.get("of", "")))
    return found.group(1) if found else "test"


def labelled(names: Sequence[str]) -> list[str]:
    """Return the names of classes as axes show them; of equal ones, and of none, the number tells them apart.

    >>> labelled(["cat", "dog", "cat"])
    ['cat (0)', 'dog', 'cat (2)']
    """
    times = Counter(names)
    return [name if name.strip() and times[name] == 1 else f"{name} ({i})".strip() for i, name in enumerate(names)]


def confused_pairs(scores: Mapping[str, Any], most: int = 10) -> list[tuple[str, str, int, float]]:
    """Return the most confused pairs: true class, taken for, examples, share of the true class."""
    names = labelled([each["name"] for each in scores["per_class"]])
    pairs = [
        (names[i], names[j], count, count / scores["per_class"][i]["support"])
        for i, j, count in _confusions(scores)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]


def _confusions(scores: Mapping[str, Any]) -> Iterable[tuple[int, int, int]]:
    """Return (true class, predicted class, examples) of the matrix, or of many classes those pairs that occur."""
    if "confusion_pairs" in scores:
        return scores["confusion_pairs"]
    return ((i, j, count) for i, row in enumerate(scores["confusion"]) for j, count in enumerate(row))


def _confusion(scores: Mapping[str, Any], names: Sequence[str]) -> Figure:
    support = [max(1, each["support"]) for each in scores["per_class"]]
    cells = [
        {"true": names[i], "predicted": names[j], "examples": count, "share": count / support[i]}
        for i, j, count in _confusions(scores)
    ]
    side = min(520, max(220, 40 * len(names)))
    base = chart_of(cells).encode(
        x=alt.X("predicted:N", sort=list(names), title="predicted", axis=alt.Axis(labelAngle=-45, labelLimit=90)),
        y=alt.Y("true:N", sort=list(names), title="true class", axis=alt.Axis(labelLimit=90)),
        tooltip=tips("true:N", "predicted:N", "examples:Q", alt.Tooltip("share:Q", format=".1%")),
    )
    color = alt.Color("share:Q", title="share of class", scale=alt.Scale(scheme="blues", domain=[0, 1]))
    filled = base.transform_filter("datum.examples > 0")  # nothing is no shade of blue: a single error is seen
    empty = base.transform_filter("datum.examples == 0").mark_rect(color="white", stroke="#eeeeee")
    layers: list[Any] = [empty, filled.mark_rect().encode(color=color)]
    if len(names) <= _NUMBERED:
        dark = alt.condition("datum.share > 0.5", alt.value("white"), alt.value("#222222"))
        layers.append(filled.mark_text(fontSize=11).encode(text=alt.Text("examples:Q"), color=dark))
    worst = confused_pairs(scores, 1)
    said = ""
    if worst:
        true, taken, count, _ = worst[0]
        said = f" Most often, {true} is taken for {taken}: {'once' if count == 1 else f'{count:,} times'}."
    return Figure(
        name="confusion", title="Who is taken for whom",
        caption="Rows are true classes, columns predictions, cells numbers of examples of the "
        f"{scored_part(scores)} part.{said}",
        chart=styled(alt.layer(*layers).properties(width=side, height=side)),
    )  # fmt: skip


def _per_class(scores: Mapping[str, Any], names: Sequence[str]) -> Figure:
    classes = [
        {"class": name, "recall": each["recall"], "support": each["support"]}
        for name, each in zip(names, scores["per_class"], strict=True)
        if each["recall"] is not None
    ]
    shown = sorted(classes, key=lambda each: each["recall"])[:MOST_CLASSES]
    chart = (
        chart_of(shown, width=WIDTH - 120, height=alt.Step(18))
        .mark_bar(color=COLORS[0])
        .encode(
            x=alt.X("recall:Q", title="share of the class that is right", scale=alt.Scale(domain=[0, 1]),
                    axis=alt.Axis(format="%")),
            y=alt.Y("class:N", sort=[each["class"] for each in shown], title=None, axis=alt.Axis(labelLimit=110)),
            tooltip=tips("class:N", alt.Tooltip("recall:Q", format=".2%"), "support:Q"),
        )
    )  # fmt: skip
    less = f" The {MOST_CLASSES} worst of {len(classes)}." if len(shown) < len(classes) else ""
    return Figure(
        name="per-class", title="Accuracy by class", chart=styled(chart),
        caption=f"The share of each class's examples that is right, the worst class first.{less}",
    )  # fmt: skip


def _calibration(scores: Mapping[str, Any]) -> Figure:
    axis, unit = alt.Axis(format="%"), alt.Scale(domain=[0, 1])
    x = alt.X("confidence:Q", title="how sure the model was, mean of the bin", scale=unit, axis=axis)
    y = alt.Y("accuracy:Q", title="how often it was right", scale=unit, axis=axis)
    bins = chart_of(scores["calibration"]).encode(x=x, y=y)
    size = alt.Size("examples:Q", scale=alt.Scale(range=[30, 400]))
    tooltip = tips("examples:Q", *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("confidence", "accuracy")))
    chart = alt.layer(
        _ideal([{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]).encode(x=x, y=y),
        bins.mark_line(color=COLORS[0]),
        bins.mark_circle(color=COLORS[0], opacity=0.9).encode(size=size, tooltip=tooltip),
    ).properties(width=400, height=340)
    return Figure(
        name="calibration", title="Is it as good as it is sure?", chart=styled(chart),
        caption="On the dashed line, the model is right as often as it says. Below it, it is too sure; above, not sure "
        f"enough. Expected calibration error: {scores['calibration_error']:.3f} (Guo et al. 2017).",
    )  # fmt: skip


def _regression(scores: Mapping[str, Any]) -> Figure:
    points = [{"target": y, "predicted": f} for y, f in scores["pairs"]]
    ends = [min(min(pair) for pair in scores["pairs"]), max(max(pair) for pair in scores["pairs"])]
    x, y = alt.X("target:Q", scale=alt.Scale(zero=False)), alt.Y("predicted:Q", scale=alt.Scale(zero=False))
    dots = chart_of(points).mark_circle(size=16, opacity=0.5)
    chart = alt.layer(
        _ideal([{"target": end, "predicted": end} for end in ends]).encode(x=x, y=y),
        dots.encode(x=x, y=y, tooltip=tips("target:Q", "predicted:Q")),
    ).properties(width=440, height=380)
    return Figure(
        name="predicted", title="Predicted against true", chart=styled(chart),
        caption=f"On the dashed line a prediction is right. Mean absolute error {scores['mae']:.5g}.",
    )  # fmt: skip


def _ideal(points: Sequence[dict[str, Any]]) -> alt.Chart:
    return chart_of(points).mark_line(strokeDash=[4, 4], color=GREY)
