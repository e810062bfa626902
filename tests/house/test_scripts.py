"""What benchmarks and soaks import is there: they are run by hand, and a name that moved would be found too late."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "soak").glob("*.py")])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_a_script_imports_is_there(path):
    beside = {other.stem for folder in (path.parent, ROOT / "tests" / "support") for other in folder.glob("*.py")}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        room = node.module.split(".")[0]
        if room == "surefoot":
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}"), (
                    alias.name
                )
        elif room in beside and (path.parent / f"{room}.py").is_file() is False:
            assert "tests" in path.read_text(encoding="utf-8"), f"{path.name} does not say where {room} lies"
