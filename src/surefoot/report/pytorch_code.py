"""A recipe as a program in plain PyTorch, for whoever does not want to depend on this package.

Executed on the same batches from the same initial weights it ends at the weights of our run, up to rounding
(`tests/laws/test_printed_program.py`). What it cannot hold, its head says.
"""

from __future__ import annotations

from collections.abc import Sequence

from surefoot.config import Config, Recipe
from surefoot.optim.code import rate_lines
from surefoot.optim.plan import default_epochs, plateau_numbers
from surefoot.optim.schedules import PLATEAU_THRESHOLD
from surefoot.report.group_code import group_lines, grouped_update
from surefoot.rules.optimizer import NAME as OF_CALLER
from surefoot.rules.rule import OF_OPTIMIZER

CROSS_ENTROPY, BCE_OF_CLASSES = "cross-entropy", "bce of two classes"
WEIGHTED = "cross-entropy of weighted classes"
_SHAPED = "outputs.float().reshape({y}.shape), {y}"
LOSSES = {
    CROSS_ENTROPY: ("torch.nn.CrossEntropyLoss()", "outputs.float(), {y}"),
    "mse": ("torch.nn.MSELoss()", _SHAPED),
    "mae": ("torch.nn.L1Loss()", _SHAPED),
    "huber": ("torch.nn.HuberLoss()", _SHAPED),
    "bce": ("torch.nn.BCEWithLogitsLoss()", _SHAPED),
    WEIGHTED: ('torch.nn.CrossEntropyLoss(reduction="none")', "outputs.float(), {y}"),
    BCE_OF_CLASSES: ("torch.nn.BCEWithLogitsLoss()", "outputs.float()[:, 1] - outputs.float()[:, 0], {y}.float()"),
}
"""Losses by name: what makes it, and what it is given; another one is the reader's."""
_INDENT = "    "


def program_of(config: Config, recipe: Recipe, steps_per_epoch: int, *, own_loss: bool = False) -> str:
    """Return the program of a run.

    Args:
        config: its settings: target and precision.
        recipe: that it is trained by.
        steps_per_epoch: updates per pass.
        own_loss: whether it has a loss of the user's.
    """
    epochs = default_epochs(steps_per_epoch) if recipe.epochs is None else recipe.epochs
    steps = recipe.steps or max(1, round(epochs * steps_per_epoch))
    loss: str = config.loss or ("mse" if config.target == "numbers" else CROSS_ENTROPY)
    if loss == "bce" and config.target == "classes":
        loss = BCE_OF_CLASSES
    if config.class_weights is not None:
        loss = WEIGHTED
    code = pytorch_code(
        recipe, steps, steps_per_epoch, loss="your own" if own_loss else loss, precision=config.precision
    )
    if config.from_run is not None:
        code = f"# The initial weights are those of {config.from_run}: start.safetensors in the run's folder.\n" + code
    if config.early_stopping_epochs is not None:
        code = "# The run may stop early, and then its best weights are used; here all steps are done.\n" + code
    if own_loss or not (config.standardise_targets and config.target == "numbers" and loss != "bce"):
        return code
    return "# y has mean 0 and deviation 1 over the training part; so an answer is output * deviation + mean.\n" + code


