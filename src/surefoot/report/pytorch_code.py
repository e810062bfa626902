"""A recipe as the code that follows it in plain PyTorch, for whoever does not want to depend on this package."""

from __future__ import annotations

from surefoot.config import Recipe

_SHAPES = {
    "constant": "1.0",
    "linear": "1 - {t} / {length}",
    "cosine": "0.5 * (1 + math.cos(math.pi * {t} / {length}))",
    "wsd": "min(1.0, ({length} - {t}) / {decay})",
}
"""Multiplier at t steps after the warmup, over a length in steps."""


def pytorch_code(recipe: Recipe, steps: int, steps_per_epoch: int) -> str:
    """Return the training loop of a recipe in plain PyTorch; `model`, `batches` and their order are the reader's.

    Args:
        recipe: to follow.
        steps: T, of the run.
        steps_per_epoch: updates per pass.

    >>> print(pytorch_code(Recipe(lr=0.1, weight_decay=0.0), 100, 50).splitlines()[4])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    """
    if recipe.momentum_form == "sutskever" or recipe.weight_decay_form == "decoupled":
        imports, optimizer = "import surefoot\nimport torch", _surefoot_optimizer(recipe)
    else:
        imports, optimizer = "import torch", _torch_optimizer(recipe)
    shape = recipe.schedule
    if shape.kind in (*_SHAPES, "step") and (shape.end or 0.0) == 0.0 and shape.decay_from == "warmup-end":
        multiplier, imports = _multiplier(recipe, steps, steps_per_epoch), f"import math\n\n{imports}"
        scheduler = "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)"
    else:
        multiplier = ""
        scheduler = f"# the {shape.kind} schedule: surefoot schedule draws it, surefoot.lr_scheduler gives it"
    smoothing = f"label_smoothing={recipe.label_smoothing:g}" if recipe.label_smoothing else ""
    clip = f"\n    torch.nn.utils.clip_grad_norm_(model.parameters(), {recipe.clip_norm:g})" if recipe.clip_norm else ""
    next_rate = "\n    scheduler.step()" if multiplier else ""
    return (
        f"{imports}\n\n{optimizer}\n{multiplier}{scheduler}\n"
        f"loss_of = torch.nn.CrossEntropyLoss({smoothing})\n"
        f"for x, y in batches:  # {steps:,} of {recipe.batch_size} examples, shuffled in every epoch\n"
        f"    loss = loss_of(model(x), y)\n    optimizer.zero_grad()\n    loss.backward(){clip}\n"
        f"    optimizer.step(){next_rate}\n"
    )


def _torch_optimizer(recipe: Recipe) -> str:
    words = [f"lr={recipe.lr:g}"]
    words += [f"momentum={recipe.momentum:g}"] if recipe.momentum else []
    words += [f"dampening={recipe.dampening:g}"] if recipe.dampening else []
    words += ["nesterov=True"] if recipe.momentum_form == "nesterov" else []
    weights = "model.parameters()"
    if recipe.weight_decay and recipe.decay_on == "weights":
        weights = (
            f'[{{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": {recipe.weight_decay:g}}},\n'
            '     {"params": [p for p in model.parameters() if p.dim() < 2]}]'
        )
    elif recipe.weight_decay:
        words.append(f"weight_decay={recipe.weight_decay:g}")
    return f"optimizer = torch.optim.SGD({weights}, {', '.join(words)})"


def _surefoot_optimizer(recipe: Recipe) -> str:
    words = [f"lr={recipe.lr:g}", f"momentum={recipe.momentum:g}", f"weight_decay={recipe.weight_decay:g}"]
    words.append(f'momentum_form="{recipe.momentum_form}"')
    words.append(f'weight_decay_form="{recipe.weight_decay_form}"')
    return f"optimizer = surefoot.SGD(model.parameters(), {', '.join(words)})  # PyTorch has no such form"


def _multiplier(recipe: Recipe, steps: int, per_epoch: int) -> str:
    """The schedule as a function of the step, 1 at the peak."""
    shape = recipe.schedule
    warm = round(shape.warmup_epochs * per_epoch)
    lines = ["def multiplier(t):"]
    if warm:
        lines += [
            f"    if t < {warm}:",
            f"        return {shape.warmup_start:g} + {1 - shape.warmup_start:g} * t / {warm}",
        ]
    if shape.kind == "step":
        at = tuple(round(epoch * per_epoch) for epoch in shape.milestones_epochs or ())
        factor = 0.1 if shape.factor is None else shape.factor
        lines.append(f"    return {factor:g} ** sum(t >= drop for drop in {at})")
    else:
        length = steps - warm
        decay = length * 0.2 if shape.decay_epochs is None else shape.decay_epochs * per_epoch
        t = f"min(t - {warm}, {length})" if warm else f"min(t, {length})"
        lines.append("    return " + _SHAPES[shape.kind].format(t=t, length=length, decay=max(1, round(decay))))
    return "\n".join(["", *lines, "", ""])
