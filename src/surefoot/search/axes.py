"""What a search varies: one entry for each axis, which says when it exists, its values, where the best of them is
expected, and how a recipe gets one.

A coordinate is a number in which the response bends evenly: decades of rate, decay and 1 - momentum, doublings of the
batch. An axis of words has a coordinate for each of them but the usual one, 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from surefoot.config import Recipe
from surefoot.search.response import LEAST_DECAY, coordinates

PER_DOUBLING = 0.27
"""Decades of SGD's best rate per doubling of the batch: 0.24 and 0.29 in complete runs on ImageNet (our fit to the
tables of github.com/nicholaslourie/opda); a linear rule has 0.30. Other rules have `batch_exponent` times that."""
RATE_SD = 0.6
"""Decades by which the best rate lies around the rule's default. On eight maps of benchmarks/truth.py these are -0.7 to
0.7, the root of their mean square 0.4; on 13 of 17 tables of LCBench 0 at least, on the others -1 to -3: so more."""
BRACKET = (-0.25, 0.3)
"""Where the best rate of complete runs lies from the middle of step 3's bracket, mean and standard deviation in
decades, on seven maps of benchmarks/truth.py; half of the bracket's width is added to the latter."""
DECAY_SD = 0.7
"""Decades of the best total decay around `UpdateRule.usual_decay`; complete runs on ImageNet have 1.15 and 1.24 (opda,
as above), the eight maps 0.03 to 5. 0.5 came to the same answers."""
DECAY_DRIFT_SD = 0.3
"""Decades of the best total decay per doubling of the length: runs of a quarter of the length preferred a tenth of the
decay that was best at the end on digits with flipped labels, since nothing is learned by heart in so short a time
(docs/log.md, "Regret at two trainings, halved"); elsewhere they did not."""
MEMORY_SD = 0.5
"""Decades of 1 - memory around the base's: beyond the effective rate it explains 1 % or less there. 0.3 came to the
same answers."""
BATCH = (4.5, 1.5)
"""Mean and standard deviation of log2 of the best batch where a run is counted in examples: best were 2 to 32 in
Masters & Luschi 2018 (arXiv 1804.07612), and 16, the fewest there are, in 15 of 17 tables of LCBench."""
USUAL_BATCH = 32
"""Examples per update of the first recipe where the size is searched, or the base's if that is smaller: Bengio 2012
(arXiv 1206.5533), "32 is a good default value", and the upper end of Masters & Luschi's."""
BATCH_SCALE = 3.0
"""Doublings of the batch over which the log error bends, the rate moving with it. Chosen by hand: 16 to 128."""
BATCHES = (8, 16, 32, 64, 128, 256, 512)
LEAST_UPDATES = 20
"""Updates of an epoch under which no batch but the base's goes: `optim.plan.LEAST_STEPS_PER_EPOCH`."""


