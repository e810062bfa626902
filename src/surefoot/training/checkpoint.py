"""Checkpoints: a state on disk, written so that a kill at any moment leaves an older or a newer one, whole.

A checkpoint is a folder `step-00000180` that holds

    model.safetensors   weights and buffers
    state.safetensors   the update rule's state and the moving average, and the tensors of extra state
    state.json          all other fields of the state, extra state, and what it was computed on
    MANIFEST.json       size and SHA-256 of the three

It is written under a temporary name, every file flushed to the disk, the manifest last, and then renamed. Only
a folder whose manifest verifies is ever loaded; no pickle is. safetensors and torch.load both load most
damaged files without a word, hence the hashes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from surefoot.config import Recipe
from surefoot.errors import CheckpointError
from surefoot.record.run import Outcome
from surefoot.record.store import CHECKPOINTS, ENVIRONMENT, flush_folder, read_sealed
from surefoot.switches import tf32_allowed
from surefoot.training.groups import factors_of
from surefoot.training.optimizer import optimizer_for, restore_, state_of
from surefoot.training.preprocessed import Preprocessing
from surefoot.training.state import (
    Snapshot,
    State,
    Tally,
    named_tensors,
    packed_extra_state,
    restore_extra_state,
    trainable,
)
from surefoot.training.task import Task

SCHEMA = 2
KEEP = 2
"""Checkpoints kept: the newest, and the one before it in case the newest is damaged."""

_BEST = "best/"
_MODEL, _TENSORS, _STATE, _MANIFEST = "model.safetensors", "state.safetensors", "state.json", "MANIFEST.json"


def save(run_folder: Path, task: Task, state: State) -> Path:
    """Write a checkpoint of the state, remove those beyond the newest `KEEP`, and return its folder."""
    parent = run_folder / CHECKPOINTS
    parent.mkdir(exist_ok=True)
    final = parent / f"step-{state.step:08d}"
    if final.exists() and _damage(final) is None:
        return final
    temporary = parent / f".{final.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    temporary.mkdir()
    extra, tensors = packed_extra_state(state.model)
    scalars = _scalars(task, state, _settings_of(run_folder)) | ({"extra_state": extra} if extra else {})
    files = {
        _MODEL: tensor_bytes(named_tensors(state.model)),
        _TENSORS: tensor_bytes(tensors_beside_model(state) | tensors),
        _STATE: json.dumps(scalars, indent=2).encode(),
    }
    manifest = {name: {"bytes": len(content), "sha256": _sha256(content)} for name, content in files.items()}
    files[_MANIFEST] = json.dumps(manifest, indent=2).encode()
    for name, content in files.items():
        with (temporary / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    flush_folder(temporary)
    if final.exists():  # damaged, as seen above: out of the way, not deleted before its successor stands
        final.rename(parent / f".{final.name}.damaged-{secrets.token_hex(4)}")
    temporary.rename(final)
    flush_folder(parent)
    _prune(parent)
    return final


def load_newest(run_folder: Path, task: Task, recipe: Recipe | None = None) -> tuple[State | None, list[str]]:
    """Return the state of the newest checkpoint that verifies, and a sentence for each that does not.

    The state is None where the run has no checkpoint yet. Of the recipe only the groups are needed, and where the task
    has an optimizer: None is one without groups.

    Where it was written by another version of PyTorch or another machine, a sentence says what may differ.

    Raises:
        CheckpointError: there are checkpoints and none verifies, or they belong to another model, data or seed.
    """
    damaged: list[str] = []
    for folder in reversed(_folders(run_folder / CHECKPOINTS)):
        damage = _damage(folder)
        if damage is None:
            notes = [f"{each}; {folder.name}, before it, is used" for each in damaged]
            scalars = json.loads((folder / _STATE).read_bytes())
            return _load(folder, scalars, task, recipe or Recipe()), notes + _changed(scalars, task)
        damaged.append(f"{folder.name} is damaged ({damage})")
    if damaged:
        raise CheckpointError(
            f"{run_folder / CHECKPOINTS}: {'; '.join(damaged)}",
            f"at least one checkpoint must verify against its {_MANIFEST}",
            "restore the folder from a copy, or train again under another name",
        )
    return None, []


def newest_tensors(run_folder: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
    """Return the step of a run's newest sound checkpoint, the weights by which it validates there, and state.json.

    Raises:
        CheckpointError: there is none.
    """
    for folder in reversed(_folders(run_folder / CHECKPOINTS)):
        if _damage(folder) is None:
            scalars = json.loads((folder / _STATE).read_bytes())
            weights, others = read_tensors(folder / _MODEL), read_tensors(folder / _TENSORS)
            for name, value in others.items():
                if name.startswith(("average/", "extra/")):
                    weights[name.removeprefix("average/")] = value
            return scalars["step"], weights, scalars
    raise CheckpointError(
        f"{run_folder} has no checkpoint yet", "weights are those of a checkpoint, or of a run that is done",
        f"train it first: surefoot resume {run_folder}",
    )  # fmt: skip


def tensor_bytes(tensors: dict[str, Tensor]) -> bytes:
    """Return tensors as a safetensors file. Tensors that share memory (tied weights) are each written out."""
    return safetensors.torch.save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Args:
        path: the file.
        sha256: what its content must hash to, where that is known.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}", f"the file must be readable ({error.strerror})", "check the path") from None
    if sha256 is not None and _sha256(content) != sha256:
        raise CheckpointError(
            f"{path}",
            "its SHA-256 must be the one that was recorded: it is damaged",
            "restore it from a copy, or train again",
        )
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path}", f"it must be a safetensors file ({error})", "check the file; pickles are never loaded"
        ) from None


def load_weights(model: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Copy weights into a model in place.

    Raises:
        CheckpointError: names or shapes differ.
    """
    _fill(named_tensors(model), tensors, where)


