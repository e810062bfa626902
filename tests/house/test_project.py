"""What the project says about itself is true: versions, dependencies, and why each is here."""

import ast
import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

import surefoot

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = [re.split(r"[<>=!~;\[ ]", each)[0] for each in PROJECT["dependencies"]]
DEV = [re.split(r"[<>=!~;\[ ]", each)[0] for each in PROJECT["optional-dependencies"]["dev"]]
EXTRA = [re.split(r"[<>=!~;\[ ]", each)[0] for each in PROJECT["optional-dependencies"]["tensorboard"]]
IMPORTED_AS = {"scikit-learn": "sklearn", "pillow": "PIL", "vl-convert-python": "vl_convert"}
USED_THROUGH = {"vl-convert-python": "altair"}  # altair calls it to draw, and does not bring it
CONSTRAINTS = [
    line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
]


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", sorted({*NEEDED, *DEV, *EXTRA}))
def test_every_dependency_is_justified(name):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{re.escape(name)}` \| \S", text, re.MULTILINE)
    assert row, f"CONTRIBUTING.md does not say why {name} is here"


@pytest.mark.parametrize("name", NEEDED + EXTRA)
def test_every_dependency_is_used(name):
    caller = USED_THROUGH.get(name, name)
    word = re.compile(rf"\b{IMPORTED_AS.get(caller, caller.replace('-', '_'))}\b")
    sources = (ROOT / "src").rglob("*.py")
    assert any(word.search(path.read_text(encoding="utf-8")) for path in sources), f"nothing in src uses {name}"


def test_every_import_is_declared():
    known = (
        {IMPORTED_AS.get(name, name.replace("-", "_")) for name in NEEDED + EXTRA}
        | {"surefoot"}
        | sys.stdlib_module_names
    )
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in known, f"{path.relative_to(ROOT)}:{node.lineno} imports undeclared {name}"


def test_torch_is_new_enough_to_be_safe():
    assert "torch>=2.10" in PROJECT["dependencies"], "before 2.10 a weights file could corrupt memory (CVE-2026-24747)"


def test_constraints_pin_exact_versions_of_everything_and_nothing_else():
    for line in CONSTRAINTS:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line), f"not an exact public version: {line}"
    pinned = {plain(line.split("==")[0]) for line in CONSTRAINTS}
    assert {plain(name) for name in NEEDED + DEV + EXTRA} <= pinned


def test_torchvision_is_absent():
    """A build of it that does not match torch breaks every library that tries to import it; we never need it."""
    assert importlib.util.find_spec("torchvision") is None
    assert not any(plain(each.metadata["Name"] or "") == "torchvision" for each in importlib.metadata.distributions())


def test_the_changelog_knows_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(surefoot.__version__)} \(", text, re.MULTILINE)


def test_the_log_is_dated():
    headings = re.findall(r"^## (.*)$", (ROOT / "docs" / "log.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings
    assert all(re.match(r"\d{4}-\d\d-\d\d ", each) for each in headings)


def test_types_are_shipped():
    assert (ROOT / "src" / "surefoot" / "py.typed").exists()
