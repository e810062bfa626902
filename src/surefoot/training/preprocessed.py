"""A trained module with all that goes before and after it: raw inputs in, logits or numbers in their unit out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surefoot.data import tree
from surefoot.data.dataset import DataSet
from surefoot.data.statistics import loses_spread
from surefoot.training.call import Forward, called


@dataclass(frozen=True)
class Preprocessing:
    """What is done to inputs and outputs, with the numbers for it, fitted on the training part.

    Attributes:
        input: images (uint8 or uint16, or floating point in [0, 1], [B, C, H, W]), numbers, or integers or booleans,
            which stay as they are; a tree is several of these.
        dtype: in which inputs are normalised, float32 or float64; what the module gets is float32.
        mean, std: float64, of the shape that they have against one example; whole pixels are divided by 255, or
            by 65535 if of 16 bits, before.
        output: what the module's outputs are: logits; probabilities, of which the logarithm is taken; numbers; logits
            of numbers from 0 to 1, of which the sigmoid is; or anything, which stays as it is.
        target_mean, target_std: float64, by which numbers come back into their unit; None where they are in it.
        leaves: of inputs of several tensors the tree of what is done to each; None of one tensor.
    """

    input: Literal["images", "numbers", "integers", "booleans", "tree"]
    dtype: Literal["float32", "float64"]
    mean: Tensor
    std: Tensor
    output: Literal["logits", "probabilities", "numbers", "sigmoid", "any"]
    target_mean: Tensor | None = None
    target_std: Tensor | None = None
    leaves: Any = None

    @classmethod
    def of(cls, data: DataSet, *, loss_name: str | None = None, probabilities: bool = False) -> Preprocessing:
        """Return that of a task's data.

        Args:
            data: as the task has it.
            loss_name: of the shipped loss, or None.
            probabilities: whether the model gives probabilities of classes in place of logits.
        """
        numbers = "sigmoid" if loss_name == "bce" and data.target == "numbers" else "numbers"
        output = {"classes": "probabilities" if probabilities else "logits", "numbers": numbers, "any": "any"}
        whole = tree.map_leaves(cls._of_leaf, data.train.x, data.mean, data.std)
        about = {
            "output": output.get(data.target, "logits"), "target_mean": data.target_mean, "target_std": data.target_std
        }  # fmt: skip
        if data.kind != "tree":
            return replace(whole, **about)
        return cls("tree", "float32", torch.zeros(()), torch.ones(()), leaves=whole, **about)

    @classmethod
    def _of_leaf(cls, x: Tensor, mean: Tensor | None, std: Tensor | None) -> Preprocessing:
        images = x.dtype in (torch.uint8, torch.uint16) or (mean is not None and mean.dim() == 1 and x.dim() == 4)
        whole = "booleans" if x.dtype == torch.bool else None if x.is_floating_point() else "integers"
        mean, std = (torch.tensor(float(i)) if each is None else each for i, each in enumerate((mean, std)))
        shape = (-1, 1, 1) if images else mean.shape
        return cls(
            input="images" if images else whole or "numbers",
            dtype="float64" if x.dtype == torch.float64 else "float32",
            mean=mean.double().reshape(shape),
            std=std.double().reshape(shape),
            output="any",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        tensors = {name: getattr(self, name) for name in ("mean", "std", "target_mean", "target_std")}
        plain = {name: None if value is None else value.double().tolist() for name, value in tensors.items()}
        leaves = {} if self.leaves is None else {"leaves": tree.to_plain(self.leaves, lambda leaf: leaf.to_dict())}
        return {"input": self.input, "dtype": self.dtype, "output": self.output, **plain, **leaves}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Preprocessing:
        """Return what `to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        if plain["dtype"] not in ("float32", "float64"):
            raise ValueError(f"dtype {plain['dtype']!r}")
        mean, std, target_mean, target_std = (
            None if (value := plain[name]) is None else torch.tensor(value, dtype=torch.float64)
            for name in ("mean", "std", "target_mean", "target_std")
        )
        if mean is None or std is None:
            raise ValueError("no mean or no std")
        leaves = tree.from_plain(plain["leaves"], cls.from_dict) if "leaves" in plain else None
        return cls(plain["input"], plain["dtype"], mean, std, plain["output"], target_mean, target_std, leaves)


class Preprocessed(nn.Module):
    """A module that takes raw inputs, and gives logits, or numbers in the unit of the targets.

    Args:
        net: the module that was trained, which takes normalised inputs; it is not copied.
        preprocessing: what goes before and after it.
        call: how the module is called with its inputs, see `training.call`.

    Attributes:
        net: as given; its weights are those of `model.safetensors`.

    >>> about = Preprocessing("numbers", "float32", torch.tensor([10.0]), torch.tensor([2.0]), "numbers",
    ...                       torch.tensor(300.0), torch.tensor(100.0))
    >>> Preprocessed(nn.Identity(), about)(torch.tensor([[10.0], [12.0]])).tolist()
    [[300.0], [400.0]]
    """

    mean: Tensor
    std: Tensor
    target_mean: Tensor | None
    target_std: Tensor | None

    def __init__(self, net: nn.Module, preprocessing: Preprocessing, call: Forward = called) -> None:
        super().__init__()
        self.net, self.preprocessing, self.call = net, preprocessing, call
        of_leaves = tree.leaves(preprocessing.leaves) if preprocessing.leaves is not None else []
        self._leaves = nn.ModuleList(Preprocessed(nn.Identity(), about) for about in of_leaves)
        dtype = torch.float64 if preprocessing.dtype == "float64" else torch.float32
        self.register_buffer("mean", preprocessing.mean.to(dtype), persistent=False)
        self.register_buffer("std", preprocessing.std.to(dtype), persistent=False)
        mean, std = preprocessing.target_mean, preprocessing.target_std
        self.register_buffer("target_mean", None if mean is None else mean.double(), persistent=False)
        self.register_buffer("target_std", None if std is None else std.double(), persistent=False)
        lost = mean is not None and std is not None and bool(loses_spread(mean, std).any())
        self._answer_type = torch.float64 if lost else torch.float32

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return logits [B, C]; or numbers, float64 where float32 would lose their spread.

        Args:
            inputs, named: as `net` takes them, [B, ...], or one tuple or mapping of all. As the training data was
                given: images uint8, uint16 or in [0, 1], numbers, or integers.

        Raises:
            DataError: they are not those of the training data.
        """
        outputs = self.answers(self.call(self.net, self.normalised(self._inputs(inputs, named))))
        numbers = self.preprocessing.output in ("numbers", "sigmoid")
        return outputs.to(self._answer_type) if numbers else outputs

    def _inputs(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return what the module was called with as the tree that its training inputs were."""
        form = self.preprocessing.leaves
        if len(inputs) == 1 and not named:
            whole = tree.as_tree(inputs[0])
            if form is None or not tree.is_leaf(whole):
                return tree.in_form(whole, form if form is not None else self.preprocessing, "inputs")
        if isinstance(form, dict) and not inputs:
            return tree.in_form(tree.as_tree(named), form, "inputs")
        if named or form is None or isinstance(form, dict):  # by the names and places that the module's parameters have
            bound = inspect.signature(self.net.forward).bind(*inputs, **named).arguments
            if form is None and len(bound) == 1:
                return next(iter(bound.values()))
            given = tree.as_tree(bound if isinstance(form, dict) else tuple(bound.values()))
            return tree.in_form(given, form if form is not None else self.preprocessing, "inputs")
        return tree.in_form(tree.as_tree(inputs), form, "inputs")

    def normalised(self, x: Any) -> Any:
        """Return raw inputs as `net` takes them."""
        if self.preprocessing.leaves is not None:
            names = [name for name, _ in tree.named_leaves(self.preprocessing.leaves)]
            of_leaf = tree.from_named(self.preprocessing.leaves, dict(zip(names, self._leaves, strict=True)))
            return tree.map_leaves(lambda about, leaf: about.normalised(leaf), of_leaf, x)
        if self.preprocessing.input in ("integers", "booleans"):
            return x.bool() if self.preprocessing.input == "booleans" else x if x.dtype == torch.bool else x.long()
        if self.preprocessing.input == "images" and not x.is_floating_point():
            x = x.float() / torch.iinfo(x.dtype).max
        return ((x.to(self.mean.dtype) - self.mean) / self.std).float()

    def answers(self, outputs: Any) -> Any:
        """Return outputs of `net` as logits; or as numbers in the unit of the targets, float64."""
        if self.preprocessing.output == "probabilities":
            return outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log()
        if self.preprocessing.output == "sigmoid":
            outputs = outputs.double().sigmoid()
        if self.target_mean is not None and self.target_std is not None:
            outputs = outputs.double() * self.target_std + self.target_mean
        return outputs
