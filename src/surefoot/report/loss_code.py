"""The loss of a batch in the printed program: how the model is called, what is computed, and over what it is a mean.

A batch may be computed in pieces; then the sums of the pieces are divided by what they count together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from surefoot.config import is_path

CROSS_ENTROPY, BCE_OF_CLASSES = "cross-entropy", "bce of two classes"
OF_PIXELS, OF_TOKENS = "cross-entropy of pixels", "cross-entropy of tokens"
WEIGHTED = "cross-entropy of weighted classes"
_SHAPED = "outputs.float().reshape({y}.shape), {y}"
_SUMMED = 'torch.nn.CrossEntropyLoss(reduction="sum")'
LOSSES = {
    CROSS_ENTROPY: ("torch.nn.CrossEntropyLoss()", "outputs.float(), {y}"),
    "mse": ("torch.nn.MSELoss()", _SHAPED),
    "mae": ("torch.nn.L1Loss()", _SHAPED),
    "huber": ("torch.nn.HuberLoss()", _SHAPED),
    "bce": ("torch.nn.BCEWithLogitsLoss()", _SHAPED),
    OF_PIXELS: (_SUMMED, "outputs.float(), {y}"),
    OF_TOKENS: (_SUMMED, "outputs.float().flatten(0, 1), {y}.flatten()"),
    WEIGHTED: ('torch.nn.CrossEntropyLoss(reduction="none")', "outputs.float(), {y}"),
    BCE_OF_CLASSES: ("torch.nn.BCEWithLogitsLoss()", "outputs.float()[:, 1] - outputs.float()[:, 0], {y}.float()"),
}
"""Losses by name: what makes it, and what it is given; another one is the reader's."""
_COUNTED = (OF_PIXELS, OF_TOKENS)
_INDENT = "    "
Lines = list[str]


@dataclass(frozen=True)
class Calls:
    """How a run calls its model and its loss.

    Attributes:
        inputs: whether the model takes one tensor, several by place, or by name.
        target: what targets are.
        functions: of the user's, by setting: their "package.module:function", or other text for an object.
        reshapes: whether a loss of the user's gets outputs in the targets' shape.
    """

    inputs: Literal["tensor", "tuple", "dict"] = "tensor"
    target: str = "classes"
    functions: Mapping[str, str] = field(default_factory=dict)
    reshapes: bool = False

    @classmethod
    def of(cls, environment: Mapping[str, Any], target: str) -> Calls:
        """Return what a run wrote down in its environment.json; of one of an older version, that it had a loss."""
        calls = environment.get("calls")
        if not isinstance(calls, dict):
            own = "the loss" in (environment.get("identity") or {})
            return cls(target=target, functions={"loss": "your own"} if own else {})
        return cls(calls["inputs"], target, calls["functions"], calls["reshapes"])

    @property
    def plain(self) -> bool:
        """Whether a batch is two tensors, x and y."""
        return self.inputs == "tensor" and self.target != "any" and "loss_fn" not in self.functions

    @property
    def names(self) -> str:
        """What the loop over batches calls a batch."""
        return "batch" if "loss_fn" in self.functions else "x, y"


def loss_definition(loss: str, label_smoothing: float, calls: Calls) -> Lines:
    """Return the lines that make the loss, and import functions of the user's."""
    lines = []
    for setting, path in calls.functions.items():
        if is_path(path):
            module, _, name = path.partition(":")
            called = {"loss": "loss_of"}.get(setting, setting)
            lines.append(f"from {module} import {name}")
            made = f"{name}() if isinstance({name}, type) else {name}" if name[:1].isupper() else name
            lines += [f"{called} = {made}"] if made != called else []
    if loss in LOSSES and "loss_fn" not in calls.functions:
        made = LOSSES[loss][0]
        if label_smoothing and "CrossEntropy" in made:
            made = f"{made[:-1]}{'' if made.endswith('()') else ', '}label_smoothing={label_smoothing!r})"
        lines.append(f"loss_of = {made}")
    return lines


def is_counted(loss: str) -> bool:
    """Return whether the lines of a loss say over how many it is a mean, as `count`."""
    return loss in _COUNTED or loss not in LOSSES


