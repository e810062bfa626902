import torch

from surefoot.training.gathered import Gathered


def test_batches_of_other_sizes_and_forms_fill_one_block():
    ids, more = torch.arange(10), torch.randn(10, 3, dtype=torch.float64)
    gathered = Gathered(10)
    for rows in (slice(0, 4), slice(4, 5), slice(5, 10)):
        gathered.add({"ids": ids[rows], "pair": (more[rows], ids[rows] > 3)})
    assert torch.equal(gathered.whole["ids"], ids)
    assert torch.equal(gathered.whole["pair"][0], more)
    assert gathered.whole["pair"][1].dtype == torch.bool


def test_what_was_added_may_change_afterwards():
    gathered, buffer = Gathered(4), torch.zeros(2)
    for value in (1.0, 2.0):
        gathered.add(buffer.fill_(value))
    assert gathered.whole.tolist() == [1, 1, 2, 2]
