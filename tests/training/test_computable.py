import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surefoot
from surefoot.errors import ConfigError
from surefoot.training.computable import check_computable

X = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
HEAVY = torch.tensor([1.0, 5.0])


def planned(model=None, size=20, piece=8, **more):
    work = surefoot.task(surefoot.load((X, Y)), model or nn.Linear(3, 2), device="cpu", precision="fp32", **more)
    return work, surefoot.plan(
        surefoot.Recipe(steps=2, batch_size=size, micro_batch_size=piece), work.data.examples
    )  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        {"loss": nn.CrossEntropyLoss()},
        {"loss": nn.CrossEntropyLoss(reduction="none")},
        {"loss": lambda o, y: (F.cross_entropy(o, y, HEAVY, reduction="sum"), HEAVY[y].sum())},
        {"loss_fn": lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])},
        {"loss_fn": lambda model, batch: (F.cross_entropy(model(batch[0]), batch[1], reduction="sum"), len(batch[1]))},
    ],
)
def test_losses_whose_pieces_are_the_batch_pass(more):
    check_computable(*planned(**more))


@pytest.mark.parametrize(
    "more",
    [
        {"loss": nn.CrossEntropyLoss(weight=HEAVY)},
        {"loss": nn.CrossEntropyLoss(reduction="sum")},
        {"loss": lambda o, y: (F.cross_entropy(o, y, HEAVY, reduction="sum"), len(y) + 3)},
        {"loss_fn": lambda model, batch: F.cross_entropy(model(batch[0]), batch[1], reduction="sum")},
        {"loss_fn": lambda model, batch: model(batch[0]).std(0).sum()},
    ],
)
def test_others_are_refused_before_the_first_step(more):
    with pytest.raises(ConfigError, match=r"a batch of 20 in 3 pieces .*\(sum, count\)"):
        check_computable(*planned(**more))
    check_computable(*planned(piece=20, **more))  # in one piece nothing need add up


def test_batch_norm_on_single_examples_is_refused():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with pytest.raises(ConfigError, match="batch norm in training needs more than one value"):
        check_computable(*planned(model, size=1))
    check_computable(*planned(model, size=2))
