"""Map-style PyTorch Datasets, read once from front to back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from surefoot import seeds
from surefoot.data import images
from surefoot.data.problems import Problems

_FAULTS_SHOWN = 20
"""After so many examples that cannot be read, reading stops: it is the Dataset that is broken."""


def is_dataset(source: Any) -> bool:
    """Return whether this has a length and items by position, like torch.utils.data.Dataset."""
    return hasattr(source, "__getitem__") and hasattr(source, "__len__") and not isinstance(source, (str, bytes, dict))


def classes_of(dataset: Any) -> tuple[str, ...] | None:
    """Return the names of the classes where the Dataset has them, as torchvision's do in `classes`."""
    classes = getattr(dataset, "classes", None)
    named = isinstance(classes, (list, tuple)) and len(classes) > 1 and all(isinstance(name, str) for name in classes)
    return tuple(classes) if named and classes is not None else None


def read(dataset: Any, prefix: str, problems: Problems) -> tuple[np.ndarray, np.ndarray]:
    """Return the examples of a Dataset of pairs (x, y) as two arrays, x [N, ...] and y [N] or [N, D].

    Each example is read once, so what a random transform makes of it is frozen: augment with `augment` instead.
    Reading leaves torch's random generators as they were.

    Args:
        dataset: x is a tensor, an array, a number or an image of Pillow's; y a number or a tensor.
        prefix: of the names of examples in messages.
        problems: takes examples that cannot be read and those of another shape.
    """
    xs: list[np.ndarray] = []
    ys: list[Any] = []
    faults = 0
    with seeds.torch_stream(0, "read-dataset"):
        for i in range(len(dataset)):
            try:
                x, y = dataset[i]
                x, y = _plain(x), _plain(y)
            except Exception as error:  # the user's code: whatever it raises, they must hear for which example
                text = str(error).splitlines()[0] if str(error) else ""
                problems.add(
                    f"{prefix}{i}",
                    f"cannot be read ({type(error).__name__}: {text})",
                    "every example is a pair (x, y)",
                    "mend the Dataset",
                )
                faults += 1
                if faults >= _FAULTS_SHOWN:
                    break
                continue
            if xs and (x.shape != xs[0].shape or x.dtype != xs[0].dtype or np.shape(y) != np.shape(ys[0])):
                problems.add(
                    f"{prefix}{i}",
                    f"has x {x.shape} {x.dtype}, y {np.shape(y)}; the first has "
                    f"x {xs[0].shape} {xs[0].dtype}, y {np.shape(ys[0])}",
                    "all examples have one shape and type",
                    "resize it in the Dataset",
                )
                continue
            xs.append(x)
            ys.append(y)
    return (np.stack(xs), np.stack(ys)) if xs else (np.empty((0, 1), np.float32), np.empty(0, np.int64))


def _plain(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return images.array(value) if isinstance(value, Image.Image) else np.asarray(value)
