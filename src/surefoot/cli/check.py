"""`surefoot check`: the steps of the procedure that come before any learning rate is looked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from surefoot.cli.flags import ConfigFile, Data, Quiet, Settings, Switch, with_settings
from surefoot.cli.probe import exit_code, print_decisions, print_doubts
from surefoot.cli.process import loading
from surefoot.cli.tables import clean, print_json, say_notes
from surefoot.config import Config
from surefoot.errors import DataError
from surefoot.settings import flat_settings

if TYPE_CHECKING:
    from surefoot.record.decision import Decision

USED = frozenset({
    "data", "data_dir", "validation", "image_size", "label", "header", "target", "loss", "forward", "loss_fn",
    "normalise", "standardise_targets", "model", "seed", "device", "precision", "threads", "weight_decay", "rule",
    "preset", "from_run",
})  # fmt: skip
"""Settings that steps 0 to 2 depend on. They train at many rates, without augmentation, for as long as they need."""


@with_settings
def check(
    data: Data = None,
    *,
    config: ConfigFile = None,
    json: Switch = False,
    quiet: Quiet = False,
    **settings: Any,
) -> int:
    """Check data, model and loss before training: wiring, initial loss, and learning a small sample by heart.

    It takes the settings of `surefoot train`, so that a command is checked by changing one word; those that these
    steps do not depend on, such as the rate, are named on stderr. Exit code 3: a step fails, and training is not
    worth it yet.

    Args:
        json: Print the decisions as JSON, with all findings and measurements.
    """
    typed = Settings.read({"data": data, **settings}, config)
    with loading():
        from surefoot.training.configure import resolve

    chosen = resolve(typed.nested)
    typed.say_unused("check", flat_settings().keys() - USED)
    decisions = list(_decisions(chosen, quiet=quiet))
    if json:
        print_json([decision.to_dict() for decision in decisions])
    else:
        _show(decisions)
    return exit_code(*decisions)


def _decisions(config: Config, *, quiet: bool) -> Iterator[Decision]:
    """Yield the decision of each step; step 2 trains, and is left out where one before it fails."""
    from surefoot.steps.initial_loss.check import check_initial_loss
    from surefoot.steps.overfit.check import overfit_sample
    from surefoot.steps.wiring.check import check_wiring
    from surefoot.training.call import function_of

    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr, flush=True)

    place: dict[str, Any] = {
        "seed": config.seed, "device": config.device, "precision": config.precision, "threads": config.threads
    }  # fmt: skip
    loss = function_of(config.loss, "loss")
    functions = {name: function_of(getattr(config, name), name) for name in ("forward", "loss_fn")}
    place |= {name: function for name, function in functions.items() if function is not None}
    say(f"reading {clean(config.data)}")
    data, model = _data_and_model(config)
    say_notes(getattr(data, "notes", ()), quiet=quiet)
    say(f"step 0, wiring: {clean(config.model)} on {clean(config.data)}")
    wiring = check_wiring(model, data, loss, **place)
    yield wiring
    say("step 1, initial loss")
    initial = check_initial_loss(model, data, loss, weight_decay=config.recipe.weight_decay, **place)
    yield initial
    if "fail" not in (wiring.verdict, initial.verdict):
        say("step 2, overfitting a small sample")
        yield overfit_sample(model, data, loss, rule=config.recipe.rule, **place)


def _data_and_model(config: Config) -> tuple[Any, Any]:
    """Return both; the model as a module where it starts from weights, and the data normalised as these learned it."""
    if config.from_run is None:
        return _data(config), config.model
    from surefoot.training.configure import Objects, make_task

    task = make_task(config, Objects())
    return task.data, task.template


def _data(config: Config) -> Any:
    """Return the data, or its path where it cannot be loaded: whether only the labels are off is for step 0 to say."""
    from surefoot.training.configure import data_of

    try:
        return data_of(config)
    except DataError:
        placed = (config.data_dir, config.image_size, config.label) != (None, None, None)
        if placed or config.target not in ("auto", "classes"):
            raise
        return config.data


def _show(decisions: list[Decision]) -> None:
    print_decisions(decisions)
    print_doubts(decisions)
    if exit_code(*decisions):
        print("\nMend what fails before you train; then check again.")
