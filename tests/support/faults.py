"""Models and data with one fault each, and sound ones of many kinds: for the law that faults are named, no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import surefoot
from surefoot.data.dataset import DataSet
from surefoot.optim.plan import plan
from surefoot.training.loop import fit
from surefoot.training.make import task


@dataclass(frozen=True)
class Case:
    """What a check is called with."""

    model: Any
    data: Any
    loss: Any = None
    step: Any = None
    optimizer: Any = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """A case with one fault: the step of the procedure, and the finding, that must name it, and the words for it."""

    make: Callable[[], Case]
    step: int
    finding: str
    words: str


def digits() -> DataSet:
    return surefoot.load("digits")


def raw_digits(scale: float = 1.0, examples: int = 1000) -> tuple[Tensor, Tensor]:
    """Return pixels [N, 64] times `scale`, from 0 to `scale`, and labels [N]."""
    part = digits().train
    return part.x[:examples].float().flatten(1) / 255 * scale, part.y[:examples]


def loader(x: Tensor, y: Tensor, batch_size: int = 64) -> DataLoader:
    return DataLoader(TensorDataset(x, y), batch_size, shuffle=True, generator=torch.Generator().manual_seed(0))


def from_one() -> DataLoader:
    """Return digits whose labels begin at 1, in batches: these are taken as they are; labels of arrays are coded."""
    x, y = raw_digits()
    return loader(x, y + 1)


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def plain(width: int = 64, depth: int = 2, activation: type[nn.Module] = nn.ReLU, inputs: int = 64, outputs: int = 10):
    layers: list[nn.Module] = [nn.Flatten()]
    for a, _ in zip([inputs] + [width] * depth, range(depth), strict=False):
        layers += [nn.Linear(a, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


# --- one fault each ---------------------------------------------------------------------------------------------------


def shuffled_labels() -> Case:
    data = digits()
    order = torch.from_numpy(np.random.default_rng(0).permutation(data.examples))
    return Case("mlp", dataclasses.replace(data, train=dataclasses.replace(data.train, y=data.train.y[order])))


def frozen_layer() -> Case:
    model = seeded(lambda: plain(depth=3))
    model[3].requires_grad_(False)
    return Case(model, digits())


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.flatten(1)).relu().detach())


def softmax_first() -> Case:
    return Case(seeded(lambda: nn.Sequential(plain(), nn.Softmax(1))), digits())


def large_weights() -> Case:
    return Case(_enlarged(seeded(plain)), digits())


def _enlarged(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(100)
    return model


def raw_inputs() -> Case:
    return Case(seeded(plain), loader(*raw_digits(255)))


def wrong_sign() -> Case:
    return Case("mlp", digits(), loss=lambda outputs, y: -F.cross_entropy(outputs, y))


def own_step(
    zero_grad: bool = True, sign: float = 1.0, optimizer: Any = torch.optim.SGD, of: nn.Module | None = None, **settings
) -> Case:
    """Return a case with a step of the user's own."""
    model = seeded(plain)
    steps = optimizer((of or model).parameters(), **{"lr": 0.05, **settings})

    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        if zero_grad:
            steps.zero_grad()
        (sign * F.cross_entropy(model(x), y)).backward()
        steps.step()

    return Case(model, digits(), step=step, optimizer=steps)


def off_by_one() -> Case:
    x, y = raw_digits()
    return Case(seeded(plain), loader(x, y + 1))


def dead_relus() -> Case:
    model = seeded(plain)
    nn.init.constant_(model[1].bias, -10)
    return Case(model, digits())


