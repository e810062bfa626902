"""What the source may not contain, each rule with its reason in CONTRIBUTING.md."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "surefoot"
SOURCES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in SOURCES]
EACH_SOURCE = pytest.mark.parametrize("path", SOURCES, ids=NAMES)

UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {"torch.load", "os.system", "yaml.load"}
TORCH_SEEDS = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"}
GLOBAL_SEEDS = TORCH_SEEDS | {"random.seed"}
NUMPY_STREAMS = {"Generator", "Philox", "default_rng", "SeedSequence"}
NUMPY_STATES = {"get_state", "set_state"}  # to put the caller's global state back: steps/untouched.py and seeds.py
HOSTS = {
    "www.cs.toronto.edu": "the home of CIFAR-10",
    "arxiv.org": "references",
    "doi.org": "references",
}
# Written in pieces, so that this file does not contain what it forbids.
REGISTRIES = ["pypi" + ".org", "python" + "hosted", "npm" + "js.", "debian" + ".org", "download.py" + "torch"]
MACHINE_PATH = re.compile(r"(?<![\w.~$}\])>*-])" + "/" + r"(?:work|farm|home|root|opt|Users)/\w")


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def forbidden(tree: ast.AST, seeds_allowed: bool, states_allowed: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line and name of each thing in a syntax tree that the source may not contain.

    Lines are those of the tree. `seeds_allowed` is for seeds.py alone, `states_allowed` also for
    steps/untouched.py.
    """
    streams = NUMPY_STREAMS | (NUMPY_STATES if states_allowed else set()) | ({"seed"} if seeds_allowed else set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ((node.lineno, f"import {name}") for name in modules if name.split(".")[0] in UNPICKLERS)
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "a bare except"
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func).replace("numpy.", "np.")
        if name in BUILTINS | CALLS or (name in GLOBAL_SEEDS and not seeds_allowed):
            yield node.lineno, name
        if name.startswith("np.random.") and name.split(".")[2] not in streams:
            yield node.lineno, name
        for keyword in node.keywords:
            if keyword.arg in ("shell", "allow_pickle") and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            ):
                yield node.lineno, f"{name}({keyword.arg}=...)"


@EACH_SOURCE
def test_source_runs_nothing_it_was_handed_and_seeds_nothing_global(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    states_allowed = path in (PACKAGE / "steps" / "untouched.py", PACKAGE / "seeds.py")
    found = list(forbidden(tree, seeds_allowed=path == PACKAGE / "seeds.py", states_allowed=states_allowed))
    assert not found, f"{path.relative_to(ROOT)}: {found}"


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "eval(text)",
        "exec(text)",
        "torch.manual_seed(0)",
        "np.random.seed(0)",
        "numpy.random.rand(3)",
        "np.random.set_state(state)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "try:\n    pass\nexcept:\n    pass",
    ],
)
def test_each_forbidden_thing_is_seen(line):
    assert list(forbidden(ast.parse(line), seeds_allowed=False))


@pytest.mark.parametrize("line", ["import pickletools", "model.eval()", "np.random.default_rng(0)", "re.compile('a')"])
def test_what_only_looks_forbidden_is_let_be(line):
    assert not list(forbidden(ast.parse(line), seeds_allowed=False))


@EACH_SOURCE
def test_a_file_does_one_thing(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, "over 400 lines: it is really two files"
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}, "name it after the one thing that it does"


@EACH_SOURCE
def test_a_file_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), "a module starts with a docstring"


@EACH_SOURCE
def test_source_names_no_host_but_the_known_ones(path):
    hosts = set(re.findall(r"(?:https?|ftp)://([^/\s\"'`)>]+)", path.read_text(encoding="utf-8")))
    assert hosts <= HOSTS.keys(), f"{hosts - HOSTS.keys()}: each host that we name stands in HOSTS with its reason"


def texts_of_the_repository() -> Iterator[tuple[str, str]]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only a git checkout knows which files are its own")
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_file() and b"\0" not in (raw := path.read_bytes()):
            yield name, raw.decode("utf-8")


def test_no_text_names_a_machine_path_or_a_package_host():
    for name, text in texts_of_the_repository():
        for number, line in enumerate(text.splitlines(), 1):
            assert not MACHINE_PATH.search(line), f"{name}:{number} names a path of one machine: {line.strip()}"
            assert not any(each in line for each in REGISTRIES), f"{name}:{number} names a package host: {line.strip()}"


def test_the_search_for_machine_paths_finds_them():
    for path in ("/" + "work/main/x", "see /" + "home/ada/x", '"/' + 'root/x"'):
        assert MACHINE_PATH.search(path)
    assert not MACHINE_PATH.search("runs" + "/" + "work/last")
