import contextlib
import dataclasses
import io
import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from small import contents, differing, images, reference_job, sign_manifest

from surefoot.errors import CheckpointError
from surefoot.optim.plan import Plan
from surefoot.training import checkpoint
from surefoot.training.loop import advance, start
from surefoot.training.make import task
from surefoot.training.state import State
from surefoot.training.task import Task

FILES = ["model.safetensors", "state.safetensors", "state.json", "MANIFEST.json"]


@pytest.fixture(scope="module")
def job() -> tuple[Task, Plan, list[State]]:
    """The reference job and its states after steps 0 to 6."""
    work, plan = reference_job()
    state = start(work, plan)
    states = [state.clone()]
    for step in range(1, 7):
        state, _ = advance(work, plan, state, step)
        states.append(state.clone())
    return work, plan, states


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_what_is_loaded_is_what_was_saved(job, tmp_path):
    work, _, states = job
    folder = checkpoint.save(tmp_path, work, states[4])
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    loaded, notes = checkpoint.load_newest(tmp_path, work)
    assert notes == []
    assert not differing(contents(loaded), contents(states[4]))
    assert loaded.seconds == states[4].seconds
    assert loaded.tally.seconds == states[4].tally.seconds
    assert loaded.model.training


def test_a_run_without_checkpoints_has_no_state(job, tmp_path):
    assert checkpoint.load_newest(tmp_path, job[0]) == (None, [])


def test_the_newest_two_are_kept_and_the_newest_is_loaded(job, tmp_path):
    work, _, states = job
    for step in (1, 2, 3, 5):
        checkpoint.save(tmp_path, work, states[step])
    assert names(tmp_path) == ["step-00000003", "step-00000005"]
    assert checkpoint.load_newest(tmp_path, work)[0].step == 5


def test_newest_means_the_highest_step_also_past_eight_digits(job, tmp_path):
    work, _, states = job
    for step in (99_999_999, 100_000_000):
        state = states[1].clone()
        state.step = step
        checkpoint.save(tmp_path, work, state)
    assert checkpoint.load_newest(tmp_path, work)[0].step == 100_000_000


def test_a_step_that_is_already_saved_is_not_written_again(job, tmp_path):
    work, _, states = job
    before = (checkpoint.save(tmp_path, work, states[2]) / "MANIFEST.json").stat()
    after = (checkpoint.save(tmp_path, work, states[2]) / "MANIFEST.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(job, tmp_path):
    work, _, states = job
    folder = checkpoint.save(tmp_path, work, states[2])
    (folder / "model.safetensors").write_bytes(b"")
    checkpoint.save(tmp_path, work, states[2])
    assert names(tmp_path) == ["step-00000002"]
    assert not differing(contents(checkpoint.load_newest(tmp_path, work)[0]), contents(states[2]))


def test_what_killed_processes_left_is_cleaned_at_the_next_save(job, tmp_path):
    work, _, states = job
    checkpoint.save(tmp_path, work, states[1])
    for left in (".step-00000009.tmp-1-aa", ".step-00000009.old-aa", ".step-00000009.damaged-aa"):
        (tmp_path / "checkpoints" / left).mkdir()
        (tmp_path / "checkpoints" / left / "model.safetensors").write_bytes(b"x" * 100)
    checkpoint.save(tmp_path, work, states[2])
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_damaged_ones_go_once_there_are_two_sound_ones(job, tmp_path):
    work, _, states = job
    for step in (1, 2, 3):
        folder = checkpoint.save(tmp_path, work, states[step])
        if step > 1:
            (folder / "MANIFEST.json").unlink()
            assert "step-00000001" in names(tmp_path), "the only sound one stays"
    checkpoint.save(tmp_path, work, states[4])
    assert names(tmp_path) == ["step-00000001", "step-00000004"]


# Damage.


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))


