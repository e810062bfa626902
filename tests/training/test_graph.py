from collections import defaultdict

import pytest
import torch
from recorded import recorded
from torch import nn

from surefoot.training import graph
from surefoot.training.graph import TRIAL_STEPS, captured, new_stream, no_reading_back, plain_state, side_stream, tried

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def a_graph(monkeypatch):
    monkeypatch.setattr(graph, "captured", recorded)


def test_without_a_card_the_function_stands_in():
    def function():
        return None

    assert captured(function, CPU) is function
    assert new_stream(CPU) is None
    with side_stream(CPU, None), no_reading_back(CPU):
        assert torch.ones(1).item() == 1


def test_after_a_trial_all_is_as_it_was_and_the_graph_goes_on_from_there():
    weight, seen = torch.ones(3), []

    def step():
        weight.mul_(2)

    replay = tried(step, lambda: [weight], [], CPU, seen.append)
    assert weight.tolist() == [1, 1, 1]
    assert seen == [*range(TRIAL_STEPS), *range(TRIAL_STEPS)]
    replay()
    replay()
    assert weight.tolist() == [4, 4, 4]


def test_what_python_decides_from_step_to_step_is_found_by_its_bits():
    weight, calls = torch.ones(3), []

    def step():
        calls.append(0)
        weight.mul_(len(calls))

    assert tried(step, lambda: [weight], [], CPU, lambda i: None) == "its steps as a graph have other bits"
    assert weight.tolist() == [1, 1, 1]


def test_an_error_of_the_capture_is_the_reason():
    weight = torch.ones(3)

    def step():
        weight.mul_(2).sum().item()

    assert tried(step, lambda: [weight], [], CPU, lambda i: None).startswith("operation not permitted")
    assert weight.tolist() == [1, 1, 1]


def test_numbers_that_are_not_finite_are_compared_too():
    weight = torch.tensor([1.0, torch.nan, torch.inf])

    def step():
        weight.mul_(2)

    assert callable(tried(step, lambda: [weight], [], CPU, lambda i: None))


def test_a_layer_that_is_skipped_by_chance_is_found_though_all_trial_steps_agree():
    weight = torch.ones(3)

    def step():
        if float(torch.rand(())) < 1:  # the host's generator, as of LayerDrop
            weight.mul_(2)

    card = torch.device("meta")  # not a CPU, whose dropout draws from this generator
    assert tried(step, lambda: [weight], [], card, lambda i: None) == "the model draws from the host's generator"
    assert weight.tolist() == [1, 1, 1]


def test_a_private_counter_is_seen():
    module, weight = nn.Linear(1, 1), torch.ones(3)
    module._calls = 0

    def step():
        module._calls += 1
        weight.mul_(2 if module._calls < 1000 else 3)

    assert "counts or remembers" in tried(step, lambda: [weight], [module], CPU, lambda i: None)
    assert module._calls == 0


def test_plain_attributes_are_copies():
    module = nn.Linear(1, 1)
    module.seen, module.table = [[1]], defaultdict(int, {"a": (1, 2)})
    before = plain_state([nn.Sequential(module)])
    module.seen[0].append(2)
    after = plain_state([nn.Sequential(module)])
    assert before != after
    assert after[1]["table"] == {"a": (1, 2)}


def test_a_step_that_reads_what_the_last_left_on_the_way_is_found():
    weight, left = torch.ones(3), []

    def step():
        left.append(weight + 1)  # of which the next reads the one that lies in the graph's pool
        weight.add_(left[-2] if len(left) > 1 else 0)

    assert tried(step, lambda: [weight], [], CPU, lambda i: None) == "its steps as a graph have other bits"
