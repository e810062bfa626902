"""The finished weights on disk, with what is needed to use them: `model.safetensors` and `model.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn

from surefoot.config import Config
from surefoot.data import tree
from surefoot.data.dataset import TargetKind
from surefoot.errors import CheckpointError, ConfigError
from surefoot.models.build import Factory, build, importable_from
from surefoot.record import store
from surefoot.record.stored import IN_MEMORY, code_in
from surefoot.switches import usual_switches
from surefoot.training.call import Forward, called, function_of
from surefoot.training.checkpoint import load_weights, read_tensors, tensor_bytes
from surefoot.training.identity import warn_of_other_code
from surefoot.training.preprocessed import Preprocessed, Preprocessing
from surefoot.training.state import Snapshot, restore_extra_state
from surefoot.training.task import Task

if TYPE_CHECKING:
    from surefoot.data.columns import Columns


@dataclass(frozen=True)
class Trained:
    """A trained model and what it expects.

    Attributes:
        model: takes raw inputs, in evaluation mode, on the CPU; `model.net` is the module that was trained.
        input_shape: shape of one example, or a tree of shapes.
        classes: names of the classes, or None for regression.
        kind: "images", "numbers" or "tree".
        preprocessing: what `model` does before and after the module, with the numbers for it.
        information: all of model.json.
    """

    model: Preprocessed
    input_shape: Any
    classes: tuple[str, ...] | None
    kind: str
    preprocessing: Preprocessing
    information: dict[str, Any]

    @property
    def pixels(self) -> str:
        """What held the pixels of the training images: "uint8", or "uint16" or "float32" where they had more bits."""
        return str(self.information.get("pixels", "uint8"))

    @property
    def target(self) -> TargetKind:
        """What targets were, as `DataSet.target` says it."""
        usual = "numbers" if self.classes is None else "classes"
        return next(kind for kind in get_args(TargetKind) if kind == self.information.get("target", usual))

    @property
    def names(self) -> tuple[str, ...]:
        """What each output is called: its class or label, or its number."""
        names = self.classes or self.information.get("names") or range(int(self.information["outputs"]))
        return tuple(map(str, names))

    @property
    def features(self) -> tuple[str, ...] | None:
        """Names of the columns of the training table, in its order; None where it had none."""
        names = self.information.get("features")
        return None if names is None else tuple(map(str, names))

    @property
    def columns(self) -> Columns | None:
        """The columns of the training table, which make the model's numbers of another; None for other data."""
        return _columns(self.information)


def _columns(information: Mapping[str, Any]) -> Columns | None:
    """Return the columns that a file says; what is wrong with them raises KeyError, TypeError or ValueError."""
    if information.get("columns") is None:
        return None
    from surefoot.data.columns import Columns  # with pyarrow, which nothing but a table needs

    return Columns.from_dict(information["columns"])


def save_weights(
    folder: Path, config: Config, task: Task, used: tuple[str, Snapshot], other: tuple[str, Snapshot] | None,
    preprocessing: Preprocessing,
) -> None:  # fmt: skip
    """Write `model.safetensors` and then `model.json`, which holds its hash and the preprocessing.

    Args:
        folder: of the run.
        config: of it.
        task: that was learned.
        used: "best" or "last", and these weights.
        other: those of the two that are not used, where they are of another step: in a file of their name.
        preprocessing: what goes before and after them.
    """
    name, snapshot = used
    content, beside = tensor_bytes(snapshot.tensors), None
    if other is not None:
        of_other = tensor_bytes(other[1].tensors)
        store.write_bytes(folder / f"{other[0]}.safetensors", of_other)
        beside = {"weights": other[0], "step": other[1].step, "sha256": store.sha256(of_other)}
        beside |= {"extra_state": other[1].extra} if other[1].extra else {}
    store.write_bytes(folder / store.WEIGHTS, content)
    data, extra = task.data, snapshot.extra
    store.write_sealed(
        folder / store.MODEL,
        {
            "schema": 1,
            "model": config.model,
            "input_shape": tree.to_plain(data.train.x, lambda leaf: list(leaf.shape[1:])),
            "outputs": data.outputs,
            "classes": list(data.classes) if data.classes is not None else None,
            "kind": data.kind,
            **({} if data.kind == "tree" else {"mean": data.mean.tolist(), "std": data.std.tolist()}),
            **({"target": data.target} if data.target_kind is not None else {}),
            **(
                {"target_shape": tree.to_plain(data.train.y, lambda leaf: list(leaf.shape[1:]))}
                if data.target_kind is not None
                else {}
            ),
            **({"names": list(data.names)} if data.names is not None else {}),
            **functions_written(config, task),
            **({"label_name": data.label_name} if data.label_name is not None else {}),
            "sha256": store.sha256(content),
            "weights": name,
            "step": snapshot.step,
            "beside": beside,
            "preprocessing": preprocessing.to_dict(),
            **({"probabilities": True} if preprocessing.output == "probabilities" else {}),
            **({"pixels": str(data.train.x.dtype).removeprefix("torch.")} if data.kind == "images" else {}),
            **({"features": list(data.features)} if data.features is not None else {}),
            **({"columns": data.columns.to_dict()} if data.columns is not None else {}),
            **({"extra_state": extra} if extra else {}),
        },
    )


