"""What a model says about examples whose answer is not known, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """One prediction for each of N examples; one that could not be read has an error in its place.

    Attributes:
        names: what each example is called: its file, or its number.
        outputs: [N, C] probabilities of the classes, or [N, D] predicted numbers, float64; NaN where there is an
            error.
        classes: the C names, or None for numbers.
        errors: what is wrong with each example, or None.
    """

    names: tuple[str, ...]
    outputs: NDArray[np.float64]
    classes: tuple[str, ...] | None
    errors: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def failed(self) -> int:
        """Number of examples that could not be read."""
        return sum(error is not None for error in self.errors)

    @property
    def labels(self) -> tuple[str | None, ...]:
        """The most probable class of each example; None for numbers, and where there is an error."""
        return tuple(found[0][0] if (found := self.top(i, 1)) else None for i in range(len(self)))

    def top(self, i: int, k: int) -> list[tuple[str, float]]:
        """Return the k most probable classes of example i and their probabilities, the most probable first.

        >>> one = Predictions(names=("a.png",), outputs=np.array([[0.2, 0.8]]), classes=("cat", "dog"), errors=(None,))
        >>> one.top(0, 2)
        [('dog', 0.8), ('cat', 0.2)]
        """
        if self.classes is None or self.errors[i] is not None:
            return []
        order = np.argsort(-self.outputs[i], kind="stable")[:k]
        return [(self.classes[at], float(self.outputs[i, at])) for at in order]

    def to_dicts(self, k: int = 1) -> list[dict[str, Any]]:
        """Return each prediction as JSON values: label and the k most probable classes, or numbers, or an error."""
        rows: list[dict[str, Any]] = []
        for i, (name, error) in enumerate(zip(self.names, self.errors, strict=True)):
            if error is not None:
                rows.append({"name": name, "error": error})
            elif self.classes is None:
                rows.append({"name": name, "values": self.outputs[i].tolist()})
            else:
                best = self.top(i, k)
                rows.append(
                    {"name": name, "label": best[0][0], "probability": best[0][1], "top": [[*each] for each in best]}
                )
        return rows


def joined(pieces: Sequence[Predictions]) -> Predictions:
    """Return pieces of one prediction, at least one, as one."""
    return Predictions(
        names=tuple(name for piece in pieces for name in piece.names),
        outputs=np.concatenate([piece.outputs for piece in pieces]),
        classes=pieces[0].classes,
        errors=tuple(error for piece in pieces for error in piece.errors),
    )
