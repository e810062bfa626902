"""The law: member k of a population is the run that it would have been alone, whatever its fellows do.

A step is compared from the same state. Rounding differs, because sums are taken in another order: fused and solo
gradients were mostly 1e-7 to 1e-6 of the largest value apart, 2.5e-5 with batch norm over 7 examples; the tolerance is
1e-4. Over many steps that difference grows as any perturbation of a training does, so long runs are not compared.
"""

import dataclasses
import itertools
import math
import re

import pytest
import torch
from kinds import KINDS
from small import BatchNormDropoutNet, bare, contents, images, number_arrays
from target_kinds import kinds
from torch import Tensor, nn

import surefoot
from surefoot.config import Recipe, Schedule
from surefoot.data import epochs
from surefoot.record.run import Row
from surefoot.training.loop import advance, fit
from surefoot.training.make import reseeded, task
from surefoot.training.population.compiled import CompiledStep
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import advance_many, fit_many, start_many
from surefoot.training.population.member import Member, groups
from surefoot.training.population.stack import advance_stack
from surefoot.training.population.strategy import Way
from surefoot.training.population.workload import work_of
from surefoot.training.state import State
from surefoot.training.task import Task

TOLERANCE = 1e-4


@pytest.fixture
def everything_pays(monkeypatch):
    """Let the rule take ways that cannot pay in runs as short as these, with as few members."""
    monkeypatch.setattr("surefoot.training.population.strategy.SETUP_WEIGHT", 0.0)
    monkeypatch.setattr("surefoot.training.population.strategy.MARGIN", 0.01)
    monkeypatch.setattr("surefoot.training.population.engine.LEAST_STEPS", 0)


class OnlyVmap(nn.Module):
    """Layers that no stacked rule knows: layer norm, attention by einsum, a transposed convolution, a group norm."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(input_shape[0], 8, 2, 2)
        self.group = nn.GroupNorm(2, 8)
        self.norm = nn.LayerNorm(8)
        self.key, self.query = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.head = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.group(self.up(x)).flatten(2).transpose(1, 2)[:, ::8]
        scores = torch.einsum("bid,bjd->bij", self.query(x), self.key(x)) / math.sqrt(8)
        return self.head((x + scores.softmax(-1) @ self.norm(x)).mean(1))


class Attention(nn.Module):
    """A transformer's layer as PyTorch ships it; its fused attention has no rule for vmap."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.embed = nn.Linear(input_shape[-1], 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x.flatten(1, 2))).mean(1))


class OnlyLoop(nn.Module):
    """A model that reads a number out of its activations, which neither vmap nor a compiler can follow."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(input_shape), outputs)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.head(x.flatten(1))
        return outputs * (2.0 if float(outputs.detach().mean()) > 0 else 1.0)


DIGITS = surefoot.load("digits")
SMALL = images()
MODELS = {
    "linear": (DIGITS, "linear"),
    "mlp": (DIGITS, "mlp"),
    "cnn": (DIGITS, "cnn"),
    "resnet20": (DIGITS, "resnet20"),
    "batch norm and dropout": (SMALL, BatchNormDropoutNet),
    "only vmap": (SMALL, OnlyVmap),
    "attention": (SMALL, Attention),
}
PLAIN: list[dict] = [
    {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.0},
    {"lr": 0.05, "momentum": 0.5, "weight_decay": 1e-3, "label_smoothing": 0.1},
    {"lr": 0.02, "momentum": 0.0, "weight_decay": 1e-2, "schedule": Schedule(kind="linear")},
]
RULES = [
    {},
    {"momentum_form": "sutskever", "weight_decay_form": "decoupled", "decay_on": "weights", "clip_norm": 0.5},
    {"momentum_form": "nesterov", "momentum": 0.8, "ema_decay": 0.7, "micro_batch_size": 7},
]


def members_of(work: Task, seeds: tuple[int, ...] = (0, 0, 0), same_batches: bool = False, **changes) -> list[Member]:
    settings = {"steps": 12, "batch_size": 20} | changes
    plans = [surefoot.plan(Recipe(**(recipe | settings)), work.data.examples) for recipe in PLAIN]
    tasks = [reseeded(work, seed, same_batches=same_batches) for seed in seeds]
    return [Member(own, plan) for own, plan in zip(tasks, plans, strict=True)]


def apart(a: State, b: State) -> float:
    """Return the largest difference between two states' tensors, as a share of the largest value of each tensor."""
    pairs = list(zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True))
    for name, each in a.slots.items():
        pairs += zip(each, b.slots[name], strict=True)
    pairs += list(zip((a.average or {}).values(), (b.average or {}).values(), strict=True))
    return max(float((x.double() - y.double()).abs().max() / (x.double().abs().max() + 1e-6)) for x, y in pairs)