def pytorch_code(
    recipe: Recipe, steps: int, steps_per_epoch: int, *, loss: str = CROSS_ENTROPY, precision: str = "fp32"
) -> str:
    """Return the program that trains by a recipe; the model and the batches are the reader's.

    Args:
        recipe: to follow.
        steps: T, of the run.
        steps_per_epoch: updates per pass.
        loss: a name of `LOSSES`, or that of a loss of the reader's.
        precision: "fp32" or "bf16".

    >>> print(pytorch_code(Recipe(lr=0.1, weight_decay=0.0), 100, 50).splitlines()[13])
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    """
    plateau = recipe.schedule.kind == "plateau"
    grouped = "parameters"
    if recipe.decay > 0 and recipe.decay_on == "weights":
        grouped = '[{"params": decaying}, {"params": others, "weight_decay": 0.0}]'
    if recipe.groups or (recipe.rule == OF_CALLER and recipe.decay_on == "weights"):
        named, at_step = group_lines(recipe, steps, steps_per_epoch)
        before, update = grouped_update(recipe)
    else:
        before, update = recipe.update_rule.program(recipe.rule_values, grouped)
        used = "\n".join([*before, *update])
        split = [line for name, line in _SPLIT[recipe.decay_on].items() if name in used]
        named, at_step = ["parameters = [w for w in model.parameters() if w.requires_grad]", *split], []
    lines = [
        *rate_lines(recipe.schedule, recipe.lr, steps, steps_per_epoch),
        "",
        *named,
        *before,
        *_of_loss(recipe, loss),
        *(_AVERAGE if recipe.ema_decay is not None else []),
        *(_validation(recipe, loss, precision) if plateau else []),
        "for t, (x, y) in enumerate(batches):",
    ]
    body = [*at_step, *_gradient(recipe, loss, precision), "lr = rate(t) * factor" if plateau else "lr = rate(t)"]
    body += update if update[0] == OF_OPTIMIZER else ["with torch.no_grad():", *_indented(update)]
    if recipe.ema_decay is not None:
        body += _averaging(recipe.ema_decay)
    if plateau:
        body += _watching(recipe, steps_per_epoch)
    lines += _indented(body)
    imports = [f"import {name}" for name in ("fnmatch", "math") if any(f"{name}." in line for line in lines)]
    imports += [""] if imports else []
    return "\n".join([*_head(recipe, steps, loss, precision), *imports, "import torch", "", *lines]) + "\n"


_SPLIT = {
    "all": {"decaying": "decaying = parameters"},
    "weights": {
        "decaying": "decaying = [w for w in parameters if w.dim() > 1]",
        "others": "others = [w for w in parameters if w.dim() < 2]  # biases and norms",
    },
}
_AVERAGE = ["average = {name: v.clone() for name, v in model.state_dict().items() if v.is_floating_point()}"]


def _indented(lines: Sequence[str]) -> list[str]:
    return [_INDENT + line for line in lines]


def _head(recipe: Recipe, steps: int, loss: str, precision: str) -> list[str]:
    sizes = {"full": "all examples", "auto": "as many as fit the data"}
    size = sizes.get(str(recipe.batch_size), f"{recipe.batch_size} examples")
    brought = [
        ("model", "a torch.nn.Module with its initial weights, on its device, in training mode"),
        ("batches", f"gives x and y of each of the {steps:,} updates, {size}, shuffled in every pass"),
    ]
    if loss not in LOSSES:
        brought.append(("loss_of", f"(outputs, y) -> the mean loss, or one for each example: {loss}"))
    if loss == WEIGHTED:
        brought.append(("weight_of", "[C]: N / (C n) of a class with n of the N training examples, 0 where n is 0"))
    if recipe.rule == OF_CALLER:
        brought.append(("make_optimizer", "(parameters, or their groups) -> the optimizer"))
    if recipe.schedule.kind == "plateau":
        brought.append(("validation", "a list of x and y: held out, its loss lowers the rate"))
    lines = ["# You bring"] + [f"#   {name:<10} {text}" for name, text in brought]
    lines += [
        "# Not in here: how weights are initialised, the order of the examples, their preprocessing and augmentation,",
        "# what the model draws at random, and that a run ends where its loss or gradient is not finite.",
    ]
    if recipe.ema_decay is not None:
        lines.append("# Validation, test and prediction use `average`, the moving average of the weights.")
    if precision == "bf16":
        lines.append("# The forward pass is computed in bfloat16, which rounds to three digits.")
    return lines


def _of_loss(recipe: Recipe, loss: str) -> list[str]:
    if loss not in LOSSES:
        return []
    if loss == CROSS_ENTROPY and recipe.label_smoothing:
        return [f"loss_of = torch.nn.CrossEntropyLoss(label_smoothing={recipe.label_smoothing!r})"]
    if loss == WEIGHTED and recipe.label_smoothing:
        return [f'loss_of = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing={recipe.label_smoothing!r})']
    return [f"loss_of = {LOSSES[loss][0]}"]