def loss_lines(
    x: str, y: str, loss: str, precision: str, calls: Calls, *, model: str = "model", weighted: bool = True
) -> Lines:
    """Return the lines that compute `loss` of a piece, and `count` where it is counted.

    Args:
        x, y: names of the inputs and the targets; with a `loss_fn` x is the batch.
        loss: a name of `LOSSES`, or that of a loss of the reader's.
        precision: "fp32" or "bf16".
        calls: how the run calls its model.
        model: name of the model.
        weighted: whether classes are weighted, as in training.
    """
    of_user = "loss_fn" in calls.functions
    call = f"value = loss_fn({model}, {x})" if of_user else f"outputs = {_call(x, model, calls)}"
    lines = [call]
    if precision == "bf16":
        device = f"{x}.device.type" if calls.plain else "parameters[0].device.type"
        lines = [f"with torch.autocast({device}, dtype=torch.bfloat16):", _INDENT + call]
    if of_user:
        return [*lines, f"loss, count = mean_of(value, {size_of(x, calls)})"]
    if loss not in LOSSES:
        outputs = "outputs" if calls.target == "any" else "outputs.float()"
        outputs = f"{outputs}.reshape({y}.shape)" if calls.reshapes else outputs
        return [*lines, f"loss, count = mean_of(loss_of({outputs}, {y}), {size_of(y, calls)})"]
    found = f"loss_of({LOSSES[loss][1].format(y=y)})"
    if loss in _COUNTED:
        return [*lines, f"count = ({y} != -100).sum()", f"loss = {found} / count.clamp(min=1)"]
    if loss == WEIGHTED:  # divided by the number of examples, and not by their weights as torch's `weight` is
        found = f"({found} * weight_of[{y}]).mean()" if weighted else f"{found}.mean()"
    return [*lines, f"loss = {found}"]


def _call(x: str, model: str, calls: Calls) -> str:
    if "forward" in calls.functions:
        return f"forward({model}, {x})"
    if calls.inputs == "tensor" and calls.target in ("classes", "numbers", "any"):
        return f"{model}({x})"
    return f"logits_of({model}({ {'tensor': '', 'tuple': '*', 'dict': '**'}[calls.inputs] }{x}))"


def size_of(name: str, calls: Calls) -> str:
    """Return the text of how many examples something holds."""
    return f"len({name})" if calls.plain or (name in ("y", "targets") and calls.target != "any") else f"size({name})"


def gradient_lines(loss: str, precision: str, calls: Calls, micro_batch_size: int | None) -> Lines:
    """Return the lines that leave the gradient of a batch in the parameters.

    Args:
        loss, precision, calls: as in `loss_lines`.
        micro_batch_size: examples of a piece; None where a batch is computed at once.
    """
    whole = ("batch", "batch") if calls.names == "batch" else ("x", "y")
    if micro_batch_size is None:
        return ["model.zero_grad()", *loss_lines(*whole, loss, precision, calls), "loss.backward()"]
    splits = [f"{name}.tensor_split(pieces)" if calls.plain else f"split({name}, pieces)" for name in whole]
    of_user = calls.names == "batch"
    piece, targets = ("part", "part") if of_user else ("part", "targets")
    lines = [
        "model.zero_grad()",
        f"pieces = math.ceil({size_of(whole[1], calls)} / {micro_batch_size})  # one after the other, to save memory",
        "counts = 0.0" if is_counted(loss) or of_user else "",
        f"for part in {splits[0]}:" if of_user else f"for part, targets in zip({', '.join(splits)}):",
    ]
    each = loss_lines(piece, targets, loss, precision, calls)
    if not (is_counted(loss) or of_user):
        share = f"{size_of(targets, calls)} / {size_of(whole[1], calls)}"
        each.append(f"(loss * ({share})).backward()")
        return [line for line in [*lines, *(_INDENT + line for line in each)] if line]
    each += ["(loss * count).backward()", "counts += float(count)"]
    return [
        *lines, *(_INDENT + line for line in each),
        "for w in parameters:  # the mean over all that was counted",
        "    if w.grad is not None:",
        "        w.grad.div_(counts or 1)",
    ]  # fmt: skip


def helpers(lines: Sequence[str]) -> Lines:
    """Return the definitions of the functions that lines of the program use."""
    text = "\n".join(lines)
    return [line for name, body in _HELPERS.items() if f"{name}(" in text.replace("tensor_split(", "") for line in body]


_HELPERS = {
    "logits_of": [
        "def logits_of(outputs):  # models of the Transformers library give them so",
        '    return outputs["logits"] if isinstance(outputs, dict) else getattr(outputs, "logits", outputs)',
        "",
    ],
    "mean_of": [
        "def mean_of(value, examples):  # a mean, one value for each example, or a sum and its count",
        "    if isinstance(value, tuple):",
        "        return value[0].float() / (float(value[1]) or 1), float(value[1])",
        "    return value.float().mean(), examples",
        "",
    ],
    "size": [
        "def size(tree):  # examples of a tensor, or of a tuple or mapping of them",
        "    while isinstance(tree, (tuple, dict)):",
        "        tree = next(iter(tree.values())) if isinstance(tree, dict) else tree[0]",
        "    return len(tree)",
        "",
    ],
    "split": [
        "def split(tree, pieces):",
        "    if isinstance(tree, dict):",
        "        each = {name: split(value, pieces) for name, value in tree.items()}",
        "        return [{name: value[i] for name, value in each.items()} for i in range(pieces)]",
        "    if isinstance(tree, tuple):",
        "        return list(zip(*(split(value, pieces) for value in tree)))",
        "    return tree.tensor_split(pieces)",
        "",
    ],
}
