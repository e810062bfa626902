import torch
from small import images
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.optim.plan import plan
from surefoot.training.loop import advance, fit, start
from surefoot.training.make import task
from surefoot.training.state import averaging_decay, trainable


def net() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(192, 4), nn.Linear(4, 3))


def begun(**recipe):
    work = task(images(), net())
    made = plan(Recipe(**{"epochs": 1, "batch_size": 10} | recipe), 60)
    return work, advance(work, made, start(work, made), 2)[0]


def test_the_weights_are_the_average_where_one_is_kept():
    _, state = begun()
    assert state.average is None
    assert {k: v.data_ptr() for k, v in state.weights.items()} == {
        k: v.data_ptr() for k, v in state.model.state_dict().items()
    }
    _, state = begun(ema_decay=0.9)
    floating = {name for name, value in state.model.state_dict().items() if value.is_floating_point()}
    assert set(state.average) == floating
    assert all(state.weights[name] is state.average[name] for name in floating)
    assert state.weights["0.num_batches_tracked"] == 2, "a counter has no average"


def test_only_what_needs_a_gradient_is_trained():
    model = net()
    model[2].requires_grad_(False)
    assert list(trainable(model)) == ["0.weight", "0.bias", "3.weight", "3.bias"]


def test_finiteness_is_judged_of_weights_buffers_and_velocity():
    work, state = begun()
    assert state.is_finite(work.template)
    for place in (state.model[3].bias.data, state.model[0].running_var, state.slots["velocity"][0]):
        before = place[0].item()
        for value in (float("nan"), float("inf")):
            place[0] = value
            assert not state.is_finite(work.template)
        place[0] = before
    assert state.is_finite(work.template)
    work.template[0].running_var[0] = float("inf")
    state.model[0].running_var[0] = float("inf")
    assert state.is_finite(work.template), "what is infinite from the start is meant so"


def test_a_clone_shares_nothing():
    _, state = begun(ema_decay=0.9)
    copy = state.clone()
    mine = {
        t.data_ptr() for t in [*state.model.state_dict().values(), *state.slots["velocity"], *state.average.values()]
    }
    theirs = {
        t.data_ptr() for t in [*copy.model.state_dict().values(), *copy.slots["velocity"], *copy.average.values()]
    }
    assert mine.isdisjoint(theirs)
    copy.tally.losses.append(1.0)
    copy.val_losses.append(1.0)
    assert len(state.tally.losses) == 2
    assert state.val_losses == []
    assert torch.equal(copy.model[3].weight, state.model[3].weight)


def test_an_average_of_a_short_run_is_of_what_was_trained_and_not_of_the_initial_weights():
    # The share of the initial weights in an average with decay 0.999 after 200 updates was 0.82.
    share = 1.0
    for t in range(1, 201):
        share *= averaging_decay(0.999, t)
    assert share < 1e-9
    assert averaging_decay(0.9, 10_000) == 0.9


def test_an_averaged_short_run_is_about_as_good_as_one_without():
    digits = surefoot.task(surefoot.load("digits"), "linear", seed=0)
    right = []
    for decay in (None, 0.999):
        recipe = surefoot.Recipe(lr=0.1, steps=150, batch_size=64, ema_decay=decay)
        _, record = fit(digits, surefoot.plan(recipe, digits.data.examples))
        right.append(record.last.val_accuracy)
    assert right[1] >= right[0] - 0.03
