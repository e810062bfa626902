"""`check_wiring`: what is given stays as it is, and own steps are judged by what they do."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from faults import Case, digits, loader, own_step, plain, raw_digits, seeded
from small import BatchNormDropoutNet, bits, image_arrays
from torch import nn

import surefoot
from surefoot.errors import ConfigError, DataError


def named(decision, name):
    return [finding for finding in decision.findings if finding.name == name]


def test_the_decision_has_claim_evidence_and_time_and_can_be_written_down():
    decision = surefoot.check_wiring("mlp", "digits")
    assert (decision.step, decision.name, decision.value) == (0, "wiring", None)
    assert surefoot.Decision.from_dict(decision.to_dict()).findings == decision.findings
    assert decision.evidence["dependence"]["z"] > 10
    assert decision.seconds > 0


def test_the_light_form_trains_nothing_and_says_nothing_of_what_carries_over():
    whole, light = surefoot.check_wiring("mlp", "digits"), surefoot.check_wiring("mlp", "digits", most_examples=2000)
    assert "dependence" not in light.evidence
    assert {each.name for each in whole.findings} - {each.name for each in light.findings} == {"dependence"}


def test_the_answer_is_a_function_of_the_seed_alone():
    first = surefoot.check_wiring("cnn", image_arrays(60), seed=3)
    torch.manual_seed(5)
    again = surefoot.check_wiring("cnn", image_arrays(60), seed=3)
    drop = {"dependence": {**again.evidence["dependence"], "seconds": 0}}
    assert {**first.evidence, "dependence": {**first.evidence["dependence"], "seconds": 0}} == {
        **again.evidence,
        **drop,
    }


def test_a_step_needs_the_module_that_it_trains():
    with pytest.raises(ConfigError, match=r"nn\.Module"):
        surefoot.check_wiring("mlp", "digits", step=lambda model, x, y: None)


@pytest.mark.parametrize(
    ("model", "data", "error"), [("none", "digits", ConfigError), ("mlp", "./none.csv", DataError)]
)
def test_what_does_not_exist_is_an_error_and_no_finding(model, data, error):
    with pytest.raises(error):
        surefoot.check_wiring(model, data)


def step_of(case: Case, **settings):
    return surefoot.check_wiring(case.model, case.data, step=settings.get("step", case.step), optimizer=case.optimizer)


def test_a_step_that_raises_is_a_finding():
    def step(model, x, y):
        raise ValueError("no such thing")

    decision = step_of(own_step(), step=step)
    assert "ValueError: no such thing" in named(decision, "own-step")[0].reason


def test_a_step_that_moves_nothing_is_a_finding_and_a_rate_of_zero_only_suspect():
    assert step_of(own_step(), step=lambda model, x, y: None).verdict == "fail"
    decision = step_of(own_step(lr=0.0))
    assert (decision.verdict, named(decision, "own-step")[0].reason) == (
        "suspect",
        "the step moves nothing: the learning rate is 0",
    )


def test_a_part_that_the_optimizer_lacks_is_named():
    case = own_step()
    case.optimizer.param_groups[0]["params"] = list(case.model[1].parameters())
    assert "3.weight" in named(step_of(case), "own-step")[0].reason


@pytest.mark.parametrize("where", ["before", "after"])
def test_gradients_may_be_cleared_before_or_after_the_step(where):
    case = own_step()

    def step(model, x, y):
        if where == "before":
            case.optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        case.optimizer.step()
        if where == "after":
            case.optimizer.zero_grad(set_to_none=False)

    assert step_of(case, step=step).passed


def test_a_missing_zero_grad_is_seen_behind_clipping():
    case = own_step(zero_grad=False)

    def step(model, x, y):
        F.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        case.optimizer.step()

    assert named(step_of(case, step=step), "zero-grad")


def test_a_step_that_accumulates_over_calls_is_let_be():
    case, calls = own_step(), []

    def step(model, x, y):
        calls.append(1)
        (F.cross_entropy(model(x), y) / 4).backward()
        if len(calls) % 4 == 0:
            case.optimizer.step()
            case.optimizer.zero_grad()

    assert step_of(case, step=step).passed


class Loaded(BatchNormDropoutNet):
    """Counts its batches, and fails at a given one."""

    def __init__(self, fails_at=None, error=RuntimeError):
        super().__init__((3, 8, 8), 3)
        self.batches, self.fails_at, self.error = [], fails_at, error

    def forward(self, x):
        self.batches.append(len(x))
        random.random(), np.random.rand(), torch.rand(1)
        if self.fails_at is not None and len(self.batches) == self.fails_at:
            raise self.error("here")
        return super().forward(x)


@pytest.mark.parametrize("check", [surefoot.check_wiring, surefoot.check_initial_loss])
@pytest.mark.parametrize(("fails_at", "error"), [(None, None), (6, RuntimeError), (4, KeyboardInterrupt)])
def test_nothing_of_the_callers_is_changed(check, fails_at, error):
    model = seeded(lambda: Loaded(fails_at, error))
    model.norm.eval()
    images, y = (torch.from_numpy(each) for each in image_arrays(80))
    data = loader(images.float() / 100 - 1, y, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    own = {}
    if check is surefoot.check_wiring:

        def step(model, x, y):
            optimizer.zero_grad()
            F.cross_entropy(model.train()(x), y).backward()
            optimizer.step()

        own = {"step": step, "optimizer": optimizer}
    F.cross_entropy(seeded(lambda: nn.Linear(3, 3))(torch.ones(2, 3)), torch.tensor([0, 1]))
    model.head.weight.grad = torch.ones_like(model.head.weight)
    fixed = model.batches

    def everything():
        return {
            **{name: bits(each) for name, each in [*model.named_parameters(), *model.named_buffers()]},
            **{f"{name} grad": None if p.grad is None else bits(p.grad) for name, p in model.named_parameters()},
            "modes": [module.training for module in model.modules()],
            "counts": (model.batches is fixed, list(model.batches)),
            "optimizer": repr(optimizer.state_dict()),
            "loader": bits(data.generator.get_state()),
            "python": random.getstate(),
            "numpy": repr(np.random.get_state()),
            "torch": bits(torch.get_rng_state()),
            "threads": torch.get_num_threads(),
            "autograd": torch.is_grad_enabled(),
        }

    before = everything()
    if error is None:
        decision = check(model, data, **own)
        assert len(decision.untouched) == 64
    else:
        with pytest.raises(error, match="here"):
            check(model, data, **own)
    after = everything()
    assert [name for name in before if before[name] != after[name]] == []


def test_more_outputs_than_classes_are_suspect_and_the_rest_is_still_checked():
    decision = surefoot.check_wiring(seeded(lambda: plain(outputs=12)), digits())
    assert (decision.verdict, decision.reason) == ("suspect", "the model has 12 outputs, but labels run from 0 to 9")
    assert named(decision, "dependence")[0].verdict == "pass"


def test_labels_from_one_with_an_output_to_spare_are_suspect():
    x, y = raw_digits()
    decision = surefoot.check_wiring(seeded(lambda: plain(outputs=11)), loader(x, y + 1))
    assert decision.verdict == "suspect"
    assert "class 0 never occurs" in decision.reason


def test_hard_tasks_with_few_examples_are_not_called_shuffled():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 5)).astype(np.float32), rng.integers(0, 2, 90)
    assert named(surefoot.check_wiring("mlp", (x, y)), "dependence")[0].verdict == "pass"
