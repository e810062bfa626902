"""The test of dependence has the false-alarm rate that it claims, and finds what is planted."""

import numpy as np
import torch
from faults import seeded
from kinds import KINDS, Two, by_name, labels, several_yes
from scipy.stats import kstest

import surefoot
from surefoot.record.decision import cost_in_examples
from surefoot.steps.wiring.dependence import LEAST_STEPS, MOST_EXAMPLES, dependence, matching_z, may_be_asked
from surefoot.steps.wiring.judge_training import CLEAR
from surefoot.training.task import task


def test_z_is_standard_normal_where_targets_do_not_depend_on_outputs():
    rng = np.random.default_rng(0)
    for kind in ("classes", "numbers"):
        zs = []
        for _ in range(400):
            if kind == "classes":  # three classes, 20 : 4 : 1
                y = torch.from_numpy(rng.choice(3, 200, p=[0.8, 0.16, 0.04]))
                zs.append(matching_z(torch.from_numpy(rng.normal(size=(200, 3))).log_softmax(1), y))
            else:
                y = torch.from_numpy(rng.normal(size=(200, 1)))
                zs.append(matching_z(torch.from_numpy(rng.normal(size=(200, 1))) + 5, y))
        assert kstest(zs, "norm").pvalue > 0.01, "fixed seed; a wrong scale by 20 % gives p below 1e-3"


def test_z_of_a_small_matching_is_that_of_all_permutations():
    rng = np.random.default_rng(1)
    scores, y = torch.from_numpy(rng.normal(size=(5, 2))), torch.tensor([0, 1, 1, 0, 1])
    import itertools

    sums = np.array([float(scores[range(5), y[list(p)]].sum()) for p in itertools.permutations(range(5))])
    expected = (float(scores[range(5), y].sum()) - sums.mean()) / sums.std()
    assert abs(matching_z(scores, y) - expected) < 1e-9


def test_outputs_that_are_all_alike_say_nothing():
    assert matching_z(torch.zeros(10, 3), torch.arange(10) % 3) == 0.0


def data(depends, target="classes", examples=400):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(examples, 6)).astype(np.float32)
    signal = x[:, 0] + 0.5 * x[:, 1] ** 2
    signal = signal if depends else rng.permutation(signal)
    return surefoot.load((x, signal > 0.4 if target == "classes" else signal), target=target)


def test_a_dependence_is_clear_and_its_absence_is_not_for_want_of_power():
    for target in ("classes", "numbers"):
        found = dependence(task(data(True, target), "mlp"))
        assert found.z > CLEAR
        assert found.planted_z is None
        found = dependence(task(data(False, target), "mlp"))
        assert found.z < CLEAR < found.planted_z


def test_it_trains_on_a_copy_of_the_training_part_alone():
    work = task(data(True), "mlp")
    before = {name: each.clone() for name, each in work.template.state_dict().items()}
    found = dependence(work)
    assert found.examples + found.held_out == work.data.examples
    assert all(torch.equal(each, before[name]) for name, each in work.template.state_dict().items())


def cost(found):
    looks = found.looks
    return cost_in_examples(sum(x.trained_examples for x in looks), sum(x.evaluated_examples for x in looks))


def test_it_never_costs_more_than_it_may_and_a_low_z_without_a_control_is_none():
    """Of 360 examples 108 are held out: a look after ten updates of 64 at three rates costs 3 x (640 + 108 / 3)."""
    work = task(data(False), "mlp", threads=1)
    first, telling = 2028, 2 * 2028 + 3 * (20 * 64 + 108 // 3)  # two looks, and one at planted targets
    assert dependence(work, first - 1) is None
    for most in (first, telling - 1, telling, 20_000, MOST_EXAMPLES):
        found = dependence(work, most)
        assert cost(found) <= most
        own, control = ([look for look in found.looks if look.planted == planted] for planted in (False, True))
        assert found.steps == own[-1].steps
        assert len(control) <= len(own)
        if most < telling:
            assert (found.steps, found.planted_z) == (10, None)
        else:
            assert found.steps >= LEAST_STEPS
            assert found.planted_z > CLEAR
    assert found.steps == 200


def test_with_few_examples_held_out_no_target_is_planted_and_all_may_be_spent():
    found = dependence(task(data(False, examples=100), "mlp", threads=1), 30_000)
    assert found.planted_z is None
    assert found.held_out == 27
    assert 20_000 < cost(found) <= 30_000


def test_members_that_all_diverge_are_no_evidence():
    class Wild(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(6, 2)

        def forward(self, x):
            return self.head(x * 1e30) * 1e30

    found = dependence(task(data(True), Wild(), threads=1))
    assert (found.z, found.planted_z, len(found.looks)) == (-99.0, None, 1)
    assert cost(found) < 2028


def test_several_yes_or_no_and_inputs_by_name_are_asked_too_and_pixels_and_tokens_are_not():
    rng = np.random.default_rng(0)
    for made, model in ((labels(900), several_yes()), (by_name(900), seeded(Two))):
        assert may_be_asked(task(surefoot.load(made), model))
        found = dependence(task(surefoot.load(made), model))
        assert found.z > CLEAR
        x, y = made
        found = dependence(task(surefoot.load((x, rng.permutation(y))), model))
        assert found.z < CLEAR < found.planted_z
    asked = [name for name, kind in KINDS.items() if may_be_asked(kind.task())]
    assert asked == ["dict", "tuple", "forward", "multilabel"]
