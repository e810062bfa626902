"""The law: stop and resume equals never stopping, bit for bit; and each part of the state is needed for it."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
from kinds import KINDS
from small import bare, bits, contents, differing, plateau_job, reference_job, sign_manifest

from surefoot.config import Recipe
from surefoot.errors import CheckpointError
from surefoot.optim.plan import Plan
from surefoot.optim.plan import plan as plan_of
from surefoot.record.run import Row
from surefoot.rules import rule_settings
from surefoot.training import checkpoint
from surefoot.training.loop import advance, rates, start
from surefoot.training.state import Snapshot, State
from surefoot.training.task import Task


def of_rule(**rule: object) -> tuple[Task, Plan]:
    """The reference job by another update rule."""
    work, made = reference_job()
    of_sgd = dict.fromkeys(name for name in rule_settings() if name != "lr")
    recipe = dataclasses.replace(made.recipe, **{**of_sgd, "lr": 0.01, **rule})
    return work, plan_of(recipe, work.data.examples, rows_per_epoch=2)


JOBS = {
    "cosine": reference_job,
    "plateau": plateau_job,
    "adamw": lambda: of_rule(rule="adamw"),
    "muon": lambda: of_rule(rule="muon"),
    "rmsprop": lambda: of_rule(rule="rmsprop", momentum=0.5),
}
STEPS = 16

job = cache(lambda kind: JOBS[kind]())


@cache
def undisturbed(kind: str) -> tuple[dict, list[dict]]:
    work, plan = job(kind)
    state, rows = advance(work, plan, start(work, plan), plan.steps)
    assert state.outcome is not None
    assert state.outcome.kind == "finished"
    return contents(state), bare(rows)


@cache
def snapshots(kind: str) -> list[tuple[State, list[Row]]]:
    """The undisturbed run's state and rows after each step; clone before use."""
    work, plan = job(kind)
    state, rows = start(work, plan), []
    found = [(state.clone(), list(rows))]
    while state.outcome is None:
        state, new = advance(work, plan, state, state.step + 1)
        rows += new
        found.append((state.clone(), list(rows)))
    return found


def through_disk(folder: Path, work: Task, state: State) -> State:
    checkpoint.save(folder, work, state)
    loaded, notes = checkpoint.load_newest(folder, work)
    assert loaded is not None
    assert not notes
    return loaded


def finish(work: Task, plan: Plan, state: State, rows: list[Row], slice_steps: int = STEPS) -> tuple[dict, list[dict]]:
    while state.outcome is None:
        state, new = advance(work, plan, state, state.step + slice_steps)
        rows = rows + new
    return contents(state), bare(rows)


@pytest.mark.parametrize("kind", JOBS)
def test_the_job_uses_all_that_a_state_holds(kind):
    work, plan = job(kind)
    state, _ = advance(work, plan, start(work, plan), STEPS - 3)
    assert state.slots
    assert state.average is not None
    assert state.tally.examples > 0
    assert plan.steps == STEPS
    assert bool(state.val_losses) == (kind == "plateau")
    if kind == "plateau":
        (rate,) = rates(plan, state, state.step + 1)
        assert rate < plan.recipe.lr, "the plateau must have acted, else its losses prove nothing"


@pytest.mark.parametrize("kind", JOBS)
@pytest.mark.parametrize("stop", range(STEPS + 1))
def test_stopped_at_any_step_and_resumed_it_ends_the_same(kind, stop, tmp_path):
    work, plan = job(kind)
    state, rows = snapshots(kind)[stop]
    ended = finish(work, plan, through_disk(tmp_path, work, state.clone()), rows, slice_steps=3)
    assert not differing(ended[0], undisturbed(kind)[0])
    assert ended[1] == undisturbed(kind)[1]


@pytest.mark.parametrize("kind", JOBS)
def test_resumed_after_every_single_step_it_ends_the_same(kind, tmp_path):
    work, plan = job(kind)
    state, rows = start(work, plan), []
    while state.outcome is None:
        state, new = advance(work, plan, through_disk(tmp_path, work, state), state.step + 1)
        rows += new
    assert not differing(contents(state), undisturbed(kind)[0])
    assert bare(rows) == undisturbed(kind)[1]


@pytest.mark.parametrize("name", KINDS)
def test_so_it_is_for_every_kind_of_batch_and_target(name, tmp_path):
    work = KINDS[name].task(seed=3)
    pieces = 10 if name == "mapping and loss_fn" else 4  # whose mean does not say over how many it is
    rule = {"rule": "adamw", "lr": 0.01} if "tokens" in name else {"lr": 0.1, "momentum": 0.9}
    recipe = Recipe(steps=14, batch_size=10, micro_batch_size=pieces, ema_decay=0.8, **rule)
    plan = plan_of(recipe, work.data.examples, rows_per_epoch=2)
    state, rows = advance(work, plan, start(work, plan), plan.steps)
    whole = contents(state), bare(rows)
    for stop in (3, 9):
        state, rows = advance(work, plan, start(work, plan), stop)
        (folder := tmp_path / str(stop)).mkdir()
        ended = finish(work, plan, through_disk(folder, KINDS[name].task(seed=3), state), rows, 2)
        assert not differing(ended[0], whole[0])
        assert ended[1] == whole[1]


