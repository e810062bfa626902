"""`surefoot evaluate`: how good a trained model is, over all and class by class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from surefoot.cli.flags import RunsDir, Switch
from surefoot.cli.process import loading
from surefoot.cli.tables import loss_text, number, print_json, print_table, share
from surefoot.config import Tta
from surefoot.record.intervals import Difference
from surefoot.record.measures import value_text
from surefoot.record.number_scores import NumberScores
from surefoot.record.scores import ClassScore, ClassScores
from surefoot.record.task_scores import TaskScores
from surefoot.record.test_time import TestTimeScores

_MATRIX_CLASSES = 20
"""Most classes whose confusion matrix is printed, about a terminal's width; above, the ten worst pairs."""
_TABLE_CLASSES = 40
"""Most classes that are all listed; above, those with the lowest F1. Both chosen by hand."""
_PAIRS = 10
_ANSWERS = {"multilabel": "labels", "segmentation": "pixels", "tokens": "positions"}


def evaluate(
    run: str,
    *,
    data: str | None = None,
    part: Literal["train", "validation", "test"] | None = None,
    data_dir: Path | None = None,
    runs_dir: RunsDir = Path("runs"),
    weights: Literal["best", "last"] | None = None,
    forward: str | None = None,
    loss: str | None = None,
    loss_fn: str | None = None,
    device: str | None = None,
    tta: Tta = "none",
    json: Switch = False,
) -> int:
    """Measure a trained model: accuracy with its interval, top-5, loss, calibration, each class, confusions.

    Args:
        run: Name of the run, or its folder.
        data: Other labelled data: a named set, a folder by class, an .npz or a .csv. All of it, if it has no parts.
        part: Part of the data; if left out test, or validation or train where a run has no other.
        data_dir: Folder or archive that holds the named set, if not where it was.
        weights: The best by the validation part, or the last; if left out those of which the result speaks.
        forward: package.module:function of model and inputs; the run's if left out.
        loss: Likewise of outputs and targets, for a run whose loss was given in Python.
        loss_fn: Likewise of model and batch.
        device: auto, cpu, cuda or cuda:N; the run's if left out.
        tta: Test-time augmentation of images, reported beside the plain scores: flip, the mean outputs of an image and
            its mirror image; flip-shift, of these shifted by a pixel, too.
        json: Print as JSON.
    """
    with loading():
        from surefoot.inference.evaluate import evaluate as scores_of

    scores = scores_of(
        run, data, part=part, data_dir=data_dir, runs_dir=runs_dir, forward=forward, loss=loss, loss_fn=loss_fn,
        device=device, weights=weights, tta=tta,
    )  # fmt: skip
    if json:
        print_json({"run": run, **scores.to_dict()})
    elif isinstance(scores, TaskScores):
        _print_task(scores)
    elif isinstance(scores, NumberScores):
        _print_numbers(scores)
    else:
        _print_classes(scores)
    return 0


def _print_task(scores: TaskScores) -> None:
    answers = "" if scores.answers is None else f", {scores.answers:,} {_ANSWERS.get(scores.target, 'answers')}"
    rows = [
        ("scored", f"{scores.of}, {scores.examples:,} examples{answers}"),
        ("loss", loss_text(scores.loss)),
        ("accuracy", with_interval(scores.accuracy)),
        *((name.replace("_", " "), value_text(name, value)) for name, value in scores.metrics.items()),
        *_with_views(scores.tta),
    ]
    print_table(("score", "value"), [row for row in rows if row[1] is not None], left=("score", "value"))
    if scores.per_class:
        _print_each(
            scores.per_class, {"multilabel": "label", "tokens": "token"}.get(scores.target, "class"), several=True
        )


def _print_numbers(scores: NumberScores) -> None:
    rows = [("scored", f"{scores.of}, {scores.examples:,} examples")]
    for name, value, interval, digits in (
        ("root mean squared error", scores.rmse, scores.rmse_interval, ".5g"),
        ("mean absolute error", scores.mae, scores.mae_interval, ".5g"),
        ("R2", scores.r2, scores.r2_interval, ".4f"),
    ):
        between = "" if interval is None else f" (95 % interval {interval[0]:{digits}} to {interval[1]:{digits}})"
        rows.append((name, "not defined for equal targets" if value is None else f"{value:{digits}}{between}"))
    rows += _with_views(scores.tta)
    print_table(("score", "value"), rows, left=("score", "value"))


