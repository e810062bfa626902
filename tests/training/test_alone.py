import pytest
import torch
from small import bits, images
from torch import nn

from surefoot.config import Recipe
from surefoot.optim.plan import plan
from surefoot.seeds import StepSeeds
from surefoot.training import alone
from surefoot.training.alone import Alone
from surefoot.training.loop import start
from surefoot.training.make import task
from surefoot.training.step import Stretch


def stretched(cuts, model="mlp", **recipe):
    """Return the state after ten steps in stretches that end at these, and what they saw."""
    work = task(images(), model, seed=2)
    made = plan(Recipe(**{"steps": 10, "batch_size": 12, "lr": 0.05} | recipe), 60)
    state, stepper = start(work, made), None
    losses, correct, at = [], 0, 0
    for until in cuts:
        stepper = Alone(work, made, state)
        stretch = Stretch(0, at, made.lr[at:until].tolist())
        with StepSeeds(work.seed, "step") as seeds:
            stepper.run([stretch], seeds)
        losses, correct, at = losses + stretch.losses, correct + stretch.correct, until
    return state, losses, correct


@pytest.mark.parametrize(
    "recipe", [{}, {"ema_decay": 0.9}, {"micro_batch_size": 5}, {"rule": "adamw", "lr": 1e-3}, {"rule": "muon"}]
)
def test_what_is_computed_does_not_depend_on_the_stretches(recipe):
    whole, single = (stretched(cuts, **recipe) for cuts in ([10], range(1, 11)))
    assert whole[1:] == single[1:]
    for one, other in zip(whole[0].weights.values(), single[0].weights.values(), strict=True):
        assert bits(one) == bits(other)


def test_right_answers_are_the_same_counted_at_once_and_one_by_one(monkeypatch):
    at_once = stretched([10])[2]
    monkeypatch.setattr(alone, "_MOST_BYTES", 1)
    assert stretched([10])[2] == at_once > 0


class Interrupted(nn.Module):
    """Stops in its third step, after batch norm has seen the batch, as Ctrl-C does."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(192, 3)
        self.asked = 0

    def forward(self, x):
        x = self.norm(x)
        self.asked += self.training
        if self.asked == 3:
            raise KeyboardInterrupt
        return self.head(x.flatten(1))


def test_what_was_done_before_an_interrupt_is_counted_and_nothing_of_the_step_is_left():
    work = task(images(), Interrupted(), seed=2)
    made = plan(Recipe(steps=10, batch_size=12), 60)
    state, twin = start(work, made), start(work, made)
    stretch, two = Stretch(0, 0, [0.1] * 10), Stretch(0, 0, [0.1] * 2)
    with StepSeeds(work.seed, "step") as seeds:
        Alone(work, made, twin).run([two], seeds)
        with pytest.raises(KeyboardInterrupt):
            Alone(work, made, state).run([stretch], seeds)
    assert (stretch.done, stretch.losses, stretch.correct) == (2, two.losses, two.correct)
    for name, value in twin.model.state_dict().items():
        assert torch.equal(state.model.state_dict()[name], value), name
