"""Count the house: how large the source is, and how many files of it a command passes.

    python benchmarks/house.py                      # this checkout
    python benchmarks/house.py CHECKOUT --out house.json
    python benchmarks/house.py --no-trace           # the counts alone, in a second

What is counted, in the .py files below src/surefoot:

    files       with __init__.py and __main__.py
    lines       all, blank ones too
    code lines  lines with at least one token of code on them. No code are comments, blank lines, and docstrings, by
                which is meant each statement that is a string alone: also the text below a constant or a field. The
                lines of any other string of several lines are code
    functions   each `def` and `async def`, methods and nested ones too; no `lambda`
    dataclasses each class with a decorator called `dataclass`
    many arguments
                functions with 8 or more: positional, keyword-only, with defaults or not. `*args` and `**kwargs` are not
                counted, nor is the first of a method that is no staticmethod
    rooms       files, lines and code lines by the folder or file below src/surefoot

    passed      files of which at least one function, method, lambda or generator is called while a command runs, from
                the import on, in any thread of its process (`sys.setprofile`). The body of a module or of a class is
                no function, nor is a comprehension, which newer Pythons put inline. What `dataclass` writes belongs to
                no file. Worker processes are not looked into

The commands are those of `COMMANDS`, run to their end; stdout is no terminal. What is counted without the report is the
road from the command to the record.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import io
import json
import os
import platform
import runpy
import subprocess
import sys
import tempfile
import threading
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

MANY_ARGUMENTS = 8
"""A function takes at most 7 (the house's own rule)."""
COMMANDS = {
    "train": "train digits --model mlp --epochs 2",
    "train_without_report": "train digits --model mlp --epochs 2 --no-report",
    "tune": "tune digits",
    "tune_without_report": "tune digits --no-report",
    "tune_of_a_small_mlp": "tune digits --model mlp --budget 2x --epochs 2",
}
"""The commands that are traced, by the name of their count."""
_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING,
    tokenize.ENDMARKER,
}  # fmt: skip
_COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}


def code_lines(text: str) -> int:
    """Return how many lines of a source have code on them.

    >>> code_lines('''\"\"\"Text.\"\"\"
    ... x = 1  # why
    ... \"\"\"About x.\"\"\"
    ...
    ... # why
    ... y = \"\"\"two
    ... lines\"\"\"
    ... ''')
    3
    """
    docstrings = set[int]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE and not (token.type == tokenize.STRING and token.start[0] in docstrings):
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines)


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield name and number of arguments of each function of a module.

    >>> list(functions(ast.parse("class A:\\n    def f(self, a, *, b=1, **more): ...")))
    [('f', 2)]
    """
    methods = {
        id(each): not any(ast.unparse(one) == "staticmethod" for one in each.decorator_list)
        for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
        for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
            yield node.name, count - (methods.get(id(node), False) and bool(given.posonlyargs or given.args))


def is_dataclass(node: ast.AST) -> bool:
    """Return whether a node is a class with a decorator called dataclass."""
    if not isinstance(node, ast.ClassDef):
        return False
    called = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
    return any(ast.unparse(each).rpartition(".")[2] == "dataclass" for each in called)


def counted(package: Path) -> dict[str, Any]:
    """Return the counts of a package's source.

    Args:
        package: its folder.
    """
    totals, rooms, many = Counter[str](), dict[str, Counter[str]](), list[str]()
    for path in sorted(package.rglob("*.py")):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(package)
        tree = ast.parse(text)
        size = Counter(files=1, lines=len(text.splitlines()), code_lines=code_lines(text))
        totals += size
        rooms.setdefault(name.parts[0], Counter()).update(size)
        for function, arguments in functions(tree):
            totals["functions"] += 1
            if arguments >= MANY_ARGUMENTS:
                many.append(f"{name.as_posix()}: {function} ({arguments})")
        totals["dataclasses"] += sum(is_dataclass(node) for node in ast.walk(tree))
    totals["functions_of_many_arguments"] = len(many)
    return {**totals, "rooms": {name: dict(size) for name, size in sorted(rooms.items())}, "many_arguments": many}


def passed(package: Path, words: Sequence[str]) -> list[str]:
    """Return the files of a package that a command passes, relative to it; it runs in another process.

    Args:
        package: its folder, called surefoot.
        words: the command line after `surefoot`.

    Raises:
        SystemExit: the command has failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "passed.json"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SUREFOOT_")}
        environment = kept | {
            "PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "SUREFOOT_CACHE": folder,
        }  # fmt: skip
        command = [sys.executable, str(Path(__file__).resolve()), "--trace", str(package), str(out), *words]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if ended.returncode != 0:
            raise SystemExit(f"surefoot {' '.join(words)}: it ended with {ended.returncode}.\n{ended.stderr}")
        return json.loads(out.read_text())


def trace(package: Path, out: Path, words: Sequence[str]) -> None:
    """Run a command in this process and write the files of the package that it passes."""
    root, seen = f"{package}{os.sep}", set[str]()

    def called(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if (
            event == "call"
            and code.co_flags & inspect.CO_OPTIMIZED  # a function's body: not a module's, not a class's
            and code.co_filename.startswith(root)
            and code.co_name not in _COMPREHENSIONS
        ):
            seen.add(code.co_filename)

    sys.argv = ["surefoot", *words]
    sys.path[0] = os.getcwd()  # in place of the folder of this file, whose modules have names of their own
    threading.setprofile(called)
    sys.setprofile(called)
    try:
        runpy.run_module("surefoot", run_name="__main__", alter_sys=True)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        out.write_text(json.dumps(sorted(Path(file).relative_to(package).as_posix() for file in seen)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print, and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--out", type=Path, help="JSON file for the counts and the names")
    parser.add_argument("--no-trace", action="store_true", help="run no command")
    options = parser.parse_args(arguments)
    package = (options.checkout / "src" / "surefoot").resolve()
    if not package.is_dir():
        parser.error(f"{options.checkout} has no src/surefoot: give the folder of a checkout")
    found = counted(package)
    files = {} if options.no_trace else {name: passed(package, words.split()) for name, words in COMMANDS.items()}
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=package, capture_output=True, text=True)
    result = {
        "commit": head.stdout.strip() or None,
        **{name: value for name, value in found.items() if isinstance(value, int)},
        **{f"files_passed_by_{name}": len(names) for name, names in files.items()},
        "rooms": found["rooms"],
        "many_arguments": found["many_arguments"],
        "passed": {name: {"command": COMMANDS[name], "files": names} for name, names in files.items()},
        "python": platform.python_version(),
    }
    for name, value in result.items():
        if isinstance(value, int):
            print(f"{name.replace('_', ' '):<36} {value:>7,}")
    print(f"\n{'room':<36} {'files':>7} {'lines':>7} {'code lines':>11}")
    for name, size in result["rooms"].items():
        print(f"{name:<36} {size['files']:>7,} {size['lines']:>7,} {size['code_lines']:>11,}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--trace"]:
        trace(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
    else:
        raise SystemExit(main())
