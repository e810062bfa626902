"""Processes that read ahead give what reading on the spot gives, and are gone when they are not needed."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import surefoot
from surefoot.data.batches import epoch_order, fetch
from surefoot.data.examples import form_of
from surefoot.data.load import load
from surefoot.data.map_style import Drawn
from surefoot.data.workers import Ahead, Fault, following
from surefoot.errors import ConfigError, DataError
from surefoot.training.make import task

X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


class Noisy:
    """A Dataset that draws; of some examples something else may happen, once it is `ready`."""

    def __init__(self, act=lambda i: None):
        self.act, self.ready = act, False

    def __len__(self):
        return 50

    def __getitem__(self, i):
        if self.ready:
            self.act(i)
        return X[i] + torch.randn(4).numpy() + np.float32(random.random() + np.random.rand()), i % 2


def given(workers, source=None):
    source = source or Noisy()
    data = load(source, workers=workers, validation=0)
    work = task(data, "linear")
    source.ready = True
    return data, work.augment, work


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pids, seconds=20):
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(alive, pids))


def pids_of(ahead):
    return [each.process.pid for each in ahead._processes]


def batches(order, size):
    return [order[at : at + size] for at in range(0, len(order) - size + 1, size)]


@pytest.mark.parametrize("size", [1, 7, 20, 50])
def test_every_number_of_workers_gives_the_same_batches(size):
    asked = [(e, rows) for e in (0, 1) for rows in batches(epoch_order(50, 0, e), size)][:12]
    found = []
    for workers in (0, 1, 3):
        data, moves, work = given(workers)
        found.append([fetch(data, data.train, rows, augment=moves, epoch=e) for e, rows in asked])
        work.close()
    for other in found[1:]:
        for (x, y), (x_other, y_other) in zip(found[0], other, strict=True):
            assert torch.equal(x, x_other)
            assert torch.equal(y, y_other)


def test_batches_that_nobody_expected_and_streams_that_take_turns_are_right_too():
    (plain, alone, _), (data, moves, work) = given(0), given(2)
    orders = {seed: epoch_order(50, seed, 3) for seed in (0, 1, 2)}
    asked = [(seed, orders[seed][at : at + 8]) for at in (0, 8, 16) for seed in orders]
    asked += [(0, np.array([5, 4, 5, 5])), (1, orders[1][24:32]), (0, orders[0][3:9]), (0, np.arange(50))]
    asked += [(0, piece) for piece in np.array_split(orders[0][:40], 3)]
    for seed, rows in asked:
        here = fetch(plain, plain.train, rows, augment=alone, seed=seed, epoch=3)
        there = fetch(data, data.train, rows, augment=moves, seed=seed, epoch=3)
        assert torch.equal(here[0], there[0])
    assert len(moves.reader.ahead._where) <= 3 * 2 * 40  # what is not wanted any more is let go of
    work.close()


def test_what_comes_next_is_read_ahead(tmp_path):
    def act(i):
        (tmp_path / str(i)).touch()

    data, moves, work = given(2, Noisy(act))
    order = epoch_order(50, 0, 0)
    fetch(data, data.train, order[:8], augment=moves, epoch=0)
    end = time.monotonic() + 20
    while len(list(tmp_path.iterdir())) < 24 and time.monotonic() < end:
        time.sleep(0.01)
    assert {int(path.name) for path in tmp_path.iterdir()} == set(order[:24].tolist())
    work.close()


def test_the_order_that_follows_is_the_runs_order():
    after = following(epoch_order(10, 1, 0)[4:8], 10, 1, 0)
    assert [(epoch, rows.tolist()) for (epoch, rows), _ in zip(after, range(3), strict=False)] == [
        (1, epoch_order(10, 1, 1)[:4].tolist()), (1, epoch_order(10, 1, 1)[4:8].tolist()),
        (2, epoch_order(10, 1, 2)[:4].tolist()),
    ]  # fmt: skip
    assert list(following(np.array([1, 1]), 10, 1, 0)) == []
    assert list(following(np.empty(0, np.int64), 10, 1, 0)) == []


def fails(i):
    if i == 7:
        raise OSError("the disk is gone")


def test_an_example_that_fails_is_named_as_without_workers():
    told = []
    for workers in (0, 2):
        data, moves, work = given(workers, Noisy(fails))
        with pytest.raises(DataError) as caught:
            fetch(data, data.train, np.arange(50), augment=moves, epoch=3)
        told.append(str(caught.value))
        if workers:
            assert moves.reader.ahead._processes == []  # they are ended, and begin again
        rows = np.array([1, 2])
        assert len(fetch(data, data.train, rows, augment=moves, epoch=3)[0]) == 2
        work.close()
    assert told[0] == told[1]
    assert told[0].startswith("row 7, in epoch 3: cannot be read (OSError: the disk is gone)")


@pytest.mark.parametrize(
    ("act", "how"),
    [
        (lambda i: os._exit(3), "with exit code 3"),
        (lambda i: os.kill(os.getpid(), signal.SIGKILL), "by signal 9"),
        (lambda i: sys.exit("enough"), "with exit code"),
    ],
)
def test_a_process_that_dies_is_said_and_leaves_none_behind(act, how):
    data, moves, _ = given(2, Noisy(lambda i: act(i) if i == 7 else None))
    fetch(data, data.train, np.array([1, 2, 3]), augment=moves, epoch=0)
    pids = pids_of(moves.reader.ahead)
    with pytest.raises(DataError, match=rf"row \d+.*, in epoch 1: the process that read it ended {how}.*workers = 0"):
        fetch(data, data.train, np.arange(50), augment=moves, epoch=1)
    assert gone(pids)


@pytest.mark.parametrize("way", ["close", "delete"])
def test_processes_are_gone_with_their_task(way):
    data, moves, work = given(2)
    fetch(data, data.train, np.array([1, 2, 3]), augment=moves, epoch=0)
    pids = pids_of(moves.reader.ahead)
    assert all(map(alive, pids))
    if way == "close":
        work.close()
    else:
        del moves, work
    assert gone(pids)


SCRIPT = """
import os, random, sys, time
import numpy as np, surefoot
from surefoot.data.batches import fetch

