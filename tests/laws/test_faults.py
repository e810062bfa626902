"""The law: each planted fault is named at its step with its reason, and what is sound passes: no false alarm."""

import re

import numpy as np
import pytest
import torch
from faults import FAULTS, HEALTHY, MORE_FAULTS, Case
from kind_cases import KIND_FAULTS, KINDS_SOUND, LEARNED
from sound import SOUND

import surefoot

ALL = {**FAULTS, **MORE_FAULTS, **KIND_FAULTS}
SOUND_ONES = {**HEALTHY, **SOUND, **KINDS_SOUND}


def checked(case: Case, step: int) -> surefoot.Decision:
    if step == 0:
        return surefoot.check_wiring(
            case.model, case.data, case.loss, step=case.step, optimizer=case.optimizer, **case.more
        )
    if step == 2:
        return surefoot.overfit_sample(case.model, case.data, case.loss, **case.more)
    return surefoot.check_initial_loss(case.model, case.data, case.loss, **case.more)


@pytest.mark.parametrize("name", ALL)
def test_each_planted_fault_is_named_at_its_step_with_its_reason(name):
    fault = ALL[name]
    decision = checked(fault.make(), fault.step)
    assert not decision.passed
    assert [f for f in decision.findings if f.name == fault.finding and re.search(fault.words, f.reason)], decision


@pytest.mark.parametrize("name", SOUND_ONES)
def test_what_is_sound_passes_both_steps(name):
    case = SOUND_ONES[name]()
    for step in (0, 1):
        decision = checked(case, step)
        assert decision.passed, [finding for finding in decision.findings if finding.verdict != "pass"]


@pytest.mark.parametrize("name", LEARNED)
def test_a_sample_of_each_sound_kind_is_learned(name):
    decision = checked(KINDS_SOUND[name](), 2)
    assert decision.passed, [finding for finding in decision.findings if finding.verdict != "pass"]


@pytest.mark.parametrize("batches", [False, True])
def test_targets_that_are_all_ignored_are_named_whatever_they_come_in(batches):
    ids, ignored = np.ones((64, 6), int), np.full((64, 6), -100)
    data = [(ids[at : at + 16], ignored[at : at + 16]) for at in range(0, 64, 16)] if batches else (ids, ignored)
    with pytest.raises(surefoot.DataError, match="all targets are -100"):
        surefoot.check_wiring(lambda *_: torch.nn.Embedding(2, 2), data)
