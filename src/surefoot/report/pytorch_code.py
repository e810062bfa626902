"""A recipe as a program in plain PyTorch, for whoever does not want to depend on this package.

Executed on the same batches from the same initial weights it ends at the weights of our run, up to rounding
(`tests/laws/test_printed_program.py`). What it cannot hold, its head says.
"""

from __future__ import annotations

from collections.abc import Sequence

from surefoot.config import Config, Recipe, is_path
from surefoot.optim.code import rate_lines
from surefoot.optim.plan import default_epochs, plateau_numbers
from surefoot.optim.schedules import PLATEAU_THRESHOLD
from surefoot.report.group_code import group_lines, grouped_update
from surefoot.report.loss_code import (
    BCE_OF_CLASSES,
    CROSS_ENTROPY,
    LOSSES,
    OF_PIXELS,
    OF_TOKENS,
    WEIGHTED,
    Calls,
    gradient_lines,
    helpers,
    is_counted,
    loss_definition,
    loss_lines,
    size_of,
)
from surefoot.rules.optimizer import NAME as OF_CALLER
from surefoot.rules.progressive import stages_of
from surefoot.rules.rule import OF_OPTIMIZER

_INDENT = "    "


def program_of(config: Config, recipe: Recipe, steps_per_epoch: int, calls: Calls | None = None) -> str:
    """Return the program of a run.

    Args:
        config: its settings: target and precision.
        recipe: that it is trained by.
        steps_per_epoch: updates per pass.
        calls: how it calls its model and loss; None: a model of one tensor, and a loss by name.
    """
    calls = calls or Calls(target=config.target)
    epochs = default_epochs(steps_per_epoch) if recipe.epochs is None else recipe.epochs
    steps = recipe.steps or max(1, round(epochs * steps_per_epoch))
    usual = {"numbers": "mse", "multilabel": "bce", "segmentation": OF_PIXELS, "tokens": OF_TOKENS}
    of_target = usual.get(config.target, CROSS_ENTROPY)
    loss: str = of_target if config.loss in (None, CROSS_ENTROPY) else config.loss
    if loss == "bce" and config.target == "classes":
        loss = BCE_OF_CLASSES
    own_loss = "loss" in calls.functions or "loss_fn" in calls.functions
    if config.class_weights is not None:
        loss, own_loss = WEIGHTED, own_loss or config.target != "classes"
    code = pytorch_code(
        recipe, steps, steps_per_epoch, loss="your own" if own_loss else loss, precision=config.precision, calls=calls
    )
    if config.from_run is not None:
        code = f"# The initial weights are those of {config.from_run}: start.safetensors in the run's folder.\n" + code
    if config.early_stopping_epochs is not None:
        code = "# The run may stop early, and then its best weights are used; here all steps are done.\n" + code
    if own_loss or not (config.standardise_targets and config.target == "numbers" and loss != "bce"):
        return code
    return "# y has mean 0 and deviation 1 over the training part; so an answer is output * deviation + mean.\n" + code


def pytorch_code(
    recipe: Recipe,
    steps: int,
    steps_per_epoch: int,
    *,
    loss: str = CROSS_ENTROPY,
    precision: str = "fp32",
    calls: Calls | None = None,
) -> str:
    """Return the program that trains by a recipe; the model and the batches are the reader's.

    Args:
        recipe: to follow.
        steps: T, of the run.
        steps_per_epoch: updates per pass.
        loss: a name of `LOSSES`, or that of a loss of the reader's.
        precision: "fp32" or "bf16".
        calls: how the model is called; None: with one tensor.

    >>> print(pytorch_code(Recipe(lr=0.1, weight_decay=0.0), 100, 50).splitlines()[13])
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    """
    plateau, calls = recipe.schedule.kind == "plateau", calls or Calls()
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
        *loss_definition(loss, recipe.label_smoothing, calls),
        *(_AVERAGE if recipe.ema_decay is not None else []),
        *(_validation(recipe, loss, precision, calls) if plateau else []),
        f"for t, {calls.names if calls.names == 'batch' else '(x, y)'} in enumerate(batches):",
    ]
    body = [
        *at_step,
        *_gradient(recipe, loss, precision, calls),
        "lr = rate(t) * factor" if plateau else "lr = rate(t)",
    ]
    half = precision == "bf16" and recipe.update_rule.multiplies
    contexts = "torch.no_grad(), torch.autocast(parameters[0].device.type, dtype=torch.bfloat16)"
    without = f"with {contexts if half else 'torch.no_grad()'}:"
    body += update if update[0] == OF_OPTIMIZER else [without, *_indented(update)]
    if recipe.ema_decay is not None:
        body += _averaging(recipe.ema_decay)
    if plateau:
        body += _watching(recipe, steps_per_epoch)
    lines += _indented(body)
    imports = [f"import {name}" for name in ("copy", "fnmatch", "math") if any(f"{name}." in line for line in lines)]
    imports += [""] if imports else []
    head = [*_head(recipe, steps, loss, precision, calls), *imports, "import torch", ""]
    return "\n".join([*head, *helpers(lines), *lines]) + "\n"


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


