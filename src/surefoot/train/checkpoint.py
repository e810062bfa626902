"""Checkpoints: a state on disk, written so that a kill at any moment leaves an older or a newer one, whole.

A checkpoint is a folder `step-00000180` that holds

    model.safetensors   weights and buffers
    state.safetensors   velocity and moving average
    state.json          all other fields of the state, and what it was computed on
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

from surefoot.errors import CheckpointError
from surefoot.record.run import Outcome
from surefoot.record.store import CHECKPOINTS, flush_folder
from surefoot.train.state import State, Tally, trainable
from surefoot.train.task import Task

SCHEMA = 1
KEEP = 2
"""Checkpoints kept: the newest, and the one before it in case the newest is damaged."""

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
    files = {
        _MODEL: tensor_bytes(state.model.state_dict()),
        _TENSORS: tensor_bytes(_tensors(state)),
        _STATE: json.dumps(_scalars(task, state), indent=2).encode(),
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


def load_newest(run_folder: Path, task: Task) -> tuple[State | None, list[str]]:
    """Return the state of the newest checkpoint that verifies, and a sentence for each that does not.

    The state is None where the run has no checkpoint yet.

    Raises:
        CheckpointError: there are checkpoints and none verifies, or they belong to another model.
    """
    notes: list[str] = []
    folders = _folders(run_folder / CHECKPOINTS)
    for folder in reversed(folders):
        damage = _damage(folder)
        if damage is None:
            return _load(folder, task), notes
        notes.append(f"{folder.name} is damaged ({damage}); the checkpoint before it is used")
    if notes:
        raise CheckpointError(
            f"{run_folder / CHECKPOINTS}: {'; '.join(notes)}",
            "at least one checkpoint must verify against its MANIFEST.json",
            "restore the folder from a copy, or train again under another name",
        )
    return None, notes


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
        raise CheckpointError(f"{path}", "its SHA-256 must be the one that was recorded: it is damaged", "restore it from a copy, or train again")  # fmt: skip
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}", f"it must be a safetensors file ({error})", "check the file; pickles are never loaded") from None  # fmt: skip


def load_weights(model: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Copy weights into a model in place.

    Raises:
        CheckpointError: names or shapes differ.
    """
    own = model.state_dict()
    wrong = sorted(set(own) ^ set(tensors)) or sorted(n for n in own if own[n].shape != tensors[n].shape)
    if wrong:
        raise CheckpointError(
            f"{where} does not fit the model at {', '.join(wrong[:3])}{' and others' if len(wrong) > 3 else ''}",
            "weights must have the model's own names and shapes",
            "use the model that the run was trained with",
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])


def fingerprint(task: Task) -> dict[str, Any]:
    """Return what bit-equality of a resumed run depends on, besides the state."""
    return {
        "torch": torch.__version__,
        "device": str(task.machine.device),
        "device_name": torch.cuda.get_device_name(task.machine.device) if task.machine.device.type == "cuda" else "",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "precision": task.machine.precision,
        "threads": task.machine.threads,
    }


def changed_since(run_folder: Path, task: Task) -> list[str]:
    """Return a sentence for each thing that has changed since the newest checkpoint and may change its bits."""
    folders = _folders(run_folder / CHECKPOINTS)
    if not folders:
        return []
    saved = json.loads((folders[-1] / _STATE).read_bytes()).get("fingerprint", {})
    return [
        f"{name} was {saved.get(name)!r} and is {value!r}: the order of the data is the same, the last bits may differ"
        for name, value in fingerprint(task).items()
        if saved.get(name) != value
    ]


def _tensors(state: State) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    if state.velocity is not None:
        tensors |= {f"velocity/{i}": value for i, value in enumerate(state.velocity)}
    if state.average is not None:
        tensors |= {f"average/{name}": value for name, value in state.average.items()}
    return tensors


def _scalars(task: Task, state: State) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "step": state.step,
        "has_velocity": state.velocity is not None,
        "has_average": state.average is not None,
        "tally": dataclasses.asdict(state.tally),
        "val_losses": state.val_losses,
        "seconds": state.seconds,
        "outcome": dataclasses.asdict(state.outcome) if state.outcome else None,
        "fingerprint": fingerprint(task),
    }


def _load(folder: Path, task: Task) -> State:
    scalars = json.loads((folder / _STATE).read_bytes())
    if scalars.get("schema") != SCHEMA:
        raise CheckpointError(f"{folder}: schema {scalars.get('schema')}", f"this version reads schema {SCHEMA}", "use the version that wrote it")  # fmt: skip
    model = task.fresh_model()
    model.train()
    load_weights(model, read_tensors(folder / _MODEL), str(folder))
    tensors = read_tensors(folder / _TENSORS)
    velocity = None
    if scalars["has_velocity"]:
        velocity = [torch.empty_like(parameter.data) for parameter in trainable(model).values()]
        for i, value in enumerate(velocity):
            value.copy_(tensors[f"velocity/{i}"])
    average = None
    if scalars["has_average"]:
        average = {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}
        for name, value in average.items():
            value.copy_(tensors[f"average/{name}"])
    outcome = scalars["outcome"]
    return State(
        step=scalars["step"],
        model=model,
        velocity=velocity,
        average=average,
        tally=Tally(**scalars["tally"]),
        val_losses=scalars["val_losses"],
        seconds=scalars["seconds"],
        outcome=Outcome(**outcome) if outcome else None,
    )


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
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("step-*") if path.is_dir())


def _prune(parent: Path) -> None:
    """Remove what is beyond the newest `KEEP`, and what a killed process left half written."""
    sound = [folder for folder in _folders(parent) if _damage(folder) is None] if len(_folders(parent)) > KEEP else []
    for folder in sound[:-KEEP]:
        doomed = folder.rename(parent / f".{folder.name}.old-{secrets.token_hex(4)}")
        shutil.rmtree(doomed)
    for left in parent.glob(".step-*.tmp-*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in parent.glob(".step-*.old-*"):
        shutil.rmtree(left, ignore_errors=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
