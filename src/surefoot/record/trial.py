"""What came of trying a recipe for a while: the records that the search decides from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from surefoot.config import Recipe
from surefoot.record.lines import plain
from surefoot.settings import from_dict, to_dict


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A recipe that is to be tried: a complete run with its own schedule, usually shorter than the final one.

    Attributes:
        stage: of the search that asks for it: "coarse-grid", "refine", "schedule", ...
        recipe: with its length in steps.
        seed: number of the repetition, from 0: its initial weights and batches.
        share: its length as a share of the final run's.
    """

    stage: str
    recipe: Recipe
    seed: int
    share: float

    @cached_property
    def key(self) -> str:
        """The same for the same training, whichever stage asks for it."""
        text = json.dumps([to_dict(self.recipe), self.seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A trial and what came of it.

    Attributes:
        trial: what was tried.
        outcome: "finished" or "diverged".
        examples: training examples processed, with those of a run that ended early.
        train_loss: over the last rows' batches, in training mode; None where the run diverged.
        val_loss: after the last step; None where the run diverged.
        val_accuracy: likewise; None for a regression too.
        seconds: what it took, its share of those computed with it.
        computed: how its steps were computed, as `Record.computed`.
        metrics: after the last step, as in `Row`.
        chosen_by: the number by which its search compares trials, as `Config.choose_by`; None is loss and accuracy.
    """

    trial: Trial
    outcome: str
    examples: int
    train_loss: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    computed: str = "loop"
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    chosen_by: str | None = None

    @property
    def finished(self) -> bool:
        """Whether all steps were done and left finite numbers."""
        return self.outcome == "finished" and self.val_loss is not None and math.isfinite(self.val_loss)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        recipe = to_dict(self.trial.recipe)
        came = {name: value for name, value in dataclasses.asdict(self).items() if name != "trial"}
        return {
            "stage": self.trial.stage, "seed": self.trial.seed, "share": self.trial.share, "recipe": recipe,
            "key": self.trial.key, **plain(came),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrialResult:
        """Return the record that `to_dict` wrote."""
        rest = dict(values)
        rest.pop("key")
        recipe = from_dict(Recipe, rest.pop("recipe"))
        trial = Trial(stage=rest.pop("stage"), recipe=recipe, seed=rest.pop("seed"), share=rest.pop("share"))
        rest["metrics"] = {
            name: math.nan if value is None else value for name, value in rest.get("metrics", {}).items()
        }
        return cls(trial=trial, **rest)
