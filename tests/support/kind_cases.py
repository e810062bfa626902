"""One fault each in batches, targets and models of every kind; and sound ones, of which none may be called faulty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch.nn.functional as F
from faults import Case, Fault, loader, seeded
from kinds import (
    KINDS,
    LENGTH,
    WORDS,
    LanguageModel,
    Pixels,
    Shifted,
    Two,
    by_name,
    counted,
    labels,
    masks,
    module,
    next_words,
    padded,
    sentences,
    several_yes,
)
from torch import Tensor, nn


class After(nn.Module):
    """A network with something done to its outputs."""

    def __init__(self, net: nn.Module, then: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.then = net, then

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.then(self.net(*args, **kwargs))


class OnlyNumbers(nn.Module):
    """Takes codes, and leaves them out."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        return self.net(numbers)


class Tagger(nn.Module):
    """A class for each token by the tokens around it: a convolution, padded on both sides."""

    def __init__(self, ahead: bool = True) -> None:
        super().__init__()
        self.words, self.conv, self.head = nn.Embedding(WORDS, 16), nn.Conv1d(16, 32, 3), nn.Linear(32, WORDS)
        self.pad = (1, 1) if ahead else (2, 0)

    def forward(self, ids: Tensor) -> Tensor:
        x = F.pad(self.words(ids).transpose(1, 2), self.pad)
        return self.head(self.conv(x).relu().transpose(1, 2))


class Recurrent(nn.Module):
    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.words, self.inner = nn.Embedding(WORDS, 16), nn.GRU(16, 24, batch_first=batch_first)
        self.head = nn.Linear(24, WORDS)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.inner(self.words(ids))[0])


def bigram() -> nn.Module:
    return nn.Sequential(nn.Embedding(WORDS, 16), nn.Linear(16, WORDS))


def tags() -> tuple[np.ndarray, np.ndarray]:
    """Return sentences with the sum of each word and the one after it, modulo the number of words."""
    ids = sentences()
    return ids[:, :-1], (ids[:, :-1] + ids[:, 1:]) % WORDS


def masked_words() -> tuple[np.ndarray, np.ndarray]:
    """Return sentences with one word in six hidden, as 0, and these words as the only targets that count."""
    ids, hidden = sentences()[:, :-1], np.random.default_rng(1).random((200, LENGTH)) < 1 / 6
    return np.where(hidden, 0, ids), np.where(hidden, ids, -100)


def shuffled(pair: tuple[Any, np.ndarray]) -> tuple[Any, np.ndarray]:
    return pair[0], np.random.default_rng(0).permutation(pair[1])


