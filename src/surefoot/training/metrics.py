"""Metrics of a part of the data, by name: scikit-learn's for each kind of targets, and the user's own.

They are fed batch by batch. Of pixels and tokens only counts are kept, unless a function of the user's needs all
outputs.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from surefoot.config import is_path
from surefoot.data import tree
from surefoot.data.dataset import IGNORED, TargetKind
from surefoot.errors import ConfigError, nearest
from surefoot.record.measures import ACCURACY, RISES, metric_name
from surefoot.record.number_scores import number_scores
from surefoot.record.ranking import over_classes, ranked, ranked_labels
from surefoot.training.call import function_of, in_fp32
from surefoot.training.gathered import Gathered
from surefoot.training.losses import dense_cross_entropy
from surefoot.training.outputs import are_answers

if TYPE_CHECKING:
    from surefoot.training.task import Task

Metric: TypeAlias = Callable[[Any, Any], Any]
"""(outputs, targets) of a whole part, on the CPU -> a number: logits, or numbers in the unit of the targets. Or what
has `update(outputs, targets)`, `compute()` and `reset()`, as torchmetrics has them: it is fed batch by batch."""

OF: dict[TargetKind, tuple[str, ...]] = {
    "classes": (
        "accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc", "average_precision", "mcc", "top5",
    ),
    "numbers": ("mae", "mse", "rmse", "r2"),
    "multilabel": ("accuracy", "precision", "recall", "f1", "auc", "average_precision", "exact_match"),
    "segmentation": ("accuracy", "balanced_accuracy", "precision", "recall", "iou", "dice", "mcc"),
    "tokens": ("accuracy", "perplexity"),
    "any": (),
}  # fmt: skip
"""The metrics by name that each kind of targets has. Means are over classes or labels, each counting alike."""
USUAL: dict[TargetKind, str] = {"multilabel": "f1", "segmentation": "iou", "tokens": "perplexity"}
"""What rows have where nobody asks: what the field reports of such targets, where accuracy flatters."""
_RANKINGS = ("auc", "average_precision", "top5")
_LARGEST_LOSS = 700.0
"""Whose exponential is still a number."""


@dataclass(frozen=True)
class MetricSet:
    """The metrics of a task.

    Attributes:
        names: those by name, in the order of rows.
        functions: the user's own, by name.
    """

    names: tuple[str, ...] = ()
    functions: Mapping[str, Metric] = field(default_factory=dict)

    @property
    def every(self) -> tuple[str, ...]:
        """All names."""
        return (*self.names, *self.functions)


class Meter:
    """Computes the metrics of a part, a batch at a time.

    Args:
        task: says what outputs and targets are, and which metrics are wanted.
        examples: of the part.
    """

    def __init__(self, task: Task, examples: int) -> None:
        self._task, self._metrics = task, task.metrics
        self._counts: Tensor | None = None
        self._gathered = Gathered(examples)
        self._likelihood = [0.0, 0.0]
        names, kind = set(self._metrics.names) - {ACCURACY}, task.data.target
        self._streams: dict[str, Any] = {
            name: each for name, each in self._metrics.functions.items() if _is_stream(each)
        }
        self._counts_pairs = bool(names) and kind == "segmentation"
        self._keeps = len(self._streams) < len(self._metrics.functions) or (
            bool(names) and kind in ("classes", "multilabel", "numbers")
        )
        for name, each in self._streams.items():
            with _said(name):
                each.reset()

    def update(self, outputs: Any, targets: Any) -> None:
        """Take in a batch as the model learns it: outputs in fp32, targets standardised where the data says so."""
        if "perplexity" in self._metrics.names:
            mean, count = dense_cross_entropy(outputs, targets, -1)
            self._likelihood = [self._likelihood[0] + float(mean) * float(count), self._likelihood[1] + float(count)]
        if self._counts_pairs:
            classes = outputs.shape[1]
            counted = targets != IGNORED
            pairs = (targets * classes + outputs.argmax(1))[counted]
            counts = torch.bincount(pairs, minlength=classes**2)
            self._counts = counts if self._counts is None else self._counts + counts
        if self._keeps or self._streams:
            batch = [tree.map_leaves(_on_cpu, side) for side in in_own_unit(self._task, outputs, targets)]
            for name, each in self._streams.items():
                with _said(name):
                    each.update(*batch)
            if self._keeps:
                self._gathered.add(tuple(batch))

    def compute(self, accuracy: float | None) -> dict[str, float]:
        """Return all metrics by name; NaN where one is not defined.

        Args:
            accuracy: of the same part.

        Raises:
            ConfigError: a metric of the user's fails, or is no number.
        """
        found: dict[str, float] = {ACCURACY: math.nan if accuracy is None else accuracy}
        if self._likelihood[1]:
            found["perplexity"] = math.exp(min(self._likelihood[0] / self._likelihood[1], _LARGEST_LOSS))
        if self._counts is not None:
            counts = self._counts.cpu().numpy()
            pairs = np.flatnonzero(counts)
            if len(pairs):
                true, guessed = np.divmod(pairs, math.isqrt(len(counts)))
                found |= _counted(true, guessed, set(self._metrics.names), counts[pairs])
        whole = self._gathered.whole
        if whole is not None and self._task.data.target in ("classes", "multilabel", "numbers"):
            found |= _scored(self._task, *whole)
        for name, function in self._metrics.functions.items():
            with _said(name):
                stream = self._streams.get(name)
                found[name] = _number(stream.compute() if stream is not None else function(*_copied(whole)))
        return {name: found.get(name, math.nan) for name in self._metrics.every}


def asked_metrics(given: Any) -> dict[str, Metric | None] | None:
    """Return metrics by name, a shipped one with None in place of a function; None where none were asked for.

    Args:
        given: a name, "package.module:function", a function, a list of these, or a mapping of names to functions.

    Raises:
        ConfigError: it is something else, or a function without a name.

    >>> asked_metrics("f1, iou"), list(asked_metrics(["f1", math.dist])), list(asked_metrics({"mine": math.dist}))
    ({'f1': None, 'iou': None}, ['f1', 'dist'], ['mine'])
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        pairs = [(name, None if isinstance(each, str) and each == name else each) for name, each in given.items()]
    else:
        many = list(given) if isinstance(given, list | tuple) else [given]
        many = [name for each in many for name in (each.split(",") if isinstance(each, str) else [each])]
        pairs = [(each.strip(), None) if isinstance(each, str) else (_name_of(each), each) for each in many]
    found: dict[str, Any] = {}
    for name, each in pairs:
        path = name if each is None else each
        found[name] = function_of(path, "metrics") if is_path(path) else each
    for name, function in found.items():
        named = isinstance(name, str) and name and name == metric_name(name) and "," not in name and "<" not in name
        if not named or not (function is None or callable(function) or _is_stream(function)):
            raise ConfigError(
                f"metrics = {given!r}",
                "a metric is a name, such as f1, or a function (outputs, targets) with a name of yours",
                'write for example metrics=["f1"], or metrics={"mine": function}',
            )
        if function is not None and (name in RISES or name == "loss"):
            raise ConfigError(f"a function as the metric {name!r}", "that is the name of another", f"call it my_{name}")
    return found


