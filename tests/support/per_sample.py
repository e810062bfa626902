"""Exact gradient noise from the gradients of single examples, for models that treat each example by itself.

The slow twin of `batch_size.noise`: no sampling, no interval, and no batch norm in training, which makes an example's
gradient depend on its batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from surefoot.data.batches import fetch
from surefoot.errors import ConfigError
from surefoot.steps.batch_size.noise import has_batch_norm
from surefoot.training.state import trainable
from surefoot.training.task import Task

AT_ONCE_NUMBERS = 2**25
"""Numbers of single gradients held at once, 128 MB. Chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class ExactNoise:
    """The noise of a layer over the training part, in the words of `record.noise.LayerNoise`, without intervals."""

    name: str
    second_moment: float
    grad_norm_sq: float

    @property
    def trace(self) -> float:
        """tr(Sigma) = E||g_i||^2 - ||grad F||^2."""
        return self.second_moment - self.grad_norm_sq

    @property
    def noise_scale(self) -> float:
        """tr(Sigma) / ||grad F||^2."""
        return self.trace / self.grad_norm_sq if self.grad_norm_sq > 0 else float("inf")


def exact_noise(task: Task, model: nn.Module) -> tuple[ExactNoise, ...]:
    """Return the noise in total and of each layer, in that order, from the gradient of every training example.

    The model is taken in the mode that it is in, and without augmentation; nothing of it is changed.

    Args:
        task: data and loss.
        model: whose gradients.

    Raises:
        ConfigError: the model has batch norm in training, or draws random numbers, or torch.func cannot map it.

    >>> import surefoot
    >>> digits = surefoot.task(surefoot.load("digits"), "linear")
    >>> total, *layers = exact_noise(digits, digits.fresh_model())
    >>> abs(total.second_moment - sum(layer.second_moment for layer in layers)) < 1e-3 * total.second_moment
    True
    """
    if has_batch_norm(model):
        raise ConfigError(
            "a model with batch norm in training mode", "an example's gradient must not depend on its batch",
            "use gradient_noise, or evaluation mode",
        )  # fmt: skip
    named = trainable(model)
    weights = {name: parameter.detach() for name, parameter in named.items()}
    rest = {name: value.detach() for name, value in model.state_dict().items() if name not in named}

    def loss(own: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(model, {**rest, **own}, (x[None],))
        return task.mean_loss(outputs, y[None])

    squares: dict[str, float] = {}
    sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in weights.items()}
    examples = len(task.data.train)
    most = max(1, AT_ONCE_NUMBERS // max(1, sum(value.numel() for value in weights.values())))
    with task.machine.computing():
        for first in range(0, examples, most):
            rows = np.arange(first, min(first + most, examples))
            x, y = fetch(task.data, task.data.train, rows, seed=task.seed)
            try:
                grads = vmap(grad(loss), in_dims=(None, 0, 0), randomness="error")(weights, x, y)
            except RuntimeError as error:
                raise ConfigError(
                    f"a model that torch.func cannot map over examples: {str(error).splitlines()[0]}",
                    "its forward pass must be made of torch functions and draw nothing", "use gradient_noise",
                ) from error  # fmt: skip
            for name, each in grads.items():
                layer = name.rpartition(".")[0] or "model"
                squares[layer] = squares.get(layer, 0.0) + float(each.double().square().sum())
                sums[name] += each.double().sum(0)
    norms: dict[str, float] = {}
    for name, each in sums.items():
        layer = name.rpartition(".")[0] or "model"
        norms[layer] = norms.get(layer, 0.0) + float((each / examples).square().sum())
    found = [ExactNoise(name=layer, second_moment=squares[layer] / examples, grad_norm_sq=norms[layer])
             for layer in squares]  # fmt: skip
    total = ExactNoise(name="total", second_moment=sum(each.second_moment for each in found),
                       grad_norm_sq=sum(each.grad_norm_sq for each in found))  # fmt: skip
    return (total, *found)
