"""A finished run, loaded to be applied: its model on its device, and what is needed to score it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surefoot.config import Config, Tta, is_path
from surefoot.data import tree
from surefoot.data.dataset import DataSet, Part, Source
from surefoot.data.named import NAMED
from surefoot.errors import CheckpointError, ConfigError, DataError, SurefootError
from surefoot.record import store
from surefoot.record.stored import located, read_config
from surefoot.seeds import torch_stream
from surefoot.training.call import called
from surefoot.training.configure import data_of
from surefoot.training.evaluate import outputs_of
from surefoot.training.integers import Outside, looked_up
from surefoot.training.losses import check_loss
from surefoot.training.machine import machine
from surefoot.training.outputs import described
from surefoot.training.preprocessed import Preprocessed, Preprocessing
from surefoot.training.run import Result
from surefoot.training.task import Task
from surefoot.training.test_time import with_views
from surefoot.training.weights import Trained, function_of_run, load_trained

Which = Literal["best", "last"]


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, ready to be applied to examples.

    Attributes:
        folder: of the run.
        config: its settings.
        trained: the model, on the CPU.
        task: with the model on its device; its data has statistics and one example of zeros.
    """

    folder: Path
    config: Config
    trained: Trained
    task: Task

    def with_views(self, tta: Tta) -> FinishedRun:
        """Return the run with the mean over views of each image as its outputs; itself for "none".

        Raises:
            ConfigError: it takes no images, or its outputs have no mean.
        """
        task = with_views(self.task, tta)
        return self if task is self.task else replace(self, task=task)

    @property
    def doubt(self) -> str | None:
        """What is to be said of the weights: that the run diverged, or that what it came to cannot be read."""
        path = self.folder / store.RESULT
        if not path.is_file():
            return f"{path} is gone: what the run came to is not known"
        try:
            result = store.read_sealed(path)
        except CheckpointError as error:
            return str(error)
        return f"the run diverged: {result.get('reason')}" if result.get("outcome") == "diverged" else None

    def of_weights(self, asked: Which | None) -> str | None:
        """What is to be said of weights that were asked for by name: of which step they are; None where none were."""
        if asked is None:
            return None
        about = self.trained.information
        step = (
            about.get("step") if asked == about.get("weights", "last") else (about.get("beside") or about).get("step")
        )
        return f"the {asked} weights" + (f", of step {step:,}" if step is not None else "")

    def outputs(self, x: Any, of_batch: Callable[[Any], Any] = lambda outputs: outputs) -> Any:
        """Return logits [N, C], numbers [N, ...] in the targets' unit, or whatever the model gives, on the CPU.

        Args:
            x: raw inputs [N, ...], or a tree of them.
            of_batch: makes what is kept of the outputs of a batch.

        Raises:
            Outside: a number has no place in an embedding of the model.
        """
        part = Part(x, torch.zeros(len(tree.leaves(x)[0]), dtype=torch.int64), Source())
        answers = Preprocessed(nn.Identity(), self.trained.preprocessing).answers
        found = []
        for outputs, _ in self.batches(part, replace(self.task, loss_fn=None)):
            on_cpu = tree.map_leaves(
                lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, tree.as_tree(outputs)
            )
            found.append(of_batch(answers(on_cpu) if tree.is_leaf(on_cpu) else on_cpu))
        return tree.map_leaves(lambda *each: torch.cat(each), found[0], *found[1:])

    def batches(self, part: Part, task: Task) -> Iterator[tuple[Any, Any]]:
        """Yield outputs and targets of a part in batches, where the run computes, as `task` gives them.

        Raises:
            Outside: a number has no place in an embedding of the model.
        """
        if self.trained.preprocessing.input == "integers":
            part = replace(part, x=part.x.long())
        place, model = task.machine, task.template
        placed = place.place_part(part)
        with looked_up(model), place.computing(), torch_stream(task.seed, "test"):
            try:
                yield from outputs_of(task, model, model.state_dict(), placed)
            except (Outside, SurefootError, GeneratorExit):
                raise
            except Exception as error:  # the model may be anyone's, and raise anything
                first = (str(error) or repr(error)).splitlines()[0]
                what = "loss_fn" if task.loss_fn is not None else "the model"
                raise DataError(
                    f"{what} cannot take inputs {described(part.x)}: {type(error).__name__}: {first}",
                    "inputs are like those of the training data, and a model is called with them by their form",
                    "give forward=(model, inputs) -> outputs, or --forward, where it is called in another way",
                ) from error


def holder_of(x: Any, outside: Outside) -> int | None:
    """Return which example of a part holds the number that an embedding lacks."""
    for leaf in tree.leaves(x):
        if not leaf.is_floating_point() or leaf.dim() > 0:
            holds = (leaf == outside.value).reshape(len(leaf), -1).any(1).nonzero()
            if len(holds):
                return int(holds[0])
    return None


