"""Who may import whom: the table in CONTRIBUTING.md, written as import-linter's contracts in pyproject.toml."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "surefoot"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
JUDGES = next(each["source_modules"] for each in CONTRACTS if each["type"] == "forbidden")
ROOMS = (
    "data", "models", "optim", "training", "inference", "curves", "steps", "search", "comparison", "report",
    "integrations", "cli",
)  # fmt: skip


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--no-cache"]
    paths = os.pathsep.join([str(folder / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )


def test_every_room_imports_only_from_rooms_earlier_on_the_road():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("data/planted.py", "import surefoot.models"),
        ("models/planted.py", "import surefoot.optim"),
        ("optim/planted.py", "import surefoot.record"),
        ("optim/planted.py", "import surefoot.training"),
        ("training/planted.py", "import surefoot.steps"),
        ("training/planted.py", "import surefoot.search"),
        ("training/planted.py", "import surefoot.cli"),
        ("steps/planted.py", "import surefoot.search"),
        ("curves/planted.py", "import surefoot.training"),
        ("curves/planted.py", "import torch.nn"),
        ("report/planted.py", "def late():\n    import torch"),
        ("report/planted.py", "import surefoot.search"),
        ("report/planted.py", "import surefoot.seeds"),
        ("record/planted.py", "import torch"),
        ("steps/overfit/judge.py", "import torch"),
        ("inference/planted.py", "import surefoot.steps"),
        ("search/planted.py", "import surefoot.comparison"),
        ("config.py", "import torch"),
        ("rules/planted.py", "import torch"),
        ("rules/planted.py", "import surefoot.config"),
        ("report/planted.py", "import surefoot.optim.plan"),
        ("config.py", "import surefoot.settings"),
        ("seeds.py", "import surefoot.config"),
        ("errors.py", "import surefoot.seeds"),
        ("helpers/__init__.py", ""),  # a room that the road does not know
    ],
)
def test_a_planted_import_against_the_road_is_caught(tmp_path, file, line):
    copy = tmp_path / "src" / "surefoot"
    for room in ROOMS:
        (copy / room).mkdir(parents=True, exist_ok=True)
        (copy / room / "__init__.py").touch()
    for name in ("__init__.py", "__main__.py", "config.py", "settings.py", "seeds.py", "errors.py", "fields.py",
                 "switches.py"):  # fmt: skip
        shutil.copy(PACKAGE / name, copy)
    for module in JUDGES:
        twin = tmp_path / "src" / (module.replace(".", "/") + ".py")
        twin.parent.mkdir(parents=True, exist_ok=True)
        twin.touch()
        (twin.parent / "__init__.py").touch()
    (copy / "__init__.py").write_text("")
    (copy / "__main__.py").write_text("")
    shutil.copytree(PACKAGE / "record", copy / "record")
    shutil.copytree(PACKAGE / "rules", copy / "rules")
    shutil.copy(PACKAGE / "report" / "pytorch_code.py", copy / "report")  # whose imports a contract excepts
    for name in ("code", "plan", "schedules"):
        (copy / "optim" / f"{name}.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    target = copy / file
    target.parent.mkdir(exist_ok=True)
    target.write_text((target.read_text() if target.exists() else "") + line + "\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout, result.stdout + result.stderr


def test_rooms_do_not_import_the_package_itself():
    """`surefoot/__init__.py` stands at the end of the road: only the command line may lean on it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] in ("cli", "__main__.py", "__init__.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else set()
            if isinstance(node, ast.ImportFrom) and node.module == "surefoot":
                allowed = {"__version__", *(each.stem for each in PACKAGE.iterdir())}
                assert names <= allowed, f"{path}:{node.lineno} imports {names - allowed} from surefoot"


def test_judges_are_imported_without_torch():
    program = (
        f"import importlib, sys\nfor name in {JUDGES}: importlib.import_module(name)\nassert 'torch' not in sys.modules"
    )
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths}, check=True)
