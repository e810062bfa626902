"""What a comparison looks at besides losses: the noise of the rules' steps, and the slice through their paths."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from surefoot.comparison import direction as noise
from surefoot.comparison.landscape import MOST_NUMBERS, grid_of, losses_on, plane_through
from surefoot.comparison.paths import flat, part_of
from surefoot.comparison.rules import Rule
from surefoot.comparison.runs import Followed
from surefoot.config import Recipe
from surefoot.data.dataset import Part
from surefoot.record.comparison import Averaging, Direction, Slice
from surefoot.training.state import State
from surefoot.training.task import Task

SLICE_EXAMPLES = 500
"""Training examples on which the slice is evaluated, at most. Chosen by hand."""
FIRST_COSINES = 60
"""Steps of which the cosine with the gradient is drawn. Chosen by hand."""


@dataclass(frozen=True)
class Noises:
    """The directions of each rule, [R], and what they come from: gradients by batch size, and the full gradient."""

    directions: list[Direction | None]
    gradients: dict[int, Tensor]
    full: Tensor


def reference_rule(rules: Sequence[Rule], recipes: Sequence[Recipe], examples: int) -> int:
    """Return the position of the rule that stands for all where one must: plain mini-batches where they are there.

    >>> from surefoot.comparison.rules import parse_rules
    >>> chosen = parse_rules(["sgd", "momentum", "mini-batch"])
    >>> reference_rule(chosen, [rule.recipe for rule in chosen], 1000)
    2
    """

    def rank(i: int) -> tuple[bool, bool, bool, int]:
        recipe = recipes[i]
        mini = recipe.batch_size != "full" and 1 < recipe.batch_size < examples
        return rules[i].given, not mini, recipe.momentum > 0, i

    return min(range(len(recipes)), key=rank)


def directions_of(task: Task, recipes: Sequence[Recipe], state: State) -> Generator[int, None, Noises]:
    """Return the noise of each rule's steps, all at the weights of this state.

    Rules of one batch size see the same gradients.

    Args:
        task: of the state.
        recipes: of the rules.
        state: from a run of one of them.

    Yields:
        1 for each gradient.
    """
    weights = flat(state.model)
    full = noise.full_gradient(task, recipes[0], weights)
    gradients: dict[int, Tensor] = {}
    room = noise.room_for(task)
    for recipe in recipes:
        size = task.data.examples if recipe.batch_size == "full" else recipe.batch_size
        most = min(noise.SAMPLES + max(noise.settling_steps(each) for each in recipes), room)
        if size not in gradients and most >= noise.LEAST_SAMPLES:
            gradients[size] = yield from noise.gradients_at(task, recipe, weights, most)
    found: list[Direction | None] = []
    for recipe in recipes:
        size = task.data.examples if recipe.batch_size == "full" else recipe.batch_size
        seen = noise.noise_of(recipe, gradients[size], full) if size in gradients else None
        found.append(seen and Direction(variance=seen.variance, cosine=seen.cosine, samples=seen.samples))
    return Noises(found, gradients, full)


def averaging_of(rules: Sequence[Rule], recipes: Sequence[Recipe], seen: Noises) -> Averaging | None:
    """Return what the first rule with momentum and mini-batches makes of its gradients; None where there is none."""
    for rule, recipe in zip(rules, recipes, strict=True):
        if recipe.momentum == 0 or recipe.batch_size == "full":
            continue
        gradients = seen.gradients.get(recipe.batch_size)
        skipped = noise.settling_steps(recipe)
        if gradients is None or len(gradients) < skipped + noise.LEAST_SAMPLES:
            continue
        steps = noise.steps_of(recipe, gradients)
        settled = [gradients[skipped:], steps[skipped:]]
        points = [tuple((x, y) for x, y in each.tolist()) for each in noise.shadow(settled, seen.full)]
        first = [noise.cosines(each[:FIRST_COSINES], seen.full).tolist() for each in (gradients, steps)]
        return Averaging(
            rule=rule.name, momentum=recipe.momentum, batch_size=recipe.batch_size, gradients=points[0],
            steps=points[1], gradient_cosines=tuple(first[0]), step_cosines=tuple(first[1]),
        )  # fmt: skip
    return None


def slice_of(
    task: Task, rules: Sequence[Rule], followed: Sequence[Followed], judged: Part, points: int
) -> Generator[int, None, Slice | None]:
    """Return the paths of the first seed on the plane of their main directions, with the loss on it.

    A run that diverged is left out: it would set the plane and the scale alone.

    Args:
        task: of the first seed.
        rules, followed: what was run.
        judged: the examples that losses were evaluated on; of these a part.
        points: of the grid, on each side.

    Yields:
        points done.
    """
    kept = [
        (rule.name, own.paths[0].weights, own.losses[0])
        for rule, own in zip(rules, followed, strict=True)
        if own.paths[0].weights is not None and all(torch.isfinite(torch.tensor(own.losses[0])).tolist())
    ]
    paths = [weights for _, weights, _ in kept if weights is not None]
    if not paths or sum(each.numel() for each in paths) > MOST_NUMBERS:
        return None
    plane = plane_through(paths)
    a, b = grid_of(plane.paths, points)
    few = part_of(task.data, judged, SLICE_EXAMPLES, "slice")
    losses = yield from losses_on(task, followed[0].states[0].clone(), plane, a, b, few)
    return Slice(
        shares=plane.shares, a=tuple(a.tolist()), b=tuple(b.tolist()),
        losses=tuple(tuple(row) for row in losses.tolist()), rules=tuple(name for name, _, _ in kept),
        paths=tuple(tuple((x, y) for x, y in each.tolist()) for each in plane.paths),
        path_losses=tuple(own for _, _, own in kept),
    )  # fmt: skip
