"""A finished run, ready to be applied to examples: its weights, normalisation and precision, in evaluation mode.

What is done with it changes nothing: no file, no random state, not the given model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from surefoot.config import Config
from surefoot.data.dataset import DataSet, Part, Source
from surefoot.record import store
from surefoot.record.stored import read_config
from surefoot.seeds import torch_stream
from surefoot.training.evaluate import outputs_of
from surefoot.training.machine import machine
from surefoot.training.run import Result
from surefoot.training.task import Task
from surefoot.training.weights import Trained, load_trained


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, ready to be applied to examples."""

    folder: Path
    config: Config
    trained: Trained
    task: Task

    def outputs(self, part: Part) -> tuple[Tensor, Tensor]:
        """Return the model's outputs [N, ...] in fp32 and the targets [N, ...] for a part, on the CPU."""
        model, place = self.task.template, self.task.machine
        placed = replace(part, x=place.place(part.x), y=place.place(part.y))
        with place.computing(), torch_stream(self.task.seed, "test"):
            pairs = [(o.cpu(), y.cpu()) for o, y in outputs_of(self.task, model, model.state_dict(), placed)]
        return torch.cat([outputs for outputs, _ in pairs]), torch.cat([targets for _, targets in pairs])


def finished_run(
    run: str | Path | Result, runs_dir: str | Path, model: nn.Module | None, device: str | None
) -> FinishedRun:
    """Return a run's finished weights on its device, or on the CPU where this machine lacks that one.

    Raises:
        CheckpointError: the run does not exist, is unfinished or damaged.
    """
    if isinstance(run, Result):
        run, model = run.folder, run.model if model is None else model
    folder = store.run_folder(run, runs_dir)
    config = read_config(folder)
    trained = load_trained(folder, model)
    if device is None:
        device = config.device if torch.cuda.is_available() else "cpu"
    place = machine(device, config.precision, config.threads, trained.model, trained.input_shape)
    y = torch.zeros(1, dtype=torch.int64)
    data = DataSet(
        name=config.data,
        kind="images" if trained.kind == "images" else "numbers",
        train=Part(torch.zeros(1, *trained.input_shape), y, Source()),
        validation=None,
        test=None,
        classes=trained.classes,
        mean=trained.mean,
        std=trained.std,
        fingerprint="",
    )
    return FinishedRun(
        folder, config, trained, Task(data, place.place_model(trained.model), None, None, config.seed, place)
    )
