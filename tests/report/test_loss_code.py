"""What the lines of a loss say; that they are true is a law: tests/laws/test_printed_program.py."""

import pytest

from surefoot.config import Config, Recipe
from surefoot.report.loss_code import LOSSES, OF_TOKENS, Calls, helpers, loss_definition
from surefoot.report.pytorch_code import program_of


@pytest.mark.parametrize(
    ("inputs", "target", "functions", "text"),
    [
        ("tensor", "classes", {}, "outputs = model(x)"),
        ("tuple", "classes", {}, "outputs = logits_of(model(*x))"),
        ("dict", "numbers", {}, "outputs = logits_of(model(**x))"),
        ("dict", "tokens", {"forward": "in-memory"}, "outputs = forward(model, x)"),
        ("dict", "any", {"loss_fn": "in-memory"}, "value = loss_fn(model, batch)"),
        ("tensor", "segmentation", {}, "count = (y != -100).sum()"),
    ],
)
def test_a_model_is_called_as_in_the_run(inputs, target, functions, text):
    calls = Calls(inputs, target, functions)
    code = program_of(Config(target=target), Recipe(batch_size=12), 10, calls)
    assert text in code
    for recipe in (Recipe(batch_size=20, micro_batch_size=7), Recipe(batch_size="full")):
        compile(program_of(Config(target=target), recipe, 10, calls), "printed program", "exec")
    for name in functions:
        assert any(line.startswith(f"#   {name}") for line in code.splitlines())


def test_functions_that_have_a_name_are_imported_and_objects_are_brought():
    named = Calls(functions={"loss": "losses:focal", "forward": "nets.way:call"})
    code = program_of(Config(), Recipe(), 10, named)
    assert "from losses import focal\nloss_of = focal" in code
    assert "from nets.way import call\nforward = call" in code
    assert not any(line.startswith(("#   loss_of", "#   forward")) for line in code.splitlines())
    assert "loss_of = L1Loss() if isinstance(L1Loss, type)" in "\n".join(
        loss_definition("your own", 0.0, Calls(functions={"loss": "torch.nn:L1Loss"}))
    )


def test_label_smoothing_is_of_every_cross_entropy():
    assert loss_definition(OF_TOKENS, 0.1, Calls()) == [
        'loss_of = torch.nn.CrossEntropyLoss(reduction="sum", label_smoothing=0.1)'
    ]
    assert loss_definition("cross-entropy", 0.1, Calls()) == [
        "loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)"
    ]
    assert loss_definition("mse", 0.1, Calls()) == [f"loss_of = {LOSSES['mse'][0]}"]


def test_only_what_is_used_is_defined():
    assert helpers(["x.tensor_split(3)"]) == []
    assert helpers(["split(x, 3)"])[0].startswith("def split")


def test_runs_of_older_versions_say_that_they_had_a_loss():
    assert Calls.of({"identity": {"the loss": "ab"}}, "classes").functions == {"loss": "your own"}
    assert Calls.of({}, "numbers") == Calls(target="numbers")
