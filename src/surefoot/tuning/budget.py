"""What a search may cost: time, or multiples of the final training, counted in examples."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from surefoot.errors import ConfigError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
FINAL_SHARE = 1 / 3
"""Share of a budget in time that the final training takes, if its length is free: two trainings' worth to search with,
as published tuners are compared (`benchmarks/regret.py`). Chosen by hand."""
RESERVE = 0.05
"""Share of a budget in time that nothing is planned into: saving, and steps that turn out slower."""
AROUND_SECONDS = 3.0
"""Of a budget in time that go to what is around the search: imports, loading data, the test part, files. 2 to 7 s were
seen on two cores of an AMD EPYC (benchmarks/budgets.py)."""


@dataclass(frozen=True)
class Budget:
    """One of the two is given.

    Attributes:
        seconds: for everything, the final training included.
        trainings: for the search, in multiples of the final training's examples; the final training comes on top.
    """

    seconds: float | None = None
    trainings: float | None = None

    def __str__(self) -> str:
        if self.trainings is not None:
            return f"{self.trainings:g}x"
        assert self.seconds is not None
        return f"{self.seconds:g}s"


def budget(text: str | float) -> Budget:
    """Return the budget that a text means: "5m", "90s", "1.5h", or "2x" for twice the final training.

    Raises:
        ConfigError: it means nothing.

    >>> budget("5m").seconds, budget("2x").trainings, budget(30).seconds
    (300.0, 2.0, 30.0)
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([smhx]?)\s*", str(text))
    value = float(match[1]) if match else 0.0
    if not match or not 0 < value < math.inf or (not match[2] and isinstance(text, str)):
        raise ConfigError(
            f"budget = {text!r}",
            "a budget is a time such as 90s, 5m or 1.5h, or a multiple of the final training such as 2x",
            "try 5m",
        )
    return Budget(trainings=value) if match[2] == "x" else Budget(seconds=value * _UNITS.get(match[2], 1.0))


@dataclass
class Ledger:
    """What was spent, and what is left. Everything is counted in examples; time is what they take.

    Attributes:
        budget: what was granted.
        examples: spent so far, in training examples: what only goes forward counts a third
            (`record.decision.cost_in_examples`). Validation counts neither in trials nor in the final training.
        seconds: spent so far, as the journal has it, so that a search which was stopped counts on from there.
        seconds_per_example: of a plain training step, measured; 0 as long as it is not.
        final_examples: of the final training.
        final_seconds: of the final training with its validation, expected.
        parts: what each stage has cost, examples and seconds.
    """

    budget: Budget
    examples: int = 0
    seconds: float = 0.0
    seconds_per_example: float = 0.0
    final_examples: int = 0
    final_seconds: float = 0.0
    parts: dict[str, tuple[int, float]] = field(default_factory=dict)

    def spend(self, stage: str, examples: int, seconds: float) -> None:
        """Note what a stage has cost."""
        self.examples += examples
        self.seconds += seconds
        before = self.parts.get(stage, (0, 0.0))
        self.parts[stage] = (before[0] + examples, before[1] + seconds)

    @property
    def left(self) -> float:
        """What is left for the search, in final trainings. Below 0 where too much was spent.

        In time, a training of the search is taken to last as long as the final one: in a population it is shorter, so
        what is planned is kept.
        """
        if self.budget.trainings is not None:
            return self.budget.trainings - self.examples / max(1, self.final_examples)
        assert self.budget.seconds is not None
        free = self.budget.seconds * (1 - RESERVE) - AROUND_SECONDS - self.seconds - self.final_seconds
        return free / max(self.final_seconds, 1e-9)

    @property
    def cost(self) -> float:
        """What the search has cost, in final trainings."""
        return self.examples / max(1, self.final_examples)
