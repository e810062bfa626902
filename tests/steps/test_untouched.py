"""What is kept comes back byte for byte, however the block ends; what could not be put back is named."""

import collections
import random

import numpy as np
import pytest
import torch
from small import BatchNormDropoutNet, bits
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import surefoot
from surefoot.steps.untouched import Snapshot, is_generator, state_bytes, untouched


class Counting(nn.Module):
    """Holds all that a module can hold besides parameters."""

    def __init__(self):
        super().__init__()
        self.inner = BatchNormDropoutNet((3, 8, 8), 3)
        self.register_buffer("noise", torch.zeros(3), persistent=False)
        self.seen, self.history, self.table = 0, [1], {"a": torch.ones(2)}
        self.draws, self.own, self.array = torch.Generator(), np.random.default_rng(0), np.zeros(2)

    def forward(self, x):
        self.seen += 1
        self.history.append(self.seen)
        self.table["a"] = self.table["a"] + 1
        self.table["b"] = 2
        self.array += 1
        self.noise.add_(torch.rand(3, generator=self.draws) + self.own.random())
        return self.inner(x) + self.noise


def contents(model, optimizer, loader):
    """Return everything by other means than those of the code under test."""
    return {
        "tensors": {name: bits(each) for name, each in [*model.named_parameters(), *model.named_buffers()]},
        "grads": {n: None if p.grad is None else bits(p.grad) for n, p in model.named_parameters()},
        "places": {n: p.data_ptr() for n, p in model.named_parameters()},
        "needs": {n: p.requires_grad for n, p in model.named_parameters()},
        "modes": {n: m.training for n, m in model.named_modules()},
        "rest": (model.seen, list(model.history), {k: bits(torch.as_tensor(v)) for k, v in model.table.items()}),
        "array": model.array.tobytes(),
        "own": (bits(model.draws.get_state()), repr(model.own.bit_generator.state)),
        "optimizer": repr(optimizer.state_dict()),
        "loader": (bits(loader.generator.get_state()), bits(loader.sampler.generator.get_state())),
        "python": random.getstate(),
        "numpy": repr(np.random.get_state()),
        "torch": bits(torch.get_rng_state()),
    }