def _forward(x: str, y: str, loss: str, precision: str, *, model: str = "") -> list[str]:
    """Lines that compute `loss` of a piece; with the text of another model it is that of validation."""
    call = f"outputs = {model or f'model({x})'}"
    lines = [call]
    if precision == "bf16":
        lines = [f"with torch.autocast({x}.device.type, dtype=torch.bfloat16):", _INDENT + call]
    if loss not in LOSSES:
        return [*lines, f"loss = loss_of(outputs.float(), {y}).mean()"]
    found = f"loss_of({LOSSES[loss][1].format(y=y)})"
    if loss == WEIGHTED:  # divided by the number of examples, and not by their weights as torch's `weight` is
        found = f"{found}.mean()" if model else f"({found} * weight_of[{y}]).mean()"
    return [*lines, f"loss = {found}"]


def _gradient(recipe: Recipe, loss: str, precision: str) -> list[str]:
    if not isinstance(recipe.batch_size, str) and recipe.batch_size <= recipe.micro_batch_size:
        lines = ["model.zero_grad()", *_forward("x", "y", loss, precision), "loss.backward()"]
    else:
        lines = [
            "model.zero_grad()",
            f"pieces = math.ceil(len(x) / {recipe.micro_batch_size})  # computed one after the other, to save memory",
            "for part, targets in zip(x.tensor_split(pieces), y.tensor_split(pieces)):",
            *_indented([*_forward("part", "targets", loss, precision), "(loss * (len(part) / len(x))).backward()"]),
        ]
    if recipe.clip_norm is not None:
        lines += [
            "grads = [w.grad for w in parameters if w.grad is not None]  # clip_grad_norm_ adds 1e-6 to the norm",
            "norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in grads]))",
            "for g in grads:",
            f"    g.mul_(torch.clamp({recipe.clip_norm!r} / norm, max=1.0))",
        ]
    return lines


def _averaging(decay: float) -> list[str]:
    """The average forgets the initial weights first: `training.state.averaging_decay`."""
    return [
        f"decay = min({decay!r}, (2 + t) / (11 + t))",
        "with torch.no_grad():",
        "    for name, value in model.state_dict().items():",
        "        if name in average:",
        "            average[name].lerp_(value, 1 - decay)",
    ]


def _validation(recipe: Recipe, loss: str, precision: str) -> list[str]:
    """A function that gives the validation loss, without label smoothing, and what plateau keeps."""
    plain = f"{_INDENT}loss_of = {LOSSES[loss][0]}" if loss in LOSSES else None
    weights = "{**model.state_dict(), **average}" if recipe.ema_decay is not None else "model.state_dict()"
    return [
        "",
        "def validation_loss():",
        *([plain] if plain and recipe.label_smoothing else []),
        "    modes = {module: module.training for module in model.modules()}",
        "    model.eval()",
        "    total = 0.0",
        "    with torch.no_grad():",
        "        for x, y in validation:",
        *_indented(_indented(_indented(_forward(
            "x", "y", loss, precision, model=f"torch.func.functional_call(model, {weights}, (x,))"
        )))),
        "            total += float(loss) * len(y)",
        "    for module, mode in modes.items():",
        "        module.training = mode",
        "    return total / sum(len(y) for _, y in validation)",
        "",
        "best, bad, factor = math.inf, 0, 1.0",
    ]  # fmt: skip


def _watching(recipe: Recipe, steps_per_epoch: int) -> list[str]:
    factor, patience = plateau_numbers(recipe.schedule)
    return [
        f"if (t + 1) % {steps_per_epoch} == 0:  # a pass is done",
        "    found = validation_loss()",
        f"    best, bad = (found, 0) if found < best * (1 - {PLATEAU_THRESHOLD!r}) else (best, bad + 1)",
        f"    if bad > {patience}:",
        f"        factor, bad = factor * {factor!r}, 0",
    ]
