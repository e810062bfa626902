"""Rows as TensorBoard event files, for those who look there; written by tensorboardX, which needs no TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from surefoot.errors import ConfigError
from surefoot.record.run import Row

EVENTS = "tensorboard"
"""The folder of the event files inside a run's; its presence says that the run goes on writing them."""
SCALARS = {
    "loss/train": "train_loss", "loss/validation": "val_loss", "accuracy/train": "train_accuracy",
    "accuracy/validation": "val_accuracy", "sgd/lr": "lr", "sgd/grad_norm": "grad_norm",
    "sgd/update_ratio": "update_ratio", "speed/examples_per_second": "examples_per_second", "epoch": "epoch",
}  # fmt: skip
"""Names in TensorBoard, and the fields of a row that they show."""
LAYER_SCALARS = ("layer_grad_norm", "layer_update_ratio")
"""Names in TensorBoard of the two numbers of a layer; the layer's name comes after them."""


class Events:
    """A context that adds rows to a run's event files.

    Args:
        folder: of the run.
        after_step: what was written of later steps, before the run was stopped, is replaced.

    Raises:
        ConfigError: tensorboardX is not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Events(Path(folder)) as events:
    ...         events.add([])
    ...     len(list((Path(folder) / EVENTS).glob("*tfevents*")))
    1
    """

    def __init__(self, folder: Path, after_step: int = 0) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ConfigError(
                "--tensorboard", "event files need the package tensorboardX", "install it: pip install tensorboardX"
            ) from None
        again = (folder / EVENTS).is_dir()
        self._writer = SummaryWriter(
            str(folder / EVENTS),
            purge_step=after_step + 1 if again else None,
            filename_suffix=f".after-{after_step}",  # the name has the second, and a run may go on within it
        )

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, rows: Iterable[Row]) -> None:
        """Write rows; values that do not exist or are not finite are left out. They are then flushed."""
        some = False
        for row in rows:
            some = True
            for name, field in SCALARS.items():
                seen = getattr(row, field)
                if seen is not None and math.isfinite(seen):
                    self._writer.add_scalar(name, seen, row.step)
            for name, seen in row.metrics.items():
                if math.isfinite(seen):
                    self._writer.add_scalar(f"{name}/validation", seen, row.step)
            for layer, pair in row.layers.items():
                for name, seen in zip(LAYER_SCALARS, pair, strict=True):
                    if math.isfinite(seen):
                        self._writer.add_scalar(f"{name}/{layer}", seen, row.step)
        if some:
            self._writer.flush()
