"""The published schedules by name, value for value, each with its source and what is uncertain in it.

Three of the sources differ in how warmup joins the decay, so "warmup and cosine" is not one schedule: BERT's code
counts the decay from step 0 and jumps down by 1 % at the seam, XLNet's and fairseq's count from the end of warmup,
and SlowFast's ramps up to the value that the decay has reached. Each preset keeps its original's way.

Epochs are turned into steps with the whole batches of the original's training part: 50,000 // 128 = 390 for
CIFAR-10, 1,281,167 // 256 = 5004 and 1,281,167 // 8192 = 156 for ImageNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from surefoot.errors import ConfigError, nearest
from surefoot.optim import published, schedules
from surefoot.optim.published import Preset

_CIFAR_EPOCH = 50_000 // 128
_SGDR = "Loshchilov & Hutter 2017, SGDR (arXiv 1608.03983), sections 3 and 4.1; loshchil/SGDR SGDR_WRNs.py @8e22cc0"
_SGDR_UNCERTAIN = (
    "the paper says weight decay 5e-4, but the code adds 5e-4 * sum(w^2) to the loss, which is weight_decay 1e-3 here "
    "if its l2 has no factor 1/2; one epoch of the code passes over 100,000 images (each and its mirror image), here "
    "it is 390 updates of 128"
)
_ADAMW = {"rule": "adamw", "decay_on": "weights"}
"""Of the Adam presets, RoBERTa's excepted: weight decay is taken off the weights beside the step, and not off biases
and norms. Where a source names no betas or eps, the rule's defaults stand, which are Kingma & Ba's."""
_NO_CORRECTION = "the original's Adam has no bias correction, so its first updates are longer than ours"
_GPT_PAPER = "Radford et al. 2018, Improving Language Understanding by Generative Pre-Training, section 4.1"


def _resnet() -> list[Preset]:
    cifar = Preset(
        name="resnet-cifar", citation="He et al. 2015, Deep Residual Learning (arXiv 1512.03385), section 4.2",
        optimizer="SGD, momentum 0.9", steps=64_000, peak_lr=0.1, lengths=(("drop 1", 32_000), ("drop 2", 48_000)),
        shape=published.drops, batch_size=128, momentum=0.9, weight_decay=1e-4,
        notes="trained on 45,000 of the 50,000 images; 64,000 updates of 128 are 182 passes over those",
    )  # fmt: skip
    return [
        Preset(
            name="resnet-step",
            citation="facebookresearch/pycls configs/archive/imagenet/resnet/R-50-1x64d_step_8gpu.yaml @2706545: "
            "STEPS [0, 30, 60, 90], MAX_EPOCH 100",
            optimizer="SGD, Nesterov momentum 0.9", rule={"momentum_form": "nesterov"},
            steps=100 * 5004, peak_lr=0.1,
            lengths=tuple((f"drop at epoch {e}", e * 5004) for e in (30, 60, 90)), shape=published.drops,
            batch_size=256, momentum=0.9, weight_decay=1e-4,
            uncertain="the ResNet paper itself divides by 10 when the error plateaus and names no epochs; "
            "fb.resnet.torch, where 30 and 60 come from, stops at epoch 90 before the third drop",
        ),
        cifar,
        replace(
            cifar, name="resnet110-cifar", lengths=(("end of warmup", 400), *cifar.lengths),
            shape=partial(published.low_then_drops, start=0.1),
            uncertain="the original holds 0.01 until the training error is below 80 %, which it puts at about 400 "
            "iterations; here it is 400, whatever the error",
        ),
        Preset(
            name="goyal-imagenet",
            citation="Goyal et al. 2017, Accurate, Large Minibatch SGD (arXiv 1706.02677), sections 2.2, 5.1 and 5.2",
            optimizer="SGD, Nesterov momentum 0.9", rule={"momentum_form": "nesterov", "decay_on": "weights"},
            steps=90 * 156, peak_lr=3.2,
            lengths=(("end of warmup", 5 * 156), *((f"drop at epoch {e}", e * 156) for e in (30, 60, 80))),
            shape=partial(published.ramp_then_drops, start=1 / 32),
            batch_size=8192, momentum=0.9, weight_decay=1e-4,
            notes="peak = 0.1 * batch / 256, warmup from 0.1; no weight decay on the scale and shift of batch norm, "
            "and here not on the last layer's bias either",
        ),
    ]  # fmt: skip


def _sgdr(name: str, first: int, mult: int, notes: str = "") -> Preset:
    return Preset(
        name=name, citation=_SGDR, optimizer="SGD, momentum 0.9 (not Nesterov), the rate inside the velocity",
        rule={"momentum_form": "sutskever"},
        steps=200 * _CIFAR_EPOCH, peak_lr=0.05, lengths=((f"T_0 ({first} epochs)", first * _CIFAR_EPOCH),),
        shape=partial(published.cycles, mult=mult), batch_size=128, momentum=0.9, weight_decay=5e-4,
        uncertain=_SGDR_UNCERTAIN, notes=notes,
    )  # fmt: skip


def _images() -> list[Preset]:
    return [
        _sgdr("sgdr", 10, 2, "the best of the paper; a cycle ends at epochs 10, 30, 70 and 150, so that 200 is in the "
              "middle of one: read the result at 150"),
        _sgdr("sgdr-1-2", 1, 2, "cycles end at epochs 1, 3, 7, 15, 31, 63 and 127"),
        _sgdr("sgdr-50-1", 50, 1),
        _sgdr("sgdr-100-1", 100, 1),
        _sgdr("sgdr-200-1", 200, 1, "one cosine over the whole run"),
        Preset(
            name="slowfast",
            citation="Feichtenhofer et al. 2019, SlowFast Networks (arXiv 1812.03982), section 4, Training; the seam "
            "from facebookresearch/SlowFast slowfast/utils/lr_policy.py @27e533c",
            optimizer="SGD, momentum 0.9", steps=60_000, peak_lr=1.6, lengths=(("end of warmup", 8_000),),
            shape=partial(published.ramp_then_decay, decay=schedules.cosine, seam="meet", start=0.1),
            batch_size=1024, momentum=0.9, weight_decay=1e-4,
            uncertain="the paper gives no rate at the start of warmup; 0.1 of the peak is that of the released "
            "SLOWFAST_8x8_R50.yaml (WARMUP_START_LR 0.01, BASE_LR 0.1)",
            notes="256 epochs of Kinetics-400, for T <= 4 frames; 196 epochs for T > 4",
        ),
        Preset(
            name="design-spaces",
            citation="Radosavovic et al. 2019, On Network Design Spaces (arXiv 1905.13214); values of "
            "facebookresearch/pycls configs/archive/cifar/resnet/R-56_nds_1gpu.yaml @2706545",
            optimizer="SGD, Nesterov momentum 0.9", rule={"momentum_form": "nesterov"},
            steps=200 * _CIFAR_EPOCH, peak_lr=0.1,
            lengths=(("epoch", _CIFAR_EPOCH),), shape=published.stairs,
            batch_size=128, momentum=0.9, weight_decay=5e-4,
            uncertain="the values are those of the released configuration, not of the paper's appendix",
            notes="the rate is set once per epoch, so that the half cosine has 200 stairs and ends above 0",
        ),
        Preset(
            name="airbench94",
            citation="KellerJordan/cifar10-airbench legacy/airbench94.py @1b8f794; Jordan 2024 (arXiv 2404.00498)",
            optimizer="SGD, Nesterov momentum 0.85, with Lookahead",
            rule={"momentum_form": "nesterov", "label_smoothing": 0.2},
            steps=476, peak_lr=1.5, lengths=(),
            shape=partial(published.triangle, share=0.23, start=0.2, end=0.07),
            batch_size=1024, momentum=0.85, weight_decay=0.0153 / 11.5,
            notes="476 = ceil(9.9 epochs of 48 batches); 1.5 = 11.5 / (1 + 1 / (1 - 0.85)) and weight decay "
            "0.0153 / 11.5 hold for the mean loss (the code sums it); Lookahead is left out, and so is that the biases "
            "of batch norm learn at 64 times the rate",
        ),
    ]  # fmt: skip


def _text() -> list[Preset]:
    warm_linear = partial(published.ramp_then_decay, decay=schedules.linear)
    roberta = Preset(
        name="roberta-large",
        citation="Liu et al. 2019, RoBERTa (arXiv 1907.11692), section 3.1 and table 9; the seam from "
        "facebookresearch/fairseq polynomial_decay_schedule.py @003179f",
        optimizer="Adam, betas (0.9, 0.98), eps 1e-6", rule={"rule": "adamw", "beta2": 0.98, "eps": 1e-6},
        steps=500_000, peak_lr=4e-4,
        lengths=(("end of warmup", 30_000),), shape=partial(warm_linear, seam="shift"), batch_size=8192,
        weight_decay=0.01,
        uncertain="the paper writes the batch size as 8K and does not say which parameters decay: in fairseq's adam.py "
        "all do; fairseq's README gives other values (125k updates, "
        "warmup 10k, 5e-4), which an author calls more conservative than the paper's (facebookresearch/fairseq#1378)",
    )  # fmt: skip
    return [
        Preset(
            name="gpt", citation=f"{_GPT_PAPER}; openai/finetune-transformer-lm opt.py @f7c1330 (warmup_cosine)",
            optimizer="Adam, weight decay beside the step, not on biases and gains", rule=_ADAMW,
            steps=1_000_000, peak_lr=2.5e-4, lengths=(("end of warmup", 2_000),),
            shape=published.gpt_cosine, batch_size=64, weight_decay=0.01,
            uncertain="the paper gives 100 epochs, not a number of updates; 1,000,000 follows from its 2,000 updates "
            "of warmup and the share 0.002 that the released code has as its default; betas (0.9, 0.999) and eps 1e-8 "
            "are that code's too, and whether gradients were clipped is not said",
        ),
        Preset(
            name="gpt-finetune",
            citation=f"{_GPT_PAPER}; openai/finetune-transformer-lm opt.py @f7c1330 (warmup_linear), train.py @ae7e86b",
            optimizer="Adam, betas (0.9, 0.999), eps 1e-8", rule={**_ADAMW, "clip_norm": 1.0},
            steps=3 * (392_702 // 32), peak_lr=6.25e-5, lengths=(),
            shape=partial(published.gpt_linear, share=0.002), batch_size=32, weight_decay=0.01,
            uncertain="the number of updates depends on the task: 3 epochs; here that of MNLI (392,702 pairs)",
            notes="gradients clipped at norm 1; the warmup is 0.2 % of the updates",
        ),
        Preset(
            name="sparse-transformer",
            citation="Child et al. 2019, Sparse Transformers (arXiv 1904.10509), sections 6 and 7, CIFAR-10; the "
            "cosine is GPT's, as it says",
            optimizer="Adam", rule={**_ADAMW, "clip_norm": 1.0},
            steps=180_000, peak_lr=3.5e-4, lengths=(("end of warmup", 5_000),),
            shape=published.gpt_cosine, weight_decay=0.01,
            uncertain="the paper gives 120 epochs of 48,000 images and no batch size; 180,000 updates assume a batch "
            "of 32, chosen by hand",
            notes="gradients clipped at norm 1; it models density, it does not classify",
        ),
        Preset(
            name="gpt3-small",
            citation="Brown et al. 2020, GPT-3 (arXiv 2005.14165), table 2.1 (the model of 125 million) and appendix B",
            optimizer="Adam, betas (0.9, 0.95), eps 1e-8", rule={**_ADAMW, "beta2": 0.95, "clip_norm": 1.0},
            steps=600_000, peak_lr=6e-4, lengths=(("end of warmup", 750), ("end of decay", 520_000)),
            shape=partial(published.ramp_then_decay, decay=schedules.cosine, seam="shift", end=0.1), batch_size=244,
            weight_decay=0.1,
            uncertain="lengths are in tokens there (warmup 375 million, decay to 10 % over 260 billion, 300 billion in "
            "all), here in updates of 0.5 million; whether the decay counts from the end of warmup, and which "
            "parameters decay, is not said",
            notes="gradients clipped at norm 1; a batch is 244 sequences of 2,048 tokens, and smaller over the first "
            "4 to 12 billion tokens; larger models have smaller rates",
        ),
        Preset(
            name="bert",
            citation="Devlin et al. 2018, BERT (arXiv 1810.04805), appendix A.2; eps, clipping, what decays and the "
            "seam from google-research/bert optimization.py @02102db",
            optimizer="Adam, betas (0.9, 0.999), eps 1e-6", rule={**_ADAMW, "eps": 1e-6, "clip_norm": 1.0},
            steps=1_000_000, peak_lr=1e-4,
            lengths=(("end of warmup", 10_000),), shape=partial(warm_linear, seam="jump"), batch_size=256,
            weight_decay=0.01,
            notes=f"the rate jumps from 1e-4 to 0.99e-4 at the end of warmup; gradients clipped at norm 1; "
            f"{_NO_CORRECTION}",
        ),
        roberta,
        replace(roberta, name="roberta-base", peak_lr=6e-4, lengths=(("end of warmup", 24_000),)),
        Preset(
            name="xlnet",
            citation="Yang et al. 2019, XLNet (arXiv 1906.08237v2), appendix, pretraining of XLNet-Large; "
            "zihangdai/xlnet model_utils.py @0989600 and train.py @0265911",
            optimizer="Adam, eps 1e-6", rule={**_ADAMW, "eps": 1e-6, "clip_norm": 1.0},
            steps=500_000, peak_lr=4e-4, lengths=(("end of warmup", 40_000),),
            shape=partial(warm_linear, seam="shift", end=1e-3), batch_size=8192, weight_decay=0.01,
            uncertain="the batch is 8192 in version 2 of the paper and 2048 in the README and version 1; the end at "
            "0.001 of the peak (min_lr_ratio) and clipping at norm 1 are the code's defaults, the paper gives neither",
            notes=_NO_CORRECTION,
        ),
    ]  # fmt: skip


PRESETS: dict[str, Preset] = {each.name: each for each in [*_resnet(), *_images(), *_text()]}
"""Every preset by its name, SGD recipes first."""

ALIASES = {"roberta": "roberta-large", "sgdr-10-2": "sgdr", "gpt3": "gpt3-small"}
"""Other names under which a preset is known."""


def preset(name: str) -> Preset:
    """Return the preset with that name.

    Raises:
        ConfigError: there is none; the message suggests the nearest.

    >>> [f"{preset('bert').lr(t):.4g}" for t in (5_000, 9_999, 10_000)]
    ['5e-05', '9.999e-05', '9.9e-05']
    >>> preset("brt")
    Traceback (most recent call last):
    surefoot.errors.ConfigError: preset = 'brt': it must be the name of a published schedule. Did you mean 'bert'?
    """
    known = ALIASES.get(name, name) if isinstance(name, str) else name
    if not isinstance(known, str) or known not in PRESETS:
        choices = [*PRESETS, *ALIASES]
        raise ConfigError(f"preset = {name!r}", "it must be the name of a published schedule", nearest(name, choices))
    return PRESETS[known]


def published_recipe(recipe: Any) -> dict[str, Any]:
    """Return the settings of a recipe that stand under those given, nested, where these name a preset.

    What is given beside a preset goes before it; another rule takes its own settings along (`settings.merged`).

    Args:
        recipe: settings of a `Recipe` as nested values.

    Raises:
        ConfigError: there is no such preset.

    >>> published_recipe({"schedule": {"preset": "bert"}})["clip_norm"], published_recipe({"lr": 0.1})
    (1.0, {})
    """
    schedule = recipe.get("schedule") if isinstance(recipe, Mapping) else None
    if not isinstance(schedule, Mapping) or schedule.get("preset") is None:
        return {}
    return preset(schedule["preset"]).recipe if schedule.get("kind", "preset") == "preset" else {}
