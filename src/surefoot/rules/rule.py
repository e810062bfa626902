"""What an update rule is. W a weight, g its gradient, K members."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Values = Mapping[str, Any]
"""The settings that a rule reads, by name. In a formula numbers may be tensors that broadcast against the weight."""
Slots = Mapping[str, Any]
"""State of one weight by name, tensors."""
Program = tuple[list[str], list[str]]
"""Lines of plain PyTorch: before the loop, and in place of the update."""


def _as_they_are(values: Values, first: bool) -> dict[str, float]:
    return {name: value for name, value in values.items() if not isinstance(value, str | bool)}


def _one(values: Values) -> float:
    return 1.0


@dataclass(frozen=True, kw_only=True)
class UpdateRule:
    """An update rule: all that the program knows of it, but for a kernel that does the same faster.

    Attributes:
        name: as `Recipe.rule` has it.
        text: what it is, in one line, for help.
        defaults: the settings of a `Recipe` that it reads, and what each is where it is left out. lr and weight_decay
            are among them. Another rule's setting is an error.
        slots: (values) -> its state by name, but not "average", "buffer" or "extra": tensors like the weight, or one
            number for each weight. All begin at 0.
        formula: (W, g, slots, values) -> new W and new slots; changes nothing. It is told in `values` the rate "lr" of
            the update, what `numbers` makes of the settings, and words as they are; "stacked" is among them, and
            true, where W is that of K members, [K, ...], and so are its gradient, slots and numbers.
        numbers: (values, first) -> the numbers that a formula reads, for one member; `first`: before any update.
        program: (values, weights) -> lines of plain PyTorch that do the same. `weights` is the text of what an
            optimizer takes: "parameters", or groups where not all decay. In the lines of the update `lr` is the rate,
            and `parameters` and `decaying` are lists.
        lr_range: where the search for a rate begins; where none can be paid for, its upper two decades are searched.
        batch_exponent: the best rate grows as this power of the batch size while noise is large: 1 for SGD, 0.5 where
            a step's length does not depend on the gradient's.
        per_rate: (values) -> lr for each unit of effective rate, of the step in the long run.
        per_shrink: (values) -> lr x weight_decay for each unit of the share by which an update shrinks a weight.
        decays: total decays that a search chooses from, the share lr x weight_decay x steps by which weights would
            shrink; none where decay goes through what divides the gradient, so that it has no such share.
        usual_decay: the one of them that stands where nothing is measured.
        memory: the setting that a search varies beside rate and decay, its values evenly spaced in log(1 - value); and
            those values, `memories`.
        decay_scale, memory_scale: decades of total decay and of 1 - memory over which the log error after training
            bends, as `search.response` has them.
        multiplies: whether its formula has products of matrices: these are done in the precision of the run.
        refuses: (values) -> what was given, what is allowed and what to do, where values do not go together.
        refuses_weights: (trained weights) -> the same, where it is not for a model.
    """

    name: str
    text: str
    defaults: Values
    slots: Callable[[Values], dict[str, Literal["weight", "number"]]]
    formula: Callable[[Any, Any, Slots, Values], tuple[Any, dict[str, Any]]]
    program: Callable[[Values, str], Program]
    lr_range: tuple[float, float]
    batch_exponent: float
    memory: str
    memories: tuple[float, ...]
    memory_scale: float
    decays: tuple[float, ...] = ()
    usual_decay: float = 1.0
    decay_scale: float = 1.0
    numbers: Callable[[Values, bool], dict[str, float]] = _as_they_are
    per_rate: Callable[[Values], float] = _one
    per_shrink: Callable[[Values], float] = _one
    multiplies: bool = False
    refuses: Callable[[Values], tuple[str, str, str] | None] = lambda values: None
    refuses_weights: Callable[[Sequence[Any]], tuple[str, str, str] | None] = lambda weights: None

    def words(self, values: Values) -> dict[str, Any]:
        """Return the settings that are no numbers: members that are computed as one have these alike."""
        return {name: value for name, value in values.items() if isinstance(value, str | bool)}


OF_OPTIMIZER = "for group in optimizer.param_groups:"
"""The first line of an update by an optimizer of PyTorch, which needs no `torch.no_grad`."""


def torch_program(optimizer: str) -> Program:
    """Return the lines for an optimizer of PyTorch, as its constructor is called."""
    step = [OF_OPTIMIZER, '    group["lr"] = lr', "optimizer.step()"]
    return [f"optimizer = {optimizer}"], step
