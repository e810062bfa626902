"""The lines of groups in the printed program; tests/laws/test_printed_program.py executes them."""

from surefoot.config import Recipe
from surefoot.report.group_code import group_lines, grouped_update
from surefoot.report.pytorch_code import pytorch_code


def test_an_optimizer_of_torch_gets_parameter_groups():
    before, update = grouped_update(Recipe(rule="adamw", groups={"head": {"lr": 10}}))
    assert any(line.startswith("optimizer = torch.optim.AdamW(grouped, ") for line in before)
    assert '    group["lr"] = lr * group["factor"]' in update


def test_what_is_written_out_is_made_for_each_group():
    before, update = grouped_update(Recipe(momentum_form="sutskever", groups={"head": {"lr": 10}}))
    assert "def updating(parameters, factor, decay, begins):" in before
    assert any("w.grad + decay * w" in line for line in before), "the decay is the group's"
    assert update == ["for update in updates:", "    update(lr, t)"]


def test_epochs_are_written_as_updates_and_for_ever_as_the_length():
    lines, at_step = group_lines(Recipe(groups={"a": {"frozen_epochs": 2, "lr": 3}, "b": "frozen"}), 100, 10)
    assert "    'a': {'lr': 3.0, 'begins': 20}," in lines
    assert "    'b': {'begins': 100}," in lines
    assert at_step == ["if t in begins:", "    stand_still(t)"]


def test_a_recipe_without_groups_is_printed_as_it_was():
    code = pytorch_code(Recipe(), 100, 10)
    assert "fnmatch" not in code
    assert "factor" not in code
