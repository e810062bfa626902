"""One training step by several hands: ours, a plain loop, a DataLoader, Lightning, skorch; each at its best settings.

Every arm gets the same arrays, model, batch size, rule, precision and threads, and is a function `run(steps)` that does
so many steps and returns their seconds. What a library sets up once in each call of its `fit` is left out of them.

    surefoot            `advance`, with its rows
    plain loop          a batch is an index into a normalised tensor; backward, `torch.optim.SGD`, `loss.item()`
    DataLoader          shuffled, in place of the index: over tensors, or one image at a time where images are augmented
    DataLoader, 2       the same with two workers; only where images are augmented
    Lightning           `Trainer(barebones=True)`, which logs, keeps and shows nothing, with that loader
    skorch              `NeuralNet` without callbacks or validation, with that loader

The plain loop does not augment: where the others do, it is a bound that nothing with their work can reach.

As a program it starts one arm anew, says on the machine's monotonic clock when its first step was done, trains an
epoch, and says the largest memory of its process: `python benchmarks/arms.py ARM CASE`, the case as JSON.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4
PIXELS = 4
"""Of padding before a crop, where images are augmented."""
Run = Callable[[int], float]


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        data: .npz with x, uint8 images [N, C, H, W], and y, classes [N].
        model: name of a shipped model.
        batch_size: examples of a step.
        threads: of PyTorch.
        precision: fp32 or bf16.
        augment: whether images are flipped and cropped.
    """

    data: str
    model: str
    batch_size: int
    threads: int = 1
    precision: str = "fp32"
    augment: bool = False

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        with np.load(self.data) as stored:
            return stored["x"], stored["y"]

    @property
    def bf16(self) -> bool:
        return self.precision == "bf16"


def surefoot_arm(case: Case) -> Run:
    import surefoot

    x, y = case.arrays()
    data = surefoot.load((x, y), validation=0)
    augment = ("flip", f"crop:{PIXELS}") if case.augment else ()
    task = surefoot.task(
        data, case.model, device="cpu", precision=case.precision, threads=case.threads, augment=augment
    )  # fmt: skip
    recipe = surefoot.Recipe(
        lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, batch_size=case.batch_size, epochs=2000,
        schedule=surefoot.Schedule(kind="constant"),
    )  # fmt: skip
    plan = surefoot.plan(recipe, data.examples)
    state = surefoot.start(task, plan)

    def run(steps: int) -> float:
        nonlocal state
        began = time.perf_counter()
        state, _ = surefoot.advance(task, plan, state, state.step + steps)
        return time.perf_counter() - began

    return run


def plain_arm(case: Case) -> Run:
    x, y, _, _ = normalised(case)
    model, optimizer, batch = *network(case, x), case.batch_size
    per_epoch, done = len(y) // batch, 0
    order = torch.randperm(len(y))

    def run(steps: int) -> float:
        nonlocal done, order
        began = time.perf_counter()
        for _ in range(steps):
            at = done % per_epoch
            if at == 0:
                order = torch.randperm(len(y))
            rows = order[at * batch : (at + 1) * batch]
            trained(model, optimizer, x[rows], y[rows], case)
            done += 1
        return time.perf_counter() - began

    return run


def loader_arm(case: Case, workers: int = 0) -> Run:
    x, _, _, _ = normalised(case)
    model, optimizer = network(case, x)
    loader = loader_of(case, workers)

    def forever() -> Any:
        while True:
            yield from loader

    batches = forever()

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            trained(model, optimizer, *next(batches), case)
        return time.perf_counter() - began

    return run


def trained(model: nn.Module, optimizer: Any, x: Tensor, y: Tensor, case: Case) -> float:
    """Do one step, as most people write it, and return its loss."""
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=case.bf16):
        outputs = model(laid_out(x, case))
    loss = F.cross_entropy(outputs.float(), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def lightning_arm(case: Case) -> Run:
    import lightning.pytorch as lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # it says at each fit what barebones leaves out
    x, _, _, _ = normalised(case)
    net, _ = network(case, x)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.began, self.ended = net, 0.0, 0.0

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            self.began = self.began or time.perf_counter()

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.ended = time.perf_counter()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self.net(laid_out(batch[0], case)).float(), batch[1])

        def configure_optimizers(self) -> Any:
            return sgd(self.net)

    module, loader = Module(), loader_of(case, 0)

    def run(steps: int) -> float:
        module.began = 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = lightning.Trainer(
                accelerator="cpu", devices=1, precision="bf16-mixed" if case.bf16 else "32-true", max_steps=steps,
                max_epochs=-1, barebones=True,
            )  # fmt: skip
            trainer.fit(module, loader)
        return module.ended - module.began

    return run


