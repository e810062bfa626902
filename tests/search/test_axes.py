import math

import pytest

from surefoot.config import Recipe
from surefoot.rules import update_rules
from surefoot.search.axes import AXES, BATCHES, Frame, batch_axis, decay_axis, memory_axis, usual_decay

STEPS, EXAMPLES = 1000, 50_000


def frame(base=None, given=(), fixed=(), examples=EXAMPLES):
    base = base or Recipe(batch_size=64)
    return Frame(base, STEPS, examples, lambda name: name not in fixed, frozenset(given))


def entered(axis, value, frame):
    """The recipe of the final run with a value of one axis."""
    values = {"lr": frame.base.lr, **axis.enter(value, {"lr": frame.base.lr}, frame)}
    steps = frame.steps_of(values.get("batch_size", frame.base.batch_size))
    changes = {name: each for name, each in values.items() if name != "lr"}
    return Recipe(**{"batch_size": 64, "rule": frame.base.rule, "steps": steps, "lr": frame.base.lr, **changes})


@pytest.mark.parametrize("rule", update_rules())
def test_a_recipe_that_got_a_value_is_read_as_that_value(rule):
    of = frame(Recipe(rule=rule, batch_size=64))
    axes = [axis for make in AXES if (axis := make(of)) is not None]
    assert axes
    for axis in axes:
        assert axis.usual in axis.values
        assert axis.values == tuple(sorted(axis.values))
        for value in axis.values:
            assert axis.read(entered(axis, value, of), 1.0) == pytest.approx(value)


def test_coordinates_are_decades_and_doublings():
    of = frame()
    memory, batch, decay = memory_axis(of), batch_axis(of), decay_axis(of)
    assert memory.place(0.9) == pytest.approx((-1.0,))
    assert batch.place(64) == (6.0,)
    assert decay.place(10.0) == (1.0,)
    assert decay.place(0.0) == (-2.0,), "none is as good as a hundredth"


def test_batches_are_those_of_which_an_epoch_has_enough_updates():
    assert batch_axis(frame()).values == BATCHES
    assert batch_axis(frame(examples=700)).values == (8, 16, 32, 64), "64 is the base's"
    assert batch_axis(frame()).usual == 32
    assert batch_axis(frame(Recipe(batch_size=16))).usual == 16


@pytest.mark.parametrize(
    ("make", "fixed", "base"),
    [
        (memory_axis, ("momentum",), None),
        (memory_axis, ("lr",), None),
        (batch_axis, ("batch_size",), None),
        (batch_axis, (), Recipe(batch_size=64, steps=500)),  # each size would have another price
        (batch_axis, (), Recipe(batch_size="full")),
        (decay_axis, ("weight_decay",), None),
        (decay_axis, (), Recipe(rule="rmsprop", batch_size=64)),  # its decay has no share of the weights
    ],
)
def test_there_is_no_axis_of_what_cannot_be_varied(make, fixed, base):
    assert make(frame(base, fixed=fixed)) is None
    assert make(frame()) is not None
    assert batch_axis(frame(examples=None)) is None


def test_a_run_in_other_batches_has_as_many_examples():
    of = frame()
    assert (of.steps_of(64), of.steps_of(16), of.steps_of(512)) == (1000, 4000, 125)


def test_a_decay_that_was_given_is_among_those_tried_and_the_first():
    usual = frame().base.update_rule.usual_decay
    assert usual_decay(frame()) == usual
    given = frame(Recipe(batch_size=64, weight_decay=1e-4), given=("weight_decay",))
    total = 0.1 / (1 - 0.9) * 1e-4 * STEPS
    assert usual_decay(given) == pytest.approx(total, rel=0.01)
    assert usual_decay(given) in decay_axis(given).values
    assert usual_decay(frame(Recipe(batch_size=64, weight_decay=0.0), given=("weight_decay",))) == 0.0


def test_a_decay_is_the_share_of_the_weights_whatever_the_batch():
    of = frame()
    decay = decay_axis(of)
    small, large = ({"lr": 0.1, "momentum": 0.9, "batch_size": size} for size in (16, 64))
    ratio = decay.enter(1.0, large, of)["weight_decay"] / decay.enter(1.0, small, of)["weight_decay"]
    assert math.log2(ratio) == pytest.approx(2, abs=0.02), "a quarter of the updates, four times the decay of each"
