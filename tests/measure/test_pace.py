"""Pieces of work are counted: more work for a step, fewer steps; and the same answer every time."""

import torch
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.measure.pace import steps_at_once, work_of
from surefoot.sgd.plan import plan
from surefoot.training.population.member import Member


def member(model, batch_size=64, threads=1):
    task = surefoot.task(surefoot.load("digits"), model, precision="fp32", threads=threads)
    return Member(task, plan(Recipe(batch_size=batch_size), task.data.examples))


def test_multiplications_of_linear_and_convolutional_layers_are_counted_exactly():
    conv = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
    weights = 64 * 4 * 9 + 256 * 10
    assert work_of(member(conv).task) == (2, weights + 64 * 4 + 10)  # a bias for each output


def test_what_is_not_known_counts_each_parameter_once():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(64, 10))

        def forward(self, x):
            return {"logits": x.flatten(1) @ self.weight}["logits"]

    calls, work = work_of(member(Own()).task)
    assert calls == 1
    assert work >= 640


def test_more_work_makes_shorter_pieces_and_a_piece_has_a_step_at_least():
    small, large = member("mlp"), member("resnet20")
    pieces = [steps_at_once(each) for each in ([small], [small] * 10, [large], [large] * 10, [large] * 1000)]
    assert pieces == sorted(pieces, reverse=True)
    assert (pieces[1], pieces[-1]) == (pieces[0] // 10, 1)
    assert steps_at_once([member("resnet20", threads=2)]) > pieces[2]
    assert steps_at_once([member("resnet20", batch_size=128)]) < pieces[2]


def test_nothing_is_changed_and_no_number_is_drawn():
    one = member(nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10), nn.BatchNorm1d(10)))
    before, drawn = {k: v.clone() for k, v in one.task.template.state_dict().items()}, torch.get_rng_state()
    assert steps_at_once([one]) == steps_at_once([one])
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in one.task.template.state_dict().items())
