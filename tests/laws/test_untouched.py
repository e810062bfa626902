"""The law: what is the caller's stays as it is, to the byte, whether a training ends, diverges or raises."""

import hashlib
import random
from functools import partial

import numpy as np
import pytest
import torch
from kinds import KINDS
from kinds import module as made_of
from small import BatchNormDropoutNet, bits, image_arrays, images, number_arrays
from torch import nn

import surefoot
from surefoot.config import Recipe
from surefoot.data import tree
from surefoot.optim.plan import plan
from surefoot.training.configure import resolve
from surefoot.training.evaluate import evaluate_part
from surefoot.training.loop import advance, fit, start
from surefoot.training.make import task
from surefoot.training.open import open_run
from surefoot.training.open import train as train_to_the_end


def surroundings() -> dict[str, object]:
    """Return all global state of the process that a training could disturb, in a form that == compares."""
    numpy_state = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (numpy_state[0], numpy_state[1].tobytes(), *numpy_state[2:]),  # pyright: ignore
        "torch": bits(torch.get_rng_state()),
        "grad": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "autocast": torch.is_autocast_enabled("cpu"),
    }


def of_module(module: nn.Module) -> dict[str, object]:
    """Return everything about a module that training changes."""
    return {
        "tensors": {name: bits(value) for name, value in module.state_dict().items()},
        "modes": {name: child.training for name, child in module.named_modules()},
        "gradients": {name: p.grad for name, p in module.named_parameters()},
        "needs": {name: p.requires_grad for name, p in module.named_parameters()},
        "places": {name: (p.data_ptr(), p.stride()) for name, p in module.named_parameters()},
        "hooks": [len(child._forward_hooks) for child in module.modules()],
    }


@pytest.fixture(autouse=True)
def untouched():
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    before = surroundings()
    yield
    assert surroundings() == before


def module() -> nn.Module:
    with torch.random.fork_rng():
        made = BatchNormDropoutNet((3, 8, 8), 3)
    made.train()
    made.norm.eval()  # a mixture of modes, of which each must come back
    return made


SHORT = {"epochs": 2, "batch_size": 10, "augment": ["flip", "crop:1"], "ema_decay": 0.9, "precision": "fp32"}


def test_train_leaves_module_arrays_and_random_states(tmp_path):
    mine, (x, y) = module(), image_arrays(60)
    before, digests = of_module(mine), [hashlib.sha256(a.tobytes()).digest() for a in (x, y)]
    result = train_to_the_end((x, y), mine, runs_dir=tmp_path, threads=2, **SHORT)
    assert of_module(mine) == before
    assert [hashlib.sha256(a.tobytes()).digest() for a in (x, y)] == digests
    assert result.record.outcome.kind == "finished"
    assert result.model.net is not mine
    moved = result.model.net.state_dict()["conv.weight"]
    assert bits(moved) != before["tensors"]["conv.weight"], "the copy must have been trained"


def test_fit_and_evaluate_leave_module_tensors_and_random_states():
    mine, (x, y) = module(), image_arrays(60)
    images_, labels = torch.from_numpy(x), torch.from_numpy(y)
    before, arrays = of_module(mine), [bits(images_), bits(labels)]
    work = task(surefoot.load((images_, labels), validation=0.2), mine, augment=["flip"])
    state, _ = fit(work, plan(Recipe(epochs=1, batch_size=8), work.data.examples))
    assert of_module(mine) == before
    assert [bits(images_), bits(labels)] == arrays
    trained = of_module(state.model)
    evaluate_part(work, state.model, state.weights, work.data.validation)
    assert of_module(state.model) == trained


def test_a_task_can_be_trained_twice_with_the_same_end():
    work = task(images(), module())
    made = plan(Recipe(epochs=1, batch_size=10), 60)
    template = of_module(work.template)
    first, second = fit(work, made)[0], fit(work, made)[0]
    assert of_module(first.model)["tensors"] == of_module(second.model)["tensors"]
    assert of_module(work.template) == template


def test_a_clone_of_a_state_goes_its_own_way():
    work = task(images(), module())
    made = plan(Recipe(epochs=2, batch_size=10, ema_decay=0.5), 60)
    state, _ = advance(work, made, start(work, made), 3)
    copy, before = state.clone(), of_module(state.model)
    velocity, average = [bits(v) for v in state.slots["velocity"]], {k: bits(v) for k, v in state.average.items()}
    advance(work, made, copy, 9)
    assert of_module(state.model) == before
    assert [bits(v) for v in state.slots["velocity"]] == velocity
    assert {k: bits(v) for k, v in state.average.items()} == average
    assert state.step == 3


