"""The finished weights on disk, with what is needed to use them: `model.safetensors` and `model.json`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from surefoot.config import Config
from surefoot.data import tree
from surefoot.data.columns import Columns
from surefoot.errors import CheckpointError, ConfigError
from surefoot.models.build import build, importable_from
from surefoot.record import store
from surefoot.record.stored import code_in
from surefoot.switches import usual_switches
from surefoot.training.checkpoint import load_weights, read_tensors, tensor_bytes
from surefoot.training.identity import warn_of_other_code
from surefoot.training.preprocessed import Preprocessed, Preprocessing
from surefoot.training.state import State, packed_extra_state, restore_extra_state
from surefoot.training.task import Task


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
    def features(self) -> tuple[str, ...] | None:
        """Names of the columns of the training table, in its order; None where it had none."""
        names = self.information.get("features")
        return None if names is None else tuple(map(str, names))

    @property
    def columns(self) -> Columns | None:
        """The columns of the training table, which make the model's numbers of another; None for other data."""
        found = self.information.get("columns")
        return None if found is None else Columns.from_dict(found)


def save_weights(folder: Path, config: Config, task: Task, state: State, preprocessing: Preprocessing) -> None:
    """Write `model.safetensors` and then `model.json`, which holds its hash and the preprocessing."""
    extra, tensors = packed_extra_state(state.model)
    content = tensor_bytes(state.weights | tensors)
    store.write_bytes(folder / store.WEIGHTS, content)
    data = task.data
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
            **({"label_name": data.label_name} if data.label_name is not None else {}),
            "sha256": hashlib.sha256(content).hexdigest(),
            "preprocessing": preprocessing.to_dict(),
            **({"probabilities": True} if preprocessing.output == "probabilities" else {}),
            **({"pixels": str(data.train.x.dtype).removeprefix("torch.")} if data.kind == "images" else {}),
            **({"features": list(data.features)} if data.features is not None else {}),
            **({"columns": data.columns.to_dict()} if data.columns is not None else {}),
            **({"extra_state": extra} if extra else {}),
        },
    )


@usual_switches
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
            f"go on with surefoot resume {folder}",
        )
    information = store.read_sealed(folder / store.MODEL)
    try:
        shape, outputs = tree.from_plain(information["input_shape"], tuple), int(information["outputs"])
        about = _preprocessing(information)
        name, sha256, classes = information["model"], information["sha256"], information["classes"]
        kind = information["kind"]
        columns = None if information.get("columns") is None else Columns.from_dict(information["columns"])
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
        warn_of_other_code(folder, name, built)
    tensors = read_tensors(folder / store.WEIGHTS, sha256)
    restore_extra_state(built, information.get("extra_state", {}), tensors)
    load_weights(built, tensors, str(folder / store.WEIGHTS))
    whole = Preprocessed(built, about).eval()
    return Trained(whole, shape, tuple(classes) if classes else None, kind, about, information)


def _preprocessing(information: Mapping[str, Any]) -> Preprocessing:
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