class Slow:
    def __len__(self): return 40
    def __getitem__(self, i):
        if ready: time.sleep(0.2)
        return np.float32([random.random(), i]), i % 2

ready = False
data = surefoot.load(Slow(), workers=2, validation=0)
work = surefoot.task(data, "linear")
ready = True
fetch(data, data.train, np.arange(2), augment=work.augment)
print(*[each.process.pid for each in work.augment.reader.ahead._processes], flush=True)
END
"""


@pytest.mark.parametrize(
    ("end", "signal_"),
    [
        ("pass", None), ("raise SystemExit(1)", None), ("raise ValueError", None), ("os._exit(1)", None),
        ("fetch(data, data.train, np.arange(40), augment=work.augment)", signal.SIGINT),
        ("time.sleep(60)", signal.SIGKILL), ("time.sleep(60)", signal.SIGTERM),
    ],
)  # fmt: skip
def test_processes_are_gone_when_the_program_ends(end, signal_, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.replace("END", end))
    program = subprocess.Popen(
        [sys.executable, tmp_path / "script.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert program.stdout is not None
    pids = list(map(int, program.stdout.readline().split()))
    assert len(pids) == 2
    if signal_ == signal.SIGINT:
        os.killpg(program.pid, signal_)  # as a terminal does it: to all of them
    elif signal_ is not None:
        program.send_signal(signal_)
    _, errors = program.communicate(timeout=30)
    assert gone(pids)
    assert errors.count("Traceback") <= 1  # of the program itself, and none of its processes
    if signal_ == signal.SIGINT:
        assert "KeyboardInterrupt" in errors


def test_in_a_fork_examples_are_read_where_they_are():
    data, moves, work = given(2)
    expected = fetch(data, data.train, np.array([1, 2]), augment=moves, epoch=5)[0]
    pids = pids_of(moves.reader.ahead)
    pid = os.fork()
    if pid == 0:
        same = torch.equal(fetch(data, data.train, np.array([1, 2]), augment=moves, epoch=5)[0], expected)
        work.close()
        os._exit(0 if same else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert all(map(alive, pids))  # a fork does not end them
    work.close()


def test_the_number_of_workers_is_the_loaders_unless_given():
    rows = Noisy()
    assert load(DataLoader(rows, num_workers=2)).train.reader.workers == 2
    assert load(DataLoader(rows, num_workers=2), workers=0).train.reader.workers == 0
    assert load(rows).train.reader.workers == 0
    assert load(rows, workers=3).train.reader.workers == 3


def test_bad_numbers_of_workers_are_refused():
    for workers in (-1, -7):
        with pytest.raises(ConfigError, match=f"workers = {workers}.*at least 0"):
            load(Noisy(), workers=workers)
        with pytest.raises(ConfigError, match=r"workers = .*at least 0"):
            surefoot.Config(workers=workers)
    with pytest.raises(ConfigError, match="workers = 'two': workers must be a whole number"):
        surefoot.Config(workers="two")


def test_where_processes_start_anew_a_dataset_that_cannot_be_sent_is_said(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    data, moves, _ = given(1, Noisy(act=lambda i: None))
    with pytest.raises(ConfigError, match=r"a Dataset that cannot be handed to a process.*workers = 0"):
        fetch(data, data.train, np.array([1, 2]), augment=moves)


def plain(seed, epoch, positions):
    return [np.array(positions, np.float32) + seed, np.array(positions)]


def test_where_processes_start_anew_they_read_the_same(monkeypatch):
    from torch.utils.data import TensorDataset

    monkeypatch.setattr(sys, "platform", "darwin")
    drawn = Drawn(TensorDataset(torch.from_numpy(X), torch.arange(50)), form_of(X[0], np.array(0)))
    ahead = Ahead(drawn, 1, 50, None)
    x, y = ahead.read(np.array([3, 4]), seed=2, epoch=0)
    assert np.array_equal(x, X[3:5])
    assert y.tolist() == [3, 4]
    ahead.close()


def test_a_large_batch_goes_through_the_pipe_in_requests_that_it_holds():
    ahead = Ahead(plain, 2, 30_000, None)
    order = epoch_order(30_000, 0, 0)
    x, _ = ahead.read(order, seed=0, epoch=0)
    assert np.array_equal(x, order.astype(np.float32))
    x, _ = ahead.read(order[:100], seed=0, epoch=0)
    assert np.array_equal(x, order[:100].astype(np.float32))
    ahead.close()


def test_a_fault_is_what_it_says():
    assert (Fault(3, "is gone").at, Fault(3, "is gone").what) == (3, "is gone")
