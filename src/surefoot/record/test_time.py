"""What the same weights get on the same examples with test-time augmentation: always beside the plain scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from surefoot.config import Tta
from surefoot.record.intervals import Difference, wilson


@dataclass(frozen=True, kw_only=True)
class TestTimeScores:
    """Scores with the mean over views, see `training.test_time`.

    Attributes:
        tta: which views: flip or flip-shift.
        loss: as the plain scores have it; None of numbers.
        scores: each with its 95 % interval: accuracy; or rmse, mae and r2 of numbers.
        metrics: others by name, of answers of which an example has several.
    """

    __test__ = False  # its name is no test's

    tta: Tta
    loss: float | None
    scores: Mapping[str, Difference]
    metrics: Mapping[str, float] = field(default_factory=dict)


def words_of(result: Mapping[str, Any]) -> str | None:
    """Return what a result says of test-time augmentation, in words; None where there was none.

    >>> words_of({"tta": {"tta": "flip", "part": "test", "accuracy": 0.5, "loss": 1.25, "examples": 100}})
    'with flip 50.00% accuracy (95 % interval 40.38% to 59.62%), loss 1.25'
    """
    found = result.get("tta")
    if not isinstance(found, Mapping):
        return None
    said, accuracy, count = [f"with {found['tta']}"], found.get("accuracy"), found.get("examples")
    if accuracy is not None and count:
        low, high = wilson(round(accuracy * count), count)
        said.append(f"{accuracy:.2%} accuracy (95 % interval {low:.2%} to {high:.2%}),")
    loss = found.get("loss")
    said.append(f"loss {'not finite' if loss is None else f'{loss:.4g}'}")
    return " ".join(said) + ("" if found.get("part") == "test" else f", on the {found.get('part')} part")
