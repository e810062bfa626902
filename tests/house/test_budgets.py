"""The house stays small: a budget of lines for each room, and a test for each file.

A budget may only fall. Where one must rise, docs/log.md says what was bought for it.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "surefoot"
BUDGETS = {
    "checkup": 689,
    "cli": 3839,
    "comparison": 1559,
    "curves": 663,
    "data": 8806,
    "house": 1357,
    "inference": 1734,
    "integrations": 83,
    "models": 733,
    "optim": 2721,
    "record": 3428,
    "report": 3283,
    "rules": 940,
    "search": 3167,
    "steps": 6057,
    "training": 9791,
}
"""Lines of each room, blank ones and docstrings too; `house` are the files that belong to no room."""
SLACK = 40
"""Lines that a room may be under its budget before the budget must follow it down."""
SOURCES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else "house"


def lines(name: str) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES if room(path) == name)


def test_every_room_has_a_budget():
    assert {room(path) for path in SOURCES} == BUDGETS.keys()


@pytest.mark.parametrize("name", BUDGETS)
def test_a_room_keeps_its_budget(name):
    assert lines(name) <= BUDGETS[name], (
        f"{name} grew: delete something, or say in docs/log.md what the rise has bought"
    )


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_follows_its_room_down(name):
    assert lines(name) > BUDGETS[name] - SLACK, f"{name} has {lines(name)} lines now: lower its budget to that"


def imported(path: Path) -> set[str]:
    """Return the modules of ours that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("surefoot."):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


LAWS = set().union(*(imported(path) for path in (ROOT / "tests" / "laws").glob("*.py")))


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if not path.stem.startswith("__")], ids=lambda path: path.stem
)
def test_every_file_has_a_test_of_its_own_or_a_law(path):
    place = path.relative_to(PACKAGE)
    own = ROOT / "tests" / place.parent / f"test_{path.stem}.py"
    module = ".".join(["surefoot", *place.with_suffix("").parts])
    by_table = place.parent.name == "rules" and (ROOT / "tests" / "rules" / "test_rules.py").is_file()
    assert own.is_file() or module in LAWS or by_table, (
        f"write {own.relative_to(ROOT)}, or merge the file with its user"
    )
