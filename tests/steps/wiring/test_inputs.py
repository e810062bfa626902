import numpy as np
import pytest
import torch
from faults import seeded
from kind_cases import OnlyNumbers, Recurrent, Tagger, bigram, masked_words, tags
from kinds import KINDS, LanguageModel, Shifted, Two, by_name, examples, next_words, padded
from torch import Tensor, nn

import surefoot
from surefoot.steps.wiring.inputs import inputs_examples, measure_inputs, stirred
from surefoot.steps.wiring.judge_inputs import InputFacts, judge_inputs


def facts(model, data, **more) -> InputFacts:
    return measure_inputs(surefoot.task(surefoot.load(data), model, precision="fp32", **more))


@pytest.mark.parametrize("name", KINDS)
def test_a_sound_task_of_each_kind_uses_its_inputs_and_mixes_nothing(name):
    work = KINDS[name].task()
    found = measure_inputs(work)
    assert found.unused == ()
    assert not found.mixes
    assert not found.looks_ahead
    assert found.evaluated_examples <= inputs_examples(work)
    assert all(finding.verdict == "pass" for finding in judge_inputs(found))


def test_a_leaf_that_is_left_out_is_named_and_one_that_never_varies_is_not_asked_for():
    assert facts(seeded(OnlyNumbers), by_name()).unused == ("codes",)
    x, y = by_name()
    assert facts(seeded(OnlyNumbers), ({**x, "codes": np.zeros_like(x["codes"])}, y)).unused == ()
    nested = ({"numbers": x["numbers"], "codes": x["codes"], "more": {"a": x["numbers"], "b": x["codes"]}}, y)
    forward = {"forward": lambda model, x: model(x["numbers"], x["more"]["b"])}
    assert facts(seeded(Two), nested, **forward).unused == ("codes", "more.a")


def test_a_leaf_that_a_loss_fn_leaves_out_is_named_and_one_that_it_reads_is_not():
    own = {"loss_fn": lambda m, b: nn.functional.cross_entropy(m(b["numbers"], b["codes"]), b["y"])}
    found = examples() | {"row": np.arange(160)}
    assert facts(seeded(Two), found, **own).unused == ("row",)
    assert facts(seeded(Two), examples(), **own).unused == ()


def test_what_starts_at_zero_hides_nothing():
    class Gated(Two):
        def __init__(self):
            super().__init__()
            self.gate = nn.Parameter(torch.zeros(()))
            nn.init.zeros_(self.head.weight)

        def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
            return super().forward(numbers, codes * 0) + self.gate * self.codes(codes)[:, :3]

    assert facts(seeded(Gated), by_name()).unused == ()
    model = seeded(lambda: LanguageModel(causal=False))
    nn.init.zeros_(model.head.weight)
    assert facts(model, next_words()).looks_ahead


@pytest.mark.parametrize(
    ("make", "ahead"),
    [
        (LanguageModel, False), (Shifted, False), (Recurrent, False), (bigram, False),
        (lambda: Tagger(ahead=False), False), (lambda: LanguageModel(causal=False), True), (Tagger, True),
    ],
)  # fmt: skip
def test_a_model_of_next_tokens_may_not_look_ahead(make, ahead):
    found = facts(seeded(make), next_words())
    assert found.looks_ahead is ahead
    assert found.next_token == 1


def test_a_padded_language_model_is_one_too_and_a_mask_is_no_text():
    found = facts(seeded(lambda: LanguageModel(padding=True)), padded())
    assert 0.8 < found.next_token < 0.99  # the last of a sentence is none
    assert found.looks_ahead is False
    assert facts(seeded(lambda: LanguageModel(causal=False, padding=True)), padded()).looks_ahead is True


def test_a_tagger_and_hidden_words_may_look_everywhere():
    for data in (tags(), masked_words()):
        found = facts(seeded(lambda: LanguageModel(causal=False)), data)
        assert found.looks_ahead is None
        assert found.copied < 0.5


def test_examples_are_mixed_where_an_axis_is_taken_for_another_but_not_by_batch_statistics():
    assert facts(seeded(lambda: LanguageModel(causal=False, batch_first=False)), tags()).mixes
    assert facts(seeded(lambda: Recurrent(batch_first=False)), tags()).mixes
    assert not facts(seeded(lambda: Recurrent(batch_first=True)), tags()).mixes
    x, y = examples()["numbers"], examples()["y"]
    centred = seeded(lambda: nn.Sequential(Centred(), nn.Linear(4, 3)))
    assert facts(centred, (x, y)).mixes
    norm = seeded(lambda: nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)))
    assert facts(norm, (x, y)).mixes is None  # it is planned


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


def test_a_model_that_refuses_exchanged_inputs_is_not_judged_by_them():
    class Refuses(Two):
        def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
            if not self.training and len(codes) > 2 and int(codes[0]) != first:
                raise ValueError("not this one")
            return super().forward(numbers, codes)

    work = surefoot.task(surefoot.load(by_name()), Two)
    first = int(surefoot.steps.wiring.measure.batch(work)[0]["codes"][0])
    found = measure_inputs(surefoot.task(surefoot.load(by_name()), Refuses()))
    assert found.unused == ()


def test_only_a_copy_is_moved():
    work = KINDS["dict"].task()
    before = {name: value.clone() for name, value in work.template.state_dict().items()}
    moved = stirred(work).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in work.template.state_dict().items())
    assert all(not torch.equal(value, before[name]) for name, value in moved.items())
