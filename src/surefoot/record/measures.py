"""The numbers of the validation part by which something can be chosen: what each is called, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

LOSS, ACCURACY = "loss", "accuracy"
RISES = {
    LOSS: False, ACCURACY: True, "balanced_accuracy": True, "precision": True, "recall": True, "f1": True, "auc": True,
    "average_precision": True, "mcc": True, "top5": True, "exact_match": True, "iou": True, "dice": True,
    "perplexity": False, "mae": False, "mse": False, "rmse": False, "r2": True,
}  # fmt: skip
"""Every shipped one by name, and whether more of it is better."""
SHARES = tuple(name for name, rises in RISES.items() if rises and name not in ("mcc", "r2"))
"""Those that lie between 0 and 1, and are shown in per cent."""
_WAYS = {"min": False, "max": True}


class Seen(Protocol):
    """What was seen of the validation part: a row, or the result of a trial."""

    @property
    def val_loss(self) -> float | None:
        """Mean loss."""
        ...

    @property
    def val_accuracy(self) -> float | None:
        """Share of right answers."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics by name."""
        ...


def metric_name(choice: str) -> str:
    """Return the name of the number that a choice is made by, without the word behind it.

    >>> metric_name("f1"), metric_name("mine:min")
    ('f1', 'mine')
    """
    name, _, way = choice.rpartition(":")
    return name if way in _WAYS and name else choice


def rises(choice: str) -> bool:
    """Return whether more is better: of a metric of the user's it is, unless ":min" stands behind its name.

    >>> rises("loss"), rises("f1"), rises("mine"), rises("mine:min")
    (False, True, True, False)
    """
    name = metric_name(choice)
    return RISES[name] if name in RISES else _WAYS.get(choice[len(name) + 1 :], True)


def number_of(seen: Seen, choice: str) -> float | None:
    """Return a number of the validation part by its name; None where there is none, or one that is not finite.

    Args:
        seen: a row or a trial.
        choice: such as "loss", "accuracy", "f1" or "mine:min".
    """
    name = metric_name(choice)
    of_all = {LOSS: seen.val_loss, ACCURACY: seen.val_accuracy}
    value = of_all[name] if name in of_all else seen.metrics.get(name)
    return value if value is not None and math.isfinite(value) else None


def is_better(value: float, than: float, choice: str, min_delta: float = 0.0) -> bool:
    """Return whether a number is better than another by more than `min_delta`.

    >>> is_better(0.4, 0.5, "loss"), is_better(0.4, 0.5, "accuracy"), is_better(0.45, 0.5, "loss", 0.1)
    (True, False, False)
    """
    return value - than > min_delta if rises(choice) else than - value > min_delta


def words(choice: str) -> str:
    """Return what a number is called in a sentence.

    >>> words("loss"), words("mine:min")
    ('the validation loss', 'mine of the validation part')
    """
    name = metric_name(choice)
    return f"the validation {name}" if name in (LOSS, ACCURACY) else f"{name} of the validation part"


def value_text(name: str, value: float | None) -> str:
    """Return a metric's value as it is shown: a share in per cent; a dash where there is none.

    >>> value_text("f1", 0.5), value_text("rmse", 12.3456), value_text("r2", None)
    ('50.00%', '12.35', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.2%}" if name in SHARES else f"{value:.4g}"