def check_steps(members: list[Member], steps: int, compute=None) -> None:
    """Hold each of a few steps of the stack against the solo step from the same state."""
    states = start_many(members)
    for until in range(1, steps + 1):
        alone = [advance(m.task, m.plan, state.clone(), until) for m, state in zip(members, states, strict=True)]
        for positions in groups(members).values():
            chosen, own = [members[i] for i in positions], [states[i] for i in positions]
            found = advance_stack(chosen, own, until, compute)
            for i, rows in zip(positions, found, strict=True):
                lone, lone_rows = alone[i]
                assert apart(lone, states[i]) < TOLERANCE
                assert states[i].slots.keys() == lone.slots.keys()
                assert states[i].step == lone.step
                assert states[i].outcome == lone.outcome
                assert states[i].tally.correct == pytest.approx(lone.tally.correct, rel=1e-6)  # shares of several
                assert states[i].tally.losses == pytest.approx(lone.tally.losses, rel=1e-5)
                for ours, theirs in zip(rows, lone_rows, strict=True):
                    assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-5)
                    assert ours.val_loss == pytest.approx(theirs.val_loss, rel=1e-4)
                    assert ours.update_ratio == pytest.approx(theirs.update_ratio, rel=1e-3, abs=1e-7)
                    assert (ours.lr, ours.step, ours.examples) == (theirs.lr, theirs.step, theirs.examples)
                    assert list(ours.layers) == list(theirs.layers) != []
                    for name, (grad_norm, ratio) in theirs.layers.items():
                        assert ours.layers[name] == pytest.approx((grad_norm, ratio), rel=2e-3, abs=1e-7, nan_ok=True)


@pytest.mark.parametrize("rule", RULES, ids=["plain", "sutskever", "nesterov"])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_of_each_member_is_the_step_it_would_have_done_alone(name, rule):
    data, model = MODELS[name]
    work = task(data, model, precision="fp32", threads=1, augment=["flip"] if data is SMALL else ())
    members = members_of(work, steps=3, **rule)
    if "momentum" in rule:
        members = [Member(m.task, m.plan) for m in members]
    assert len(groups(members)) == 1
    check_steps(members, 3)


OTHERS = {
    "adam": ({"lr": 1e-3}, {"beta1": 0.5, "weight_decay": 1e-2, "clip_norm": 0.5}, {"beta2": 0.9, "eps": 1e-3}),
    "adamw": ({"lr": 1e-2}, {"beta1": 0.0, "weight_decay": 0.0}, {"beta2": 0.99, "ema_decay": None}),
    "muon": ({"lr": 1e-2}, {"momentum": 0.6, "weight_decay": 0.0}, {"lr": 3e-2, "clip_norm": 0.5}),
    "rmsprop": ({"lr": 1e-3}, {"momentum": 0.9, "weight_decay": 1e-2}, {"alpha": 0.9, "label_smoothing": 0.1}),
}


