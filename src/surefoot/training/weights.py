"""The finished weights on disk, with what is needed to use them: `model.safetensors` and `model.json`."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from surefoot.config import Config
from surefoot.data.columns import Columns
from surefoot.errors import CheckpointError, ConfigError
from surefoot.models.build import build
from surefoot.record import store
from surefoot.training.checkpoint import load_weights, read_tensors, tensor_bytes
from surefoot.training.state import State, packed_extra_state, restore_extra_state
from surefoot.training.task import Task


@dataclass(frozen=True)
class Trained:
    """A trained model and what it expects.

    Attributes:
        model: in evaluation mode, on the CPU.
        input_shape: shape of one example.
        classes: names of the classes, or None for regression.
        kind: "images" or "numbers".
        mean, std: of the training part, for normalising inputs as `data.batches.fetch` does.
        information: all of model.json.
    """

    model: nn.Module
    input_shape: tuple[int, ...]
    classes: tuple[str, ...] | None
    kind: str
    mean: Tensor
    std: Tensor
    information: dict[str, Any]

    @property
    def features(self) -> tuple[str, ...] | None:
        """Names of the columns of the training table, in its order; None where it had none."""
        names = self.information.get("features")
        return None if names is None else tuple(map(str, names))

    @property
    def double(self) -> bool:
        """Whether numbers stay in float64 until they are normalised: float32 would lose the spread of one of them."""
        mean, std = self.mean.abs(), self.std
        return self.kind == "numbers" and bool((mean * 2.0**-24 > 1e-3 * std).any())

    @property
    def columns(self) -> Columns | None:
        """The columns of the training table, which make the model's numbers of another; None for other data."""
        found = self.information.get("columns")
        return None if found is None else Columns.from_dict(found)


def save_weights(folder: Path, config: Config, task: Task, state: State, *, probabilities: bool = False) -> None:
    """Write `model.safetensors` and then `model.json`, which holds its hash."""
    extra, tensors = packed_extra_state(state.model)
    content = tensor_bytes(state.weights | tensors)
    store.write_bytes(folder / store.WEIGHTS, content)
    data = task.data
    store.write_sealed(
        folder / store.MODEL,
        {
            "schema": 1,
            "model": config.model,
            "input_shape": list(data.input_shape),
            "outputs": data.outputs,
            "classes": list(data.classes) if data.classes is not None else None,
            "kind": data.kind,
            "mean": data.mean.tolist(),
            "std": data.std.tolist(),
            "sha256": hashlib.sha256(content).hexdigest(),
            **({"probabilities": True} if probabilities else {}),
            **({"features": list(data.features)} if data.features is not None else {}),
            **({"columns": data.columns.to_dict()} if data.columns is not None else {}),
            **({"extra_state": extra} if extra else {}),
        },
    )


def load_trained(run: str | Path, model: nn.Module | None = None, *, runs_dir: str | Path = "runs") -> Trained:
    """Return the finished model of a run.

    Args:
        run: name of the run, or its folder.
        model: the architecture, for a run whose model was given as an object; it is copied.
        runs_dir: where runs lie.

    Raises:
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
            f"go on with surefoot resume {folder.name}",
        )
    information = store.read_sealed(folder / store.MODEL)
    try:
        shape, outputs = tuple(information["input_shape"]), int(information["outputs"])
        mean, std = torch.tensor(information["mean"]), torch.tensor(information["std"])
        name, sha256, classes = information["model"], information["sha256"], information["classes"]
        kind = information["kind"]
        columns = None if information.get("columns") is None else Columns.from_dict(information["columns"])
    except (KeyError, TypeError, ValueError) as error:
        fault = f"lacks {error}" if isinstance(error, KeyError) else f"holds something else ({error})"
        raise CheckpointError(
            f"{folder / store.MODEL} {fault}", "it must be as the run wrote it", "restore it from a copy"
        ) from None
    try:
        codes = () if columns is None else columns.categories
        built = build(name if model is None else model, shape, outputs, categories=codes)
    except ConfigError as error:
        raise CheckpointError(
            f"{folder}: {error.given}",
            "its model must be buildable from here",
            "run from the folder that holds its module, or load it in Python with load_trained(folder, model)",
        ) from None
    tensors = read_tensors(folder / store.WEIGHTS, sha256)
    restore_extra_state(built, information.get("extra_state", {}), tensors)
    load_weights(built, tensors, str(folder / store.WEIGHTS))
    return Trained(built.eval(), shape, tuple(classes) if classes else None, kind, mean, std, information)


def normalised(trained: Trained, task: Task) -> Task:
    """Return the task with the normalisation that the weights were trained with."""
    data = dataclasses.replace(task.data, mean=trained.mean, std=trained.std)
    return dataclasses.replace(task, data=data)