@dataclass(frozen=True)
class Frame:
    """What the axes need to know.

    Attributes:
        base: the recipe whose other values stay; its batch size is a number.
        steps: updates of the final run with that batch.
        examples: of the training part; None where the batch stays.
        free: whether a setting may be varied, by name.
        given: names of settings that the user gave to start from.
    """

    base: Recipe
    steps: int
    examples: int | None
    free: Callable[[str], bool]
    given: frozenset[str] = frozenset()

    def steps_of(self, batch_size: Any) -> int:
        """Return the updates of a final run in batches of this size: it has no more examples than the base's."""
        if batch_size == self.base.batch_size or not isinstance(self.base.batch_size, int):
            return self.steps
        return max(1, self.steps * self.base.batch_size // batch_size)


@dataclass(frozen=True)
class Axis:
    """One of the things that a search varies besides the rate.

    Attributes:
        name: of the recipe's setting.
        values: that can be chosen, in order.
        usual: that stands where nothing was measured.
        place: (value) -> its coordinates.
        read: (recipe of a trial, share) -> its value.
        enter: (value, recipe's values so far, frame) -> more of the recipe's values.
        center, sd: coordinate of where the best is expected, and its standard deviation; 0 and 1 for words.
        scale: of a coordinate over which the log error bends.
        follows_rate: whether its setting is computed from the rate.
        drift_sd: by how much the best coordinate may differ for each doubling of the length.
    """

    name: str
    values: tuple[Any, ...]
    usual: Any
    place: Callable[[Any], tuple[float, ...]]
    read: Callable[[Recipe, float], Any]
    enter: Callable[[Any, dict[str, Any], Frame], dict[str, Any]]
    center: float
    sd: float
    scale: float
    follows_rate: bool = False
    drift_sd: float = 0.0


def memory_axis(frame: Frame) -> Axis | None:
    """Momentum, or what the rule has in its place; it stays where the rate does, which would mean another step."""
    base, rule = frame.base, frame.base.update_rule
    if not all(map(frame.free, (rule.memory, f"{rule.memory}_form", "lr"))):
        return None

    def enter(value: float, values: dict[str, Any], frame: Frame) -> dict[str, Any]:
        plain = value == 0 and base.momentum_form == "nesterov"
        return {rule.memory: value, **({"momentum_form": "pytorch"} if plain else {})}

    return Axis(
        rule.memory, tuple(sorted({*rule.memories, base.memory})), base.memory, lambda value: (math.log10(1 - value),),
        lambda recipe, share: recipe.memory, enter, math.log10(1 - base.memory), MEMORY_SD, rule.memory_scale,
    )  # fmt: skip


def batch_axis(frame: Frame) -> Axis | None:
    """Examples per update, where runs are counted in examples: each size costs the same."""
    size, examples = frame.base.batch_size, frame.examples
    if examples is None or not isinstance(size, int) or frame.base.steps is not None:
        return None  # with a length in updates each size has another price
    if not frame.free("batch_size"):
        return None
    sizes = sorted({size, *(each for each in BATCHES if examples // each >= LEAST_UPDATES)})
    return Axis(
        "batch_size", tuple(sizes), min(size, USUAL_BATCH), lambda value: (math.log2(value),),
        lambda recipe, share: recipe.batch_size, lambda value, values, frame: {"batch_size": value}, *BATCH,
        BATCH_SCALE,
    )  # fmt: skip


def decay_axis(frame: Frame) -> Axis | None:
    """Weight decay, by the share of the weights that it takes over the whole run, which is also that of a short run's
    weight decay: a short run is not decayed as much in its few steps as a long one in all of its.
    """
    rule = frame.base.update_rule
    if not rule.decays or not frame.free("weight_decay"):
        return None
    wanted = usual_decay(frame)
    decays = tuple(sorted({*rule.decays, wanted}))

    def read(recipe: Recipe, share: float) -> float:
        if recipe.weight_decay == 0:
            return 0.0 if 0.0 in decays else LEAST_DECAY
        decay = 10 ** coordinates(recipe, share)[1]
        near = min(decays, key=lambda each: abs(math.log(max(each, LEAST_DECAY) / decay)))
        return near if abs(math.log(max(near, LEAST_DECAY) / decay)) < 0.05 else float(f"{decay:.3g}")

    def enter(value: float, values: dict[str, Any], frame: Frame) -> dict[str, Any]:
        steps = frame.steps_of(values.get("batch_size", frame.base.batch_size))
        shrink = values["lr"] / rule.per_shrink({**frame.base.rule_values, **values}) * steps
        return {"weight_decay": float(f"{value / shrink:.3g}")}

    def place(value: float) -> tuple[float, ...]:
        return (math.log10(max(value, LEAST_DECAY)),)

    center = math.log10(max(wanted, LEAST_DECAY))
    return Axis(
        "weight_decay", decays, wanted, place, read, enter, center, DECAY_SD, rule.decay_scale, True, DECAY_DRIFT_SD
    )


def usual_decay(frame: Frame) -> float:
    """Return the total decay of a recipe that has one of its own, and the usual one for the rule's default."""
    base = frame.base
    if "weight_decay" not in frame.given and base.weight_decay in (0.0, base.update_rule.defaults["weight_decay"]):
        return base.update_rule.usual_decay
    if base.weight_decay == 0:
        return 0.0
    decay = base.lr / base.update_rule.per_shrink(base.rule_values) * base.decay * frame.steps
    return float(f"{decay:.3g}")


AXES = (memory_axis, batch_axis, decay_axis)
"""All but the rate, each a function of the frame that returns the axis, or None where it does not exist."""
