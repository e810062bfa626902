"""500 updates of every rule in every combination of its options, beside PyTorch's optimizer with parameter groups.

    python soak/rules_against_torch.py

Weights of four shapes, each in a group of its own with multipliers of rate and weight decay, get the same random
gradients (every seventh step one has none) at rates that change. Compared after the last update are the weights of
`optim.kernels.update_` (one run, in float64 and float32), of `optim.stacked.stacked_` (two members of a population at
once, the first one's) and of the face (`surefoot.AdamW` and the like) with those of torch.optim, its plain
implementation. What torch.optim does not have is made of it: decoupled decay shrinks the weights before its step, and
Sutskever's momentum is its own at rate 1 with gradients that are multiplied by the rate. The verdict is a JSON file in
soak/results, and the exit status is 0 only where all differences are rounding.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import surefoot
from surefoot.config import Recipe
from surefoot.optim.kernels import update_
from surefoot.optim.stacked import hyperparameters, slot_names, stacked_
from surefoot.rules.groups import Factors

RESULTS = Path(__file__).parent / "results"
MOST = {
    "alone, float64": 1e-12, "alone, float32": 1e-5, "stacked, float32": 1e-5, "face, float64": 1e-12,
    "face, float32": 1e-5,
}  # fmt: skip
"""Largest difference that is rounding, relative to the largest weight: of 500 updates. Chosen by hand."""
SHAPES = ((3, 2, 2, 2), (4,), (), (2, 3))
FACTORS = (Factors(), Factors(4.0, 0.0), Factors(1.0, 0.0), Factors(0.5, 3.0))
OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "sgd": {
        "momentum": (0.0, 0.9), "momentum_form": ("pytorch", "sutskever", "nesterov"), "dampening": (0.0, 0.3),
        "weight_decay": (0.0, 0.05), "weight_decay_form": ("coupled", "decoupled"),
    },
    "rmsprop": {
        "alpha": (0.99, 0.9), "momentum": (0.0, 0.9), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.05),
    },
    "adam": {"beta1": (0.0, 0.9), "beta2": (0.999, 0.95), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.05)},
    "adamw": {"beta1": (0.0, 0.9), "beta2": (0.999, 0.95), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.05)},
}  # fmt: skip
NOT_OURS = {"rmsprop": ["centered"], "adam": ["amsgrad", "maximize"], "adamw": ["amsgrad", "maximize"]}
"""Options of PyTorch's that a recipe does not have; `optimizer=` takes them."""
FACES = {"sgd": surefoot.SGD, "rmsprop": surefoot.RMSProp, "adam": surefoot.Adam, "adamw": surefoot.AdamW}
TORCH = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def recipes() -> Iterator[Recipe]:
    """Yield every combination that a recipe can have."""
    for rule, options in OPTIONS.items():
        for values in itertools.product(*options.values()):
            chosen = dict(zip(options, values, strict=True))
            if chosen.get("momentum_form") == "nesterov" and (not chosen["momentum"] or chosen["dampening"]):
                continue
            yield Recipe(rule=rule, lr=0.01, **chosen)


def begin(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in SHAPES]


def gradients(step: int, dtype: torch.dtype) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(1000 + step)
    found = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in SHAPES]
    return [None if step % 7 == 3 and i == 1 else grad for i, grad in enumerate(found)]


def rate(step: int) -> float:
    return 0.01 / (1 + step / 100)


def by_torch(recipe: Recipe, dtype: torch.dtype, steps: int) -> list[Tensor]:
    """Return the weights after so many steps of torch.optim, its plain implementation."""
    weights = [torch.nn.Parameter(w) for w in begin(dtype)]
    values = dict(recipe.rule_values)
    decoupled = values.pop("weight_decay_form", None) == "decoupled"
    form, decay = values.pop("momentum_form", None), values.pop("weight_decay")
    inside = form == "sutskever" and recipe.momentum
    if form == "nesterov":
        values["nesterov"] = True
    if "beta1" in values:
        values["betas"] = (values.pop("beta1"), values.pop("beta2"))
    groups = [{"params": [w], "weight_decay": 0.0 if decoupled or inside else decay * factor.weight_decay}
              for w, factor in zip(weights, FACTORS, strict=True)]  # fmt: skip
    optimizer = TORCH[recipe.rule](groups, foreach=False, **values)
    for step in range(steps):
        for w, grad, group, factor in zip(
            weights, gradients(step, dtype), optimizer.param_groups, FACTORS, strict=True
        ):
            lr, of_weight = rate(step) * factor.lr, decay * factor.weight_decay
            with torch.no_grad():
                if grad is not None and decoupled:
                    w.mul_(1 - lr * of_weight)
                elif grad is not None and inside:
                    grad.add_(w, alpha=of_weight)
            group["lr"] = 1.0 if inside else lr
            w.grad = grad * lr if inside and grad is not None else grad
        optimizer.step()
    return [w.detach() for w in weights]


