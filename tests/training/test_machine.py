import dataclasses

import pytest
import torch
from small import images
from torch import nn

import surefoot
from surefoot.data.batches import fetch, fetch_slice
from surefoot.data.mapped_tensor import MappedTensor
from surefoot.errors import ConfigError
from surefoot.training.machine import Machine, machine, native_bf16
from surefoot.training.make import remarks

CONVOLVES, AFFINE = nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.Linear(4, 3))


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    ("model", "shape", "pays"),
    [
        (CONVOLVES, (3, 32, 32), True),
        (CONVOLVES, (3, 24, 24), True),
        (CONVOLVES, (3, 8, 8), False),
        (AFFINE, (3, 32, 32), False),
        (AFFINE, (4,), False),
    ],
)
def test_auto_is_bf16_where_it_is_native_and_pays(model, shape, pays, native, monkeypatch):
    monkeypatch.setattr("surefoot.training.machine.native_bf16", lambda device: native)
    assert machine("cpu", "auto", 1, model, shape).precision == ("bf16" if pays and native else "fp32")
    assert machine("cpu", "bf16", 1, model, shape).precision == "bf16"
    assert machine("cpu", "fp32", 1, model, shape).precision == "fp32"


def test_whether_bf16_is_native_is_the_same_each_time():
    assert native_bf16(torch.device("cpu")) == native_bf16(torch.device("cpu"))


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta", "", "tpu:0", "cuda:-1"])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(ConfigError, match="device = "):
        machine(device, "auto", None, AFFINE, (4,))


def test_an_absent_device_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:0", "cuda:7"):
        with pytest.raises(ConfigError, match="has 0 CUDA devices"):
            machine(device, "auto", None, AFFINE, (4,))
    assert machine("auto", "auto", None, AFFINE, (4,)).device.type == "cpu"


@pytest.mark.parametrize("precision", ["fp16", "", "float32"])
def test_an_unknown_precision_is_refused_and_not_taken_for_fp32(precision):
    with pytest.raises(ConfigError, match="auto, fp32 or bf16"):
        machine("cpu", precision, None, AFFINE, (4,))


@pytest.mark.parametrize("threads", [0, -1])
def test_a_number_of_threads_below_one_is_refused(threads):
    with pytest.raises(ConfigError, match="at least 1"):
        machine("cpu", "auto", threads, AFFINE, (4,))


def test_threads_are_set_for_the_block_alone():
    here = machine("cpu", "fp32", 3, AFFINE, (4,))
    with here.computing():
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 1
    with pytest.raises(KeyError), here.computing():
        raise KeyError
    assert torch.get_num_threads() == 1
    assert machine("cpu", "fp32", None, AFFINE, (4,)).threads == 1


def test_autocast_is_on_for_bf16_alone():
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        here = Machine(torch.device("cpu"), precision, 1)
        with here.autocast():
            assert AFFINE(torch.zeros(2, 4)).dtype == dtype


def test_models_with_convolutions_are_laid_out_channels_last():
    here = Machine(torch.device("cpu"), "fp32", 1)
    placed = here.place_model(nn.Sequential(nn.Conv2d(3, 4, 3)))
    assert placed[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert here.place_model(nn.Sequential(nn.Linear(4, 3)))[0].weight.is_contiguous()
    assert here.place(torch.ones(3)).device == torch.device("cpu")


def test_a_training_in_bf16_inside_of_an_autocast_is_the_same_training():
    x = torch.randn(48, 5, generator=torch.Generator().manual_seed(0))
    work = surefoot.task(surefoot.load((x, (x[:, 0] > 0).long())), "mlp", precision="bf16", device="cpu", threads=1)
    plan = surefoot.plan(surefoot.Recipe(lr=0.2, epochs=4, batch_size=12), work.data.examples)
    _, alone = surefoot.fit(work, plan)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, inside = surefoot.fit(work, plan)
    assert [row.train_loss for row in inside.rows] == [row.train_loss for row in alone.rows]
    assert alone.last.train_loss < 0.8 * alone.rows[0].train_loss


def test_a_tensor_that_is_too_large_for_the_card_stays_on_the_host_and_its_rows_are_the_same(monkeypatch):
    """The device "meta" stands in for a card: what lies there has no numbers."""
    card, data = Machine(torch.device("meta"), "fp32", 1), images()
    monkeypatch.setattr("surefoot.training.machine.free_bytes", lambda device: 2 * data.train.x.numel() - 1)
    placed = card.place_part(data.train)
    assert isinstance(placed.x, MappedTensor)
    assert (placed.x.device.type, placed.y.device.type, type(placed.y)) == ("meta", "meta", torch.Tensor)
    there = Machine(torch.device("cpu"), "fp32", 1).place_part(data.train)
    assert not isinstance(there.x, MappedTensor)
    part = dataclasses.replace(placed, x=MappedTensor.of(data.train.x, torch.device("cpu")), y=there.y)
    for fetched in (fetch(data, part, [3, 1]), fetch_slice(data, part, 1, 3)):
        assert not isinstance(fetched[0], MappedTensor)
    assert torch.equal(fetch(data, part, [3, 1])[0], fetch(data, data.train, [3, 1])[0])
    monkeypatch.setattr("surefoot.training.machine.free_bytes", lambda device: 2 * data.train.x.numel())
    assert not isinstance(card.place_part(data.train).x, MappedTensor)


def test_a_run_goes_on_the_same_where_its_data_stays_on_the_host():
    work = surefoot.task(images(), "cnn", threads=1, device="cpu", precision="fp32", augment=["flip"])
    plan = surefoot.plan(surefoot.Recipe(epochs=2, batch_size=20), work.data.examples)
    parts = {
        name: dataclasses.replace(part, x=MappedTensor.of(part.x, torch.device("cpu")))
        for name, part in work.data.parts.items()
    }
    other = dataclasses.replace(work, data=dataclasses.replace(work.data, **parts))
    (_, here), (_, there) = surefoot.fit(work, plan), surefoot.fit(other, plan)
    assert [row.train_loss for row in here.rows] == [row.train_loss for row in there.rows]
    assert here.last.val_loss == there.last.val_loss


def test_what_a_card_cannot_repeat_is_said_before_the_run():
    work = surefoot.task(images(), "linear", threads=1, device="cpu")
    assert remarks(work) == []
    card = dataclasses.replace(work.machine, unrepeatable=("put_",))
    said = remarks(dataclasses.replace(work, machine=card))
    assert any("put_ has no deterministic form" in each for each in said)