@pytest.mark.parametrize("compute", [None, CompiledStep("eager")], ids=["stacked", "compiled"])
@pytest.mark.parametrize("rule", OTHERS)
def test_so_it_is_for_every_rule(rule, compute):
    work = task(DIGITS, "mlp", precision="fp32", threads=1)
    settings = {"rule": rule, "steps": 6, "batch_size": 20, "decay_on": "weights"}
    plans = [surefoot.plan(Recipe(**settings | each), work.data.examples) for each in OTHERS[rule]]
    members = [Member(work, plan) for plan in plans]
    assert len(groups(members)) == 1
    check_steps(members, 6, compute)


def of_kind(name: str, *recipes: dict, **settings: object) -> list[Member]:
    """Return members of a kind, two with other rates and decays if not said."""
    work = KINDS[name].task(threads=1)
    each = recipes or ({"lr": 0.01, "momentum": 0.9}, {"lr": 0.05, "momentum": 0.5, "weight_decay": 1e-3})
    plans = [surefoot.plan(Recipe(**{"steps": 4, "batch_size": 20, **settings, **one}), work.data.examples)
             for one in each]  # fmt: skip
    return [Member(work, plan) for plan in plans]


ADAMW = {"rule": "adamw", "eps": 1e-3}  # attention's key bias has no gradient but rounding, which a small eps enlarges
OF_RULE = {"sgd": (), "adamw": ({**ADAMW, "lr": 1e-3}, {**ADAMW, "lr": 1e-2, "beta1": 0.5})}
COMPILED = ("dict", "tokens", "tokens, is_causal", "multilabel", "sum and count", "several heads")
"""Kinds whose step may be compiled: no buffers or convolutions, and the model called by the form of its inputs."""


@pytest.mark.parametrize("rule", OF_RULE)
@pytest.mark.parametrize("name", KINDS)
def test_so_it_is_for_every_kind_of_batch_and_target(name, rule):
    members = of_kind(name, *OF_RULE[rule])
    assert len(groups(members)) == 1
    check_steps(members, 2)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "mapping and loss_fn"])  # a mean over tokens
def test_so_it_is_in_pieces_for_every_kind_whose_loss_counts(name):
    check_steps(of_kind(name, micro_batch_size=7), 2)


@pytest.mark.parametrize("name", KINDS)
def test_a_compiled_step_of_each_kind_that_may_be_is_the_same_step(name):
    members = of_kind(name)
    assert work_of(members[0], 2).compilable == (name in COMPILED)
    if name in COMPILED:
        check_steps(members, 2, CompiledStep("eager"))


def test_a_loss_fn_that_reads_a_number_is_left_to_the_loop_with_the_reason(everything_pays):
    kind = KINDS["mapping and loss_fn"]

    def reads(model, batch):
        loss = kind.more["loss_fn"](model, batch)
        return loss * (2.0 if float(loss.detach()) > 2 else 1.0)

    work = task(surefoot.load(kind.data), kind.make, loss_fn=reads, precision="fp32", threads=1)
    plans = [surefoot.plan(Recipe(lr=lr, steps=4, batch_size=20), work.data.examples) for lr in (0.01, 0.1)]
    states, records = fit_many([Member(work, plan) for plan in plans])
    assert all(re.search(r"^loop; not stacked: RuntimeError: .*item", record.computed) for record in records)
    for plan, state in zip(plans, states, strict=True):
        assert contents(state) == contents(fit(work, plan)[0])


def test_members_of_different_rules_are_computed_apart():
    work = task(DIGITS, "linear", threads=1)
    plans = [surefoot.plan(Recipe(rule=rule, steps=3), work.data.examples) for rule in ("sgd", "adam", "adamw", "adam")]
    assert list(groups([Member(work, plan) for plan in plans]).values()) == [[0], [1, 3], [2]]