def skorch_arm(case: Case) -> Run:
    import skorch

    x, y, _, _ = normalised(case)
    net, _ = network(case, x)

    class Net(skorch.NeuralNet):
        def infer(self, x: Tensor, **fit_params: Any) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=case.bf16):
                return super().infer(laid_out(x, case), **fit_params).float()

    trainer = Net(
        net, nn.CrossEntropyLoss, optimizer=torch.optim.SGD, lr=LR, optimizer__momentum=MOMENTUM,
        optimizer__weight_decay=WEIGHT_DECAY, batch_size=case.batch_size, iterator_train__shuffle=True,
        iterator_train__drop_last=True, train_split=None, callbacks="disable", verbose=0,
    ).initialize()  # fmt: skip
    images: Any = OneByOne(case) if case.augment else torch.utils.data.TensorDataset(x, y)

    def run(steps: int) -> float:
        per_epoch = len(y) // case.batch_size
        some = torch.utils.data.Subset(images, range(steps * case.batch_size)) if steps < per_epoch else images
        began = time.perf_counter()
        trainer.partial_fit(some, None, epochs=max(1, steps // per_epoch))
        return time.perf_counter() - began

    return run


ARMS: dict[str, Callable[[Case], Run]] = {
    "surefoot": surefoot_arm,
    "plain loop": plain_arm,
    "DataLoader": loader_arm,
    "DataLoader, 2": lambda case: loader_arm(case, 2),
    "Lightning": lightning_arm,
    "skorch": skorch_arm,
}


class OneByOne(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Images as most people read them: one at a time, padded, cropped, flipped, normalised."""

    def __init__(self, case: Case) -> None:
        x, y = case.arrays()
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        _, _, self.mean, self.std = normalised(case)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = F.pad(self.x[index].float().div_(255), (PIXELS,) * 4, mode="reflect")
        top, left = torch.randint(0, 2 * PIXELS + 1, (2,)).tolist()
        image = image[:, top : top + self.x.shape[2], left : left + self.x.shape[3]]
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        return (image - self.mean) / self.std, self.y[index]


def loader_of(case: Case, workers: int) -> Any:
    x, y, _, _ = normalised(case)
    images = OneByOne(case) if case.augment else torch.utils.data.TensorDataset(x, y)
    return torch.utils.data.DataLoader(
        images, batch_size=case.batch_size, shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=workers > 0,
    )  # fmt: skip


def normalised(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images as they lie ready for the model, classes, and mean and deviation of each channel."""
    images, classes = case.arrays()
    x = torch.from_numpy(images).float().div_(255)
    mean, std = x.mean((0, 2, 3)).view(-1, 1, 1), x.std((0, 2, 3)).view(-1, 1, 1)
    return laid_out((x - mean) / std, case), torch.from_numpy(classes), mean, std


def laid_out(x: Tensor, case: Case) -> Tensor:
    """Return images in the memory format that is quicker for the model."""
    return x.contiguous(memory_format=torch.channels_last) if case.model in ("cnn", "resnet20") else x


def network(case: Case, x: Tensor) -> tuple[nn.Module, Any]:
    """Return a fresh shipped model and its optimizer."""
    from surefoot.models.build import build

    model = build(case.model, tuple(x.shape[1:]), 10)
    initialize = getattr(model, "initialize_from", None)
    if initialize is not None:
        initialize(x[:2048])
    if case.model in ("cnn", "resnet20"):
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # torch's stub lacks it
    return model.train(), sgd(model)


def sgd(model: nn.Module) -> Any:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def peak_mib() -> float:
    """Return the largest resident memory of this process. Linux's ru_maxrss would begin with the parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    """Start one arm, and print when its first step was done and its memory after an epoch."""
    name, case = sys.argv[1], Case(**json.loads(sys.argv[2]))
    torch.set_num_threads(case.threads)
    run = ARMS[name](case)
    run(1)
    first = time.monotonic()
    run(len(case.arrays()[1]) // case.batch_size)
    print(json.dumps({"first_step_at": first, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