def metrics_of(task: Task, asked: Mapping[str, Metric | None] | None, outputs: Any, y: Any) -> MetricSet:
    """Return the metrics of a task after checking that they fit its targets.

    Args:
        task: with data, model and loss.
        asked: from `asked_metrics`; None is what is usual for such targets.
        outputs, y: what the model makes of a few examples, and their targets.

    Raises:
        ConfigError: a name is unknown, or of other targets; or outputs are not what it takes.
    """
    if asked is None:
        usual = USUAL.get(task.data.target)
        return MetricSet((usual,) if usual is not None and task.counts_right else ())
    fits = task.counts_right
    if task.data.target == "numbers" and task.loss_fn is None and isinstance(outputs, Tensor):
        fits = outputs.numel() == y.numel() and are_answers(task)
    for name, function in asked.items():
        if function is None:
            _check_name(task, name, fits=fits)
    functions = {name: function for name, function in asked.items() if function is not None}
    if functions and task.loss_fn is not None:
        raise _no_outputs(", ".join(functions))
    return MetricSet(tuple(name for name, function in asked.items() if function is None), functions)


def tried_metrics(task: Task, outputs: Any, targets: Any) -> None:
    """Raise ConfigError where a metric of the user's cannot take what a model gives, on a few examples.

    What may be right with other examples, as the area under a curve where all are of one class, is not said here.
    """
    if not task.metrics.functions:
        return
    few = dataclasses.replace(task, metrics=MetricSet(functions=task.metrics.functions))
    meter = Meter(few, len(tree.leaves(targets)[0]))
    try:
        meter.update(in_fp32(outputs), targets)
        meter.compute(None)
    except ConfigError as error:
        if isinstance(error.__cause__, TypeError | AttributeError | NameError | KeyError | ImportError):
            raise


def in_own_unit(task: Task, outputs: Any, targets: Any) -> tuple[Any, Any]:
    """Return outputs and targets as they are answered: numbers in the unit of the targets, float64; others as they are.

    A loss of the user's has numbers in that unit already.
    """
    if task.data.target != "numbers" or task.custom_loss:
        return outputs, targets
    outputs = outputs.reshape(targets.shape).double()
    if task.criterion == "bce":
        return outputs.sigmoid(), targets.double()
    mean, std = task.data.target_mean, task.data.target_std
    if mean is None or std is None:
        return outputs, targets.double()
    mean, std = mean.double().to(outputs.device), std.double().to(outputs.device)
    return outputs * std + mean, targets.double() * std + mean


