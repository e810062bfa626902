"""The interface is kept by tests: the public names, the settings, and that each is documented."""

import dataclasses
import difflib
import inspect
import re
from pathlib import Path

import pytest

import surefoot
from surefoot import config

FROZEN = Path(__file__).with_name("interface.txt")
SETTINGS = [
    (cls.__name__, item)
    for cls in vars(config).values()
    if inspect.isclass(cls) and dataclasses.is_dataclass(cls) and cls.__module__ == "surefoot.config"
    for item in dataclasses.fields(cls)
]


def interface() -> str:
    """Return the public names with their signatures, then the settings with their types and defaults."""
    lines = []
    for name in sorted(surefoot.__all__):
        thing = getattr(surefoot, name)
        is_class = inspect.isclass(thing)
        kind = "class" if is_class else "function" if callable(thing) else "value"
        plain = kind == "value" or (is_class and (dataclasses.is_dataclass(thing) or issubclass(thing, Exception)))
        lines.append(f"{kind} {name}" + ("" if plain else str(inspect.signature(thing))))
        if is_class and dataclasses.is_dataclass(thing) and thing.__module__ != "surefoot.config":
            lines += [f"  {name}.{item.name}: {item.type}" for item in dataclasses.fields(thing)]
    for owner, item in SETTINGS:
        default = "" if item.default is dataclasses.MISSING else f" = {item.default!r}"
        lines.append(f"setting {owner}.{item.name}: {item.type}{default}")
    return "\n".join(lines) + "\n"


def test_the_interface_changes_only_on_purpose():
    before, now = FROZEN.read_text(encoding="utf-8").splitlines(), interface().splitlines()
    changes = "\n".join(difflib.unified_diff(before, now, "interface.txt", "the code", lineterm="", n=0))
    assert before == now, f"{changes}\nIf users should see this: make interface, and say it in CHANGELOG.md."


@pytest.mark.parametrize("name", sorted(surefoot.__all__))
def test_every_public_name_is_documented(name):
    thing = getattr(surefoot, name)
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return
    text = inspect.getdoc(thing) or ""
    generated = f"{name}("  # what a dataclass writes when nobody else did
    assert text, f"surefoot.{name} has no docstring"
    assert not text.startswith(generated), f"surefoot.{name} has no docstring of its own"
    fields = inspect.isclass(thing) and "Attributes:" in text
    documented = ">>>" in text or re.search(r"\b(19|20)\d\d\b", text) or fields
    if not (inspect.isclass(thing) and issubclass(thing, Exception)):
        assert documented, f"surefoot.{name} shows no example (>>>), no reference with its year, and no Attributes:"


@pytest.mark.parametrize(("owner", "item"), SETTINGS, ids=[f"{owner}.{item.name}" for owner, item in SETTINGS])
def test_every_setting_says_its_meaning_and_its_range(owner, item):
    assert item.metadata.get("help"), f"{owner}.{item.name} has no help"
    assert not item.metadata["help"].endswith("."), "help is a clause without a full stop"
    assert bool(item.metadata.get("ok")) == bool(item.metadata.get("range")), "a range is said where one is checked"


def test_no_public_name_is_also_a_room():
    """Importing `surefoot.x` sets the package's attribute `x` to the room, over a function of that name."""
    rooms = {path.stem for path in Path(surefoot.__file__).parent.iterdir()}
    assert not rooms & set(surefoot.__all__)


def test_settings_are_frozen_and_keyword_only():
    for cls in (config.Schedule, config.Recipe, config.Config):
        parameters = inspect.signature(cls).parameters.values()
        assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in parameters)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(cls(), dataclasses.fields(cls)[0].name, None)


if __name__ == "__main__":
    FROZEN.write_text(interface(), encoding="utf-8")
