"""The law: each planted fault is named at its step with its reason, and what is sound passes: no false alarm."""

import re

import pytest
from faults import FAULTS, HEALTHY, MORE_FAULTS, Case
from sound import SOUND

import surefoot

ALL = {**FAULTS, **MORE_FAULTS}
SOUND_ONES = {**HEALTHY, **SOUND}


def checked(case: Case, step: int) -> surefoot.Decision:
    if step == 0:
        return surefoot.check_wiring(case.model, case.data, case.loss, step=case.step, optimizer=case.optimizer)
    return surefoot.check_initial_loss(case.model, case.data, case.loss)


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
