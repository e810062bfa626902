"""What the program says; that it is true is a law: tests/laws/test_printed_program.py."""

import pytest

from surefoot.config import Config, Recipe, Schedule
from surefoot.report.loss_code import LOSSES, Calls
from surefoot.report.pytorch_code import program_of, pytorch_code
from surefoot.rules import update_rules

OWN = Calls(functions={"loss": "in-memory"})


@pytest.mark.parametrize("rule", update_rules())
def test_it_is_a_program_of_pytorch_alone_with_all_digits(rule):
    code = pytorch_code(Recipe(rule=rule, lr=0.0123456789, weight_decay=0.00012345678), 10, 5)
    compile(code, "printed program", "exec")
    assert "surefoot" not in code
    assert "0.0123456789" in code
    assert "0.00012345678" in code


def test_what_it_cannot_hold_is_said():
    code = pytorch_code(Recipe(ema_decay=0.9, schedule=Schedule(kind="plateau")), 10, 5, precision="bf16")
    for word in ("initialised", "order", "augmentation", "average", "bfloat16", "validation", "not finite"):
        assert any(word in line for line in code.splitlines() if line.startswith("#")), word


def test_a_loss_is_named_or_brought():
    for loss, (text, _) in LOSSES.items():
        assert f"loss_of = {text}" in pytorch_code(Recipe(), 10, 5, loss=loss)
    code = pytorch_code(Recipe(), 10, 5, loss="dice")
    assert "loss_of = " not in code
    assert "dice" in next(line for line in code.splitlines() if line.startswith("#   loss_of"))


def test_the_program_of_a_run_follows_its_target_loss_and_length():
    recipe = Recipe(epochs=3, schedule=Schedule(kind="linear"))
    assert "MSELoss" in program_of(Config(target="numbers"), recipe, 7)
    assert "CrossEntropyLoss" in program_of(Config(), recipe, 7)
    assert "loss_of = " not in program_of(Config(), recipe, 7, OWN)
    assert "each of the 21 updates" in program_of(Config(), recipe, 7)
    assert "each of the 4,000 updates" in program_of(Config(), Recipe(), 400)
    standardised = "deviation + mean"
    assert standardised in program_of(Config(target="numbers"), recipe, 7)
    assert standardised not in program_of(Config(target="numbers", loss="bce"), recipe, 7)
    assert standardised not in program_of(Config(target="numbers", standardise_targets=False), recipe, 7)
    assert standardised not in program_of(Config(target="numbers"), recipe, 7, OWN)
    assert "autocast" in program_of(Config(precision="bf16"), recipe, 7)


def test_lines_fit_a_page():
    for rule in update_rules():
        code = pytorch_code(Recipe(rule=rule, decay_on="weights", weight_decay=0.1, clip_norm=1.0), 10, 5)
        assert max(map(len, code.splitlines())) <= 180


def test_weights_from_elsewhere_and_an_end_before_the_last_step_are_said():
    plain = program_of(Config(), Recipe(), 10)
    started = program_of(Config(from_run="runs/first"), Recipe(), 10)
    stopped = program_of(Config(early_stopping_epochs=5), Recipe(), 10)
    assert "start.safetensors" in started.splitlines()[0]
    assert "may stop early" in stopped.splitlines()[0]
    for code in (started, stopped):
        assert code.partition("\n")[2] == plain


def test_sizes_of_images_are_said_by_the_updates_that_see_them():
    code = pytorch_code(Recipe(progressive_resizing=("16:0.25", "20:0.5")), 100, 50)
    assert "images have 16 pixels in updates before 25, 20 pixels in updates before 50, then all" in code
    assert "pixels in updates" not in pytorch_code(Recipe(), 100, 50)