FAULTS = {
    "shuffled labels": Fault(shuffled_labels, 0, "dependence", "do not depend on the inputs"),
    "a frozen layer": Fault(frozen_layer, 0, "frozen", "3.weight frozen"),
    "a detached layer": Fault(lambda: Case(seeded(Detached), digits()), 0, "gradients", "first.weight, first.bias of"),
    "softmax before cross-entropy": Fault(softmax_first, 0, "outputs", "softmax comes before cross-entropy"),
    "weights times 100": Fault(large_weights, 1, "logit-scale", "logits are too large"),
    "inputs not normalised": Fault(raw_inputs, 1, "inputs", "inputs are not normalised"),
    "wrong sign": Fault(wrong_sign, 0, "loss-sign", "wrong sign"),
    "no zero_grad": Fault(lambda: own_step(zero_grad=False), 0, "zero-grad", "moves 2.00 times as far"),
    "labels off by one": Fault(off_by_one, 0, "labels", "run from 1 to 10.*off by one"),
    "dead ReLUs": Fault(dead_relus, 0, "dead-relus", "100% of the units of ReLU 1"),
}
MORE_FAULTS = {
    "wrong sign, seen in step 1": Fault(wrong_sign, 1, "loss-sign", "wrong sign"),
    "no zero_grad with Adam": Fault(
        lambda: own_step(zero_grad=False, optimizer=torch.optim.Adam, lr=1e-3), 0, "zero-grad", "zero_grad is missing"
    ),
    "a step uphill": Fault(lambda: own_step(sign=-1.0), 0, "loss-sign", "goes up the loss"),
    "an optimizer of another model": Fault(lambda: own_step(of=seeded(plain)), 0, "own-step", "does not hold"),
    "labels from one in batches": Fault(lambda: Case(seeded(plain), from_one()), 0, "labels", "off by one"),
    "labels from one, a name": Fault(lambda: Case("mlp", from_one()), 0, "labels", "off by"),
    "too few outputs": Fault(
        lambda: Case(seeded(lambda: plain(outputs=7)), digits()), 0, "labels", "outputs from 0 to 6"
    ),
    "wrong input size": Fault(lambda: Case(seeded(lambda: plain(inputs=65)), digits()), 0, "shapes", "cannot take"),
    "all weights zero": Fault(
        lambda: Case(_zeroed(seeded(lambda: plain(activation=nn.Tanh))), digits()), 0, "gradients", "exactly zero"
    ),
    "everything frozen": Fault(
        lambda: Case(seeded(plain).requires_grad_(False), digits()), 0, "gradients", "no trainable parameter"
    ),
    "nll of logits": Fault(lambda: Case("mlp", digits(), loss=F.nll_loss), 0, "outputs", "log-probabilities"),
    "probabilities in evaluation": Fault(
        lambda: Case(seeded(SoftmaxInEvaluation), digits()), 0, "outputs", "probabilities in evaluation"
    ),
    "a sum for a mean": Fault(
        lambda: Case("mlp", digits(), loss=lambda o, y: F.cross_entropy(o, y, reduction="sum")), 1, "reduction", "a sum"
    ),
    "sigmoid before its own cross-entropy": Fault(
        lambda: Case(seeded(lambda: nn.Sequential(plain(inputs=6, outputs=1), nn.Sigmoid())), _imbalanced(), binary),
        0,
        "outputs",
        "sigmoid comes before",
    ),
    "one logit, weights times 100": Fault(
        lambda: Case(_enlarged(seeded(lambda: plain(inputs=6, outputs=1))), _imbalanced(), binary),
        1,
        "logit-scale",
        "logits are too large",
    ),
    "targets shuffled": Fault(lambda: Case("mlp", _regression(shuffled=True)), 0, "dependence", "do not depend"),
}


def _zeroed(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


class SoftmaxInEvaluation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if self.training else self.inner(x).softmax(1)


# --- sound ones -------------------------------------------------------------------------------------------------------


def _regression(shuffled: bool = False) -> DataSet:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 8)).astype(np.float32)
    y = (x[:, 0] - 2 * x[:, 1] + np.abs(x[:, 2]) + 0.3 * rng.normal(size=600)).astype(np.float32)
    return surefoot.load((x, rng.permutation(y) if shuffled else y), target="numbers")


def _colours(examples: int = 300, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return images like CIFAR's, uint8 [N, 3, side, side], of three classes that differ in colour."""
    rng = np.random.default_rng(0)
    y = np.arange(examples) % 3
    x = rng.integers(0, 200, (examples, 3, side, side))
    x[np.arange(examples), y] += 40
    return x.astype(np.uint8), y


def _imbalanced() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = (np.arange(1050) % 21 == 0).astype(int)
    return (rng.normal(size=(1050, 6)) + 1.5 * y[:, None]).astype(np.float32), y


def _trained(model: Any, data: DataSet) -> nn.Module:
    work = task(data, model)
    return fit(work, plan(surefoot.Recipe(lr=0.1, epochs=5), work.data.examples))[0].model


def _fine_tuned() -> nn.Module:
    """Return a trained network whose body is frozen, with a new head."""
    model = _trained(seeded(plain), digits())
    model.requires_grad_(False)
    model[-1] = seeded(lambda: nn.Linear(64, 10))
    return model


class Residual(nn.Module):
    """Branches that start at zero, by a gate (ReZero) and by a zero last layer (Fixup); LayerNorm between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate = nn.Linear(64, 64), nn.Parameter(torch.zeros(1))
        self.a, self.b, self.c, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.norm = nn.LayerNorm(64)
        nn.init.zeros_(self.c.weight)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        x = x + self.gate * self.a(x).relu()
        x = x + self.c(self.b(self.norm(x)).relu())
        return self.head(x)


class Tied(nn.Module):
    """One weight used twice, as in an autoencoder."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.second.weight = self.first.weight
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x.flatten(1)).relu()).relu())