def _head(recipe: Recipe, steps: int, loss: str, precision: str, calls: Calls) -> list[str]:
    sizes = {"full": "all examples", "auto": "as many as fit the data"}
    size = sizes.get(str(recipe.batch_size), f"{recipe.batch_size} examples")
    brought = [
        ("model", "a torch.nn.Module with its initial weights, on its device, in training mode"),
        ("batches", f"gives {_batch(calls)} of each of the {steps:,} updates, {size}, shuffled in every pass"),
    ]
    if stages := stages_of(recipe.progressive_resizing):
        sides = ", ".join(f"{side} pixels in updates before {round(share * steps):,}" for side, share in stages)
        brought.append(("", f"images have {sides}, then all (bilinear, antialias=True)"))
    brought += [
        (name, text)
        for setting, name, text in (
            ("forward", "forward", "(model, x) -> outputs"),
            ("loss_fn", "loss_fn", "(model, batch) -> the mean loss, one for each example, or their sum and count"),
        )
        if setting in calls.functions and not is_path(calls.functions[setting])
    ]
    if loss not in LOSSES and "loss_fn" not in calls.functions and not is_path(calls.functions.get("loss")):
        brought.append(("loss_of", f"(outputs, y) -> the mean loss, one for each example, or sum and count: {loss}"))
    if loss == WEIGHTED:
        brought.append(("weight_of", "[C]: N / (C n) of a class with n of the N training examples, 0 where n is 0"))
    if recipe.rule == OF_CALLER:
        brought.append(("make_optimizer", "(parameters, or their groups) -> the optimizer"))
    if recipe.schedule.kind == "plateau":
        brought.append(("validation", f"a list of {_batch(calls)}: held out, its loss lowers the rate"))
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


def _batch(calls: Calls) -> str:
    """Return what a batch is, in words."""
    if calls.names == "batch":
        return "what loss_fn takes"
    return {"tensor": "x and y", "tuple": "x, a tuple, and y", "dict": "x, a mapping, and y"}[calls.inputs]


def _gradient(recipe: Recipe, loss: str, precision: str, calls: Calls) -> list[str]:
    whole = not isinstance(recipe.batch_size, str) and recipe.batch_size <= recipe.micro_batch_size
    lines = gradient_lines(loss, precision, calls, None if whole else recipe.micro_batch_size)
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


def _validation(recipe: Recipe, loss: str, precision: str, calls: Calls) -> list[str]:
    """A function that gives the validation loss, without label smoothing, and what plateau keeps."""
    plain = f"{_INDENT}loss_of = {LOSSES[loss][0]}" if loss in LOSSES else None
    x, y = ("batch", "batch") if calls.names == "batch" else ("x", "y")
    count = "float(count)" if is_counted(loss) else size_of(y, calls)
    each = loss_lines(x, y, loss, precision, calls, model="judged", weighted=False)
    return [
        "",
        "def validation_loss():",
        *([plain] if plain and recipe.label_smoothing else []),
        "    judged = copy.deepcopy(model).eval()",
        *(["    judged.load_state_dict(average, strict=False)"] if recipe.ema_decay is not None else []),
        "    total, counts = 0.0, 0.0",
        "    with torch.no_grad():",
        f"        for {calls.names} in validation:",
        *_indented(_indented(_indented(each))),
        f"            total, counts = total + float(loss) * {count}, counts + {count}",
        "    return total / counts",
        "",
        "best, bad, factor = math.inf, 0, 1.0",
    ]


def _watching(recipe: Recipe, steps_per_epoch: int) -> list[str]:
    factor, patience = plateau_numbers(recipe.schedule)
    return [
        f"if (t + 1) % {steps_per_epoch} == 0:  # a pass is done",
        "    found = validation_loss()",
        f"    best, bad = (found, 0) if found < best * (1 - {PLATEAU_THRESHOLD!r}) else (best, bad + 1)",
        f"    if bad > {patience}:",
        f"        factor, bad = factor * {factor!r}, 0",
    ]
