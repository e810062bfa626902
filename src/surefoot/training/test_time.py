"""Test-time augmentation: what a model says of an image, in the mean over views of it.

    flip         1/2 f(x) + 1/2 f(x mirrored)
    flip-shift   the same of x with weight 1/2, and of x shifted by a pixel up and left, and down and right, 1/4 each

f are the outputs as the model gives them: logits of classes and labels, numbers of a regression; of masks the logits of
each pixel, put back to where it was. What a shift bares is reflected. One view is computed at a time.

References: Simonyan & Zisserman 2015, "Very deep convolutional networks", section 3.2 (mirrored images); Jordan 2024,
"94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498, section 3.5 (the shifts and their weights).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surefoot.config import Tta
from surefoot.data import tree
from surefoot.errors import ConfigError
from surefoot.training.call import Forward, called
from surefoot.training.outputs import described
from surefoot.training.task import Task

_MIRRORED = ((0.5, False), (0.5, True))
VIEWS: dict[Tta, tuple[tuple[float, int, bool], ...]] = {
    "none": ((1.0, 0, False),),
    "flip": tuple((half, 0, mirrored) for half, mirrored in _MIRRORED),
    "flip-shift": tuple(
        (share * half, shift, mirrored)
        for share, shift in ((0.5, 0), (0.25, -1), (0.25, 1))
        for half, mirrored in _MIRRORED
    ),
}
"""Weight, shift in pixels along both axes, and whether it is mirrored, of each view."""


def with_views(task: Task, tta: Tta) -> Task:
    """Return the task with outputs in the mean over views of each image, for evaluation.

    Args:
        task: of images.
        tta: "none", "flip" or "flip-shift".

    Raises:
        ConfigError: its inputs are no images, or its outputs have no mean.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> x = torch.randn(2, 1, 8, 8)
    >>> seen = with_views(digits, "flip").outputs(digits.template, x, None)
    >>> torch.allclose(seen, (digits.template(x) + digits.template(x.flip(-1))) / 2, atol=1e-6)
    True
    """
    check_tta(task, tta)
    if tta == "none":
        return task
    return replace(task, forward=averaged(task.forward or called, tta, pixels=task.data.target == "segmentation"))


def check_tta(task: Task, tta: Tta) -> None:
    """Raise ConfigError where a task's examples have no such views, or its outputs no mean."""
    if tta == "none":
        return
    given, shape = f"tta = {tta!r}", task.data.input_shape
    plain = "leave tta out, or set it to none"
    if task.data.kind != "images":
        what = "several inputs" if task.data.kind == "tree" else "numbers"
        raise ConfigError(f"{given} for inputs that are {what}", "its views are mirrored and shifted images", plain)
    if task.loss_fn is not None or task.data.target == "any":
        what = "a loss_fn" if task.loss_fn is not None else "targets of any form"
        raise ConfigError(
            f"{given} with {what}", "what is averaged are outputs for classes, labels, masks or numbers", plain
        )
    if tta == "flip-shift" and min(shape[-2:]) < 2:
        raise ConfigError(
            f"{given} for images of {shape[-2]}x{shape[-1]} pixels", "a shift needs at least 2x2", "set flip"
        )


def averaged(forward: Forward, tta: Tta, *, pixels: bool) -> Forward:
    """Return a forward whose outputs are the mean over views of the images, [B, C, H, W].

    Args:
        forward: (model, images) -> outputs.
        tta: which views.
        pixels: whether outputs are of pixels, [B, ..., H, W], and have to be put back.
    """

    def outputs(model: nn.Module, images: Any) -> Tensor:
        total, weights = torch.zeros(()), torch.zeros(())
        for weight, shift, mirrored in VIEWS[tta]:
            view = _shifted(images, shift)
            found = _outputs(forward(model, view.flip(-1) if mirrored else view))
            share = torch.full((), weight, device=found.device)
            if pixels:
                found, share = _put_back(found.flip(-1) if mirrored else found, shift, share, images)
            total, weights = total.to(found.device) + share * found, weights.to(found.device) + share
        return total / weights

    return outputs


def _outputs(found: Any) -> Tensor:
    if isinstance(found, Tensor) and found.is_floating_point():
        return found.float()
    raise ConfigError(
        f"tta with a model that gives {described(tree.as_tree(found))}", "outputs of views are averaged: one tensor",
        "leave tta out, or give forward=(model, inputs) -> outputs",
    )  # fmt: skip


def _shifted(images: Tensor, shift: int) -> Tensor:
    """Return images [B, C, H, W] of which pixel (i, j) is that of (i + shift, j + shift), reflected at the edges."""
    if not shift:
        return images
    height, width = images.shape[-2:]
    first = 1 + shift
    return F.pad(images, (1, 1, 1, 1), mode="reflect")[..., first : first + height, first : first + width]


def _put_back(found: Tensor, shift: int, share: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs of pixels where these were in the images, and their weight: 0 where the shift took them out."""
    if not shift:
        return found, share
    if found.shape[-2:] != images.shape[-2:]:
        raise ConfigError(
            f"tta = 'flip-shift' for masks of {tuple(found.shape[-2:])} pixels of images of {tuple(images.shape[-2:])}",
            "a shift by a pixel can be taken back where both have one size", "set tta = \"flip\"",
        )  # fmt: skip
    there = torch.ones(found.shape[-2:], device=found.device)
    edge = 0 if shift > 0 else -1
    there[edge, :] = there[:, edge] = 0
    return found.roll((shift, shift), (-2, -1)), share * there
