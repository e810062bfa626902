"""Whole numbers for a model that embeds them: tokens go to it as they are, and each is looked for in the embedding."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from surefoot.data import tree
from surefoot.data.batches import fetch
from surefoot.data.dataset import DataSet, Part
from surefoot.data.mapped import pieces
from surefoot.errors import DataError
from surefoot.seeds import torch_stream

if TYPE_CHECKING:
    from surefoot.training.task import Task

_TRIED = 2
"""Examples by which a model is seen to embed its input, beside the one with the largest number. Chosen by hand."""
_POSITIONS = 256
"""Most positions of an example that are looked through one by one for their least and largest number; of more, the
least and largest of all are, as positions share an embedding there. Chosen by hand."""
_AT_ONCE = 64
_LOOKED_THROUGH_AT_ONCE = 2**16


def with_integers_for(data: DataSet, model: nn.Module) -> DataSet:
    """Return the data with whole numbers as int64 if the model embeds them, else with numbers as floating point.

    It embeds them if it takes int64, and what an `nn.Embedding` or `nn.EmbeddingBag` of it looks up changes with them.
    Numbers that are whole by chance, but floating point by type, are numbers.

    Raises:
        DataError: a number of some part has no place in the embedding.

    >>> from surefoot.data.load import load
    >>> tokens = load((torch.arange(40).reshape(20, 2) % 5, torch.arange(20) % 2))
    >>> with_integers_for(tokens, nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2))).train.x.dtype
    torch.int64
    >>> with_integers_for(tokens, nn.Linear(2, 2)).train.x.dtype
    torch.float32
    """
    if data.kind != "numbers" or not data.integers:
        return data
    if data.target == "tokens":
        return dataclasses.replace(data, **{n: dataclasses.replace(p, x=p.x.long()) for n, p in data.parts.items()})
    whole = {name: dataclasses.replace(part, x=part.x.long()) for name, part in data.parts.items()}
    if not _embeds(model, whole["train"].x):
        numbers = {name: part.x if part.x.is_floating_point() else part.x.float() for name, part in data.parts.items()}
        changed = {name: dataclasses.replace(part, x=numbers[name]) for name, part in data.parts.items()}
        return dataclasses.replace(data, **changed)
    for part in whole.values():
        _check_range(model, part)
    return dataclasses.replace(data, **whole)


class Outside(Exception):
    """A number without a place in an embedding: its value, and how many places there are."""

    def __init__(self, value: int, places: int) -> None:
        super().__init__(value, places)
        self.value, self.places = value, places

    def error(self, name: str) -> DataError:
        """Return what to tell the user of the example of that name."""
        return DataError(
            f"{name}: the number {self.value}",
            f"the model's embedding takes 0 to {self.places - 1}",
            "mend the data, or give the embedding more places (num_embeddings)",
        )


@contextmanager
def looked_up(model: nn.Module) -> Iterator[list[Tensor]]:
    """Give the list of what the embeddings of a model are asked for in the block.

    Raises:
        Outside: a number has no place there. On a card the lookup itself would end the process.
    """
    found: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        places = int(module.num_embeddings)  # pyright: ignore[reportArgumentType]
        ids = args[0]
        found.append(ids.detach().clone())
        for value in (int(ids.min()), int(ids.max())) if ids.numel() and not ids.is_floating_point() else ():
            if not 0 <= value < places:
                raise Outside(value, places)

    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag)]
    handles = [module.register_forward_pre_hook(note) for module in embeddings]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _embeds(model: nn.Module, x: Tensor) -> bool:
    rows = torch.cat([torch.arange(min(_TRIED, len(x))), x.reshape(len(x), -1).amax(1).argmax()[None]])
    model = copy.deepcopy(model).eval()
    asked, of_zeros = _asked(model, x[rows]), _asked(model, torch.zeros_like(x[rows]))
    alike = len(asked) == len(of_zeros) and all(map(torch.equal, asked, of_zeros))
    return bool(asked) and not alike


def _asked(model: nn.Module, x: Tensor) -> list[Tensor]:
    with looked_up(model) as found, torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            model(x.to(_device(model)))
        except Outside:
            pass
        except Exception:  # the model may be anyone's; what it cannot take, it does not embed
            found = found if found and not x.any() else []
    return list(found)


def _check_range(model: nn.Module, part: Part) -> None:
    rows = torch.empty(0, dtype=torch.int64)
    for piece in pieces(part.x, _LOOKED_THROUGH_AT_ONCE):  # it may lie on disk
        some = torch.unique(torch.cat([rows, torch.arange(piece.start, piece.stop)]))
        rows = some[_extremes(part.x[some])]
    model = copy.deepcopy(model).eval()
    for some in rows.split(_AT_ONCE):
        try:
            with looked_up(model), torch.random.fork_rng(devices=[]), torch.no_grad():
                model(part.x[some].to(_device(model)))
        except Outside as outside:
            holds = [row for row in some.tolist() if bool((part.x[row] == outside.value).any())]
            raise outside.error(part.name_of(holds[0] if holds else int(some[0]))) from None
        except Exception:  # `training.task` tries the model, and says what is wrong
            return


def _extremes(x: Tensor) -> Tensor:
    """Return which of some examples hold the least and the largest number of a position, or of all positions."""
    flat = x.reshape(len(x), -1)
    flat = flat if flat.shape[1] <= _POSITIONS else torch.stack([flat.amin(1), flat.amax(1)], 1)
    return torch.unique(torch.cat([flat.argmin(0), flat.argmax(0)]))


def check_embedded(task: Task) -> None:
    """Raise DataError where a whole number of several inputs, or of tokens, has no place in the embedding it goes to.

    The examples with the least and the largest number of each input are looked up, of every part.
    """
    data = task.data
    if data.kind != "tree" and data.target != "tokens":
        return
    model = task.fresh_model().eval()
    for part in data.parts.values():
        whole = [leaf for leaf in tree.leaves(part.x) if leaf.dtype == torch.int64 and leaf.numel()]
        flat = [leaf.reshape(len(leaf), -1) for leaf in whole]
        rows = {int(row) for leaf in flat for row in (leaf.amin(1).argmin(), leaf.amax(1).argmax())}
        if not rows:
            return
        x, y = fetch(data, part, torch.tensor(sorted(rows), dtype=torch.int64), seed=task.seed)
        try:
            with looked_up(model), torch_stream(task.seed, "embedded"), torch.no_grad(), task.machine.autocast():
                task.outputs(model, x, y)
        except Outside as outside:
            holds = [int(at[0]) for leaf in flat if len(at := (leaf == outside.value).any(1).nonzero())]
            raise outside.error(part.name_of(holds[0] if holds else min(rows))) from None
        except Exception:  # the model is tried, and what is wrong said, elsewhere
            return


def _device(model: nn.Module) -> torch.device:
    return next((value.device for value in (*model.parameters(), *model.buffers())), torch.device("cpu"))