@pytest.mark.parametrize("same_batches", [False, True])
@pytest.mark.parametrize("name", ["mlp", "cnn", "only vmap"])
def test_members_with_other_seeds_have_their_own_weights_and_the_batches_that_were_asked_for(name, same_batches):
    data, model = MODELS[name]
    work = task(data, model, precision="fp32", threads=1, augment=["flip"] if data is SMALL else ())
    members = members_of(work, (0, 1, 2), same_batches, steps=3)
    assert len(groups(members)) == 1
    check_steps(members, 3)


def test_members_with_their_own_batches_draw_each_order_once(monkeypatch):
    work = task(SMALL, "linear", threads=1)
    plan = surefoot.plan(Recipe(steps=8, batch_size=15), work.data.examples)  # two epochs
    members = [Member(reseeded(work, seed), plan) for seed in range(100, 112)]
    drawn, plain = [], epochs.seeds.generator
    monkeypatch.setattr(epochs.seeds, "generator", lambda *address: drawn.append(address) or plain(*address))
    advance_many(members, start_many(members), 8, Engine(Way("stacked", 12)))
    assert sorted(drawn) == [(seed, "order", epoch) for seed in range(100, 112) for epoch in (0, 1)]


def test_dropout_draws_from_one_generator_for_each_seed_so_seeds_are_computed_apart():
    work = task(SMALL, BatchNormDropoutNet, precision="fp32", threads=1)
    members = members_of(work, (0, 1, 0), steps=2)
    assert list(groups(members).values()) == [[0, 2], [1]]
    check_steps(members, 2)


def test_regression_and_a_loss_of_the_users_are_stacked_too():
    data = surefoot.load(number_arrays(), target="numbers")
    check_steps(members_of(task(data, "mlp", threads=1), steps=3, label_smoothing=0.0), 3)
    huber = task(data, "mlp", loss=lambda outputs, y: (outputs[:, 0] - y).abs(), threads=1)
    check_steps(members_of(huber, steps=3, label_smoothing=0.0), 3)


def test_the_plateau_schedule_of_each_member_reads_its_own_validation_losses():
    work = task(SMALL, "mlp", threads=1)
    shape = Schedule(kind="plateau", patience_epochs=0, factor=0.5)
    members = members_of(work, steps=24, schedule=shape, lr=1.0)
    _, records = fit_many(members, Engine(Way("stacked", 3)))
    for member, record in zip(members, records, strict=True):
        alone = fit(member.task, member.plan)[1]
        assert [row.lr for row in record.rows] == pytest.approx([row.lr for row in alone.rows])


def test_members_with_weighted_classes_are_stacked_and_apart_from_those_without():
    weighted = surefoot.task(surefoot.load("digits"), "mlp", class_weights="balanced")
    weighted = dataclasses.replace(weighted, class_weights=torch.linspace(0.2, 1.8, 10))
    check_steps(members_of(weighted), 3)
    plain = dataclasses.replace(weighted, class_weights=None)
    assert len(groups([*members_of(weighted), *members_of(plain)])) == 2


@pytest.mark.parametrize("kind", ["multilabel", "segmentation", "tokens"])
def test_members_with_weighted_labels_pixels_and_tokens_are_stacked(kind):
    data, model = kinds()[kind]
    work = surefoot.task(surefoot.load(data, target=kind), model, class_weights="balanced", precision="fp32", threads=1)
    check_steps(members_of(work, steps=3, **({"label_smoothing": 0.0} if kind == "multilabel" else {})), 3)


