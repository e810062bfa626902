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

from surefoot.comparison.paths import flat
from surefoot.config import Recipe
from surefoot.optim.update import clip_, global_norm, sgd_
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


@dataclass(frozen=True)
class Noise:
    """What was seen of one rule's steps at fixed weights.

    Attributes:
        variance: tr Cov(d) / ||full gradient||^2.
        cosine: mean over steps of the cosine with the full gradient.
        samples: steps that this was seen over.
    """

    variance: float
    cosine: float
    samples: int


def settling_steps(recipe: Recipe) -> int:
    """Return after how many steps the velocity has forgotten that it began at the first gradient.

    >>> settling_steps(Recipe(momentum=0.9)), settling_steps(Recipe(momentum=0))
    (44, 0)
    """
    return math.ceil(math.log(FORGOTTEN) / math.log(recipe.momentum)) if recipe.momentum > 0 else 0


def gradients_at(task: Task, recipe: Recipe, weights: Tensor, most: int) -> Generator[int, None, Tensor]:
    """Return the gradients of successive batches at fixed weights, [n, D] float32 on the CPU.

    Args:
        task: what is trained; augmentation and dropout are those of the steps.
        recipe: gives the batch size.
        weights: trainable parameters, [D].
        most: how many batches. A batch that is all examples is looked at twice.

    Yields:
        1 for each gradient.
    """
    made = rate_plan(recipe, task.data.examples, np.zeros(max(2, most)))
    count = 2 if made.batch_size == task.data.examples else most
    state = start(task, made)
    _set(state, weights)
    rows = []
    with StepSeeds(task.seed, "step") as seeds, task.machine.computing():
        for t in range(count):
            seeds.at(t)
            state.step = t
            _, _, grads = gradient(task, made, state)
            parameters = trainable(state.model).values()
            each = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)]
            rows.append(torch.cat([g.float().reshape(-1).cpu() for g in each]))
            yield 1
    return torch.stack(rows)


def full_gradient(task: Task, recipe: Recipe, weights: Tensor) -> Tensor:
    """Return the gradient of all training examples at these weights, [D]."""
    work = gradients_at(task, replace(recipe, batch_size="full"), weights, 1)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value[0]


def steps_of(recipe: Recipe, gradients: Tensor) -> Tensor:
    """Return the steps that the rule makes of these gradients at rate 1, over their mean gain, [n, D].

    The update is `optim.update.sgd_` itself, on weights that are put back to 0 after each step. Weight decay is left
    out: it is no noise.

    >>> g = torch.tensor([[1.0], [1.0], [1.0]])
    >>> steps_of(Recipe(momentum=0.5), g).flatten().tolist()
    [0.5, 0.75, 0.875]
    """
    w, velocity, found = [torch.zeros_like(gradients[0])], None, []
    for g in gradients:
        own = [g.clone()]
        if recipe.clip_norm is not None:
            clip_(own, global_norm(own), recipe.clip_norm)
        velocity = sgd_(
            w, own, velocity, lr=1.0, momentum=recipe.momentum, momentum_form=recipe.momentum_form,
            dampening=recipe.dampening,
        )  # fmt: skip
        found.append(-w[0].clone())
        w[0].zero_()
    gain = (1 - recipe.dampening) / (1 - recipe.momentum) if recipe.momentum > 0 else 1.0
    return torch.stack(found) / gain if gain > 0 else torch.stack(found)


def noise_of(recipe: Recipe, gradients: Tensor, full: Tensor) -> Noise | None:
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
        return Noise(0.0, float(cosines(mean[None], full).mean()), len(gradients))
    settled = steps_of(recipe, gradients)[skipped:]
    if len(settled) < LEAST_SAMPLES:
        return None
    apart = float((settled.double() - mean).square().sum(1).mean()) + spread / len(gradients)
    return Noise(apart / signal, float(cosines(settled, full).mean()), len(settled))


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


def _set(state: State, weights: Tensor) -> None:
    """Put a vector into a model's trainable parameters."""
    at = 0
    for parameter in trainable(state.model).values():
        piece = weights[at : at + parameter.numel()].reshape(parameter.shape)
        parameter.data.copy_(piece)
        at += parameter.numel()


def room_for(task: Task) -> int:
    """Return how many gradients of this model may be kept at once."""
    return MOST_NUMBERS // max(1, flat(task.template).numel())