@usual_switches
def load_trained(
    run: str | Path,
    model: nn.Module | Factory | None = None,
    *,
    forward: Forward | str | None = None,
    weights: Literal["best", "last"] | None = None,
    runs_dir: str | Path = "runs",
) -> Trained:
    """Return the finished model of a run.

    Args:
        run: name of the run, or its folder.
        model: the architecture, for a run whose model was given as an object; it is copied.
        forward: how the model is called, for a run whose `forward` was given as an object.
        weights: those of the step at which the validation part was best, or of the last step; None for those of which
            the result speaks.
        runs_dir: where runs lie.

    Raises:
        ConfigError: there are no such weights.
        CheckpointError: the run does not exist or is unfinished, or its files are damaged or belong to another model.

    >>> import surefoot, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = surefoot.train("digits", "linear", epochs=1, runs_dir=folder)
    ...     load_trained(result.folder).input_shape
    (1, 8, 8)
    """
    folder = store.run_folder(run, runs_dir)
    if not (folder / store.MODEL).is_file():
        raise CheckpointError(
            f"{folder} has no finished weights",
            "a run has them when its training has ended",
            f"go on with surefoot resume {folder}",
        )
    information = store.read_sealed(folder / store.MODEL)
    try:
        shape, outputs = tree.from_plain(information["input_shape"], tuple), int(information["outputs"])
        about = preprocessing_of(information)
        name, classes = information["model"], information["classes"]
        file, sha256, extra = _chosen(folder, information, weights)
        kind = information["kind"]
        columns = _columns(information)
    except (KeyError, TypeError, ValueError) as error:
        fault = f"lacks {error}" if isinstance(error, KeyError) else f"holds something else ({error})"
        raise CheckpointError(
            f"{folder / store.MODEL} {fault}", "it must be as the run wrote it", "restore it from a copy"
        ) from None
    model = model.net if isinstance(model, Preprocessed) else model
    importable_from(code_in(folder))
    try:
        codes = () if columns is None else columns.categories
        built = build(name if model is None else model, shape, outputs, categories=codes)
    except ConfigError as error:
        raise CheckpointError(
            f"{folder}: {error.given}",
            "its model must be buildable from here",
            "run from the folder that holds its module, or load it in Python with load_trained(folder, model)",
        ) from None
    if model is None and ":" in name:
        warn_of_other_code(folder, "model", name, built)
    call = function_of_run(folder, information, "forward", forward) or called
    tensors = read_tensors(file, sha256)
    restore_extra_state(built, extra, tensors)
    load_weights(built, tensors, str(file))
    whole = Preprocessed(built, about, call).eval()
    return Trained(whole, shape, tuple(classes) if classes else None, kind, about, information)


def _chosen(folder: Path, about: Mapping[str, Any], weights: str | None) -> tuple[Path, str, dict[str, Any]]:
    """Return the file of the weights that are asked for, its hash, and extra state.

    Raises:
        ConfigError: there are none of that name.
    """
    if weights not in (None, "best", "last"):
        raise ConfigError(f"weights = {weights!r}", "weights are best or last", "leave it out for those of the result")
    used, beside = about.get("weights", "last"), about.get("beside")
    if weights is not None and weights != used:
        if beside is not None:
            return folder / f"{weights}.safetensors", beside["sha256"], beside.get("extra_state", {})
        result = store.read_sealed(folder / store.RESULT) if (folder / store.RESULT).is_file() else {}
        if result.get("best") is None:  # else both are of one step
            raise ConfigError(
                f"weights = {weights!r} of {folder}",
                "it has only its last weights: none was ever the best on a validation part",
                "leave it out",
            )
    return folder / store.WEIGHTS, about["sha256"], about.get("extra_state", {})


def functions_written(config: Config, task: Task) -> dict[str, str]:
    """Return how a run writes down the functions of its task: as its settings name them, or that they were objects."""
    functions = {"loss": task.loss, "forward": task.forward, "loss_fn": task.loss_fn}
    return {name: getattr(config, name) or IN_MEMORY for name, each in functions.items() if each is not None}


def calls_written(config: Config, task: Task) -> dict[str, Any]:
    """Return how a task calls its model and loss, for whoever writes the same as a program."""
    form = {dict: "dict", tuple: "tuple"}.get(type(task.data.train.x), "tensor")
    return {"inputs": form, "functions": functions_written(config, task), "reshapes": task.reshapes}


def function_of_run(folder: Path, information: Mapping[str, Any], setting: str, given: Any = None) -> Any:
    """Return a function of a run's: the one that is given, or else the one that its settings name; None without one.

    Args:
        folder: of the run.
        information: its model.json.
        setting: "loss", "forward" or "loss_fn".
        given: in its place.

    Raises:
        CheckpointError: it was an object, and none is given; or it cannot be imported.
    """
    if given is not None or setting not in information:
        return function_of(given, setting)
    importable_from(code_in(folder))
    try:
        found = None if information[setting] == IN_MEMORY else function_of(information[setting], setting)
    except ConfigError as error:
        raise CheckpointError(
            f"{folder}: {error.given}", f"its {setting} must be importable", f"give the function with {setting}="
        ) from None
    if found is None:
        raise CheckpointError(
            f"{folder} was trained with a {setting} that was given as an object",
            "a run writes down functions that are named as package.module:function",
            f"give it again in Python, with {setting}=",
        )
    warn_of_other_code(folder, setting, information[setting], found)
    return found


def preprocessing_of(information: Mapping[str, Any]) -> Preprocessing:
    """Return the block of model.json; or, of files of older versions, what they did."""
    if "preprocessing" in information:
        return Preprocessing.from_dict(information["preprocessing"])
    images = information["kind"] == "images"
    mean, std = (torch.tensor(information[name], dtype=torch.float64) for name in ("mean", "std"))
    return Preprocessing(
        input="images" if images else "numbers",
        dtype="float32",
        mean=mean[:, None, None] if images else mean,
        std=std[:, None, None] if images else std,
        output="numbers" if information["classes"] is None else
        "probabilities" if information.get("probabilities") else "logits",
    )  # fmt: skip