def test_a_float_array_of_numbers_is_not_normalised_in_place():
    x, y = number_arrays()
    before = x.tobytes()
    work = task(surefoot.load((x, y), target="numbers"), "linear")
    fit(work, plan(Recipe(epochs=2, batch_size=10), work.data.examples))
    assert x.tobytes() == before


VERBS = {
    "wiring": surefoot.check_wiring,
    "initial loss": surefoot.check_initial_loss,
    "sample": partial(surefoot.overfit_sample, lrs=[0.1], max_steps=16),
    "rates": partial(surefoot.find_lr, steps=10, seeds=2, low=0.01, high=0.1, points_per_decade=1, batch_size=16),
    "noise": partial(surefoot.gradient_noise, batch_size=16, micro_batches=8, micro_batch_size=4),
    "rules": partial(
        surefoot.compare, rules=["mini-batch lr=0.1 batch_size=16"], epochs=1, seeds=1, slice_points=3, surfaces=False
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_no_verb_changes_model_or_arrays_of_any_kind(name):
    kind = KINDS[name]
    mine, arrays = made_of(kind), tree.leaves(tree.as_tree(kind.data))
    mine.train()
    next(mine.children()).eval()  # a mixture of modes, of which each must come back
    before, digests = of_module(mine), [hashlib.sha256(each.tobytes()).digest() for each in arrays]
    for verb in VERBS.values():
        verb(mine, kind.data, precision="fp32", threads=torch.get_num_threads(), **kind.more)
        assert of_module(mine) == before
        assert [hashlib.sha256(each.tobytes()).digest() for each in arrays] == digests


class Failing(nn.Module):
    """Raises in the third training batch, after it has drawn random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.drop = nn.Linear(192, 3), nn.Dropout()
        self.batches = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches += self.training
        x = self.drop(self.head(x.flatten(1)))
        if self.batches == 3:
            random.getstate()
            raise RuntimeError("out of luck")
        return x


def failing() -> nn.Module:
    with torch.random.fork_rng():
        return Failing()


def test_an_exception_in_the_model_passes_and_leaves_everything_as_it_was(tmp_path):
    mine = failing()
    before = of_module(mine)
    with pytest.raises(RuntimeError, match="out of luck"):
        train_to_the_end(image_arrays(60), mine, runs_dir=tmp_path, threads=2, **SHORT)
    assert of_module(mine) == before
    assert mine.batches == 0
    work = task(images(), mine)
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(work, plan(Recipe(epochs=1, batch_size=10), 60))
    assert of_module(mine) == before


def test_an_exception_in_evaluation_leaves_modes_and_weights():
    class FailsInEvaluation(BatchNormDropoutNet):
        def forward(self, x):
            if not self.training and len(x) > 2:
                raise RuntimeError("out of luck")
            return super().forward(x)

    with torch.random.fork_rng():
        mine = FailsInEvaluation((3, 8, 8), 3)
    work = task(images(), mine)
    state = start(work, plan(Recipe(epochs=1, batch_size=10), 60))
    state.model.norm.eval()
    before = of_module(state.model)
    with pytest.raises(RuntimeError, match="out of luck"):
        evaluate_part(work, state.model, state.weights, work.data.validation)
    assert of_module(state.model) == before


def test_an_exception_frees_the_run_for_the_next_process(tmp_path):
    with pytest.raises(RuntimeError, match="out of luck"):
        train_to_the_end(image_arrays(60), failing(), runs_dir=tmp_path, name="a", **SHORT)
    config = resolve({"data": "digits", "model": "linear", "recipe": {"epochs": 1}})
    with open_run(config, name="b", runs_dir=tmp_path):
        pass
    with open_run(config, name="b", runs_dir=tmp_path):
        pass


def test_a_divergence_leaves_everything_as_it_was(tmp_path):
    mine = module()
    before = of_module(mine)
    result = train_to_the_end(image_arrays(60), mine, runs_dir=tmp_path, lr=1e38, **SHORT)
    assert result.record.outcome.kind == "diverged"
    assert of_module(mine) == before


def test_a_model_that_draws_in_evaluation_does_not_disturb_the_caller(tmp_path):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(192, 3)

        def forward(self, x):
            return self.head(x.flatten(1)) + 0.1 * torch.randn(len(x), 3)

    with torch.random.fork_rng():
        mine = Noisy()
    results = [
        train_to_the_end(image_arrays(60), mine, runs_dir=tmp_path, epochs=1, batch_size=10, name=name).summary
        for name in "ab"
    ]
    assert results[0]["test_loss"] == results[1]["test_loss"]
    assert results[0]["val_loss"] == results[1]["val_loss"]
