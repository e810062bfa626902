"""A pair that fits becomes a task; one that does not becomes the findings that say why."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from surefoot.errors import ConfigError
from surefoot.record.decision import Finding
from surefoot.steps.wiring.prepare import decided, prepared

PLACE = {"seed": 0, "device": "cpu", "precision": "fp32", "threads": 1}
X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)


def test_a_pair_that_fits_is_a_task():
    task, findings = prepared(nn.Linear(4, 2), (X, np.arange(40) % 2), None, **PLACE)
    assert task is not None
    assert task.data.outputs == 2
    assert {each.verdict for each in findings} == {"pass"}


def test_more_outputs_than_classes_occur_are_classes_that_are_missing():
    task, _ = prepared(nn.Linear(4, 5), (X, np.arange(40) % 2), None, **PLACE)
    assert task is not None
    assert task.data.classes == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
    ("model", "y", "name"),
    [
        (nn.Linear(3, 2), np.arange(40) % 2, "shapes"),  # takes 3 numbers, there are 4
        (nn.Linear(4, 2), np.arange(40) % 3, "labels"),  # a class has no output
        (nn.Linear(4, 2), np.arange(40) % 2 + 1, "labels"),  # labels from 1
        (nn.Linear(4, 2).requires_grad_(False), np.arange(40) % 2, "gradients"),
    ],
)
def test_a_pair_that_does_not_fit_is_no_task_and_a_finding_that_fails(model, y, name):
    task, findings = prepared(model, (X, y), None, **PLACE)
    assert task is None
    failed = [each for each in findings if each.verdict == "fail"]
    assert name in {each.name for each in failed}, findings
    assert all(each.advice for each in failed)


def test_one_logit_with_a_loss_of_ones_own_keeps_its_labels_as_numbers():
    def loss(outputs, y):
        return F.binary_cross_entropy_with_logits(outputs[:, 0], y.float())

    task, findings = prepared(nn.Linear(4, 1), (X, np.arange(40) % 2), loss, **PLACE)
    assert task is not None, findings
    assert not task.classifies
    assert torch.isfinite(task.mean_loss(task.template(task.data.train.x), task.data.train.y))


def test_a_model_that_there_is_not_is_an_error():
    with pytest.raises(ConfigError, match="mpl"):
        prepared("mpl", (X, np.arange(40) % 2), None, **PLACE)


def test_a_decision_has_the_reason_of_its_gravest_finding():
    good = Finding(name="a", verdict="pass", reason="fine")
    odd = Finding(name="b", verdict="suspect", reason="odd", advice="look")
    bad = Finding(name="c", verdict="fail", reason="broken", advice="mend")
    found = decided(0, "wiring", "it fits", [good, odd, bad], value={"x": 1})
    assert (found.verdict, found.reason, found.advice, found.value) == ("fail", "broken", "mend", {"x": 1})
    assert decided(0, "wiring", "it fits", [good, odd]).reason == "odd"
    passed = decided(0, "wiring", "it fits", [good])
    assert (passed.verdict, passed.reason, passed.advice) == ("pass", "all 1 checks passed", None)
