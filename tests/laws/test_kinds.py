"""The law: every verb works on every kind of batch, target and loss: in Python, and from files on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from kinds import KINDS, labels, masks, module, next_words

import surefoot
from surefoot.cli.app import run as main
from surefoot.search.execute import Executor
from surefoot.search.journal import Journal
from surefoot.search.moves import Check, ChooseBatchSize
from surefoot.training.population.engine import Engine
from surefoot.training.population.strategy import LOOP

FAST = {"precision": "fp32", "threads": 1}


@pytest.mark.parametrize("name", KINDS)
def test_a_rate_is_found_noise_measured_and_rules_compared(name):
    kind = KINDS[name]
    found = surefoot.find_lr(
        module(kind), kind.data, steps=20, seeds=2, points_per_decade=2, batch_size=16, **FAST, **kind.more
    )
    assert found.value is not None
    noise = surefoot.gradient_noise(
        module(kind), kind.data, batch_size=16, micro_batches=8, micro_batch_size=8, **FAST, **kind.more
    )
    assert noise.total.grad_norm_sq.value > 0
    compared = surefoot.compare(
        module(kind), kind.data, rules=["mini-batch lr=0.05 batch_size=16"], epochs=2, seeds=1, slice_points=3,
        surfaces=False, **FAST, **kind.more,
    )  # fmt: skip
    (rule,) = compared.rules
    assert rule.losses[0][-1] < compared.initial_loss
    assert (rule.accuracies is None) == (name in ("mapping and loss_fn", "several heads"))
    assert compared.slice is not None


@pytest.mark.parametrize("name", KINDS)
def test_a_search_ends_with_a_model_that_learned(name, tmp_path):
    kind = KINDS[name]
    tuned = surefoot.tune(kind.data, kind.make, epochs=12, budget="2x", runs_dir=tmp_path, **FAST, **kind.more)
    assert tuned.recipe is not None
    assert tuned.result.record.outcome.kind == "finished"
    first, last = tuned.result.record.rows[0], tuned.result.record.last
    assert last.train_loss < first.train_loss
    assert any(decision.name == "initial-loss" for decision in tuned.decisions)


@pytest.mark.parametrize("name", ["tuple", "mapping and loss_fn", "tokens, is_causal", "multilabel", "segmentation"])
def test_each_step_of_a_search_is_carried_out_on_the_task_with_its_own_call_and_loss(name):
    kind = KINDS[name]
    here = Executor(kind.task(threads=1), kind.make, Journal(), Engine(LOOP))
    recipe = surefoot.Recipe(lr=0.05, steps=40, batch_size=16)
    steps = [Check(step, recipe, 40_000) for step in ("wiring", "initial-loss", "overfit-sample")]
    for move in (*steps, ChooseBatchSize(recipe, probe_steps=20)):
        for _ in here.carry_out(move):
            pass
    made = here.journal.history.decisions
    assert [decision.name for decision in made] == ["wiring", "initial-loss", "overfit-sample", "batch-size"]
    assert all(decision.verdict == "pass" for decision in made[:3])
    assert made[3].value is not None


FILES = {"tokens": (next_words, "lm"), "segmentation": (masks, "pixels"), "multilabel": (labels, "yes")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    support = str(Path(__file__).parents[1] / "support")
    (tmp_path / "nets_of_kinds.py").write_text(
        f"import sys\nsys.path.append({support!r})\n"
        "from kinds import LanguageModel, Pixels, several_yes\n"
        "lm, pixels, yes = (lambda *_: LanguageModel()), (lambda *_: Pixels()), (lambda *_: several_yes())\n"
    )
    for name, (make, _) in FILES.items():
        x, y = make()
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_so_they_do_on_the_command_line(name, folder, capsys):
    common = [f"{name}.npz", "--model", f"nets_of_kinds:{FILES[name][1]}", "--threads", "1", "--quiet"]

    def run(verb: str, *flags: str) -> dict:
        assert main([verb, *common, *flags, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert [decision["verdict"] for decision in run("check")] == ["pass"] * 3
    assert run("find-lr", "--steps", "20", "--seeds", "2", "--target", name)["value"]["lr"] > 0
    if name == "tokens":  # the others, of networks that are quicker
        return
    sizes = ("--sizes", "8", "16", "--probe-steps", "20", "--points", "2", "--lr", "0.1", "--no-report")
    made = run("noise", *sizes, "--micro-batches", "8", "--micro-batch-examples", "4")
    assert made["value"]["batch_size"] in (8, 16)
    rules = run("compare", "--rule", "mini-batch lr=0.05", "--epochs", "1", "--seeds", "1", "--no-report")["rules"]
    assert len(rules) == 1
    assert run("tune", "--epochs", "4", "--no-report")["outcome"] == "finished"


def test_targets_that_are_none_of_the_kind_are_named_on_the_command_line(folder, capsys):
    np.savez("bad.npz", x=np.zeros((20, 4), np.float32), y=np.arange(80).reshape(20, 4))
    assert main(["check", "bad.npz", "--model", "nets_of_kinds:yes", "--target", "multilabel", "--quiet"]) != 0
    assert "labels are 0 or 1" in capsys.readouterr().err