class Attention(nn.Module):
    """A small transformer over the rows of an image, with fixed positions and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.positions = nn.Parameter(torch.randn(1, 8, 32), requires_grad=False)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x[:, 0]) + self.positions).mean(1))


def conv(norm: bool = True, channels: int = 3, outputs: int = 3) -> nn.Module:
    def block(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, 2, 1), *([nn.BatchNorm2d(b)] if norm else []), nn.ReLU()]

    return nn.Sequential(
        *block(channels, 16), *block(16, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, outputs)
    )


def smoothed(outputs: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(outputs, y, label_smoothing=0.1)


def focal(outputs: Tensor, y: Tensor) -> Tensor:
    loss = F.cross_entropy(outputs, y, reduction="none")
    return (1 - (-loss).exp()) ** 2 * loss


def huber(outputs: Tensor, y: Tensor) -> Tensor:
    return F.smooth_l1_loss(outputs.squeeze(1), y)


def binary(outputs: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs.squeeze(1), y.float())


def log_priors() -> nn.Module:
    x, y = _imbalanced()
    model = seeded(lambda: plain(inputs=x.shape[1], outputs=2))
    model[-1].bias.data = torch.from_numpy(np.log(np.bincount(y) / len(y)).astype(np.float32))
    model[-1].weight.data.mul_(0.1)
    return model


def he(depth: int) -> nn.Module:
    model = plain(width=128, depth=depth)
    for module in model[:-1]:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return model


HEALTHY: dict[str, Callable[[], Case]] = {
    "linear, zero weights": lambda: Case("linear", "digits"),
    "mlp": lambda: Case("mlp", "digits"),
    "cnn, frozen stem": lambda: Case("cnn", "digits"),
    "resnet20": lambda: Case("resnet20", "digits"),
    "deep, torch's initialisation": lambda: Case(seeded(lambda: plain(depth=8)), digits()),
    "deep, He's initialisation": lambda: Case(seeded(lambda: he(12)), digits()),
    "wide": lambda: Case(seeded(lambda: plain(width=1024, depth=1)), digits()),
    "narrow": lambda: Case(seeded(lambda: plain(width=8, depth=3)), digits()),
    "tanh": lambda: Case(seeded(lambda: plain(activation=nn.Tanh)), digits()),
    "GELU": lambda: Case(seeded(lambda: plain(activation=nn.GELU)), digits()),
    "dropout": lambda: Case(seeded(lambda: nn.Sequential(nn.Flatten(), nn.Dropout(), plain())), digits()),
    "LayerNorm and residual branches that start at zero": lambda: Case(seeded(Residual), digits()),
    "tied weights": lambda: Case(seeded(Tied), digits()),
    "attention with fixed positions": lambda: Case(seeded(Attention), digits()),
    "batch norm, images": lambda: Case(seeded(conv), _colours()),
    "no batch norm, images": lambda: Case(seeded(lambda: conv(norm=False)), _colours()),
    "resnet20 on small colour images": lambda: Case("resnet20", _colours(120, 16)),
    "imbalanced 20 to 1": lambda: Case("mlp", _imbalanced()),
    "log-priors in the bias": lambda: Case(log_priors(), _imbalanced()),
    "already trained": lambda: Case(_trained("mlp", digits()), digits()),
    "trained with batch norm": lambda: Case(_trained("cnn", digits()), digits()),
    "frozen body, new head": lambda: Case(_fine_tuned(), digits()),
    "label smoothing": lambda: Case("mlp", digits(), loss=smoothed),
    "focal loss": lambda: Case("mlp", digits(), loss=focal),
    "nll of log_softmax": lambda: Case(seeded(lambda: nn.Sequential(plain(), nn.LogSoftmax(1))), digits(), F.nll_loss),
    "regression": lambda: Case("mlp", _regression()),
    "regression with a loss of its own": lambda: Case("mlp", _regression(), huber),
    "two classes": lambda: Case("mlp", tuple(each[raw_digits()[1] < 2] for each in raw_digits())),
    "one logit": lambda: Case(seeded(lambda: plain(inputs=6, outputs=1)), _imbalanced(), loss=binary),
    "40 examples": lambda: Case("mlp", tuple(each[:40].numpy() for each in raw_digits())),
    "a loader": lambda: Case(seeded(plain), loader((raw_digits()[0] - 0.3) / 0.37, raw_digits()[1])),
    "a loader of 0 to 255 into batch norm": lambda: Case(
        seeded(lambda: nn.Sequential(nn.BatchNorm1d(64), plain())), loader(*raw_digits(255))
    ),
    "own step, SGD with momentum": lambda: own_step(momentum=0.9),
    "own step, Adam": lambda: own_step(optimizer=torch.optim.Adam, lr=1e-3),
}  # fmt: skip