def everything():
    torch.manual_seed(0)
    model = Counting()
    model.inner.norm.eval()
    data = TensorDataset(torch.randn(12, 3, 8, 8), torch.arange(12) % 3)
    loader = DataLoader(
        data, 4, sampler=RandomSampler(data, generator=torch.Generator()), generator=torch.Generator(), num_workers=0
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, loader


def train(model, optimizer, loader):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.param_groups[0]["lr"] = 3.0
    optimizer.param_groups[0]["new"] = 1
    random.random(), np.random.rand(), torch.rand(1)
    model.inner.conv.weight.requires_grad_(False)
    model.inner.head.bias.data = torch.zeros(3)
    model.inner.head.weight = nn.Parameter(torch.zeros_like(model.inner.head.weight))


def end_by(error, model, optimizer, loader):
    with untouched(model, optimizer, loader):
        train(model, optimizer, loader)
        raise error


@pytest.mark.parametrize("trained_before", [False, True])
@pytest.mark.parametrize("ends", [None, ValueError, KeyboardInterrupt])
def test_everything_comes_back(trained_before, ends):
    model, optimizer, loader = everything()
    if trained_before:
        for x, y in loader:
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    before = contents(model, optimizer, loader)
    if ends is None:
        with untouched(model, optimizer, loader, "anything else", None) as proof:
            train(model, optimizer, loader)
        with untouched(model, optimizer, loader) as again:
            pass
        assert proof.digest == again.digest
    else:
        with pytest.raises(ends):
            end_by(ends, model, optimizer, loader)
    after = contents(model, optimizer, loader)
    assert [name for name in before if before[name] != after[name]] == []


def test_a_change_changes_the_digest():
    model, optimizer, loader = everything()
    with untouched(model, optimizer, loader) as proof:
        pass
    for change in (
        lambda: model.inner.head.bias.data.add_(1e-7),
        lambda: model.noise.neg_(),  # 0 to -0
        lambda: model.inner.norm.train(),
        lambda: optimizer.param_groups[0].update(lr=0.2),
        lambda: loader.generator.manual_seed(3),
        lambda: torch.rand(1),
        lambda: np.random.rand(),
        lambda: random.random(),
    ):
        change()
        with untouched(model, optimizer, loader) as changed:
            pass
        assert changed.digest != proof.digest
        proof = changed


def test_what_did_not_change_is_not_written_to_so_a_graph_stays_valid():
    model = nn.Linear(3, 1)
    loss = model(torch.ones(2, 3)).square().sum()
    with untouched(model):
        model(torch.zeros(1, 3))
    loss.backward()
    assert model.weight.grad is not None


def test_tied_weights_and_every_kind_of_tensor_come_back():
    model = nn.Linear(2, 2)
    model.register_parameter("tied", model.weight)
    model.register_buffer("half_precise", torch.ones(2, dtype=torch.bfloat16))
    model.register_buffer("flag", torch.tensor(True))
    model.register_buffer("absent", None)
    model.register_buffer("sparse", torch.eye(3).to_sparse())
    model.register_buffer("nothing", torch.empty(0))
    model.register_buffer("nan", torch.tensor([float("nan")]))
    before = {name: bits(each.to_dense()) for name, each in model.state_dict().items()}
    with untouched(model):
        for each in model.state_dict().values():
            each.zero_()
    assert {name: bits(each.to_dense()) for name, each in model.state_dict().items()} == before
    assert model.tied is model.weight


def test_a_lazy_module_passes():
    with untouched(nn.LazyLinear(2)):
        pass


@pytest.mark.parametrize("make", [surefoot.SGD, torch.optim.Adam, torch.optim.LBFGS])
def test_every_optimizer_comes_back(make):
    model = nn.Linear(2, 1)
    optimizer = make(model.parameters(), lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(3, 2)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    before = repr(optimizer.state_dict()), bits(model.weight)
    with untouched(optimizer):
        optimizer.step(closure)
        assert bits(model.weight) != before[1]
    assert (repr(optimizer.state_dict()), bits(model.weight)) == before


def test_a_loader_that_keeps_its_workers_goes_on_where_it_was():
    x = torch.arange(8.0)
    loader = DataLoader(TensorDataset(x), 2, num_workers=1, persistent_workers=True)
    iterator = iter(loader)
    first = next(iterator)[0].tolist()
    with untouched(loader):
        assert len(list(loader)) == 4
    assert first + [value for batch in iterator for value in batch[0].tolist()] == x.tolist()


def test_generators_in_a_dataset_come_back():
    class Noisy(torch.utils.data.Dataset):
        def __init__(self):
            self.transform = random.Random(0)
            self.rng = np.random.RandomState(0)

        def __len__(self):
            return 4

        def __getitem__(self, i):
            return self.transform.random() + self.rng.rand()

    loader = DataLoader(Noisy(), 2)
    with untouched(loader):
        first = [batch.tolist() for batch in loader]
    assert [batch.tolist() for batch in loader] == first


def test_what_cannot_be_put_back_is_named(monkeypatch):
    model = nn.Linear(2, 1)
    monkeypatch.setattr(Snapshot, "restore", lambda self: None)
    with pytest.raises(RuntimeError, match=r"model 0 \. _parameters bias"), untouched(model):
        model.bias.data.add_(1)


def test_an_interruption_while_things_are_put_back_does_not_leave_them_half_done(monkeypatch):
    model = nn.Linear(2, 1)
    before, restore, calls = bits(model.weight), Snapshot.restore, []

    def interrupted(self):
        calls.append(self)
        if len(calls) == 1:
            raise KeyboardInterrupt
        restore(self)

    monkeypatch.setattr(Snapshot, "restore", interrupted)
    with pytest.raises(KeyboardInterrupt), untouched(model):
        model.weight.data.add_(1)
    assert bits(model.weight) == before


def write(tensor):
    tensor.data[0] = 7.0


VALUES = {
    "a tensor": (lambda: torch.zeros(3), write),
    "a tensor's sign of zero": (lambda: torch.zeros(3), lambda value: value.neg_()),
    "a tensor's NaN": (lambda: torch.tensor([float("nan"), 1.0]), write),
    "a tensor that is moved": (lambda: torch.zeros(3), lambda value: setattr(value, "data", torch.ones(4))),
    "a tensor in bfloat16": (lambda: torch.zeros(3, dtype=torch.bfloat16), write),
    "a sparse tensor": (lambda: torch.eye(3).to_sparse(), lambda value: value.mul_(2)),
    "a parameter that is frozen": (
        lambda: torch.ones(2, requires_grad=True), lambda value: value.requires_grad_(False),
    ),
    "a gradient that appears": (
        lambda: torch.ones(2, requires_grad=True), lambda value: setattr(value, "grad", torch.ones(2)),
    ),
    "a list": (lambda: [1, [2]], lambda value: value[1].append(3)),
    "a dict": (lambda: {"a": 1, "b": {"c": 2}}, lambda value: value["b"].update(c=3)),
    "a counter": (lambda: collections.Counter("aab"), lambda value: value.update("b")),
    "an array": (lambda: np.arange(3.0), lambda value: value.__setitem__(0, -0.0)),
    "a generator of torch": (lambda: torch.Generator().manual_seed(1), lambda value: torch.rand(1, generator=value)),
    "a generator of numpy": (lambda: np.random.default_rng(1), lambda value: value.normal()),
    "a generator of Python": (lambda: random.Random(1), lambda value: value.random()),
}  # fmt: skip


@pytest.mark.parametrize("kind", VALUES)
def test_a_change_shows_in_the_digest_and_is_undone_in_place(kind):
    make, change = VALUES[kind]
    value, snapshot = make(), Snapshot()
    snapshot.keep("it", value)
    before = snapshot.digests()
    assert snapshot.digests() == before, "reading changes nothing"
    change(value)
    assert snapshot.digests() != before
    snapshot.restore()
    assert snapshot.digests() == before


def test_a_set_comes_back():
    value, snapshot = {1, 2}, Snapshot()
    snapshot.keep("it", value)
    value.remove(1)
    snapshot.restore()
    assert value == {1, 2}


def test_the_path_says_where_in_a_nest_the_change_is():
    value, snapshot = {"state": [torch.zeros(2), torch.zeros(2)]}, Snapshot()
    snapshot.keep("optimizer", value)
    before = snapshot.digests()
    value["state"][1].add_(1)
    after = snapshot.digests()
    assert [path for path in before if before[path] != after[path]] == ["optimizer state 1"]


def test_a_value_that_is_reached_twice_is_kept_once_and_a_circle_ends():
    shared, snapshot = torch.zeros(2), Snapshot()
    circle: list = [shared, shared]
    circle.append(circle)
    snapshot.keep("it", circle)
    assert list(snapshot.digests()) == ["it", "it 0"]


def test_an_attribute_is_kept_by_which_object_it_holds():
    class Thing:
        hook = print

    thing, snapshot = Thing(), Snapshot()
    snapshot.keep_attribute("hook", thing, "hook")
    before = snapshot.digests()
    thing.hook = repr
    assert snapshot.digests() != before
    snapshot.restore()
    assert thing.hook is print


def test_only_what_draws_is_a_generator_and_states_have_bytes_of_their_own():
    assert is_generator(np.random.default_rng(0))
    assert not is_generator(np.zeros(2))
    one, two = (np.random.default_rng(seed).bit_generator.state for seed in (1, 2))
    assert state_bytes(one) != state_bytes(two)
    assert state_bytes((1, np.zeros(2))) != state_bytes((1, np.ones(2)))
