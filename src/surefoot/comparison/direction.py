"""The noise of a rule's step direction: what the update rule makes of mini-batch gradients at fixed weights.

With g_t the gradients of successive batches at fixed weights, and d_t the steps that `optim.update` makes of them at
rate 1, divided by their mean gain 1 / (1 - beta): E d = E g, and for independent gradients
tr Cov(d) = (1 - beta) / (1 + beta) tr Cov(g), the variance of an exponential average (for Nesterov's form, which weighs
the newest gradient more, (1 - beta) / (1 + beta) (1 + 2 beta - 2 beta^3); both follow from summing the squares of the
weights that each past gradient has in a step). So momentum averages noise away, and what it costs is delay.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from surefoot.comparison.rules import Rule
from surefoot.comparison.runs import flat, parameters_from
from surefoot.config import Recipe
from surefoot.optim.kernels import update_
from surefoot.optim.plan import batch_size_of
from surefoot.optim.update import clip_, global_norm
from surefoot.record.comparison import Averaging, DirectionNoise
from surefoot.record.progress import Progress, finished
from surefoot.rules.groups import Factors
from surefoot.seeds import StepSeeds
from surefoot.steps.follow import rate_plan
from surefoot.training.loop import start
from surefoot.training.state import State, trainable
from surefoot.training.step import gradient
from surefoot.training.task import Task

SAMPLES = 200
"""Steps that the variance is taken over: a standard error of about a tenth for plain gradients. Chosen by hand."""
LEAST_SAMPLES = 16
"""With fewer nothing is said. Chosen by hand."""
MOST_NUMBERS = 2**26
"""Of all gradients that are kept at once: 256 MB. Chosen by hand."""
FORGOTTEN = 0.01
"""Steps are looked at when the weight of the very first gradient has fallen to this. Chosen by hand."""
ROUNDING = 1e-8
"""Gradients of all examples in another order differ by rounding: a variance under this share of the squared gradient is
none. float32 rounds to 6e-8, squared 4e-15, times some thousand sums. Chosen by hand."""


FIRST_COSINES = 60
"""Steps of which the cosine with the gradient is drawn. Chosen by hand."""


@dataclass(frozen=True)
class Directions:
    """The noise of each rule's steps, [R], and what it comes from: gradients by batch size, and the full gradient."""

    noises: list[DirectionNoise | None]
    gradients: dict[int, Tensor]
    full: Tensor


def settling_steps(recipe: Recipe) -> int:
    """Return after how many steps the velocity has forgotten that it began at the first gradient.

    >>> settling_steps(Recipe(momentum=0.9)), settling_steps(Recipe(momentum=0))
    (44, 0)
    """
    return math.ceil(math.log(FORGOTTEN) / math.log(recipe.momentum)) if recipe.momentum else 0


