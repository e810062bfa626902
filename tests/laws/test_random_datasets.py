"""The law: what a random Dataset draws in training is a function of (seed, epoch, index), however it is trained on."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from small import bare, contents

import surefoot
from surefoot import Recipe
from surefoot.data.batches import epoch_order, fetch
from surefoot.errors import DataError
from surefoot.training.configure import Objects, resolve
from surefoot.training.loop import advance, start
from surefoot.training.make import reseeded
from surefoot.training.open import open_run
from surefoot.training.population.engine import Engine
from surefoot.training.population.many import fit_many
from surefoot.training.population.member import Member
from surefoot.training.population.strategy import Way

PICTURES = np.random.default_rng(0).integers(0, 256, (40, 4, 5, 3), dtype=np.uint8)
N = 40


def by_torch(i: int) -> np.ndarray:
    return PICTURES[i][:, ::-1].copy() if torch.rand(()) < 0.5 else PICTURES[i]


def by_numpy(i: int) -> np.ndarray:
    return np.roll(PICTURES[i], np.random.randint(0, 5), axis=1)


def by_python(i: int) -> np.ndarray:
    return np.rot90(PICTURES[i], random.choice((0, 2))).copy()


class Pictures:
    """A Dataset that draws as it likes. `broken` may be set later: such examples raise."""

    def __init__(self, draw=by_torch, form=Image.fromarray) -> None:
        self.draw, self.form, self.broken = draw, form, frozenset[int]()

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int):
        if i in self.broken:
            raise OSError("the disk is gone")
        return self.form(self.draw(i)), i % 2


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def noisy(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels[:, :, 0].astype(np.float32)).flatten() + torch.randn(20)


def states():
    return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()


CASES = [(by_torch, Image.fromarray), (by_numpy, Image.fromarray), (by_python, tensor), (by_torch, noisy)]


@pytest.mark.parametrize(("draw", "form"), CASES)
def test_a_batch_is_what_its_address_says_and_the_users_generators_stay(draw, form):
    before = states()
    data = surefoot.load(Pictures(draw, form), validation=0.25)
    assert "training reads it anew in each epoch" in data.notes[0]
    work = surefoot.task(data, "linear")
    rows = epoch_order(data.examples, 0, 2)[:8]
    x, y = fetch(data, data.train, rows, augment=work.augment, epoch=2)
    again, _ = fetch(data, data.train, rows[::-1][:3].copy(), augment=work.augment, epoch=2)
    assert torch.equal(again, x.flip(0)[:3])  # whatever batch an example comes in
    assert torch.equal(y, data.train.y[torch.from_numpy(rows.copy())])
    others = [fetch(data, data.train, rows, augment=work.augment, epoch=e, seed=s)[0] for e, s in ((3, 0), (2, 1))]
    assert not any(torch.equal(x, other) for other in others)
    stored = [fetch(data, part, np.arange(4), epoch=e)[0] for part in (data.train, data.validation) for e in (0, 1)]
    assert torch.equal(stored[0], stored[1])
    assert torch.equal(stored[2], stored[3])
    assert states() == before


def test_a_flipped_batch_holds_the_images_that_are_meant():
    """The slow twin: flipped or not, each image of the batch is the one whose label it has."""
    data = surefoot.load(Pictures(), validation=0.25)
    work = surefoot.task(data, "linear")
    rows = np.arange(data.examples)
    x, _ = fetch(data, data.train, rows, augment=work.augment, epoch=1)
    back = (x * data.std.view(-1, 1, 1) + data.mean.view(-1, 1, 1)).mul(255).round().to(torch.uint8)
    flipped = 0
    for i, image in enumerate(back.permute(0, 2, 3, 1).numpy()):
        at = int(data.train.name_of(i).removeprefix("row "))
        straight = np.array_equal(image, PICTURES[at])
        assert straight or np.array_equal(image, PICTURES[at][:, ::-1])
        flipped += not straight
    assert 5 <= flipped <= 25  # of 30 coins


def job(recipe=None, workers=None):
    work = surefoot.task(surefoot.load(Pictures(), validation=0.2, workers=workers), "mlp", augment=["crop:1"])
    return work, surefoot.plan(Recipe(steps=10, batch_size=8, **(recipe or {"lr": 0.05})), work.data.examples)


@pytest.mark.parametrize("workers", [(0, 0), (0, 2), (3, 1)])
def test_stop_and_resume_is_never_stopping_whoever_reads(workers):
    work, plan = job()
    whole, rows = advance(work, plan, start(work, plan), plan.steps)
    work, _ = job(workers=workers[0])
    state, first = advance(work, plan, start(work, plan), 3)
    other, _ = job(workers=workers[1])  # another process: the Dataset is built and read anew
    state, rest = advance(other, plan, state, plan.steps)
    assert contents(state) == contents(whole)
    assert bare([*first, *rest]) == bare(rows)
    work.close()
    other.close()


def test_a_run_goes_on_with_another_number_of_workers(tmp_path):
    def run(name, workers, stop=None):
        config = resolve({"model": "linear", "validation": 0.0, "workers": workers,
                          "recipe": {"epochs": 4, "lr": 0.1, "batch_size": 10}}, Pictures())  # fmt: skip
        with open_run(config, name=name, runs_dir=tmp_path, objects=Objects(data=Pictures())) as run:
            while not run.done and (stop is None or run.state.step < stop):
                run.advance(1)
            if stop is not None:
                run.save()
                return None
            return run.finish().summary["train_loss"]

    whole = run("whole", 0)
    run("cut", 2, stop=5)
    run("cut", 0, stop=9)
    assert run("cut", 1) == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_each_member_of_a_population_gets_the_bits_that_it_gets_alone(workers):
    work, _ = job(workers=workers)
    members = []
    for seed, lr in ((0, 0.05), (0, 0.01), (1, 0.05)):
        task = reseeded(work, seed)
        members.append(Member(task, surefoot.plan(Recipe(steps=6, batch_size=8, lr=lr), work.data.examples)))
    alone = [advance(m.task, m.plan, start(m.task, m.plan), 6)[0] for m in members]
    for way in (Way("loop", 1), Way("loop", processes=2)):
        states, _ = fit_many(members, Engine(way))
        assert [contents(state) for state in states] == [contents(state) for state in alone]
    stacked, _ = fit_many(members, Engine(Way("stacked", 3)))
    for state, other in zip(stacked, alone, strict=True):
        for a, b in zip(state.model.parameters(), other.model.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-5)


def test_an_example_that_fails_in_training_is_named_and_the_run_goes_on_when_it_is_mended(tmp_path):
    source = Pictures()
    config = resolve(
        {"model": "linear", "validation": 0.0, "recipe": {"epochs": 4, "lr": 0.1, "batch_size": 10}}, source
    )
    settings = {"runs_dir": tmp_path, "objects": Objects(data=source)}
    with open_run(config, name="whole", **settings) as run:
        while not run.done:
            run.advance()
        whole = run.finish()
    with open_run(config, name="cut", **settings) as run:
        run.advance()
        source.broken = frozenset({7})
        with pytest.raises(DataError, match=r"row 7, in epoch \d: cannot be read \(OSError: the disk is gone"):
            [run.advance() for _ in range(99) if not run.done]
    source.broken = frozenset()
    with open_run(config, name="cut", **settings) as run:
        while not run.done:
            run.advance()
        assert run.finish().summary["train_loss"] == whole.summary["train_loss"]