def _fill(there: dict[str, Tensor], tensors: dict[str, Tensor], where: str) -> None:
    def kind(tensor: Tensor) -> tuple[torch.dtype, torch.Size]:
        return tensor.dtype, tensor.shape

    wrong = sorted(set(there) ^ set(tensors)) or sorted(n for n in there if kind(there[n]) != kind(tensors[n]))
    if wrong:
        raise CheckpointError(
            f"{where} does not fit the model at {', '.join(wrong[:3])}{' and others' if len(wrong) > 3 else ''}",
            "weights must have the model's own names, shapes and types",
            "use the model that the run was trained with",
        )
    with torch.no_grad():
        for name, value in there.items():
            value.copy_(tensors[name])


def fingerprint(task: Task) -> dict[str, Any]:
    """Return what bit-equality of a resumed run depends on, besides the state."""
    where = task.machine.device
    of_card = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "tf32": tf32_allowed()}
    return {
        "torch": torch.__version__,
        "device": str(where),
        "device_name": torch.cuda.get_device_name(where) if where.type == "cuda" else "",
        **(of_card if where.type == "cuda" else {}),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "precision": task.machine.precision,
        "threads": task.machine.threads,
    }


def _changed(scalars: dict[str, Any], task: Task) -> list[str]:
    """Return a sentence for each thing that has changed since a checkpoint and may change the bits."""
    saved = scalars["fingerprint"]
    return [
        f"{name} was {saved.get(name)!r} and is {value!r}: the order of the data is the same, the last bits may differ"
        for name, value in fingerprint(task).items()
        if name in saved and saved[name] != value  # one of an older version has fewer
    ]


def tensors_beside_model(state: State) -> dict[str, Tensor]:
    """Return the rule's state, the average, buffers that the state_dict leaves out, and the best weights, by name."""
    tensors: dict[str, Tensor] = {}
    if state.optimizer is not None:
        tensors |= state_of(state.optimizer)[1]
    for name, each in state.slots.items():
        tensors |= {f"{name}/{i}": value for i, value in enumerate(each)}
    if state.average is not None:
        tensors |= {f"average/{name}": value for name, value in state.average.items()}
    if state.best is not None:
        tensors |= {f"{_BEST}{name}": value for name, value in state.best.tensors.items()}
    return tensors | _unsaved_buffers(state.model)