def directions_of(
    task: Task, recipes: Sequence[Recipe], state: State, now: Progress
) -> Generator[Progress, None, Directions]:
    """Return the noise of each rule's steps, all at the weights of this state.

    Rules of one batch size see the same gradients. Of rules whose steps are not linear in them, or that have groups,
    there is none.

    Args:
        task: of the state.
        recipes: of the rules.
        state: from a run of one of them.
        now: what is yielded at each gradient.
    """
    weights = flat(state.model)
    full = finished(gradients_at(task, replace(recipes[0], batch_size="full"), weights, 1, now))[0]
    most = min(SAMPLES + max(map(settling_steps, recipes)), MOST_NUMBERS // max(1, len(weights)))
    sizes = [batch_size_of(recipe, task.data.examples) for recipe in recipes]
    gradients: dict[int, Tensor] = {}
    for recipe, size in zip(recipes, sizes, strict=True):
        if size not in gradients and most >= LEAST_SAMPLES:
            gradients[size] = yield from gradients_at(task, recipe, weights, most, now)
    noises = [
        noise_of(recipe, gradients[size], full)
        if size in gradients and recipe.rule == "sgd" and not recipe.groups
        else None
        for recipe, size in zip(recipes, sizes, strict=True)
    ]
    return Directions(noises, gradients, full)


def _linear(recipe: Recipe) -> bool:
    """Return whether steps are the same linear function of the gradients for all parameters."""
    return recipe.rule == "sgd" and not recipe.groups


def averaging_of(rules: Sequence[Rule], recipes: Sequence[Recipe], directions: Directions) -> Averaging | None:
    """Return what the first rule with momentum and mini-batches makes of its gradients; None where there is none."""
    for rule, recipe in zip(rules, recipes, strict=True):
        if not _linear(recipe) or not recipe.momentum or isinstance(recipe.batch_size, str):
            continue
        gradients, skipped = directions.gradients.get(recipe.batch_size), settling_steps(recipe)
        if gradients is None or len(gradients) < skipped + LEAST_SAMPLES:
            continue
        steps = steps_of(recipe, gradients)
        settled = shadow([gradients[skipped:], steps[skipped:]], directions.full)
        points = [tuple((x, y) for x, y in vectors.tolist()) for vectors in settled]
        first = [tuple(cosines(vectors[:FIRST_COSINES], directions.full).tolist()) for vectors in (gradients, steps)]
        return Averaging(
            rule=rule.name, momentum=recipe.momentum, batch_size=recipe.batch_size, gradients=points[0],
            steps=points[1], gradient_cosines=first[0], step_cosines=first[1],
        )  # fmt: skip
    return None


def gradients_at(
    task: Task, recipe: Recipe, weights: Tensor, most: int, now: Progress
) -> Generator[Progress, None, Tensor]:
    """Return the gradients of successive batches at fixed weights, [n, D] float32 on the CPU.

    Args:
        task: what is trained; augmentation and dropout are those of the steps.
        recipe: gives the batch size.
        weights: all parameters, [D].
        most: how many batches. A batch that is all examples is looked at twice.
        now: what is yielded at each gradient.
    """
    made = rate_plan(replace(recipe, groups=()), task.data.examples, np.zeros(max(2, most)))
    state = start(task, made)
    with torch.no_grad():
        for name, value in parameters_from(state.model, weights).items():
            state.model.get_parameter(name).copy_(value)
    vectors = []
    for step in range(2 if made.batch_size == task.data.examples else most):
        state.step = step
        with StepSeeds(task.seed, "step", every=task.draws) as seeds, task.machine.computing():
            seeds.at(step)
            _, _, grads = gradient(task, made, state)
        found = {name: grad for name, grad in zip(trainable(state.model), grads, strict=True) if grad is not None}
        pieces = [found.get(name, torch.zeros_like(parameter)) for name, parameter in state.model.named_parameters()]
        vectors.append(torch.cat([piece.float().reshape(-1).cpu() for piece in pieces]))
        yield now
    return torch.stack(vectors)


def steps_of(recipe: Recipe, gradients: Tensor) -> Tensor:
    """Return the steps that the rule makes of these gradients at rate 1, over their mean gain, [n, D].

    The update is that of the loop itself, on weights that are put back to 0 after each step. Weight decay is left
    out: it is no noise.

    >>> g = torch.tensor([[1.0], [1.0], [1.0]])
    >>> steps_of(Recipe(momentum=0.5), g).flatten().tolist()
    [0.5, 0.75, 0.875]
    """
    assert recipe.momentum is not None  # of SGD
    assert recipe.dampening is not None
    bare = replace(recipe, weight_decay=0.0)
    w, slots, steps = [torch.zeros_like(gradients[0])], {}, []
    for g in gradients:
        grads = [g.clone()]
        if recipe.clip_norm is not None:
            clip_(grads, global_norm(grads), recipe.clip_norm)
        slots = update_(bare, w, grads, slots, 1.0, [Factors()])
        steps.append(-w[0].clone())
        w[0].zero_()
    gain = (1 - recipe.dampening) / (1 - recipe.momentum) if recipe.momentum > 0 else 1.0
    return torch.stack(steps) / gain if gain > 0 else torch.stack(steps)


def noise_of(recipe: Recipe, gradients: Tensor, full: Tensor) -> DirectionNoise | None:
    """Return the noise of the steps that a rule makes of these gradients; None where too few are left to say.

    Steps are compared with the gradients' own mean m over n batches, which shares their noise: E ||d - m||^2 is
    tr Cov(d) - tr Cov(g) / n, which is added back.

    Args:
        recipe: the rule.
        gradients: of successive batches, [n, D], from `gradients_at`.
        full: of all examples, [D].
    """
    signal = float(full.double().square().sum())
    skipped = settling_steps(recipe)
    if signal == 0 or len(gradients) < 2:
        return None
    mean = gradients.double().mean(0)
    spread = float((gradients.double() - mean).square().sum()) / (len(gradients) - 1)
    if spread <= ROUNDING * float(mean.square().sum()):
        cosine = float(cosines(mean[None], full).mean())
        return DirectionNoise(variance=0.0, cosine=cosine, samples=len(gradients))
    settled = steps_of(recipe, gradients)[skipped:]
    if len(settled) < LEAST_SAMPLES:
        return None
    apart = float((settled.double() - mean).square().sum(1).mean()) + spread / len(gradients)
    cosine = float(cosines(settled, full).mean())
    return DirectionNoise(variance=apart / signal, cosine=cosine, samples=len(settled))


def cosines(vectors: Tensor, full: Tensor) -> Tensor:
    """Return the cosine of each of [n, D] with [D], in [n]; 0 where a vector is 0."""
    return torch.nn.functional.cosine_similarity(vectors.double(), full.double()[None], dim=1)


def shadow(vectors: Sequence[Tensor], full: Tensor) -> list[Tensor]:
    """Return vectors in two coordinates, [n, 2] each, in lengths of the full gradient: along it, and along the main
    direction of the noise of the first ones across it.

    Args:
        vectors: [n, D] each; the noise is that of the first.
        full: [D].
    """
    length = full.double().norm()
    along = full.double() / length
    noise = vectors[0].double() - vectors[0].double().mean(0)
    across = noise - (noise @ along)[:, None] * along
    _, _, axes = torch.linalg.svd(across, full_matrices=False)
    return [torch.stack([each.double() @ along, each.double() @ axes[0]], dim=1) / length for each in vectors]
