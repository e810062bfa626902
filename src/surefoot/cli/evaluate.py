"""`surefoot evaluate`: how good a trained model is, over all and class by class."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from surefoot.cli.flags import RunsDir, Switch
from surefoot.cli.tables import number, print_json, print_table, share
from surefoot.record.number_scores import NumberScores
from surefoot.record.scores import ClassScores

_MATRIX_CLASSES = 20
"""Most classes whose confusion matrix is printed, about a terminal's width; above, the ten worst pairs."""
_TABLE_CLASSES = 40
"""Most classes that are all listed; above, those with the lowest F1. Both chosen by hand."""
_PAIRS = 10


def evaluate(
    run: str,
    *,
    data: str | None = None,
    part: Literal["train", "validation", "test"] | None = None,
    data_dir: Path | None = None,
    runs_dir: RunsDir = Path("runs"),
    device: str | None = None,
    json: Switch = False,
) -> int:
    """Measure a trained model: accuracy with its interval, top-5, loss, calibration, each class, confusions.

    Args:
        run: Name of the run, or its folder.
        data: Other labelled data: a named set, a folder by class, an .npz or a .csv. All of it, if it has no parts.
        part: Part of the data; if left out test, or validation where a run has no test part.
        data_dir: Folder or archive that holds the named set, if not where it was.
        device: auto, cpu, cuda or cuda:N; the run's if left out.
        json: Print as JSON.
    """
    from surefoot.inference.evaluate import evaluate as scores_of

    scores = scores_of(run, data, part=part, data_dir=data_dir, runs_dir=runs_dir, device=device)
    if json:
        print_json({"run": run, **scores.to_dict()})
    elif isinstance(scores, NumberScores):
        _print_numbers(scores)
    else:
        _print_classes(scores)
    return 0


def _print_numbers(scores: NumberScores) -> None:
    rows = [("scored", f"{scores.of}, {scores.examples:,} examples")]
    for name, value, interval, digits in (
        ("root mean squared error", scores.rmse, scores.rmse_interval, ".5g"),
        ("mean absolute error", scores.mae, scores.mae_interval, ".5g"),
        ("R2", scores.r2, scores.r2_interval, ".4f"),
    ):
        between = "" if interval is None else f" (95 % interval {interval[0]:{digits}} to {interval[1]:{digits}})"
        rows.append((name, number(value, digits) + between))
    print_table(("score", "value"), rows, left=("score", "value"))


def _print_classes(scores: ClassScores) -> None:
    low, high = scores.interval
    rows = [
        ("scored", f"{scores.of}, {scores.examples:,} examples"),
        ("accuracy", f"{scores.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})"),
        ("top-5", share(scores.top5)),
        ("loss", f"{scores.loss:.4f}"),
        ("calibration error", f"{scores.calibration_error:.4f}"),
    ]
    print_table(("score", "value"), [row for row in rows if row[1] is not None], left=("score", "value"))
    _print_each(scores)
    _print_confusion(scores)


def _print_each(scores: ClassScores) -> None:
    shown = list(scores.per_class)
    if len(shown) > _TABLE_CLASSES:
        shown = sorted(shown, key=lambda each: 2.0 if each.f1 is None else each.f1)[:_TABLE_CLASSES]
        print(f"\nthe {_TABLE_CLASSES} classes of {len(scores.per_class)} with the lowest F1; --json has all")
    else:
        print()
    rows = [
        (each.name, share(each.precision), share(each.recall), share(each.f1), each.support, each.predicted)
        for each in shown
    ]
    print_table(("class", "precision", "recall", "F1", "examples", "predicted"), rows, left=("class",))


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
