"""Every preset equals its published formula at its first, seam, middle and last step, and everywhere between; and runs
with the update that it was published with.

The formulas are written out here once more, from the papers and the originals' code, without our schedules.
"""

import dataclasses
import math

import numpy as np
import pytest
from printed import off

from surefoot.config import Config, Recipe
from surefoot.errors import ConfigError
from surefoot.optim.presets import PRESETS, preset
from surefoot.settings import from_dict, nested, to_dict
from surefoot.training.configure import resolve

CIFAR = 50_000 // 128
IMAGENET = 1_281_167 // 256


def resnet_step(t):  # pycls R-50-1x64d_step_8gpu.yaml: STEPS [0, 30, 60, 90], LR_MULT 0.1, 256 images an update
    epoch = t // IMAGENET
    return 0.1 * 0.1 ** sum(epoch >= e for e in (30, 60, 90))


def resnet_cifar(t):  # He et al. 2015, section 4.2: 0.1, divided by 10 at 32k and 48k, stop at 64k
    return 0.1 if t < 32_000 else 0.01 if t < 48_000 else 0.001


def resnet110(t):  # the same section: 0.01 for about 400 iterations, then as above
    return 0.01 if t < 400 else resnet_cifar(t)


def goyal(t):  # Goyal et al. 2017, 5.1 and 5.2: 0.1 -> 3.2 over 5 epochs, a tenth at epochs 30, 60, 80 of 90
    epoch = t / (1_281_167 // 8192)
    if epoch < 5:
        return 0.1 + (3.2 - 0.1) * epoch / 5
    return 3.2 / 10 ** sum(epoch >= e for e in (30, 60, 80))


def sgdr(first, mult):  # Loshchilov & Hutter 2017, equation 5, eta_max 0.05, eta_min 0, by walking the cycles
    def rate(t):
        length, since = first * CIFAR, t
        while since >= length:
            since, length = since - length, length * mult
        return 0.5 * 0.05 * (1 + math.cos(math.pi * since / length))

    return rate


def slowfast(t):  # paper: 1.6 * 0.5 (cos(n pi / n_max) + 1), n_max 60k, warmup 8k; lr_policy.py for the warmup
    def half_cosine(n):
        return 1.6 * 0.5 * (math.cos(n * math.pi / 60_000) + 1)

    return half_cosine(t) if t >= 8_000 else 0.16 + (half_cosine(8_000) - 0.16) * t / 8_000


def design_spaces(t):  # pycls optimizer.py lr_fun_cos at whole epochs, BASE_LR 0.1, MAX_EPOCH 200
    return 0.1 * 0.5 * (1 + math.cos(math.pi * (t // CIFAR) / 200))


def airbench(t):  # airbench94.py get_lr, times 11.5 / (1024 (1 + 1 / (1 - 0.85))) per example, times 1024 examples
    warm = int(476 * 0.23)
    peak = 11.5 / (1024 * (1 + 1 / (1 - 0.85))) * 1024
    part = t / warm if t < warm else (t - warm) / (476 - warm)
    return peak * (0.2 * (1 - part) + part if t < warm else 1 - part + 0.07 * part)


def gpt(peak, warm, total):  # opt.py warmup_cosine: s x/w + (1 - s) 0.5 (1 + cos(pi x)), s = x <= w
    return lambda t: peak * (t / warm if t <= warm else 0.5 * (1 + math.cos(math.pi * t / total)))


def gpt_finetune(t):  # opt.py warmup_linear: (s x/w + (1 - s)) (1 - x), w = 0.002; 3 epochs of MNLI in batches of 32
    x = t / (3 * 12_271)
    return 6.25e-5 * (x / 0.002 if x <= 0.002 else 1.0) * (1 - x)


def gpt3(t):  # appendix B: warmup 375e6 tokens, cosine to 10 % over 260e9, then 10 %; table 2.1: 0.5e6 an update
    warm, last = 750, 520_000
    if t < warm:
        return 6e-4 * t / warm
    return 6e-4 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min((t - warm) / (last - warm), 1))))


def bert(t):  # optimization.py: t/w lr for t < w, else polynomial_decay(power 1) over all steps, from step 0
    return 1e-4 * (t / 10_000 if t < 10_000 else 1 - t / 1_000_000)


def roberta(peak, warm):  # fairseq polynomial_decay: lr (1 - (n - w) / (T - w)), end 0
    return lambda t: peak * (t / warm if t <= warm else 1 - (t - warm) / (500_000 - warm))


def xlnet(t):  # model_utils.py: (lr - end) (1 - (t - w) / (T - w)) + end, end = 0.001 lr
    if t < 40_000:
        return 4e-4 * t / 40_000
    return (4e-4 - 4e-7) * (1 - (t - 40_000) / 460_000) + 4e-7


ORIGINALS = {
    "resnet-step": (resnet_step, 500_400, [30 * IMAGENET, 60 * IMAGENET, 90 * IMAGENET]),
    "resnet-cifar": (resnet_cifar, 64_000, [32_000, 48_000]),
    "resnet110-cifar": (resnet110, 64_000, [400, 32_000, 48_000]),
    "goyal-imagenet": (goyal, 14_040, [780, 4_680, 9_360, 12_480]),
    "sgdr": (sgdr(10, 2), 78_000, [3_900, 11_700, 27_300, 58_500]),
    "sgdr-1-2": (sgdr(1, 2), 78_000, [390 * (2**i - 1) for i in range(1, 8)]),
    "sgdr-50-1": (sgdr(50, 1), 78_000, [19_500, 39_000, 58_500]),
    "sgdr-100-1": (sgdr(100, 1), 78_000, [39_000]),
    "sgdr-200-1": (sgdr(200, 1), 78_000, []),
    "slowfast": (slowfast, 60_000, [8_000]),
    "design-spaces": (design_spaces, 78_000, []),
    "airbench94": (airbench, 476, [109]),
    "gpt": (gpt(2.5e-4, 2_000, 1_000_000), 1_000_000, [2_001]),
    "gpt-finetune": (gpt_finetune, 36_813, [74]),
    "sparse-transformer": (gpt(3.5e-4, 5_000, 180_000), 180_000, [5_001]),
    "gpt3-small": (gpt3, 600_000, [750, 520_000]),
    "bert": (bert, 1_000_000, [10_000]),
    "roberta-large": (roberta(4e-4, 30_000), 500_000, [30_000]),
    "roberta-base": (roberta(6e-4, 24_000), 500_000, [24_000]),
    "xlnet": (xlnet, 500_000, [40_000]),
}


def test_every_preset_has_its_formula_here():
    assert ORIGINALS.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", ORIGINALS)
def test_equal_to_the_published_formula(name):
    formula, steps, seams = ORIGINALS[name]
    ours = preset(name)
    assert ours.steps == steps
    assert list(ours.seams) == seams
    named = {0, 1, steps // 2, steps - 2, steps - 1} | {at + d for at in seams for d in (-1, 0, 1)}
    at = sorted(named | set(range(0, steps, max(1, steps // 997))))
    expected = [formula(t) for t in at]
    assert ours.lr(np.asarray(at)) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert [ours.lr(t) for t in sorted(named)] == pytest.approx(
        [formula(t) for t in sorted(named)], rel=1e-9, abs=1e-15
    )


@pytest.mark.parametrize("name", ORIGINALS)
@pytest.mark.parametrize("factor", [3, 0.5])
def test_a_rescaled_preset_is_the_same_shape_in_another_time(name, factor):
    if name == "airbench94":
        factor = 100 if factor == 3 else 50  # int(0.23 T) rounds: with 476 steps by up to one in 109
    original = preset(name)
    scaled, changes = original.rescaled(int(original.steps * factor))
    assert changes[0] == f"steps {original.steps} -> {scaled.steps}"
    assert len(changes) == 1 + len(original.lengths)
    share = np.linspace(0.0005, 0.9995, 1009)
    before, after = original.lr(share * original.steps), scaled.lr(share * scaled.steps)
    # Seams are rounded to whole steps: only right beside a drop or a restart may the two differ.
    same = np.abs(before - after) <= 0.02 * original.peak_lr
    assert same.mean() > 0.99
    assert scaled.peak_lr == original.peak_lr


def test_rescaling_to_its_own_length_changes_nothing():
    for each in PRESETS.values():
        assert each.rescaled(each.steps) == (each, ())


WEIGHTS_ALONE = {"decay_on": "weights"}
ADAMW = {"rule": "adamw", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01, "clip_norm": None}
UPDATES = {
    "gpt": ADAMW | WEIGHTS_ALONE,  # section 4.1: w = 0.01 "on all non bias or gain weights"; opt.py: b1, b2, e
    "gpt-finetune": ADAMW | WEIGHTS_ALONE | {"clip_norm": 1.0},  # train.py: max_grad_norm 1, l2 0.01, vector_l2 off
    "sparse-transformer": ADAMW | WEIGHTS_ALONE | {"clip_norm": 1.0},  # section 6
    "gpt3-small": ADAMW | WEIGHTS_ALONE | {"beta2": 0.95, "weight_decay": 0.1, "clip_norm": 1.0},  # appendix B
    "bert": ADAMW | WEIGHTS_ALONE | {"eps": 1e-6, "clip_norm": 1.0},  # A.2; optimization.py: exclude_from_weight_decay
    "roberta-base": ADAMW | {"beta2": 0.98, "eps": 1e-6, "decay_on": "all"},  # table 9: gradient clipping 0.0
    "roberta-large": ADAMW | {"beta2": 0.98, "eps": 1e-6, "decay_on": "all"},
    "xlnet": ADAMW | WEIGHTS_ALONE | {"eps": 1e-6, "clip_norm": 1.0},  # A.4; model_utils.py, train.py: clip
    "resnet-step": {"rule": "sgd", "momentum": 0.9, "momentum_form": "nesterov", "weight_decay": 1e-4},
    "slowfast": {"rule": "sgd", "momentum": 0.9, "momentum_form": "pytorch", "weight_decay": 1e-4},
    "sgdr": {"rule": "sgd", "momentum": 0.9, "momentum_form": "sutskever", "weight_decay": 5e-4},
    "goyal-imagenet": {"rule": "sgd", "momentum_form": "nesterov", "weight_decay": 1e-4, "decay_on": "weights"},
    "airbench94": {"rule": "sgd", "momentum": 0.85, "momentum_form": "nesterov", "label_smoothing": 0.2},
}


def run_as_published(name, data="digits", **beside):
    return resolve(nested({"data": data, "preset": name, **beside})).recipe


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("data", ["digits", "cifar10"])  # of which the cnn has shipped settings, and another rule's
def test_a_preset_brings_the_update_that_it_was_published_with(name, data):
    recipe = run_as_published(name, data)
    assert {setting: getattr(recipe, setting) for setting in UPDATES[name]} == UPDATES[name]
    assert recipe.lr == PRESETS[name].peak_lr
    assert (recipe.schedule.kind, recipe.schedule.preset) == ("preset", name)
    rest = dataclasses.replace(recipe, label_smoothing=0.0)
    assert (rest.label_smoothing, rest.ema_decay) == (0.0, None), "what is shipped belongs to another recipe"


@pytest.mark.parametrize("name", PRESETS)
def test_its_run_is_that_of_the_printed_program_with_the_optimizer_of_pytorch(name):
    recipe = dataclasses.replace(run_as_published(name), epochs=100, batch_size=20)
    if name == "airbench94":
        recipe = dataclasses.replace(recipe, label_smoothing=0.0)
    if recipe.rule == "adamw":  # a quotient of gradients near 0 is all rounding
        recipe = dataclasses.replace(recipe, eps=1e-3)
    if name == "slowfast" or recipe.lr > 1:
        recipe = dataclasses.replace(recipe, lr=0.1)
    difference, code = off({"recipe": recipe, "kind": "classes", "loss": "cross-entropy", "precision": "fp32"})
    assert difference < 1e-4, code
    assert "AdamW(" in code if recipe.rule == "adamw" else "momentum" in code or "velocity" in code


def test_what_is_given_beside_a_preset_goes_before_it():
    recipe = run_as_published("roberta", lr=1e-3, beta2=0.9, clip_norm=0.5, epochs=3.0)
    assert (recipe.lr, recipe.beta2, recipe.clip_norm, recipe.epochs) == (1e-3, 0.9, 0.5, 3.0)
    assert (recipe.eps, recipe.schedule.preset) == (1e-6, "roberta")


def test_another_rule_keeps_the_shape_and_leaves_the_published_rule_s_settings():
    recipe = run_as_published("bert", rule="sgd")
    assert (recipe.rule, recipe.lr, recipe.momentum, recipe.eps) == ("sgd", 0.1, 0.9, None)
    assert (recipe.clip_norm, recipe.schedule.preset) == (1.0, "bert")
    assert run_as_published("sgdr", rule="adamw").lr == 1e-3


def test_what_a_run_wrote_down_comes_back_as_it_is():
    chosen = resolve(nested({"preset": "bert", "eps": 1e-7}))
    assert resolve(to_dict(chosen)) == chosen
    assert from_dict(Config, to_dict(chosen)) == chosen
    old = Recipe(lr=0.3, schedule=chosen.recipe.schedule)  # of before presets brought their rule: all is written down
    again = resolve({"recipe": to_dict(old)}).recipe
    assert again.rule_values == old.rule_values


@pytest.mark.parametrize(
    ("beside", "says"),
    [({"schedule": "cosine"}, "a preset is a schedule, too"), ({"momentum": 0.9}, "momentum belongs to sgd"),
     ({"warmup_epochs": 2.0}, "brings its own warmup"), ({"end": 0.1}, "end belongs to"),
     ({"preset": "brt"}, "Did you mean 'bert'"), ({"preset": 3}, "name of a published schedule"),
     ({"preset": ["bert"]}, "name of a published schedule")],
)  # fmt: skip
def test_what_contradicts_a_preset_is_refused(beside, says):
    with pytest.raises(ConfigError, match=says):
        run_as_published(**{"name": "bert"} | beside) if "preset" not in beside else resolve(nested(beside))
