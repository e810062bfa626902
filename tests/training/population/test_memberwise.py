import math

import torch

from surefoot.training.population.memberwise import copied, keep_, norms_of, survivors


def test_members_that_do_not_move_keep_their_bits_whatever_they_would_have_got():
    values = [torch.tensor([[1.0, -0.0], [math.inf, 2.0]]), torch.tensor([3, 4])]
    before = copied(values)
    for value in values:
        value.fill_(7)
    values[0][1, 0] = math.nan
    keep_(values, before, torch.tensor([True, False]))
    assert values[0].tolist() == [[7.0, 7.0], [math.inf, 2.0]]
    assert values[1].tolist() == [7, 4]
    keep_(values, before, None)
    assert values[1].tolist() == [7, 4]


def test_norms_are_of_each_member_and_tensor():
    assert norms_of([torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([2.0, 5.0])]).tolist() == [[5, 1], [2, 5]]


def test_those_that_have_ended_leave_together_at_the_next_mark():
    ends = {1: 5, 2: 16, 4: 40}
    at = {step: survivors(ends, range(6), step, every=16, share=1.0) for step in (6, 15, 16, 31, 32, 47, 48)}
    assert at[15] == list(range(6))
    assert at[16] == at[31] == [0, 2, 3, 4, 5]  # the third did 16 updates: it still moved at the mark
    assert at[32] == at[47] == [0, 3, 4, 5]
    assert at[48] == [0, 3, 5]


def test_where_leaving_is_dear_half_have_to_have_ended():
    ends = {0: 1, 1: 70, 2: 200}
    assert survivors(ends, range(4), 128, every=64, share=0.5) == [2, 3]
    assert survivors({0: 1}, range(4), 1000, every=64, share=0.5) == [0, 1, 2, 3]