def alone(recipe: Recipe, dtype: torch.dtype, steps: int) -> list[Tensor]:
    """Return the weights of one run of ours."""
    weights, slots = begin(dtype), dict[str, list[Tensor]]()
    for step in range(steps):
        grads = gradients(step, dtype)
        at = [i for i, grad in enumerate(grads) if grad is not None]
        some = {name: [each[i] for i in at] for name, each in slots.items()}
        given = [grad for grad in grads if grad is not None]
        new = update_(recipe, [weights[i] for i in at], given, some, rate(step), [FACTORS[i] for i in at])
        slots = slots or new
    return weights


def stacked(recipe: Recipe, dtype: torch.dtype, steps: int) -> list[Tensor]:
    """Return the first member's weights of two that are computed as one."""
    weights = [torch.stack([w, 2 * w]) for w in begin(dtype)]
    recipes = [recipe, recipe]
    slots = {
        name: [torch.zeros_like(w) if kind == "weight" else torch.zeros(2, dtype=dtype) for w in weights]
        for name, kind in slot_names(recipes).items()
    }
    for step in range(steps):
        grads = gradients(step, dtype)
        at = [i for i, grad in enumerate(grads) if grad is not None]
        rule = hyperparameters(recipes, torch.full((2,), rate(step)), first=step == 0)
        some = {name: [each[i] for i in at] for name, each in slots.items()}
        given = [torch.stack([grad, -grad]) for grad in grads if grad is not None]
        stacked_([weights[i] for i in at], given, some, rule, [FACTORS[i] for i in at])
    return [w[0] for w in weights]


def face(recipe: Recipe, dtype: torch.dtype, steps: int) -> list[Tensor]:
    """Return the weights after so many steps of our torch.optim face, each weight in a group of its own."""
    weights = [torch.nn.Parameter(w) for w in begin(dtype)]
    values = dict(recipe.rule_values)
    if "beta1" in values:
        values["betas"] = (values.pop("beta1"), values.pop("beta2"))
    groups = [{"params": [w], "weight_decay": recipe.decay * factor.weight_decay}
              for w, factor in zip(weights, FACTORS, strict=True)]  # fmt: skip
    optimizer = FACES[recipe.rule](groups, **values)
    for step in range(steps):
        for w, grad, group, factor in zip(
            weights, gradients(step, dtype), optimizer.param_groups, FACTORS, strict=True
        ):
            w.grad, group["lr"] = grad, rate(step) * factor.lr
        optimizer.step()
    return [w.detach() for w in weights]


def off(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Return the largest difference as a share of the largest weight."""
    most = max(float(w.abs().max()) for w in theirs)
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(ours, theirs, strict=True)) / most


def main() -> int:
    """Compare, write and print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--out", type=Path, help="JSON file; soak/results/... if left out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for recipe in recipes():
        settings = {name: value for name, value in recipe.rule_values.items() if name != "lr"}
        differences: dict[str, float] = {}
        for dtype, name in ((torch.float64, "float64"), (torch.float32, "float32")):
            theirs = by_torch(recipe, dtype, given.steps)
            for way in (alone, stacked, face):
                if f"{way.__name__}, {name}" in MOST:
                    differences[f"{way.__name__}, {name}"] = off(way(recipe, dtype, given.steps), theirs)
        rows.append({"rule": recipe.rule, **settings, "difference": differences})
    largest = {
        f"{rule}: {path}": max(row["difference"][path] for row in rows if row["rule"] == rule)
        for rule in OPTIONS for path in MOST
    }  # fmt: skip
    capability = torch.backends.cpu.get_cpu_capability().lower()
    verdict = {
        "what": "updates of every rule in every combination of its options, against torch.optim with parameter groups",
        "steps": given.steps,
        "combinations": len(rows),
        "largest_difference": largest,
        "most_allowed": MOST,
        "within": sum(all(row["difference"][path] < most for path, most in MOST.items()) for row in rows),
        "options_of_torch_that_recipes_lack": NOT_OURS,
        "rows": rows,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": {"cpu": capability, "cpus": os.cpu_count(), "system": platform.system()},
        "date": date.today().isoformat(),
    }
    place = given.out or RESULTS / f"rules_against_torch_{capability}-{os.cpu_count()}cpu_{verdict['date']}.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(verdict, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in verdict.items() if name != "rows"}, indent=2))
    return 0 if verdict["within"] == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
