"""The law: a new update rule is one file. It trains alone and in a population, resumes, is searched for and printed."""

import pytest
import torch
from small import contents, differing, images

import surefoot
from surefoot import rules
from surefoot.comparison.rules import parse_rules
from surefoot.config import Recipe
from surefoot.errors import ConfigError
from surefoot.report.pytorch_code import pytorch_code
from surefoot.settings import from_dict, to_dict
from surefoot.training import checkpoint
from surefoot.training.loop import advance, fit, start
from surefoot.training.make import task
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import fit_many
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import Way

LION = '''
"""Lion: Chen et al. 2023 (arXiv 2302.06675), algorithm 2."""

from surefoot.rules.rule import UpdateRule


def _formula(w, g, slots, values):
    move = (values["beta1"] * slots["mean"] + (1 - values["beta1"]) * g).sign() + values["weight_decay"] * w
    mean = values["beta2"] * slots["mean"] + (1 - values["beta2"]) * g
    return w - values["lr"] * move, {"mean": mean}


def _program(values, weights):
    b1, b2, decay = values["beta1"], values["beta2"], values["weight_decay"]
    step = [
        "for w, m in zip(parameters, mean):",
        f"    w.sub_(lr * (({b1!r} * m + {1 - b1!r} * w.grad).sign() + {decay!r} * w))",
        f"    m.mul_({b2!r}).add_(w.grad, alpha={1 - b2!r})",
    ]
    return ["mean = [torch.zeros_like(w) for w in parameters]"], step


RULES = [
    UpdateRule(
        name="lion",
        text="the sign of an average of gradients",
        defaults={"lr": 1e-4, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0},
        slots=lambda values: {"mean": "weight"},
        formula=_formula,
        program=_program,
        lr_range=(1e-6, 1e-3),
        memory="beta2",
        memories=(0.98, 0.99),
        memory_scale=0.7,
        batch_exponent=0.5,
        decays=(0.1, 1.0, 10.0),
    )
]
'''


@pytest.fixture(autouse=True)
def lion(tmp_path, monkeypatch):
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "lion.py").write_text(LION)
    monkeypatch.setattr(rules, "__path__", [*rules.__path__, str(folder)])
    rules.update_rules.cache_clear()
    yield
    rules.update_rules.cache_clear()


def test_a_recipe_takes_it_and_its_settings():
    recipe = Recipe(rule="lion", lr=1e-3, steps=5)
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    assert (recipe.beta2, recipe.momentum) == (0.99, None)
    with pytest.raises(ConfigError, match=r"momentum = 0\.9 with rule lion"):
        Recipe(rule="lion", momentum=0.9)


def test_each_member_of_a_population_is_the_run_alone_and_resumes_bit_for_bit(tmp_path):
    work = task(images(), "mlp", precision="fp32", threads=1)
    recipes = [
        Recipe(rule="lion", lr=lr, weight_decay=wd, steps=8, batch_size=10) for lr, wd in ((1e-3, 0.0), (3e-3, 1))
    ]
    members = [Member(work, surefoot.plan(recipe, work.data.examples)) for recipe in recipes]
    alone = [fit(member.task, member.plan)[0] for member in members]
    for way in (Way("stacked", 2), Way("compiled", 2)):
        together, _ = fit_many(members, Engine(way))
        for a, b in zip(alone, together, strict=True):
            for mine, theirs in zip(a.model.parameters(), b.model.parameters(), strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    state, _ = advance(work, members[1].plan, start(work, members[1].plan), 3)
    checkpoint.save(tmp_path, work, state)
    resumed, _ = checkpoint.load_newest(tmp_path, work)
    ended, _ = advance(work, members[1].plan, resumed, 8)
    assert not differing(contents(ended), contents(alone[1]))


def test_find_lr_and_tune_look_where_it_says():
    found = surefoot.find_lr("linear", "digits", rule="lion", steps=20, seeds=1, range_test=False)
    assert found.evidence["rule"] == "lion"
    assert min(rate["lr"] for rate in found.evidence["rates"]) <= 1e-5
    tuned = surefoot.tune("digits", "linear", rule="lion", epochs=3, final=False)
    assert tuned.recipe is not None
    assert (tuned.recipe.rule, tuned.recipe.beta1) == ("lion", 0.9)
    assert tuned.recipe.lr < 0.05


def test_it_is_compared_and_printed():
    assert parse_rules(["lion beta2=0.98"])[0].recipe.beta2 == 0.98
    assert "sign()" in pytorch_code(Recipe(rule="lion", steps=10), 10, 5)