def _check_name(task: Task, name: str, *, fits: bool) -> None:
    kind = task.data.target
    names = OF[kind]
    function = "for one of your own give metrics={'NAME': function}, in Python"
    if name not in RISES or name == "loss":
        have = f"{kind} have {', '.join(names)}" if names else f"targets that are {kind} have none by name"
        near = nearest(name, names) if names else function
        raise ConfigError(f"metric {name!r}", have, near if near.endswith("?") else function)
    if name not in names:
        of = [other for other, theirs in OF.items() if name in theirs]
        raise ConfigError(
            f"metric {name!r} for targets that are {kind}", f"it is for {', '.join(of)}",
            f"choose {' or '.join(names)}" if names else function,
        )  # fmt: skip
    if not fits and task.loss_fn is not None:
        raise _no_outputs(name)
    if not fits:
        raise ConfigError(
            f"metric {name!r} with this loss", "what the model gives for such a loss is not an answer for each target",
            function,
        )  # fmt: skip
    if name == "top5" and len(task.data.classes or ()) <= 5:
        raise ConfigError(
            f"metric 'top5' for {len(task.data.classes or ())} classes", "it needs more than 5 of them",
            "choose accuracy",
        )  # fmt: skip


def _no_outputs(names: str) -> ConfigError:
    return ConfigError(
        f"metrics = {names} with loss_fn", "loss_fn(model, batch) shows no outputs",
        "give forward and loss in place of loss_fn, or leave metrics out",
    )  # fmt: skip


def _scored(task: Task, outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Return the metrics of outputs for classes, labels or numbers that are all there, on the CPU."""
    names, found = set(task.metrics.names), dict[str, float]()
    if not names - {ACCURACY}:
        return found
    if not bool(outputs.isfinite().all()):
        return found
    if task.data.target == "numbers":
        scores = number_scores(outputs.reshape(len(targets), -1).numpy(), targets.numpy()).to_dict()
        return {name: math.nan if scores[name] is None else scores[name] for name in names & set(OF["numbers"])}
    labels = task.data.target == "multilabel"
    y, z = targets.numpy(), outputs.numpy().astype(np.float64)
    guessed = (z > 0) if labels else z.argmax(1)
    found |= _counted(y, guessed, names)
    if names & set(_RANKINGS):
        rankings = ranked_labels(z, y) if labels else ranked(z, y)
        support = y.sum(0) if labels else np.bincount(y, minlength=z.shape[1])
        for place, name in enumerate(_RANKINGS[:2]):
            mean = over_classes([each[place] for each in rankings], [] if labels else support.tolist())
            found[name] = math.nan if mean is None else mean.value
    if "top5" in names:
        from sklearn.metrics import top_k_accuracy_score

        found["top5"] = float(top_k_accuracy_score(y, z, k=5, labels=np.arange(z.shape[1])))
    return found


def _counted(true: Any, guessed: Any, names: set[str], counts: Any = None) -> dict[str, float]:
    """Return the metrics of answers that are right or wrong: of examples, or of pairs that occur so many times.

    Args:
        true, guessed: classes [N], or labels [N, L].
        names: those that are wanted.
        counts: how often each pair occurs, [N]; None is once.
    """
    from sklearn import metrics  # half a second, and only where one is asked for

    macro: dict[str, Any] = {"average": "macro", "zero_division": 0, "sample_weight": counts}
    f1: dict[str, Any] = macro | {
        "zero_division": np.nan
    }  # a label that nobody has and nobody guesses is left out of the mean
    made: dict[str, Callable[[], Any]] = {
        "balanced_accuracy": lambda: metrics.balanced_accuracy_score(true, guessed, sample_weight=counts),
        "precision": lambda: metrics.precision_score(true, guessed, **macro),
        "recall": lambda: metrics.recall_score(true, guessed, **macro),
        "f1": lambda: metrics.f1_score(true, guessed, **f1),
        "dice": lambda: metrics.f1_score(true, guessed, **f1),
        "iou": lambda: metrics.jaccard_score(true, guessed, **macro),
        "mcc": lambda: metrics.matthews_corrcoef(true, guessed, sample_weight=counts),
        "exact_match": lambda: metrics.accuracy_score(true, guessed, sample_weight=counts),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are guessed and do not occur
        return {name: float(made[name]()) for name in names & set(made)}


def _is_stream(metric: Any) -> bool:
    return not isinstance(metric, type) and all(callable(getattr(metric, name, None)) for name in _STREAM)


_STREAM = ("update", "compute", "reset")


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _on_cpu(leaf: Any) -> Any:
    return leaf.detach().cpu() if isinstance(leaf, Tensor) else leaf


def _copied(batch: Any) -> Any:
    """Return outputs and targets that a function may change."""
    return tree.map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, batch)


def _number(value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.detach().item()
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"it returned {type(value).__name__}, and must return a number")
    return float(value)


@contextmanager
def _said(name: str) -> Iterator[None]:
    """Turn what a metric of the user's raises into an error that names it."""
    try:
        yield
    except Exception as error:  # it may be anyone's, and raise anything
        first = (str(error) or repr(error)).splitlines()[0]
        raise ConfigError(
            f"metric {name!r} cannot be computed: {first}",
            "a metric is a function (outputs, targets) -> a number, over all examples of a part",
            "mend it, or leave it out: the run goes on from its checkpoint",
        ) from error
