"""The batches of a stack are those that each member would see alone, in any pieces; tables hold what was written."""

import numpy as np
import pytest
import torch
from small import images

from surefoot.config import Recipe
from surefoot.data.batches import batch_indices, fetch
from surefoot.optim.plan import plan
from surefoot.training.make import reseeded, task
from surefoot.training.population.member import Member
from surefoot.training.population.tables import Tables

CPU = torch.device("cpu")


def members_of(seeds, augment=(), **recipe):
    work = task(images(), "mlp", seed=3, threads=1, augment=augment)
    made = plan(Recipe(**{"steps": 9, "batch_size": 14} | recipe), work.data.examples)
    return [Member(reseeded(work, seed), made) for seed in seeds]


def noted(tables):
    still = torch.zeros(len(tables.alive))
    tables.note(still, still, still, tables.alive.clone())


@pytest.mark.parametrize("augment", [(), ["flip", "crop:1"], [lambda x: x * 2]], ids=["plain", "augmented", "function"])
@pytest.mark.parametrize("seeds", [(3, 3), (3, 5, 7)], ids=["shared", "own"])
def test_each_batch_is_the_one_of_a_run_alone(seeds, augment):
    members = members_of(seeds, augment, micro_batch_size=5)
    shared = len(set(seeds)) == 1
    tables = Tables(members, 4, CPU, shared=shared)
    assert (tables.refusal is None) == (not augment or augment[0] == "flip")
    tables.begin([True] * len(members), np.zeros((4, len(members))), np.zeros((4, len(members))))
    for step in range(2, 9):  # from within the first epoch into the third; steps of an epoch: 4
        tables.turn_to(step)
        pieces, shares = tables.batch()
        assert shares == pytest.approx([5 / 14, 5 / 14, 4 / 14])
        x, y = (torch.cat([piece[side] for piece in pieces], 0 if shared else 1) for side in (0, 1))
        for i, member in enumerate(members):
            own, examples = member.task, member.plan.examples
            epoch, rows = batch_indices(examples, 14, own.seed, step)
            expected = [fetch(own.data, own.data.train, some, augment=own.augment, seed=own.seed, epoch=epoch)
                        for some in np.array_split(rows, 3)]  # fmt: skip
            assert torch.equal(x if shared else x[i], torch.cat([each[0] for each in expected]))
            assert torch.equal(y if shared else y[i], torch.cat([each[1] for each in expected]))
        noted(tables)


def test_steps_read_their_rates_and_write_what_they_saw_one_after_the_other():
    tables = Tables(members_of((3, 3)), 4, CPU, shared=True)
    rates = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    tables.begin([True, False], rates, rates / 10)
    assert tables.alive.tolist() == [True, False]
    tables.turn_to(0)
    for row in rates:
        assert tables.rates.tolist() == row.tolist()
        assert tables.shares.tolist() == pytest.approx((row / 10).tolist())
        tables.note(tables.rates * 10, tables.rates, tables.shares, torch.tensor([True, False]))
    seen = tables.read(3)
    assert seen[:, 0].tolist() == (rates * 10).tolist()
    assert seen[:, 1].tolist() == rates.tolist()