def finished_run(
    run: str | Path | Result,
    runs_dir: str | Path,
    model: Any,
    device: str | None,
    weights: Which | None = None,
    *,
    forward: Any = None,
    loss: Any = None,
    loss_fn: Any = None,
    scored: bool = False,
) -> FinishedRun:
    """Return a run's finished weights on its device, or on the CPU where this machine lacks that one.

    Args:
        run, runs_dir, model, device, weights: as `evaluate` takes them.
        forward, loss, loss_fn: in place of those of the run that were given as objects.
        scored: whether the loss is needed.

    Raises:
        ConfigError: it has no such weights.
        CheckpointError: the run does not exist, is unfinished or damaged, or had functions that are not given here.
    """
    if isinstance(run, Result):
        model = run.model if model is None else model
        forward, loss, loss_fn = (
            run.functions.get(name) if each is None else each
            for name, each in (("forward", forward), ("loss", loss), ("loss_fn", loss_fn))
        )
        run = run.folder
    folder = store.run_folder(run, runs_dir)
    config = read_config(folder)
    trained = load_trained(folder, model, forward=forward, weights=weights)
    if device is None:
        device = config.device if torch.cuda.is_available() else "cpu"
    place = machine(device, config.precision, config.threads, trained.model.net, trained.input_shape)
    counted = () if trained.target in ("classes", "numbers") else ("loss",)  # scores of these do without their loss
    names = (*counted, "loss_fn") if scored else ()
    given = {"loss": loss, "loss_fn": loss_fn}
    functions = {name: function_of_run(folder, trained.information, name, given[name]) for name in names}
    found, call, data = functions.get("loss"), trained.model.call, _data_like(config.data, trained)
    named = found if isinstance(found, str) else None if is_path(config.loss) else config.loss
    task = Task(
        data, place.place_model(trained.model.net), found if callable(found) else None, None, config.seed, place,
        loss_name=None if named is None else check_loss(named, data), forward=None if call is called else call,
        loss_fn=functions.get("loss_fn"),
    )  # fmt: skip
    return FinishedRun(folder, config, trained, task)


def _data_like(name: str, trained: Trained) -> DataSet:
    """Return data with the statistics of a run's, and one example of zeros as its training part."""
    about = trained.preprocessing
    of_leaves = about if about.leaves is None else about.leaves
    moments = [tree.map_leaves(lambda leaf, i=i: _moment(leaf, i, about), of_leaves) for i in (0, 1)]
    x = tree.map_leaves(lambda leaf, shape: torch.zeros(1, *shape), of_leaves, trained.input_shape)
    shape = trained.information.get("target_shape")
    y = torch.zeros(1, dtype=torch.int64)
    if shape is not None:
        y = tree.map_leaves(lambda dims: torch.zeros(1, *dims.sizes), tree.from_plain(shape, _Sizes))
    return DataSet(
        name=name,
        kind="images" if trained.kind == "images" else "tree" if trained.kind == "tree" else "numbers",
        train=Part(x, y, Source()),
        validation=None,
        test=None,
        classes=trained.classes,
        mean=moments[0],
        std=moments[1],
        fingerprint="",
        target_kind=trained.information.get("target"),
        output_count=int(trained.information["outputs"]),
        label_name=trained.information.get("label_name"),
    )


@dataclass(frozen=True)
class _Sizes:
    """A shape as one leaf of a tree, which a tuple is not."""

    sizes: list[int]


def _moment(leaf: Preprocessing, which: int, whole: Preprocessing) -> Tensor | None:
    if leaf.input in ("integers", "booleans") and whole.leaves is not None:
        return None
    value = leaf.std if which else leaf.mean
    return value.flatten().float() if leaf.input == "images" else value


def data_of_run(finished: FinishedRun, source: Any, data_dir: str | Path | None) -> DataSet | None:
    """Return the data that the run was trained on; None where other is given. A path may be where it was moved to.

    Raises:
        DataError: none is given and it has changed since, so that its test part may hold examples that were trained on.
    """
    if source is not None and not isinstance(source, (str, Path)):
        return None
    folder, config = finished.folder, finished.config
    try:
        config = located(config, folder, NAMED)
    except DataError:
        if source is None:
            raise
        config = replace(config, data=str(source))
    else:
        if source is not None:
            return None
    environment = folder / store.ENVIRONMENT
    fingerprint = store.read_sealed(environment).get("data_fingerprint") if environment.is_file() else None
    try:
        data = data_of(config, data_dir=data_dir)
    except (ConfigError, DataError):
        if source is None:
            raise
        return None  # what is wrong with it as data to score is said there
    if data.fingerprint == fingerprint or (source is None and not environment.is_file()):
        return data
    if source is not None:
        return None
    raise DataError(
        f"{config.data} has changed since {folder} was trained on it",
        "its parts are no longer those of the run, so what the run learned from may be in the test part",
        f"restore it, or score it as new data with --data {config.data}",
    )
