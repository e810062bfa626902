"""The house is counted as `benchmarks/house.py` says."""

import ast
import importlib.util
import json
import textwrap
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "house.py"


@pytest.fixture(scope="module")
def house():
    spec = importlib.util.spec_from_file_location("house", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCE = '''"""The module's text,

of three lines."""

from dataclasses import dataclass  # why

LIMIT = 3
"""About the limit."""


@dataclass(frozen=True)
class Thing:
    """A thing."""

    size: int
    """Its size."""

    def grown(self, a, b, c, d, e, f, g):
        # seven
        return Thing(self.size + 1)

    @staticmethod
    def made(a, b, c, d, e, f, *, g, h=1, **more):
        text = """two

lines"""
        return text


class Plain:
    async def wait(self): ...
'''


def test_lines_of_code_are_those_with_code_on_them(house):
    assert house.code_lines(SOURCE) == 15


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", 0),
        ("# a\n\n", 0),
        ('"""a\nb"""\n', 0),
        ("x = (\n    1,\n\n    # why\n    2,\n)\n", 4),
        ('def f():\n    """Text."""\n', 1),
        ('def f(): """Text."""\n', 1),
        ('x = f"""a\n{1}\nb"""\n', 3),
    ],
)
def test_lines_of_code_of_small_sources(house, text, lines):
    assert house.code_lines(text) == lines


def test_functions_with_their_arguments(house):
    assert dict(house.functions(ast.parse(SOURCE))) == {"grown": 7, "made": 8, "wait": 0}


def package(folder, **files):
    place = folder / "src" / "surefoot"
    for name, text in files.items():
        path = place / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return place


def test_a_package_is_counted(house, tmp_path):
    place = package(tmp_path, thing=SOURCE, room__in__a="x = 1\n", room__in__b="def f():\n    return 1\n")
    found = house.counted(place)
    assert {name: value for name, value in found.items() if isinstance(value, int)} == {
        "files": 3, "lines": len(SOURCE.splitlines()) + 3, "code_lines": 18, "functions": 4, "dataclasses": 1,
        "functions_of_many_arguments": 1,
    }  # fmt: skip
    assert found["rooms"]["room"] == {"files": 2, "lines": 3, "code_lines": 3}
    assert found["many_arguments"] == ["thing.py: made (8)"]


def test_the_files_that_a_command_passes_are_those_whose_functions_are_called(house, tmp_path):
    place = package(
        tmp_path,
        __init__="",
        __main__="""
            import sys, threading
            from surefoot import body, called, klass, lazily, never, thread
            called.f()
            thread.begin(threading)
            list(map(lazily.f, [1]))
            print(sys.argv)
        """,
        called="def f(): pass\n",
        never="def f(): pass\n",
        body="x = [each for each in range(3)]\n",
        klass="class A:\n    x = 1\n    y = list(each for each in range(3))\n",
        lazily="f = lambda x: x\n",
        thread="def begin(threading):\n    t = threading.Thread(target=inside)\n    t.start()\n    t.join()\n\n"
        "from surefoot.deep import inside\n",
        deep="def inside(): pass\n",
    )
    assert house.passed(place, ["word"]) == ["called.py", "deep.py", "lazily.py", "thread.py"]


def test_a_command_that_fails_is_no_count(house, tmp_path):
    place = package(tmp_path, __init__="", __main__="import sys\nsys.exit('no')\n")
    with pytest.raises(SystemExit, match="surefoot word: it ended with 1"):
        house.passed(place, ["word"])


def test_counts_are_printed_and_written(house, tmp_path, capsys):
    package(tmp_path, thing=SOURCE)
    assert house.main([str(tmp_path), "--no-trace", "--out", str(tmp_path / "house.json")]) == 0
    assert json.loads((tmp_path / "house.json").read_text())["dataclasses"] == 1
    assert "dataclasses                                1" in capsys.readouterr().out