def mean_of_tokens(outputs: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(outputs.transpose(1, 2), y)


def tokens(then: Callable[[Tensor], Tensor]) -> Case:
    return Case(After(seeded(LanguageModel), then), next_words())


KIND_FAULTS = {
    "softmax over tokens": Fault(lambda: tokens(lambda o: o.softmax(-1)), 0, "outputs", "softmax comes before"),
    "softmax over pixels": Fault(
        lambda: Case(After(seeded(Pixels), lambda o: o.softmax(1)), masks()), 0, "outputs", "softmax comes before"
    ),
    "log-likelihood of a language model's logits": Fault(
        lambda: Case(seeded(LanguageModel), next_words(), lambda o, y: F.nll_loss(o.transpose(1, 2), y)),
        0, "outputs", "log-probabilities",
    ),
    "sigmoid before bce": Fault(
        lambda: Case(nn.Sequential(several_yes(), nn.Sigmoid()), labels()), 0, "outputs", "sigmoid comes before"
    ),
    "channels of a mask last": Fault(
        lambda: Case(After(seeded(Pixels), lambda o: o.permute(0, 2, 3, 1)), masks()), 0, "shapes", r"\(2, 8, 8, 3\)"
    ),
    "classes of tokens on the axis of positions": Fault(
        lambda: tokens(lambda o: o.transpose(1, 2)), 0, "shapes", r"\(2, 11, 12\)"
    ),
    "targets that are the inputs": Fault(
        lambda: Case(seeded(LanguageModel), (next_words()[0], next_words()[0])), 0, "leak", "can be copied"
    ),
    "labels of the Transformers library, shifted by nobody": Fault(
        lambda: Case(seeded(lambda: LanguageModel(padding=True)), {**padded(), "labels": padded()["input_ids"]}),
        0, "leak", "at their own position",
    ),
    "no causal mask": Fault(
        lambda: Case(seeded(lambda: LanguageModel(causal=False)), next_words()), 0, "leak", "the answers are among"
    ),
    "a convolution that sees the next token": Fault(
        lambda: Case(seeded(Tagger), next_words()), 0, "leak", "the answers are among"
    ),
    "batch_first forgotten, attention": Fault(
        lambda: Case(seeded(lambda: LanguageModel(causal=False, batch_first=False)), tags()),
        0, "mixed-examples", "depend on the other examples",
    ),
    "batch_first forgotten, recurrent": Fault(
        lambda: Case(seeded(lambda: Recurrent(batch_first=False)), tags()), 0, "mixed-examples", "on the other examples"
    ),
    "a leaf that is never used": Fault(
        lambda: Case(seeded(OnlyNumbers), by_name()), 0, "unused-inputs", "do not depend on codes"
    ),
    "an attention mask that is taken and not used": Fault(
        lambda: Case(seeded(LanguageModel), padded()), 0, "unused-inputs", "do not depend on attention_mask"
    ),
    "inputs by name, labels shuffled": Fault(
        lambda: Case(seeded(Two), shuffled(by_name(900))), 0, "dependence", "do not depend on the inputs"
    ),
    "several yes or no, shuffled": Fault(
        lambda: Case(several_yes(), shuffled(labels(900))), 0, "dependence", "do not depend on the inputs"
    ),
    "the wrong sign over tokens": Fault(
        lambda: Case(seeded(LanguageModel), next_words(), lambda o, y: -mean_of_tokens(o, y)),
        0, "loss-sign", "wrong sign",
    ),
    "a detached body under a loss_fn": Fault(
        lambda: Case(
            seeded(Recurrent), next_words(),
            more={"loss_fn": lambda m, b: mean_of_tokens(m.head(m.inner(m.words(b[0]))[0].detach()), b[1])},
        ),
        0, "gradients", "detached or unused",
    ),
    "a sum over the batch in a loss_fn": Fault(
        lambda: Case(
            seeded(LanguageModel), next_words(),
            more={"loss_fn": lambda m, b: F.cross_entropy(m(b[0]).transpose(1, 2), b[1], reduction="sum")},
        ),
        1, "reduction", "a sum",
    ),
    "logits of tokens times 30": Fault(lambda: tokens(lambda o: 30 * o), 1, "logit-scale", "logits are too large"),
    "logits of pixels times 100": Fault(
        lambda: Case(After(seeded(Pixels), lambda o: 100 * o), masks()), 1, "logit-scale", "logits are too large"
    ),
    "logits of labels times 100": Fault(
        lambda: Case(After(several_yes(), lambda o: 100 * o), labels()), 1, "logit-scale", "logits are too large"
    ),
    "one answer for a whole image": Fault(
        lambda: Case(After(seeded(Pixels), lambda o: o.mean((2, 3), keepdim=True).expand_as(o)), masks()),
        2, "blind", "answers at all, and cannot come under",
    ),
    "one answer for all": Fault(
        lambda: Case(After(seeded(bigram), lambda o: o[:1, :1].expand_as(o) * 0 + o.mean()), next_words()),
        2, "blind", "every pixel or token one answer",
    ),
}  # fmt: skip


def of_kind(name: str) -> Callable[[], Case]:
    kind = KINDS[name]
    return lambda: Case(module(kind), kind.data, kind.more.get("loss"),
                        more={key: value for key, value in kind.more.items() if key != "loss"})  # fmt: skip


KINDS_SOUND: dict[str, Callable[[], Case]] = {
    **{name: of_kind(name) for name in KINDS},
    "bigram": lambda: Case(seeded(bigram), next_words()),
    "recurrent, next tokens": lambda: Case(seeded(Recurrent), next_words()),
    "recurrent, tags": lambda: Case(seeded(Recurrent), tags()),
    "causal convolution": lambda: Case(seeded(lambda: Tagger(ahead=False)), next_words()),
    "tags, from both sides": lambda: Case(seeded(Tagger), tags()),
    "masked words": lambda: Case(seeded(lambda: LanguageModel(causal=False)), masked_words()),
    "tied embedding": lambda: Case(seeded(Tied), next_words()),
    "a head of zeros": lambda: Case(_zero_head(seeded(Shifted)), next_words()),
    "a mask that is used": lambda: Case(seeded(lambda: LanguageModel(padding=True)), padded()),
    "masks by one convolution": lambda: Case(seeded(lambda: nn.Conv2d(3, 3, 1)), masks()),
    "more classes of pixels than occur": lambda: Case(seeded(lambda: Pixels(outputs=5)), masks()),
    "pixels, batch norm": lambda: Case(seeded(_normed_pixels), masks()),
    "several yes or no, linear": lambda: Case(seeded(lambda: nn.Linear(4, 5)), labels()),
    "several yes or no, a loss of one's own": lambda: Case(
        several_yes(), labels(), F.binary_cross_entropy_with_logits
    ),
    "tokens, a loss that counts, of a language model": lambda: Case(seeded(LanguageModel), next_words(), counted),
    "a loader of tokens": lambda: Case(seeded(LanguageModel), loader(*map(_tensor, next_words()), batch_size=16)),
    "batches that are mappings": lambda: Case(seeded(lambda: LanguageModel(padding=True)), _batches(padded())),
}  # fmt: skip
LEARNED = (
    "dict", "mapping and loss_fn", "forward", "segmentation", "tokens", "tokens, is_causal", "multilabel",
    "sum and count", "several heads", "bigram", "recurrent, next tokens", "masked words", "masks by one convolution",
    "pixels, batch norm", "several yes or no, linear",
)  # fmt: skip
"""Those of which step 2 is tried too."""


class Tied(nn.Module):
    """A recurrent language model whose last layer is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner = nn.Embedding(WORDS, 16), nn.GRU(16, 16, batch_first=True)
        nn.init.normal_(self.words.weight, std=0.2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.inner(self.words(ids))[0] @ self.words.weight.T


def _zero_head(model: nn.Module) -> nn.Module:
    nn.init.zeros_(model.head.weight)
    return model


def _normed_pixels() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
                         nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 1))  # fmt: skip


def _tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(array)


def _batches(mapping: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    rows = range(0, 192, 16)
    return [{name: _tensor(value[at : at + 16]) for name, value in mapping.items()} for at in rows]