def test_a_buffer_that_the_model_keeps_out_of_its_state_dict_is_kept(tmp_path):
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(192, 3)
            self.register_buffer("seen", torch.zeros(()), persistent=False)

        def forward(self, x):
            if self.training:
                self.seen += 1
            return self.head(x.flatten(1)) / (1 + self.seen)

    from surefoot.training.make import task

    work, plan = reference_job()
    work = task(work.data, Counting())
    plain = advance(work, plan, start(work, plan), STEPS)[0]
    state, _ = advance(work, plan, start(work, plan), 7)
    state, _ = advance(work, plan, through_disk(tmp_path, work, state), STEPS)
    assert not differing(contents(plain), contents(state))


# Controls. Each item of the saved state, reset on disk under a manifest that verifies, must break the law.


def edit_json(folder: Path, **changes: object) -> None:
    path = folder / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder: Path, file: str, prefix: str, value: float = 0.0) -> None:
    path = folder / file
    tensors = safetensors.torch.load(path.read_bytes())
    hit = [name for name in tensors if name.startswith(prefix) and tensors[name].is_floating_point()]
    assert hit, f"nothing to reset under {prefix}"
    safetensors.torch.save_file({n: torch.full_like(t, value) if n in hit else t for n, t in tensors.items()}, path)


def drop_slots(folder: Path) -> None:
    path = folder / "state.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    safetensors.torch.save_file({n: t for n, t in tensors.items() if not n.startswith("velocity/")}, path)
    edit_json(folder, slots=[])


def zero_tally(folder: Path) -> None:
    tally = json.loads((folder / "state.json").read_text())["tally"]
    edit_json(folder, tally={name: [] if name == "losses" else type(value)() for name, value in tally.items()})


def drop_counter(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    tensors["norm.num_batches_tracked"] = torch.tensor(0)
    safetensors.torch.save_file(tensors, path)


DROPS = {
    "parameters": lambda folder: edit_tensors(folder, "model.safetensors", "head.weight"),
    "running mean": lambda folder: edit_tensors(folder, "model.safetensors", "norm.running_mean"),
    "running variance": lambda folder: edit_tensors(folder, "model.safetensors", "norm.running_var", 1.0),
    "batches tracked": drop_counter,
    "slots": drop_slots,
    "one slot": lambda folder: edit_tensors(folder, "state.safetensors", "velocity/0"),
    "average of a weight": lambda folder: edit_tensors(folder, "state.safetensors", "average/head.weight"),
    "average of a buffer": lambda folder: edit_tensors(folder, "state.safetensors", "average/norm.running_var", 1.0),
    "tally": zero_tally,
    "validation losses": lambda folder: edit_json(folder, val_losses=[]),
}


@pytest.mark.parametrize("item", [*DROPS, "nothing", "step"])
def test_without_any_one_item_of_the_state_the_law_fails(item, tmp_path):
    work, plan = job("plateau")
    state, rows = snapshots("plateau")[13]
    folder = checkpoint.save(tmp_path, work, state.clone())
    if item == "step":  # the folder's name agrees, so that only the law can find it
        edit_json(folder, step=12)
        folder = folder.rename(folder.with_name("step-00000012"))
        rows = [row for row in rows if row.step <= 12]
    elif item != "nothing":
        DROPS[item](folder)
    sign_manifest(folder)
    loaded, notes = checkpoint.load_newest(tmp_path, work)
    assert loaded is not None
    assert not notes
    same = finish(work, plan, loaded, rows) == undisturbed("plateau")
    assert same == (item == "nothing")


def test_every_field_of_the_state_is_saved_or_dropped_above():
    fields = {field.name for field in dataclasses.fields(State)}
    controlled = {"step", "model", "slots", "average", "tally", "val_losses", "seconds", "outcome"}
    below = {"best", "micro_batch_size"}
    said = {"computed", "stepper"}  # how it is computed, looked up anew by whoever goes on
    assert said == {field.name for field in dataclasses.fields(State) if not field.compare}
    assert fields - said == controlled | below | {"optimizer"}, (
        "a new one needs a control; test_optimizers.py has the last"
    )


def test_the_best_weights_come_back_and_are_missed_where_they_are_gone(tmp_path):
    work, plan = job("cosine")
    early, _ = snapshots("cosine")[5]
    state, _ = snapshots("cosine")[13]
    state = state.clone()
    state.best = Snapshot.of(early, 0.25)
    loaded = through_disk(tmp_path, work, state)
    assert (loaded.best.step, loaded.best.value) == (5, 0.25)
    for name, value in early.weights.items():
        assert bits(loaded.best.tensors[name]) == bits(value), "the average where one is kept"
    ended, _ = advance(work, plan, loaded, STEPS)
    assert not differing(contents(ended), undisturbed("cosine")[0]), "they change nothing of the run"
    folder = tmp_path / "checkpoints" / "step-00000013"
    edit_json(folder, best=None)
    sign_manifest(folder)
    with pytest.raises(CheckpointError, match="best/"):
        checkpoint.load_newest(tmp_path, work)


def test_the_pieces_that_fit_come_back_and_another_run_follows_without_them(tmp_path):
    work, plan = job("cosine")
    state, _ = snapshots("cosine")[3]
    state = state.clone()
    state.micro_batch_size = 4
    plain, _ = advance(work, plan, state.clone(), STEPS)
    loaded = through_disk(tmp_path, work, state)
    assert loaded.micro_batch_size == 4
    assert not differing(contents(advance(work, plan, loaded, STEPS)[0]), contents(plain))
    folder = tmp_path / "checkpoints" / "step-00000003"
    edit_json(folder, micro_batch_size=None)
    sign_manifest(folder)
    whole, _ = checkpoint.load_newest(tmp_path, work)
    assert differing(contents(advance(work, plan, whole, STEPS)[0]), contents(plain)), "dropout draws by the piece"
