"""The groups of a recipe in the printed program: parameter groups of its optimizer, and what stands still."""

from __future__ import annotations

from collections.abc import Sequence

from surefoot.config import Recipe
from surefoot.rules.optimizer import NAME as OF_CALLER
from surefoot.rules.rule import OF_OPTIMIZER, Program

Lines = list[str]
_INDENT = "    "


class _Named(float):
    """A number whose text in a program is a name."""

    def __new__(cls, value: float, name: str) -> _Named:
        """Return the number `value`, which is written as `name`."""
        made = super().__new__(cls, value)
        made.name = name
        return made

    name: str

    def __repr__(self) -> str:
        return self.name


def group_lines(recipe: Recipe, steps: int, steps_per_epoch: int) -> Program:
    """Return the lines before the loop, and those of a step, of a recipe that has groups.

    The first define `parameters`, and `factor`: what the groups say of each of them.

    Args:
        recipe: with groups.
        steps: T, of the run.
        steps_per_epoch: updates per pass.
    """
    lines = ["# By name of a parameter or of a module around it; of two patterns that match the later one counts.",
             "groups = {"]  # fmt: skip
    for group in recipe.groups:
        settings = {name: value for name, value in group.said.items() if name != "frozen_epochs"}
        if group.frozen_epochs is not None:
            settings["begins"] = round(min(group.frozen_epochs * steps_per_epoch, steps))
        lines.append(f"    {group.pattern!r}: {settings!r},")
    lines += [
        "}",
        "names, factor = {}, {}",
        "for name, w in model.named_parameters(remove_duplicate=False):  # a tied weight has several",
        "    names.setdefault(w, []).append(name)",
        "for w, each in names.items():",
        '    factor[w] = {"lr": 1.0, "weight_decay": 1.0, "begins": 0}',
        '    around = [name[:i] for name in each for i, letter in enumerate(name + ".") if letter == "."]',
        "    for pattern, settings in groups.items():",
        "        if any(fnmatch.fnmatchcase(name, pattern) for name in around):",
        "            factor[w] |= settings",
    ]
    if recipe.decay_on == "weights":
        lines += ["    if w.dim() < 2:  # biases and norms", '        factor[w]["weight_decay"] = 0.0']
    if all(group.frozen_epochs is None for group in recipe.groups):
        return [*lines, "parameters = [w for w in model.parameters() if w.requires_grad]"], []
    return [*lines, *_STANDING_STILL, f"parameters = [w for w in trained if begin[w] < {steps}]"], [
        "if t in begins:",
        "    stand_still(t)",
    ]


_STANDING_STILL = [
    "trained = [w for w in model.parameters() if w.requires_grad]",
    'begin = {w: factor[w]["begins"] for w in trained}',
    "modes = {module: module.training for module in model.modules()}",
    "begins = {0, *begin.values()}",
    "",
    "def stand_still(t):",
    "    # What is frozen has no gradient; modules with nothing else in them are in evaluation mode: their batch norm",
    "    # keeps its statistics.",
    "    moving = {w for w in trained if begin[w] <= t}",
    "    still = set()",
    "    for module in model.modules():",
    "        inside = {w for w in module.parameters() if w in begin}",
    "        if inside and not inside & moving:",
    "            still |= set(module.modules())",
    "    for w in trained:",
    "        w.requires_grad_(w in moving)",
    "    for module, mode in modes.items():",
    "        module.training = mode and module not in still",
    "",
]


def grouped_update(recipe: Recipe) -> Program:
    """Return the lines of the update rule, before the loop and in it, for `parameters` with `factor`.

    An optimizer of PyTorch gets parameter groups; what is written out is a function that is made for each group.
    """
    values, decay = recipe.rule_values, recipe.decay
    before, update = recipe.update_rule.program(values, "grouped")
    if recipe.rule == OF_CALLER:
        return [*_buckets("lr", "weight_decay"),
                'grouped = [{"params": each} for each in buckets.values()]',
                *before,
                "for group, (of_lr, of_decay) in zip(optimizer.param_groups, buckets):",
                '    group["share"] *= of_lr',
                '    group["weight_decay"] = group.get("weight_decay", 0.0) * of_decay',
                ], update  # fmt: skip
    if update[0] == OF_OPTIMIZER:
        return [*_buckets("lr", "weight_decay"),
                'grouped = [{"params": each, "factor": of_lr, "weight_decay": ' + f"{decay!r} * of_decay}}",
                "           for (of_lr, of_decay), each in buckets.items()]",
                *before], [update[0], '    group["lr"] = lr * group["factor"]', *update[2:]]  # fmt: skip
    before, update = recipe.update_rule.program({**values, "weight_decay": _Named(decay, "decay")}, "parameters")
    made = [
        "",
        "def updating(parameters, factor, decay, begins):",
        "    decaying = parameters",
        *_indented(before),
        "",
        "    def update(lr, t):",
        *_indented(_indented(update)),
        "",
        "    return lambda lr, t: update(lr * factor, t - begins) if t >= begins else None",
        "",
        *_buckets("lr", "weight_decay", "begins"),
        f"updates = [updating(each, of_lr, {decay!r} * of_decay, of_begin)",
        "           for (of_lr, of_decay, of_begin), each in buckets.items()]",
    ]
    return made, ["for update in updates:", "    update(lr, t)"]


def _buckets(*names: str) -> Lines:
    key = ", ".join(f'factor[w]["{name}"]' for name in names)
    return ["buckets = {}", "for w in parameters:", f"    buckets.setdefault(({key}), []).append(w)"]


def _indented(lines: Sequence[str]) -> Lines:
    return [_INDENT + line if line else line for line in lines]
