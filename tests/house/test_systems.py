"""Surefoot imports and trains where a system has no forks, no fcntl and none of the modules that Unix alone has."""

import subprocess
import sys

_BARE = """
import os, sys

import torch  # which looks at the system itself, and not at what is there

for name in ("fcntl", "resource", "termios", "pwd", "grp", "tty", "pty", "posix_ipc"):
    sys.modules[name] = None  # importing it fails
for name in ("fork", "forkpty", "register_at_fork", "O_DIRECTORY"):
    if hasattr(os, name):
        delattr(os, name)
import signal

for name in ("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1"):
    delattr(signal, name)

import importlib, pkgutil, warnings

warnings.simplefilter("ignore")
import surefoot

for module in pkgutil.walk_packages(surefoot.__path__, "surefoot."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

from surefoot.cli.app import run

folder = sys.argv[1]
train = ["train", "digits", "--model", "linear", "--epochs", "1", "--name", "a", "--runs-dir", folder, "--no-report"]
assert run([*train, "-q"]) == 0
assert run(["show", "a", "--runs-dir", folder]) == 0
found = surefoot.tune("digits", "linear", budget="2x", epochs=5, final=False)
assert found.recipe is not None
"""


def test_it_trains_and_tunes_without_what_unix_alone_has(tmp_path):
    done = subprocess.run([sys.executable, "-c", _BARE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
