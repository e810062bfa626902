"""What a step costs: every rule has its repetitions, and more examples cost more."""

import statistics

import surefoot
from surefoot.comparison.step_cost import ROUNDS, step_costs
from surefoot.config import Recipe
from surefoot.record.progress import finished


def test_a_step_of_more_examples_costs_more_and_each_is_repeated():
    task = surefoot.task(surefoot.load("digits"), "mlp", threads=1)
    before = task.template.head.weight.clone()
    small, large = finished(step_costs(task, [Recipe(batch_size=1), Recipe(batch_size="full")]))
    assert len(small) == len(large) == ROUNDS
    assert 0 < statistics.median(small) < statistics.median(large)
    assert bool((task.template.head.weight == before).all())
