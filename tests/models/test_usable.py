"""Modules as people have them: lazy, wrapped, tied, parametrised, scripted, without values."""

import random
import warnings

import numpy as np
import pytest
import torch
from small import bits, images
from torch import nn

import surefoot
from surefoot.errors import ConfigError
from surefoot.models.build import build
from surefoot.models.usable import copied, usable
from surefoot.training.make import reseeded, task
from surefoot.training.weights import load_trained

SHAPE = (3, 8, 8)


def plain(*middle):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), *(middle or [nn.Linear(192, 3)]))


def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


def test_lazy_layers_are_made_from_the_seed_in_their_own_modes():
    first, again, other = (build(lazy, SHAPE, 3, seed) for seed in (0, 0, 1))
    assert first.training
    assert bits(first[0].weight) == bits(again[0].weight) != bits(other[0].weight)
    assert first[1].num_batches_tracked == 0, "the forward pass that makes them changes no statistics"
    before = torch.random.get_rng_state()
    build(lazy, SHAPE, 3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_lazy_module_that_was_given_stays_lazy_and_its_run_is_loaded_again(tmp_path):
    module = lazy()
    result = surefoot.train(images(), module, epochs=1, batch_size=20, runs_dir=tmp_path)
    assert nn.parameter.is_lazy(module[0].weight)
    found = load_trained(result.folder, lazy())
    assert any(bits(result.model.net[0].weight) == bits(value) for value in found.model.parameters())
    work = task(images(), lazy)
    assert bits(reseeded(work, 1).template[0].weight) != bits(work.template[0].weight)


def test_lazy_layers_after_an_embedding_get_indices():
    model = usable(nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.LazyLinear(2)), (5,), 0)
    assert model[2].in_features == 20


def test_a_lazy_model_for_another_input_is_refused():
    with pytest.raises(ConfigError, match="lazy layers that cannot take a batch"):
        build(lazy, (7,), 3)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda m: torch.compile(m, backend="eager"),
        nn.DataParallel,
        lambda m: nn.DataParallel(torch.compile(m, backend="eager")),
    ],
)
def test_what_a_wrapper_holds_is_trained_under_its_own_names(wrapped, tmp_path):
    inside = plain()
    results = [
        surefoot.train(images(), model, steps=3, batch_size=20, runs_dir=tmp_path, name=name)
        for name, model in (("plain", inside), ("wrapped", wrapped(inside)))
    ]
    files = [(result.folder / "model.safetensors").read_bytes() for result in results]
    assert files[0] == files[1]


@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, torch.zeros(2, *SHAPE))])
def test_a_module_of_torch_jit_is_refused_before_anything_is_trained(make, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make(plain())
    for given in (model, lambda: model):
        with pytest.raises(ConfigError, match=r"torch\.jit has made.*scripted or traced from"):
            surefoot.train(images(), given, runs_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_without_values_and_what_cannot_be_copied_are_refused():
    with pytest.raises(ConfigError, match=r"1\.weight is on the device meta"):
        build(plain(nn.Linear(192, 3, device="meta")), SHAPE, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = plain(torch.nn.utils.weight_norm(nn.Linear(192, 3)))
    with pytest.raises(ConfigError, match=r"cannot be copied.*parametrizations\.weight_norm"):
        copied(old)
    with pytest.raises(ConfigError, match="cannot be copied"):
        task(images(), lambda: old)
    held = plain()
    held.log = open("/dev/null")  # noqa: SIM115  # it is closed below
    with held.log, pytest.raises(ConfigError, match=r"cannot be copied.*open files"):
        copied(held)


def tied():
    model = plain(nn.Linear(192, 192), nn.Linear(192, 192), nn.Linear(192, 3))
    model[2].weight = model[1].weight
    return model


def hooked():
    model = plain()
    model[1].register_forward_hook(lambda module, inputs, outputs: outputs * 2)
    return model


@pytest.mark.parametrize(
    "model",
    [
        tied, hooked, lambda: plain(nn.utils.parametrizations.weight_norm(nn.Linear(192, 3))),
        lambda: plain(nn.utils.parametrizations.spectral_norm(nn.Linear(192, 3))),
        lambda: plain(torch.compile(nn.Linear(192, 3), backend="eager")),
    ],
)  # fmt: skip
def test_tied_parametrised_hooked_and_compiled_parts_are_trained_and_loaded_again(model, tmp_path):
    result = surefoot.train(images(), model(), steps=3, batch_size=20, runs_dir=tmp_path)
    assert result.summary["outcome"] == "finished"
    assert surefoot.evaluate(result.folder, images(), model=model()).accuracy == result.summary["test_accuracy"]


def drawing(generator):
    class Drawing(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(192, 3)

        def forward(self, x):
            return self.head(x.flatten(1) * (generator() if self.training else 1))

    return Drawing


@pytest.mark.parametrize("generator", [np.random.rand, random.random], ids=["numpy", "python"])
@pytest.mark.parametrize("where", ["model", "factory", "augmentation", "loss"])
def test_what_code_of_the_users_draws_is_of_the_seed_and_the_generators_stay_as_they_were(where, generator, tmp_path):
    def factory(input_shape, outputs):
        made = plain()
        made[1].weight.data *= generator()
        return made

    model = {"model": drawing(generator), "factory": factory}.get(where, plain)
    augment = (lambda x: x * generator()) if where == "augmentation" else ()
    loss = (lambda out, y: nn.functional.cross_entropy(out, y) * generator()) if where == "loss" else None
    settings = {"augment": augment, "loss": loss, "epochs": 1, "batch_size": 8}
    weights, states = [], [np.random.get_state()[1:3], random.getstate()]
    for name in ("first", "again"):
        result = surefoot.train(images(), model, runs_dir=tmp_path, name=name, **settings)
        weights.append([bits(value) for value in result.model.state_dict().values()])
    assert weights[0] == weights[1]
    assert str([np.random.get_state()[1:3], random.getstate()]) == str(states)
    work = task(surefoot.load(images()), model, augment=augment, loss=loss)
    plan = surefoot.plan(surefoot.Recipe(epochs=2, batch_size=8, lr=0.1), work.data.examples)
    whole, _ = surefoot.fit(work, plan)
    halves = surefoot.start(work, plan)
    while halves.outcome is None:
        halves, _ = surefoot.advance(work, plan, halves, halves.step + 1)
    assert [bits(value) for value in whole.model.parameters()] == [bits(value) for value in halves.model.parameters()]


def test_an_embedding_of_sparse_gradients_trains_as_a_dense_one(tmp_path):
    def model(sparse):
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(9, 4, sparse=sparse), nn.Flatten(), nn.Linear(12, 2))

    tokens = torch.arange(120).reshape(40, 3) % 9
    given = model(sparse=True)
    losses = [
        surefoot.train((tokens, tokens[:, 0] % 2), each, epochs=2, batch_size=8, runs_dir=tmp_path).summary["val_loss"]
        for each in (given, model(sparse=False))
    ]
    assert losses[0] == losses[1]
    assert given[0].sparse

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(9, 2))

        def forward(self, x):
            return nn.functional.embedding(x.long(), self.weight, sparse=True).mean(1)

    with pytest.raises(ConfigError, match="sparse=True"):
        task(surefoot.load((tokens, tokens[:, 0] % 2), normalise=False), Functional)
