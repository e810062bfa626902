"""What a command loads, and how its process ends: nothing that it does not need, nothing that is lost."""

import gc
import json
import os
import subprocess
import sys
import textwrap

import pytest

from surefoot.cli.process import loading, report_ahead

HEAVY = (
    "torch", "sklearn", "scipy", "pandas", "pyarrow", "altair", "vl_convert", "jinja2", "sympy", "torch._dynamo",
    "torch._inductor", "matplotlib", "tensorboardX",
)  # fmt: skip
"""What takes a tenth of a second or more to import."""
BY_COMMAND = {
    "words": (
        [["--help"], ["train", "--help"], ["data"], ["runs"]],
        set(),
    ),
    "training": (
        [
            ["train", "digits", "--name", "run", "--model", "linear", "--epochs", "1", "--no-report", "--quiet"],
            ["evaluate", "run"],
            ["show", "run"],
            ["models"],
        ],
        {"torch"},
    ),
    "the report": (
        [["report", "made"]],
        {"altair", "vl_convert", "jinja2"},
    ),
}
"""Commands that follow each other in one process, and what of all that these may load."""


def python(code, *arguments, **more):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=environment, capture_output=True, text=True, timeout=120, **more,
    )  # fmt: skip


@pytest.mark.parametrize("name", BY_COMMAND)
def test_a_command_loads_what_it_needs_and_no_more(name, tmp_path):
    commands, allowed = BY_COMMAND[name]
    folder = tmp_path / "runs" / "made"
    folder.mkdir(parents=True)
    (folder / "decisions.jsonl").write_text("", encoding="utf-8")
    code = """
        import json, sys
        from surefoot.cli.app import run
        codes = [run(words) for words in json.loads(sys.argv[1])]
        print("\\nLOADED", json.dumps([codes, sorted(set(json.loads(sys.argv[2])) & set(sys.modules))]))
    """
    done = python(code, json.dumps(commands), json.dumps(HEAVY), cwd=tmp_path)
    codes, loaded = json.loads(done.stdout.rpartition("LOADED ")[2])
    assert codes == [0] * len(commands), done.stderr
    assert set(loaded) <= allowed


def test_the_collector_rests_only_while_something_is_loaded(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    frozen = gc.get_freeze_count()
    try:
        with loading():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()


def test_in_a_process_that_has_torch_nothing_is_changed():
    with loading():
        assert gc.isenabled()
    with report_ahead(wanted=True) as drawer:
        assert drawer is None


LEAVES = """
    import atexit, sys, threading
    sys.modules["torch"] = sys  # as if it were there
    from surefoot.cli.process import leave
    atexit.register(lambda: print("registered"))
    {frozen}
    left = open(sys.argv[1], "w")
    left.write("not flushed")
    print("said", end=" ")
    {more}
    leave(7)
"""


@pytest.mark.parametrize("frozen", ["", "import gc; gc.freeze()"])
@pytest.mark.parametrize("more", ["", "threading.Thread(target=lambda: print('thread', end=' ')).start()"])
def test_at_the_end_nothing_is_lost(more, frozen, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # it would hide that stdout is not flushed
    done = python(LEAVES.replace("{more}", more).replace("{frozen}", frozen), str(tmp_path / "file"))
    assert done.returncode == 7, done.stderr
    assert done.stdout.split() == ["said", *(["thread"] if more else []), "registered"]
    assert (tmp_path / "file").read_text() == "not flushed"
    assert done.stderr == ""


ODD = """
    import io, weakref
    class Asked:
        @property
        def __class__(self):
            print("asked")
    class Raises(io.StringIO):
        def flush(self):
            raise RuntimeError("no")
    asked, raises = Asked(), Raises()
    asked.itself = asked
    gone = weakref.proxy(Raises(), print)
"""


def test_the_end_asks_no_object_for_its_class_and_passes_over_a_file_that_cannot_be_flushed(tmp_path):
    leaves = textwrap.dedent(LEAVES).replace("{frozen}", "").replace("{more}", textwrap.dedent(ODD))
    done = python(leaves, str(tmp_path / "file"))
    assert done.returncode == 7, done.stderr
    assert "asked" not in done.stdout
    assert (tmp_path / "file").read_text() == "not flushed"


@pytest.mark.parametrize(
    ("closed", "words", "code"),
    [(">&-", ["runs"], 0), ("<&- >&- 2>&-", ["runs"], 0), ("2>&-", ["show", "no-such-run"], 1)],
)
def test_a_command_does_without_standard_streams(closed, words, code, tmp_path):
    command = [sys.executable, "-m", "surefoot", *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *command],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_output_that_cannot_be_written_is_an_error(monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    code = """
        import os, sys
        sys.modules["torch"] = sys  # as if it were there
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        sys.argv = ["surefoot", "data"]
        from surefoot.cli.app import main
        main()
    """
    done = python(code)
    assert done.returncode == 1
    assert done.stderr.startswith("surefoot: No space left on device. ")