@pytest.mark.parametrize("form", ["stacked", "compiled"])
def test_a_member_that_diverges_ends_alone_and_leaves_the_others_their_numbers(form):
    work = task(DIGITS, "mlp", threads=1)
    recipes = [Recipe(lr=lr, steps=12, batch_size=20, momentum=0.9) for lr in (0.01, 1e30, 0.05)]
    members = [Member(work, surefoot.plan(recipe, work.data.examples)) for recipe in recipes]
    states, records = fit_many(members, Engine(Way(form, 3)))
    without, _ = fit_many([members[0], members[2]], Engine(Way(form, 2)))
    assert [record.outcome.kind for record in records] == ["finished", "diverged", "finished"]
    lone, lone_record = fit(members[1].task, members[1].plan)
    assert dataclasses.asdict(records[1].outcome) == dataclasses.asdict(lone_record.outcome)
    assert apart(states[1], lone) < TOLERANCE
    for survivor, alone in zip((states[0], states[2]), without, strict=True):
        assert apart(survivor, alone) < TOLERANCE


@pytest.mark.parametrize("form", ["stacked", "compiled"])
def test_the_average_of_a_member_that_diverges_is_the_one_it_would_have_had_alone(form):
    work = task(DIGITS, "mlp", threads=1)
    recipes = [Recipe(lr=lr, steps=12, batch_size=20, ema_decay=0.5) for lr in (0.01, 1e4, 0.05)]
    members = [Member(work, surefoot.plan(recipe, work.data.examples)) for recipe in recipes]
    states, records = fit_many(members, Engine(Way(form, 3)))
    assert [record.outcome.kind for record in records] == ["finished", "diverged", "finished"]
    for state, member in zip(states, members, strict=True):
        alone, record = fit(member.task, member.plan)
        assert state.step == alone.step
        if record.outcome.kind == "diverged":
            assert 2 < state.step < 12
            check_average(state, alone)


def check_average(state: State, alone: State) -> None:
    """What a diverging run averages is astronomical and differs by rounding: one update more would be of other size."""
    assert state.average is not None
    for name, value in (alone.average or {}).items():
        assert float(state.average[name].norm()) == pytest.approx(float(value.norm()), rel=0.1)


def test_batch_norm_keeps_the_statistics_from_before_the_step_that_was_not_done():
    work = task(DIGITS, "cnn", precision="fp32", threads=1)
    recipes = [Recipe(lr=lr, steps=6, batch_size=20) for lr in (0.01, 1e38)]
    members = [Member(work, surefoot.plan(recipe, work.data.examples)) for recipe in recipes]
    states, records = fit_many(members, Engine(Way("stacked", 2)))
    alone, lone_record = fit(members[1].task, members[1].plan)
    assert records[1].outcome == lone_record.outcome
    assert lone_record.outcome.kind == "diverged"
    assert apart(states[1], alone) < TOLERANCE


def test_a_compiled_step_is_the_same_step():
    for recipe, model in itertools.product(({}, RULES[1]), ("mlp",)):
        members = members_of(task(DIGITS, model, threads=1), steps=3, **recipe)
        check_steps(members, 3, CompiledStep())


def test_what_only_the_plain_loop_can_do_is_done_by_it_bit_for_bit(everything_pays):
    work = task(SMALL, OnlyLoop, threads=1)
    members = members_of(work, steps=12)
    states, records = fit_many(members)
    assert {record.computed.partition(":")[0] for record in records} == {"loop; not stacked"}, "vmap must have refused"
    for member, state, record in zip(members, states, records, strict=True):
        lone, lone_record = fit(member.task, member.plan)
        assert contents(state) == contents(lone)
        assert bare(record.rows) == bare(lone_record.rows)


def test_processes_give_the_bits_of_the_loop_with_one_thread():
    work = task(SMALL, BatchNormDropoutNet, precision="fp32", threads=1, augment=["crop:1"])
    members = members_of(work, ema_decay=0.9)
    states, records = fit_many(members, Engine(Way("loop", processes=2)))
    for member, state, record in zip(members, states, records, strict=True):
        lone, lone_record = fit(member.task, member.plan)
        assert contents(state) == contents(lone)
        assert bare(record.rows) == bare(lone_record.rows)
        assert record.outcome == lone_record.outcome


