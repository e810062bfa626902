"""What a run is made of, as frozen dataclasses that check themselves once, at the door.

Each field says its meaning, unit and range in its metadata, which the command line shows as help. Off is
`None`. How settings are read, layered and written is in `settings`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from surefoot.errors import ConfigError, nearest
from surefoot.fields import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    Checked,
    fraction,
    is_path,
    not_negative,
    positive,
    rising,
    setting,
    up_to_one,
)  # fmt: skip
from surefoot.rules import left_out, rule_settings, update_rule, update_rules
from surefoot.rules.groups import Group, groups_of
from surefoot.rules.progressive import stages_of
from surefoot.rules.rule import UpdateRule

__version__ = "0.1.0"
"""Of this package, which a run writes down. It stands here so that every room can read it without what is installed."""

ScheduleKind = Literal[
    "constant", "step", "cosine", "linear", "polynomial", "exponential", "inverse-sqrt", "one-cycle",
    "wsd", "sgdr", "plateau", "preset",
]  # fmt: skip

LossName = Literal["cross-entropy", "mse", "mae", "huber", "bce"]

Tta = Literal["none", "flip", "flip-shift"]


DEFAULT_CHOICE = "loss"
"""It moves where an accuracy stands still, and every task has it; Keras and Transformers have it as their default."""


@dataclass(frozen=True, kw_only=True)
class Schedule(Checked):
    """The shape of the learning rate over a run; its peak is `Recipe.lr`.

    A field that the chosen kind does not read must be left out: a value without an effect is an error.

    >>> Schedule(kind="step", milestones_epochs=[30, 60]).milestones_epochs
    (30.0, 60.0)
    """

    kind: ScheduleKind = setting("cosine", "shape of the learning rate over the run")
    preset: str | None = setting(None, "a published recipe, below what is given beside it: surefoot schedule --list")
    warmup_epochs: float = setting(0.0, "length of the linear warmup", **AT_LEAST_0)
    warmup_start: float = setting(
        0.0, "learning rate at the start of warmup, as a share of the peak", range="in [0, 1]", ok=up_to_one
    )
    decay_from: Literal["warmup-end", "start"] = setting(
        "warmup-end", "whether decay is counted from the end of warmup or from step 0 (as BERT and GPT do)"
    )
    end: float | None = setting(
        None,
        "last learning rate as a share of the peak: cosine, linear, polynomial, one-cycle, wsd, sgdr (0 if left out)",
        range="in [0, 1]",
        ok=up_to_one,
    )
    milestones_epochs: tuple[float, ...] | None = setting(
        None, "epochs at which step multiplies the rate by factor", range="a rising list of epochs above 0", ok=rising
    )
    factor: float | None = setting(
        None,
        "multiplier at each milestone (step), epoch (exponential) or plateau; 0.1, 0.95, 0.1 if left out",
        range="in (0, 1]",
        ok=lambda v: 0 < v <= 1,
    )
    power: float | None = setting(None, "exponent of polynomial (2 if left out)", **ABOVE_0)
    cycle_epochs: float | None = setting(None, "length of the first cycle of sgdr, T_0 (10 if left out)", **ABOVE_0)
    cycle_mult: float | None = setting(
        None,
        "each cycle of sgdr is this much longer than the one before, T_mult (2 if left out)",
        range="at least 1",
        ok=lambda v: math.isfinite(v) and v >= 1,
    )
    decay_epochs: float | None = setting(
        None, "length of the final decay of wsd (a fifth of the run if left out)", **ABOVE_0
    )
    peak_epochs: float | None = setting(
        None, "epochs until the peak of one-cycle (0.3 of the run if left out)", **ABOVE_0
    )
    patience_epochs: int | None = setting(
        None, "epochs without a lower validation loss before plateau acts (5 if left out)", **AT_LEAST_0
    )

    _READ_BY: ClassVar = {
        "end": ("cosine", "linear", "polynomial", "one-cycle", "wsd", "sgdr"),
        "milestones_epochs": ("step",),
        "factor": ("step", "exponential", "plateau"),
        "power": ("polynomial",),
        "cycle_epochs": ("sgdr",),
        "cycle_mult": ("sgdr",),
        "decay_epochs": ("wsd",),
        "peak_epochs": ("one-cycle",),
        "patience_epochs": ("plateau",),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, kinds in self._READ_BY.items():
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ConfigError(
                    f"{name} = {getattr(self, name)!r} with schedule {self.kind}",
                    f"{name} belongs to {' and '.join(kinds)}", f"leave {name} out, or choose that schedule",
                )  # fmt: skip
        if self.kind == "step" and self.milestones_epochs is None:
            raise ConfigError(
                "schedule step without milestones_epochs", "step needs the epochs of its drops",
                "give for example milestones_epochs = [30, 60, 90]",
            )  # fmt: skip
        if (self.kind == "preset") != (self.preset is not None):
            raise ConfigError(
                f"schedule {self.kind} with {'no preset' if self.preset is None else f'preset = {self.preset!r}'}",
                "kind preset needs preset = NAME, and a preset is a schedule, too",
                "list the names with surefoot schedule --list, or leave one of the two out",
            )
        if self.kind == "preset" and self.warmup_epochs > 0:
            raise ConfigError(
                f"warmup_epochs = {self.warmup_epochs} with a preset", "a preset brings its own warmup",
                "leave warmup_epochs out",
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe(Checked):
    """The hyperparameters: all that decides how the weights move, given task and seed.

    What only some rules read is None where the chosen one does not, and an error if it is given: a value without an
    effect. Left out, it is what the rule has as its default (`surefoot.rules`).

    >>> Recipe(lr=0.1, epochs=3).momentum
    0.9
    >>> Recipe(rule="adamw").lr, Recipe(rule="adamw").momentum, Recipe(rule="adamw").beta2
    (0.001, None, 0.999)
    >>> Recipe(lr=-1)
    Traceback (most recent call last):
    surefoot.errors.ConfigError: lr = -1.0: lr must be above 0. The default is 0.1.
    """

    rule: str = setting("sgd", f"update rule: {', '.join(update_rules())}")
    lr: float = setting(None, f"peak learning rate ({left_out('lr')})", **ABOVE_0)
    epochs: float | None = setting(
        None, "passes over the training part (10 if left out, and more where these are few updates)", **ABOVE_0
    )
    steps: int | None = setting(None, "length of the run in updates, in place of epochs", **AT_LEAST_1)
    batch_size: int | Literal["full", "auto"] = setting(
        "auto",
        "examples per update; auto: 128, halved until an epoch has 20 updates, but not under 16; 1 is SGD, full is "
        "gradient descent",
        range='at least 1, "full" or "auto"',
        ok=positive,
    )
    micro_batch_size: int = setting(
        2048, "examples processed at once; larger batches are accumulated from pieces of this size", **AT_LEAST_1
    )
    momentum: float | None = setting(None, f"momentum, beta ({left_out('momentum')})", range="in [0, 1)", ok=fraction)
    momentum_form: Literal["pytorch", "sutskever", "nesterov"] | None = setting(
        None,
        "of sgd; pytorch: V <- beta V + g, W <- W - lr V; sutskever: V <- beta V + lr g, W <- W - V; nesterov: torch's",
    )
    dampening: float | None = setting(
        None, "dampening of the gradient inside the velocity of sgd", range="in [0, 1]", ok=up_to_one
    )
    beta1: float | None = setting(
        None, f"decay of the mean gradient ({left_out('beta1')})", range="in [0, 1)", ok=fraction
    )
    beta2: float | None = setting(
        None, f"decay of the mean squared gradient ({left_out('beta2')})", range="in [0, 1)", ok=fraction
    )
    alpha: float | None = setting(
        None, f"decay of the mean squared gradient ({left_out('alpha')})", range="in [0, 1)", ok=fraction
    )
    eps: float | None = setting(None, f"added to the root by which a step is divided ({left_out('eps')})", **ABOVE_0)
    weight_decay: float | Literal["auto"] = setting(
        None,
        f"weight decay; auto: 3 / training examples ({left_out('weight_decay')})",
        range='at least 0, or "auto"',
        ok=not_negative,
    )
    weight_decay_form: Literal["coupled", "decoupled"] | None = setting(
        None, "of sgd; coupled: g <- g + wd W (PyTorch's SGD); decoupled: W <- W - lr wd W (Loshchilov & Hutter 2019)"
    )
    decay_on: Literal["all", "weights"] = setting(
        "all", "all: every parameter decays; weights: biases and norms (parameters of under two dimensions) do not"
    )
    groups: tuple[Group, ...] = setting(
        (),
        "multipliers of lr and weight_decay by name of a parameter or module, and what is frozen, as head.lr=10 "
        "*norm*.weight_decay=0 stem=frozen body.frozen_epochs=2; of two patterns that match the later one counts",
        typed=tuple[str, ...],
    )
    clip_norm: float | None = setting(None, "gradients longer than this are scaled down to it", **ABOVE_0)
    label_smoothing: float = setting(0.0, "label smoothing of the cross-entropy", range="in [0, 1)", ok=fraction)
    ema_decay: float | None = setting(
        None,
        "per-step decay of an exponential moving average of the weights, used for validation, test and prediction; "
        "less at first, min(decay, (1 + t) / (10 + t)) after t updates",
        range="in (0, 1)",
        ok=lambda v: 0 < v < 1,
    )
    progressive_resizing: tuple[str, ...] = setting(
        (),
        "sides in pixels of training images, each until a share of the run, then their full size, as 16:0.25 20:0.5: "
        "small images cost less",
    )
    schedule: Schedule = field(default_factory=Schedule, metadata={"help": "the learning rate's schedule"})

    def __post_init__(self) -> None:
        rule = self.update_rule
        for name in rule_settings():
            value = getattr(self, name)
            if value is None:
                object.__setattr__(self, name, rule.defaults.get(name))
            elif name not in rule.defaults:
                readers = " and ".join(other.name for other in update_rules().values() if name in other.defaults)
                raise ConfigError(
                    f"{name} = {value!r} with rule {rule.name}", f"{name} belongs to {readers}",
                    f"leave {name} out, or choose that rule",
                )  # fmt: skip
        object.__setattr__(self, "groups", groups_of(self.groups))
        super().__post_init__()
        stages_of(self.progressive_resizing)
        if self.epochs is not None and self.steps is not None:
            raise ConfigError(
                f"epochs = {self.epochs:g} and steps = {self.steps}", "a run has one length",
                "give epochs or steps, not both",
            )  # fmt: skip
        if (refused := rule.refuses(self.rule_values)) is not None:
            raise ConfigError(*refused)

    @property
    def update_rule(self) -> UpdateRule:
        """The rule by which weights are updated."""
        return update_rule(self.rule)

    @property
    def rule_values(self) -> dict[str, Any]:
        """The settings that the rule reads, by name."""
        return {name: getattr(self, name) for name in self.update_rule.defaults}

    @property
    def effective_lr(self) -> float:
        """The peak rate as the step in the long run has it: lr / (1 - momentum) for sgd."""
        return self.lr / self.update_rule.per_rate(self.rule_values)

    @property
    def memory(self) -> float:
        """What a search varies beside rate and decay: momentum for sgd; see `UpdateRule.memory`."""
        return getattr(self, self.update_rule.memory)

    def _default(self, item: dataclasses.Field[Any]) -> Any:
        return self.update_rule.defaults.get(item.name, item.default)

    @property
    def decay(self) -> float:
        """The weight decay, of a recipe that has a number, as those of plans and trials do."""
        assert self.weight_decay != "auto"
        return self.weight_decay


@dataclass(frozen=True, kw_only=True)
class Config(Checked):
    """One training run: data, model, recipe, seed, and the machine it runs on.

    >>> Config(recipe=Recipe(batch_size="full")).model
    'cnn'
    """

    data: str = setting("digits", "a named set (`surefoot data` lists them) or the path of a folder, .npz or table")
    data_dir: str | None = setting(None, "folder or archive that already holds the named set")
    validation: float | None = setting(
        None,
        "share of the training part held out for validation (0.1 if left out, unless the data has its own; 0: none)",
        range="in [0, 1)",
        ok=fraction,
    )
    image_size: int | None = setting(None, "side in pixels to which a folder's images are resized", **AT_LEAST_1)
    label: str | None = setting(None, "name of the label column of a table (the last column if left out)")
    header: Literal["auto", "yes", "no"] = setting("auto", "whether the first row of a .csv names the columns")
    target: Literal["auto", "classes", "numbers", "multilabel", "segmentation", "tokens", "any"] = setting(
        "auto",
        "classes: classification; numbers: regression; multilabel: several yes or no; segmentation: a class for each "
        "pixel; tokens: one for each position; any: for a loss of your own; auto: as the labels look, which is said; "
        "with model fast also the accuracy to reach, 0.9, 0.94, 0.95 or 0.96, which chooses the settings",
        typed=Literal["auto", "classes", "numbers", "multilabel", "segmentation", "tokens", "any"] | float,
    )
    loss: str | None = setting(
        None,
        "cross-entropy or bce for classes, mse, mae, huber or bce for numbers (cross-entropy or mse if left out), or "
        "package.module:function of outputs and targets",
    )
    forward: str | None = setting(
        None, "package.module:function of model and inputs, where the model is not called by the form of its inputs"
    )
    loss_fn: str | None = setting(
        None, "package.module:function of model and batch that returns the loss, in place of forward and loss"
    )
    normalise: bool = setting(True, "whether inputs are brought to the training part's mean 0 and deviation 1")
    standardise_targets: bool = setting(
        True,
        "whether mse, mae and huber learn targets with mean 0 and deviation 1; answers are in their own unit",
    )
    class_weights: Literal["balanced"] | None = setting(
        None,
        "balanced: an example, pixel or token of class c counts N / (C n_c) in the training loss, so that all classes "
        "weigh alike; of labels a yes and a no do",
    )
    metrics: tuple[str, ...] | None = setting(
        None,
        "metrics of the validation part in every row, by name: f1, auc, iou, rmse, ... (left out: f1 of labels, iou of "
        "masks, perplexity of tokens)",
    )
    augment: tuple[str, ...] = setting((), "augmentations in order: flip, flip-alternate, crop:PIXELS, cutout:PIXELS")
    model: str = setting("cnn", "a shipped model (`surefoot models` lists them) or package.module:factory")
    recipe: Recipe = field(default_factory=Recipe, metadata={"help": "the hyperparameters"})
    seed: int = setting(0, "seed of everything random", **AT_LEAST_0)
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto", "auto: bf16 where this machine computes it natively, else fp32"
    )
    workers: int | None = setting(None, "processes that read a random Dataset ahead (as its loader)", **AT_LEAST_0)
    threads: int | None = setting(None, "CPU threads (all cores if left out)", **AT_LEAST_1)
    rows_per_epoch: int = setting(1, "rows of the record per epoch, each with validation", **AT_LEAST_1)
    checkpoint_seconds: float = setting(60.0, "seconds between checkpoints", **AT_LEAST_0)
    from_run: str | None = setting(
        None,
        "a run, finished or not, or a .safetensors file, from whose weights training starts; that run's settings hold "
        "where none are given",
        aliases=("from",),
    )
    choose_by: str | None = setting(
        None,
        "number of the validation part that says which recipe and which weights are best, and when to stop early: "
        "loss, accuracy, or a metric; NAME:min for one of your own of which less is better (loss if left out; tune: "
        "loss and accuracy together)",
    )
    weights: Literal["best", "last"] | None = setting(
        None,
        "weights that the test part scores and that predict and evaluate use; the others are kept beside them (last if "
        "left out, but best where a run may stop early)",
    )
    tta: Tta = setting(
        "none",
        "test-time augmentation of images, reported beside the plain score and never in its place: flip: the mean "
        "outputs of an image and its mirror image; flip-shift: of these shifted by a pixel, too",
    )
    early_stopping_epochs: float | None = setting(
        None, "stop once choose_by has been no better for so many epochs (never if left out)", **ABOVE_0
    )
    early_stopping_min_delta: float | None = setting(
        None, "what is better by no more than this does not count for early stopping (0 if left out)", **AT_LEAST_0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_functions()
        if self.metrics is not None:  # a flag's value may hold several
            names = tuple(name.strip() for each in self.metrics for name in each.split(","))
            object.__setattr__(self, "metrics", tuple(dict.fromkeys(name for name in names if name)))
        if self.choose_by is not None:  # rows have them as val_loss and val_accuracy
            object.__setattr__(self, "choose_by", self.choose_by.removeprefix("val_"))
        if self.early_stopping_min_delta is not None and self.early_stopping_epochs is None:
            given = f"early_stopping_min_delta = {self.early_stopping_min_delta:g} without early_stopping_epochs"
            means = "it says what counts as better while a run waits to stop, and nothing waits here"
            raise ConfigError(given, means, "give early_stopping_epochs too, such as 5, or leave it out")

    @property
    def chosen_by(self) -> str:
        """The number of a row that says which weights are best."""
        return self.choose_by or DEFAULT_CHOICE

    @property
    def used_weights(self) -> Literal["best", "last"]:
        """The weights that a finished run is scored and applied with, where it has both."""
        return self.weights or ("last" if self.early_stopping_epochs is None else "best")

    def _check_functions(self) -> None:
        if self.loss is not None and not is_path(self.loss) and self.loss not in get_args(LossName):
            allowed = f"loss must be one of {', '.join(get_args(LossName))}, or package.module:function"
            raise ConfigError(f"loss = {self.loss!r}", allowed, nearest(self.loss, get_args(LossName)))
        for name in ("forward", "loss_fn"):
            if (value := getattr(self, name)) is not None and not is_path(value):
                means = f"{name} is package.module:function"
                raise ConfigError(f"{name} = {value!r}", means, "put the module and ':' before it")