def _unsaved_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that a model leaves out of its state_dict: a run may change them nonetheless."""
    saved = named_tensors(model)
    return {f"buffer/{name}": value for name, value in model.named_buffers() if name not in saved}


def _scalars(task: Task, state: State, settings: str | None) -> dict[str, Any]:
    at = {"schema": SCHEMA, "data": task.data.fingerprint, "seed": task.seed, "settings": settings}
    learned_with = {
        "preprocessing": Preprocessing.of(task.data, loss_name=task.loss_name).to_dict(),
        "classes": task.data.classes,
        "columns": None if task.data.columns is None else task.data.columns.to_dict(),
    }
    return {**at, **scalars_of(state), "learned_with": learned_with, "fingerprint": fingerprint(task)}


def scalars_of(state: State) -> dict[str, Any]:
    """Return all that is no tensor in a state, as JSON values."""
    return {
        "step": state.step,
        "slots": list(state.slots),
        **({} if state.optimizer is None else {"optimizer": state_of(state.optimizer)[0]}),
        "has_average": state.average is not None,
        "tally": dataclasses.asdict(state.tally),
        "val_losses": state.val_losses,
        "seconds": state.seconds,
        "outcome": dataclasses.asdict(state.outcome) if state.outcome else None,
        "best": None if state.best is None
        else {"step": state.best.step, "extra": state.best.extra, "value": state.best.value},
        "micro_batch_size": state.micro_batch_size,
    }  # fmt: skip


def restore(
    state: State, scalars: dict[str, Any], weights: dict[str, Tensor], others: dict[str, Tensor], where: str
) -> None:
    """Make a state the one that `scalars_of`, its state_dict and `tensors_beside_model` were taken of.

    Raises:
        CheckpointError: the tensors do not fit the model.
    """
    model = state.model
    load_weights(model, weights, where)
    state.step, state.val_losses, state.seconds = scalars["step"], scalars["val_losses"], scalars["seconds"]
    state.tally = Tally(**scalars["tally"])
    state.outcome = Outcome(**scalars["outcome"]) if scalars["outcome"] else None
    state.average = None
    parameters = [parameter.data for parameter in trainable(model).values()]
    state.slots = {
        name: [_like(weight, others.get(f"{name}/{i}", weight)) for i, weight in enumerate(parameters)]
        for name in scalars["slots"]
    }
    if scalars["has_average"]:
        state.average = {
            name: value.clone() for name, value in named_tensors(model).items() if value.is_floating_point()
        }
    best, state.micro_batch_size = scalars.get("best"), scalars.get("micro_batch_size")
    state.best = None
    if best is not None:
        tensors = {name.removeprefix(_BEST): value for name, value in others.items() if name.startswith(_BEST)}
        state.best = Snapshot(best["step"], tensors, best["extra"], best["value"])
    restore_extra_state(model, scalars.get("extra_state", {}), others)
    if state.optimizer is not None:
        restore_(state.optimizer, scalars["optimizer"], others, next(model.parameters()).device)
    _fill(tensors_beside_model(state), others, where)


def _settings_of(run_folder: Path) -> str | None:
    """Return a hash of the settings with which a run was begun; a trial of a search has none."""
    path = run_folder / ENVIRONMENT
    settings = read_sealed(path).get("settings") if path.is_file() else None
    return None if settings is None else _sha256(json.dumps(settings, sort_keys=True).encode())


def _like(weight: Tensor, saved: Tensor) -> Tensor:
    """Return room for a slot: in the weight's layout, or for one number."""
    if saved.shape == weight.shape:
        return torch.empty_like(weight, dtype=saved.dtype)
    return torch.empty_like(saved, device=weight.device)


def _load(folder: Path, scalars: dict[str, Any], task: Task, recipe: Recipe) -> State:
    if scalars.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{folder}: schema {scalars.get('schema')}",
            f"this version reads schema {SCHEMA}",
            "use the version that wrote it",
        )
    if (scalars["data"], scalars["seed"]) != (task.data.fingerprint, task.seed):
        raise CheckpointError(
            f"{folder} was trained on other data or with another seed",
            "a checkpoint belongs to one run",
            "move it back to its own run",
        )
    settings = scalars.get("settings")
    if settings is not None and settings != _settings_of(folder.parent.parent):
        raise CheckpointError(
            f"{folder} was made with other settings than {ENVIRONMENT} holds",
            "a run keeps its settings from beginning to end",
            f"restore {ENVIRONMENT} from a copy, or train again under another name",
        )
    model = task.fresh_model(recipe.groups)
    factors_of(model, recipe)  # remembers which parameters are trained: see `check_trained`
    state = State(0, model, {}, None, Tally(), [], 0.0, None)
    if task.optimizer is not None:
        state.optimizer = optimizer_for(task.optimizer, recipe, model)
    restore(state, scalars, read_tensors(folder / _MODEL), read_tensors(folder / _TENSORS), str(folder))
    return state


def _damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint's files, or None."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        if set(manifest) != {_MODEL, _TENSORS, _STATE}:
            return f"{_MANIFEST} does not list its files"
        for name, said in manifest.items():
            content = (folder / name).read_bytes()
            if len(content) != said["bytes"] or _sha256(content) != said["sha256"]:
                return f"{name} differs from {_MANIFEST}"
        if json.loads((folder / _STATE).read_bytes())["step"] != int(folder.name.removeprefix("step-")):
            return "its name is that of another step"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _folders(parent: Path) -> list[Path]:
    return sorted(
        (path for path in parent.glob("step-*") if path.is_dir()), key=lambda path: (len(path.name), path.name)
    )


def _prune(parent: Path) -> None:
    """Remove what is beyond the newest `KEEP` sound ones, and what killed processes left."""
    folders = _folders(parent)
    sound = [folder for folder in folders if _damage(folder) is None] if len(folders) > KEEP else []
    if len(sound) >= KEEP:
        for folder in set(folders) - set(sound[-KEEP:]):
            folder.rename(parent / f".{folder.name}.old-{secrets.token_hex(4)}")
    for left in parent.glob(".step-*"):
        shutil.rmtree(left, ignore_errors=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