def _print_classes(scores: ClassScores) -> None:
    low, high = scores.interval
    rows = [
        ("scored", f"{scores.of}, {scores.examples:,} examples"),
        ("accuracy", f"{scores.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})"),
        ("balanced accuracy", with_interval(scores.balanced_accuracy)),
        ("AUC", with_interval(scores.auc)),
        ("average precision", with_interval(scores.average_precision)),
        *_beside(scores),
        ("top-5", share(scores.top5)),
        ("loss", loss_text(scores.loss)),
        ("calibration error", f"{scores.calibration_error:.4f}"),
        *_with_views(scores.tta),
    ]
    print_table(("score", "value"), [row for row in rows if row[1] is not None], left=("score", "value"))
    _print_each(scores.per_class, "class")
    _print_confusion(scores)


def _print_each(scores: Sequence[ClassScore], what: str, *, several: bool = False) -> None:
    shown = list(scores)
    if len(shown) > _TABLE_CLASSES:
        shown = sorted(shown, key=lambda each: 2.0 if each.f1 is None else each.f1)[:_TABLE_CLASSES]
        print(f"\nthe {_TABLE_CLASSES} classes of {len(scores)} with the lowest F1; --json has all")
    else:
        print()
    cells: Iterable[Sequence[object]] = (
        (each.name, share(each.precision), share(each.recall), _ends(each.recall_interval), share(each.f1),
         number(each.auc.value if each.auc else None, ".3f"), each.support, each.predicted)
        for each in shown
    )  # fmt: skip
    columns = (what, "precision", "recall", "95 % interval", "F1", "AUC", "examples", "predicted")
    if several:  # answers of one example are not independent
        extra = {"label": "AUC", "class": "IoU"}.get(what)
        columns = (*columns[:3], "F1", *([extra] if extra else []), "answers", "predicted")
        cells = (
            (*row[:3], row[4], *({"AUC": [row[5]], "IoU": [share(each.iou)]}.get(extra or "", [])), *row[6:])
            for row, each in zip(cells, shown, strict=True)
        )
    print_table(columns, list(cells), left=(what,))


def with_interval(found: Difference | None) -> str | None:
    """Return a share with its interval; None where there is none.

    >>> with_interval(Difference(value=0.5, low=0.25, high=0.75))
    '50.00% (95 % interval 25.00% to 75.00%)'
    """
    if found is None:
        return None
    ends = f" (95 % interval {found.low:.2%} to {found.high:.2%})" if math.isfinite(found.high) else ", mean of classes"
    return f"{found.value:.2%}{ends}"


def _with_views(found: TestTimeScores | None) -> list[tuple[str, str | None]]:
    """What test-time augmentation gets, beside the plain scores."""
    if found is None:
        return []
    rows: list[tuple[str, str | None]] = []
    for name, score in found.scores.items():
        ends = f" (95 % interval {score.low:.5g} to {score.high:.5g})" if math.isfinite(score.high) else ""
        text = with_interval(score) if name == "accuracy" else f"{score.value:.5g}{ends}"
        rows.append((f"{name}, with {found.tta}", text))
    rows += [(f"{name.replace('_', ' ')}, with {found.tta}", value_text(name, v)) for name, v in found.metrics.items()]
    return rows + ([] if found.loss is None else [(f"loss, with {found.tta}", loss_text(found.loss))])


def _ends(interval: tuple[float, float] | None) -> str | None:
    return None if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}"


def _beside(scores: ClassScores) -> list[tuple[str, str]]:
    """What the simplest answer gets, and whether the model is shown to be better."""
    if scores.baseline is None:
        return []
    constant = scores.baseline.against[0]
    ends = f"[{100 * constant.gain.low:+.1f}, {100 * constant.gain.high:+.1f}]"
    shown = "" if constant.gain.is_better else ": no better than it"
    return [(constant.words, f"{constant.score:.2%}; difference {100 * constant.gain.value:+.1f} points {ends}{shown}")]


def _print_confusion(scores: ClassScores) -> None:
    names = [each.name for each in scores.per_class]
    if len(names) <= _MATRIX_CLASSES:
        print("\nconfusion: rows are the true classes, columns the predicted ones by their number")
        columns = ("class", "no.", *map(str, range(len(names))))
        print_table(columns, [(name, i, *scores.confusion[i]) for i, name in enumerate(names)], left=("class",))
        return
    pairs = [(count, names[true], names[guessed]) for true, guessed, count in scores.confusion_pairs if true != guessed]
    worst = sorted(pairs, key=lambda pair: -pair[0])[:_PAIRS]
    print("\nmost frequent confusions; --json has them all")
    print_table(("examples", "true", "predicted as"), worst, left=("true", "predicted as"))