def truncate(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def zero(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    first = rng.randrange(len(content))
    last = min(len(content), first + rng.randint(1, 512))
    content[first:last] = bytes(last - first)
    path.write_bytes(bytes(content))


def extend(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randint(1, 64)))


def remove(path: Path, rng: random.Random) -> None:
    path.unlink()


def make_folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def from_other(path: Path, rng: random.Random) -> None:
    """Splice: the same file of the checkpoint before."""
    shutil.copy(path.parents[1] / "step-00000002" / path.name, path)


def swap(path: Path, rng: random.Random) -> None:
    other = path.with_name(rng.choice([name for name in FILES if name != path.name]))
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def odd_json(path: Path, rng: random.Random) -> None:
    path.with_name("MANIFEST.json").write_text(rng.choice(["", "[]", "null", "3", '{"a": 1}', '"x"', "[" * 5000]))


def manifest_entry(path: Path, rng: random.Random) -> None:
    manifest = json.loads(path.with_name("MANIFEST.json").read_text())
    manifest[rng.choice(FILES[:3])] = rng.choice([None, {}, [], {"bytes": 1}, {"bytes": "x", "sha256": 5}])
    path.with_name("MANIFEST.json").write_text(json.dumps(manifest))


MUTATIONS = [flip, truncate, zero, extend, remove, make_folder, from_other, swap, odd_json, manifest_entry]


def without_layout(folder: Path) -> dict[str, object]:
    """The files of a checkpoint as they matter: the manifest by its meaning, for spaces in it change nothing."""
    found: dict[str, object] = {}
    for name in FILES:
        path = folder / name
        content: object = path.read_bytes() if path.is_file() else None
        if name == "MANIFEST.json" and content:
            with contextlib.suppress(ValueError, RecursionError):
                content = json.loads(content)  # pyright: ignore[reportArgumentType]
        found[name] = content
    return found


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_no_damage_is_loaded_and_the_checkpoint_before_is_used_and_named(mutation, job, tmp_path):
    work, _, states = job
    for step in (2, 5):
        checkpoint.save(tmp_path, work, states[step])
    sound = tmp_path / "sound"
    (tmp_path / "checkpoints").rename(sound)
    original = without_layout(sound / "step-00000005")
    rng = random.Random(mutation.__name__)
    for _ in range(30):
        shutil.copytree(sound, tmp_path / "checkpoints")
        mutation(tmp_path / "checkpoints" / "step-00000005" / rng.choice(FILES), rng)
        if without_layout(tmp_path / "checkpoints" / "step-00000005") != original:
            loaded, notes = checkpoint.load_newest(tmp_path, work)
            assert loaded is not None
            assert loaded.step == 2
            assert len(notes) == 1
            assert notes[0].startswith("step-00000005 is damaged (")
            assert notes[0].endswith("; step-00000002, before it, is used")
            shutil.rmtree(tmp_path / "checkpoints" / "step-00000002")
            with pytest.raises(CheckpointError) as caught:
                checkpoint.load_newest(tmp_path, work)
            assert "step-00000005 is damaged" in caught.value.given
            assert caught.value.allowed
            assert caught.value.do
        shutil.rmtree(tmp_path / "checkpoints")


def test_a_whole_checkpoint_under_the_name_of_another_step_is_damage(job, tmp_path):
    work, _, states = job
    folder = checkpoint.save(tmp_path, work, states[2])
    folder.rename(folder.with_name("step-00000009"))
    with pytest.raises(CheckpointError, match="name is that of another step"):
        checkpoint.load_newest(tmp_path, work)


def test_a_folder_without_a_number_and_a_plain_file_are_not_checkpoints_that_load(job, tmp_path):
    work, _, states = job
    checkpoint.save(tmp_path, work, states[2])
    (tmp_path / "checkpoints" / "step-latest").mkdir()
    (tmp_path / "checkpoints" / "step-00000007").write_text("not a folder")
    loaded, notes = checkpoint.load_newest(tmp_path, work)
    assert loaded.step == 2
    assert len(notes) <= 1


@pytest.mark.parametrize("other", ["model", "shape", "frozen", "seed", "data", "schema"])
def test_a_sound_checkpoint_that_belongs_to_something_else_is_refused(other, job, tmp_path):
    work, _, states = job
    folder = checkpoint.save(tmp_path, work, states[2])
    template = work.fresh_model()
    if other == "shape":
        template.head = torch.nn.Linear(96, 4)
    if other == "frozen":
        template.conv.requires_grad_(False)
    changed = {
        "model": lambda: task(work.data, "linear", seed=3),
        "shape": lambda: dataclasses.replace(work, template=template),
        "frozen": lambda: dataclasses.replace(work, template=template),
        "seed": lambda: dataclasses.replace(work, seed=4),
        "data": lambda: dataclasses.replace(work, data=images(63)),
        "schema": lambda: work,
    }[other]()
    if other == "schema":
        path = folder / "state.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
        sign_manifest(folder)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_newest(tmp_path, changed)
    assert "step-00000002" in caught.value.given
    assert caught.value.allowed
    assert caught.value.do


def test_a_checkpoint_from_another_machine_loads_with_a_note(job, tmp_path):
    work, _, states = job
    folder = checkpoint.save(tmp_path, work, states[2])
    path = folder / "state.json"
    saved = json.loads(path.read_text())
    saved["fingerprint"] |= {"torch": "1.0", "threads": 64}
    path.write_text(json.dumps(saved))
    sign_manifest(folder)
    loaded, notes = checkpoint.load_newest(tmp_path, work)
    assert loaded.step == 2
    assert len(notes) == 2
    assert notes[0].startswith("torch was '1.0' and is ")
    assert notes[1].startswith("threads was 64 and is 1")


def test_damage_of_the_newest_does_not_hide_a_change_of_machine(job, tmp_path):
    work, _, states = job
    for step in (2, 5):
        folder = checkpoint.save(tmp_path, work, states[step])
    (folder / "state.json").write_text("{")
    loaded, notes = checkpoint.load_newest(tmp_path, work)
    assert loaded.step == 2
    assert len(notes) == 1


def test_tied_weights_are_saved_and_load_tied(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(192, 192), torch.nn.Linear(192, 192)
            self.b.weight = self.a.weight
            self.head = torch.nn.Linear(192, 3)

        def forward(self, x):
            return self.head(self.b(self.a(x.flatten(1))))

    work = task(images(), Tied())
    _, plan = reference_job()
    state, _ = advance(work, plan, start(work, plan), 3)
    checkpoint.save(tmp_path, work, state)
    loaded, _ = checkpoint.load_newest(tmp_path, work)
    assert loaded.model.a.weight is loaded.model.b.weight
    assert not differing(contents(loaded), contents(state))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickle in a zip", b"\xff" * 100])
def test_a_weights_file_that_is_none_is_named(content, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="must be a safetensors file"):
        checkpoint.read_tensors(path)
    with pytest.raises(CheckpointError, match="SHA-256"):
        checkpoint.read_tensors(path, sha256="0" * 64)
    with pytest.raises(CheckpointError, match="must be readable"):
        checkpoint.read_tensors(tmp_path / "absent")


# A kill at every single file operation of a save.


class Killed(BaseException):
    """The process is dead: this operation did not happen, and no later one will."""


class Killer:
    """Count file operations; kill at the one with number `at`, half-way through it where it is a write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.at, self.count = at, 0
        for module, name in [
            (os, "mkdir"), (os, "rename"), (os, "replace"), (os, "unlink"), (os, "remove"), (os, "rmdir"),
            (os, "fsync"), (os, "open"),
        ]:  # fmt: skip
            monkeypatch.setattr(module, name, self.counted(getattr(module, name)))
        plain_open = io.open

        def opened(file, mode="r", *arguments, **options):
            if not set(mode) & set("wxa+"):
                return plain_open(file, mode, *arguments, **options)
            self.operation()
            handle = plain_open(file, mode, *arguments, **options)
            write = handle.write

            def half_written(content):
                if self.count + 1 == self.at:
                    write(content[: len(content) // 2])
                    handle.flush()
                self.operation()
                return write(content)

            handle.write = half_written
            return handle

        monkeypatch.setattr(io, "open", opened)

    def operation(self) -> None:
        self.count += 1
        if self.count >= self.at:
            raise Killed

    def counted(self, function):
        def counted(*arguments, **options):
            self.operation()
            return function(*arguments, **options)

        return counted


@pytest.mark.parametrize("situation", ["first", "second", "third", "over damage"])
def test_a_kill_at_any_file_operation_of_a_save_loses_nothing(situation, job, tmp_path):
    work, _, states = job
    saved_before = {"first": [], "second": [2], "third": [1, 2], "over damage": [2, 3]}[situation]
    at = 0
    while True:
        at += 1
        run = tmp_path / f"kill-{at}"
        run.mkdir()
        for step in saved_before:
            folder = checkpoint.save(run, work, states[step])
        if situation == "over damage":
            (folder / "state.json").write_text("{}")
        with pytest.MonkeyPatch.context() as patch:
            killer = Killer(patch, at)
            try:
                checkpoint.save(run, work, states[3])
                killed = False
            except Killed:
                killed = True
        if not killed:
            break
        loaded, _ = checkpoint.load_newest(run, work)
        if loaded is None:
            assert not saved_before, f"operation {at} lost a checkpoint"
        else:
            assert loaded.step in (3, 2), f"operation {at}"
            assert loaded.step == 3 or 2 in saved_before
            assert not differing(contents(loaded), contents(states[loaded.step])), f"operation {at}"
        checkpoint.save(run, work, states[4])
        assert checkpoint.load_newest(run, work)[0].step == 4
        assert all(name.startswith("step-") for name in names(run)), f"operation {at} left {names(run)}"
        assert len(names(run)) <= checkpoint.KEEP + 1
    assert at > 15, "the killer must see the operations, or this test shows nothing"
    assert killer.count == at - 1


def test_the_kill_above_would_find_a_save_that_removes_the_old_one_first(job, tmp_path):
    work, _, states = job

    def careless(state):
        for old in (tmp_path / "checkpoints").glob("step-*"):
            shutil.rmtree(old)
        checkpoint.save(tmp_path, work, state)

    lost = 0
    for at in range(1, 40):
        checkpoint.save(tmp_path, work, states[2])
        with pytest.MonkeyPatch.context() as patch:
            Killer(patch, at)
            try:
                careless(states[3])
            except Killed:
                try:
                    lost += checkpoint.load_newest(tmp_path, work)[0] is None
                except CheckpointError:
                    lost += 1
        shutil.rmtree(tmp_path / "checkpoints")
    assert lost > 5


def test_files_and_folder_are_flushed_before_the_rename_and_the_parent_after(job, tmp_path, monkeypatch):
    """What a power failure would show: a rename that reaches the disk before the bytes does not survive it."""
    work, _, states = job
    order: list[object] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(os.fstat(fd).st_ino), fsync(fd))[1])
    monkeypatch.setattr(os, "rename", lambda a, b: (order.append("rename"), rename(a, b))[1])
    folder = checkpoint.save(tmp_path, work, states[2])
    files = [(folder / name).stat().st_ino for name in FILES]
    assert order == [*files, folder.stat().st_ino, "rename", folder.parent.stat().st_ino]


def test_a_disk_that_is_full_keeps_the_old_checkpoint(job, tmp_path, monkeypatch):
    work, _, states = job
    checkpoint.save(tmp_path, work, states[2])

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(tmp_path, work, states[3])
    assert checkpoint.load_newest(tmp_path, work)[0].step == 2
    checkpoint.save(tmp_path, work, states[3])
    assert names(tmp_path) == ["step-00000002", "step-00000003"]


def test_a_card_is_known_by_its_name_its_libraries_and_its_products_and_another_is_said(job, monkeypatch):
    work = job[0]
    card = dataclasses.replace(work, machine=dataclasses.replace(work.machine, device=torch.device("cuda")))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91000)
    found = checkpoint.fingerprint(card)
    assert [found[name] for name in ("device_name", "cuda", "cudnn", "tf32")] == ["H200", "13.0", 91000, False]
    scalars = {"fingerprint": found | {"cudnn": 90000, "device_name": "A100"}}
    said = checkpoint._changed(scalars, card)
    assert [each.split(" and is ")[0] for each in said] == ["device_name was 'A100'", "cudnn was 90000"]
    assert checkpoint._changed({"fingerprint": checkpoint.fingerprint(work)}, work) == []
    older = {name: value for name, value in found.items() if name not in ("cuda", "cudnn", "tf32")}
    assert checkpoint._changed({"fingerprint": older}, card) == []
