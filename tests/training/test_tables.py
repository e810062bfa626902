import torch
from small import bits, images

from surefoot.config import Recipe
from surefoot.data.batches import batch_indices, fetch
from surefoot.optim.plan import plan
from surefoot.training.make import task
from surefoot.training.tables import Tables


def test_batches_rates_and_what_was_seen_are_those_of_each_step_across_epochs():
    work = task(images(), "cnn", augment=["flip-alternate", "crop:1"], seed=3)
    made = plan(Recipe(epochs=3, batch_size=16, lr=0.1), 60)
    tables = Tables(work, made)
    rates = made.lr[2:7].tolist()
    tables.begin(2, rates)
    for at, lr in zip(range(2, 7), rates, strict=True):
        tables.turn_to(at)
        epoch, indices = batch_indices(60, 16, work.seed, at)
        sizes, batches = tables.batches(3)
        assert sizes == [6, 5, 5]
        x, y = (torch.cat(pieces) for pieces in zip(*batches, strict=True))
        theirs = fetch(work.data, work.data.train, indices, augment=work.augment, seed=work.seed, epoch=epoch)
        assert (bits(x), bits(y)) == (bits(theirs[0]), bits(theirs[1]))
        assert float(tables.lr) == lr
        tables.note(*(torch.tensor(float(at) + i, dtype=torch.float64) for i in range(3)))
    assert tables.read(5) == [[float(at + i) for at in range(2, 7)] for i in range(3)]
    assert int(tables.update) == 7