def test_members_of_a_process_that_dies_are_computed_here(monkeypatch):
    monkeypatch.setattr("surefoot.training.population.spread.scalars_of", lambda state: 1 / 0)
    work = task(SMALL, "mlp", threads=1)
    members = members_of(work)
    states, _ = fit_many(members, Engine(Way("loop", processes=2)))
    for member, state in zip(members, states, strict=True):
        assert contents(state) == contents(fit(member.task, member.plan)[0])


def test_members_that_differ_in_length_data_or_batch_are_computed_apart():
    work, other = task(DIGITS, "linear"), task(SMALL, "linear")
    plans = [
        surefoot.plan(Recipe(batch_size=b, steps=s), work.data.examples) for b, s in ((8, 4), (8, 4), (16, 4), (8, 5))
    ]
    members = [*(Member(work, plan) for plan in plans), Member(other, surefoot.plan(Recipe(batch_size=8, steps=4), 60))]
    assert list(groups(members).values()) == [[0, 1], [2], [3], [4]]
    _, records = fit_many(members)
    assert [record.outcome.step for record in records] == [4, 4, 4, 5, 4]


WAYS = [Way("stacked", 2), Way("stacked", 5), Way("loop", processes=2), Way("compiled", 3, 2)]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_how_the_steps_are_divided_into_calls_changes_no_bit(way):
    """Two members diverge on the way, at different steps; two have other seeds; averages and rows are compared too."""
    work = task(DIGITS, "mlp", threads=1)
    tasks = [work, reseeded(work, 1), work, reseeded(work, 2), work]
    rates, smoothing = (0.01, 1e30, 0.05, 1e4, 0.02), (0.0, 0.1, 0.0, 0.0, 0.0)
    members = [
        Member(
            own,
            surefoot.plan(Recipe(lr=lr, steps=11, batch_size=20, ema_decay=0.9, label_smoothing=s), work.data.examples),
        )
        for own, lr, s in zip(tasks, rates, smoothing, strict=True)
    ]
    members = [Member(m.task, dataclasses.replace(m.plan, row_steps=(4, 8, 11))) for m in members]
    whole, rows = advance_many(members, start_many(members), 11, Engine(way))
    assert len({state.step for state in whole}) == 3, "two must diverge on the way"
    engine, pieces = Engine(way), start_many(members)
    found: list[list[Row]] = [[] for _ in members]
    for until in (1, 2, 5, 6, 10, 11):
        pieces, new = advance_many(members, pieces, until, engine)
        found = [old + more for old, more in zip(found, new, strict=True)]
    for a, b, ours, theirs in zip(whole, pieces, rows, found, strict=True):
        assert contents(a) == contents(b)
        assert bare(tuple(ours)) == bare(tuple(theirs))


def test_the_plateau_of_stacked_members_is_the_same_in_any_division():
    work = task(SMALL, "mlp", threads=1)
    members = members_of(work, steps=24, schedule=Schedule(kind="plateau", patience_epochs=0, factor=0.3), lr=1.0)
    whole, _ = advance_many(members, start_many(members), 24, Engine(Way("stacked", 3)))
    pieces = start_many(members)
    for until in (2, 3, 7, 16, 24):
        pieces, _ = advance_many(members, pieces, until, Engine(Way("stacked", 3)))
    for a, b in zip(whole, pieces, strict=True):
        assert contents(a) == contents(b)


def test_the_same_call_is_computed_the_same_way_in_any_division(everything_pays):
    work = task(DIGITS, BatchNormDropoutNet, threads=1)  # its buffers rule compiling out
    members = members_of(work, steps=40, lr=0.1)
    whole, _ = advance_many(members, start_many(members), 40)
    pieces, engine = start_many(members), Engine()
    for until in (1, 7, 8, 30, 40):
        pieces, _ = advance_many(members, pieces, until, engine)
    assert engine.computed(members) == ["stacked by 3"] * 3
    for a, b in zip(whole, pieces, strict=True):
        assert contents(a) == contents(b)
