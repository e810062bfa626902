"""A run that starts from another's weights, whatever becomes of that one; and what does not fit is refused in words."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from small import bare, bits, image_arrays, number_arrays

import surefoot
from surefoot.config import Config, Recipe
from surefoot.errors import CheckpointError, ConfigError
from surefoot.record import store
from surefoot.training.configure import Objects, resolve
from surefoot.training.open import open_run, train
from surefoot.training.start_from import Origin, found_place, read_origin, settings_of
from surefoot.training.weights import load_trained

SHORT = {"epochs": 2, "batch_size": 10, "precision": "fp32"}


def of(train_examples=60, *, seed=0, brighter=0):
    x, y = image_arrays(train_examples, seed)
    return {"train": (np.minimum(x + brighter, 255).astype(np.uint8), y), "validation": image_arrays(21, 1),
            "test": image_arrays(21, 2)}  # fmt: skip


@pytest.fixture
def first(tmp_path):
    return train(of(), "mlp", lr=0.05, momentum=0.8, name="first", runs_dir=tmp_path, **SHORT)


def opened(tmp_path, name="second", data=None, **given):
    recipe = {"epochs": 2, "batch_size": 10} | given.pop("recipe", {})
    settings = {"data": "in-memory", "model": "mlp", "precision": "fp32", "from_run": "first", "recipe": recipe} | given
    config = resolve(settings, data or of(), runs_dir=tmp_path)
    return open_run(config, name=name, runs_dir=tmp_path, objects=Objects(data=data or of()))


def to_the_end(run, steps=None):
    with run:
        while not run.done:
            run.advance(steps)
        return run.finish()


def net_of(result):
    return result.model.net.state_dict()


def test_a_run_starts_from_the_weights_of_another_and_says_so(first, tmp_path):
    with opened(tmp_path) as run:
        for name, value in net_of(first).items():
            assert bits(run.state.model.state_dict()[name]) == bits(value)
        assert run.state.step == 0
        assert not run.state.slots, "the update rule begins anew"
        assert any("starts from the last weights of" in note and "step 12" in note for note in run.notes)
        assert run.config.recipe.momentum == 0.8, "a setting of that run holds where none is given"
        result = to_the_end(run)
    origin = result.summary["started_from"]
    assert (origin["from"], origin["weights"], origin["step"]) == (str(first.folder), "last", 12)
    environment = json.loads((result.folder / "environment.json").read_text())
    assert environment["started_from"] == origin
    assert result.summary["test_accuracy"] is not None


@pytest.mark.parametrize("how", ["name", "folder", "result", "file", "toml"])
def test_it_is_named_in_every_way(how, first, tmp_path):
    (tmp_path / "c.toml").write_text(f'from_run = "{first.folder}"\n')
    given = {
        "name": {"from_run": "first"}, "folder": {"from_run": first.folder}, "result": {"from_run": first},
        "file": {"from_run": str(first.folder / "model.safetensors")}, "toml": {"config": tmp_path / "c.toml"},
    }[how]  # fmt: skip
    result = train(of(), "mlp", runs_dir=tmp_path, name="b", **SHORT, **given)
    other = train(of(), "mlp", runs_dir=tmp_path, name="c", from_run="first", **SHORT)
    assert bare(result.record.rows) == bare(other.record.rows)
    assert result.config.recipe.momentum == 0.8


@pytest.mark.parametrize("steps", [1, 5])
def test_killed_and_resumed_it_ends_the_same_though_the_other_run_has_gone(steps, first, tmp_path):
    plain = to_the_end(opened(tmp_path, "plain"))
    with opened(tmp_path, "killed", checkpoint_seconds=0) as run:
        pass  # before any checkpoint
    shutil.move(first.folder, tmp_path / "elsewhere")
    config = run.config
    for _ in range(3):
        with open_run(config, name="killed", runs_dir=tmp_path, objects=objects()) as run:
            run.advance(steps)
    resumed = to_the_end(open_run(config, name="killed", runs_dir=tmp_path, objects=objects()))
    assert bare(plain.record.rows) == bare(resumed.record.rows)
    assert (plain.folder / "model.safetensors").read_bytes() == (resumed.folder / "model.safetensors").read_bytes()
    assert plain.summary["started_from"] == resumed.summary["started_from"]


def objects():
    return Objects(data=of())


def test_the_weights_that_a_run_started_from_are_held_to_their_hash(first, tmp_path):
    with opened(tmp_path) as run:
        config = run.config
    path = run.folder / "start.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"start\.safetensors.*damaged"):
        open_run(config, name="second", runs_dir=tmp_path, objects=objects())


def test_best_or_last_are_named_by_their_file(tmp_path):
    first = train(of(), "mlp", name="first", runs_dir=tmp_path, lr=1.0, epochs=12, batch_size=10, schedule="constant",
                  precision="fp32")  # fmt: skip
    assert first.summary["best"]["step"] < first.summary["steps"]
    origin = read_origin(first.folder / "best.safetensors")
    assert (origin.source["weights"], origin.source["step"]) == ("best", first.summary["best"]["step"])
    best = load_trained(first.folder, weights="best").model.net.state_dict()
    for name, value in best.items():
        assert bits(origin.snapshot.tensors[name]) == bits(value)
    result = train(of(), "mlp", name="b", runs_dir=tmp_path, from_run=first.folder / "best.safetensors", **SHORT)
    assert result.summary["started_from"]["weights"] == "best"
    stopped = train(of(), from_run=first, model="mlp", early_stopping_epochs=1, runs_dir=tmp_path, name="c", **SHORT)
    assert read_origin(stopped.folder).source["weights"] == "best", "those of its result"


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_an_unfinished_run_gives_the_weights_of_its_newest_checkpoint(ema_decay, tmp_path):
    config = Config(data="in-memory", model="mlp", precision="fp32", checkpoint_seconds=0,
                    recipe=Recipe(epochs=2, batch_size=10, ema_decay=ema_decay))  # fmt: skip
    with open_run(config, name="first", runs_dir=tmp_path, objects=objects()) as run:
        run.advance(5)
        weights = {name: value.clone() for name, value in run.state.weights.items()}
    origin = read_origin(tmp_path / "first")
    assert (origin.source["weights"], origin.source["step"]) == ("checkpoint", 5)
    for name, value in weights.items():
        assert bits(origin.snapshot.tensors[name]) == bits(value), "those that it validates with"
    with opened(tmp_path) as second:
        assert second.state.step == 0
        assert any("newest checkpoint" in note for note in second.notes)


def test_a_run_without_a_checkpoint_has_no_weights(tmp_path):
    config = Config(data="in-memory", model="mlp", recipe=Recipe(epochs=2, batch_size=10))
    with open_run(config, name="first", runs_dir=tmp_path, objects=objects()):
        pass
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        opened(tmp_path)
    assert not (tmp_path / "second").exists()


def test_other_data_is_normalised_as_the_weights_learned_it(first, tmp_path):
    brighter = of(90, seed=5, brighter=40)
    with opened(tmp_path, data=brighter) as run:
        about = load_trained(first.folder).preprocessing
        assert torch.equal(run.task.data.mean, about.mean.flatten().float())
        assert any("not by this data's own" in note for note in run.notes)
        result = to_the_end(run)
    trained = load_trained(result.folder)
    assert torch.equal(trained.preprocessing.mean, about.mean)
    x = torch.from_numpy(brighter["test"][0])
    fetched = surefoot.evaluate(result, brighter, part="test")
    assert fetched.accuracy == result.summary["test_accuracy"]
    assert torch.equal(trained.model(x), result.model(x))


def test_the_same_data_is_normalised_as_before_and_nothing_is_said(first, tmp_path):
    with opened(tmp_path) as run:
        assert len(run.notes) == 1
        assert torch.equal(run.task.data.mean, surefoot.load(of()).mean)


def test_targets_of_other_data_are_standardised_as_those_that_were_learned(tmp_path):
    x, y = number_arrays(64)
    first = train((x, y), "mlp", runs_dir=tmp_path, name="first", **SHORT)
    other = (x, 100 * y + 7)
    result = train(other, "mlp", from_run="first", runs_dir=tmp_path, name="b", **SHORT)
    about, then = load_trained(result.folder).preprocessing, load_trained(first.folder).preprocessing
    assert torch.equal(about.target_mean, then.target_mean)
    assert torch.equal(about.target_std, then.target_std)
    assert any("targets are standardised as those that" in note for note in result.notes)
    scores = surefoot.evaluate(result, other)
    assert np.isfinite(scores.rmse)


def test_weights_of_a_file_have_no_preprocessing_and_that_is_said(first, tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({k: v.half().contiguous() for k, v in net_of(first).items()}, path)
    result = train(of(), "mlp", from_run=path, runs_dir=tmp_path, name="b", **SHORT)
    assert any("does not say how inputs were normalised" in note for note in result.notes)
    assert result.summary["started_from"]["from"] == str(path)


@pytest.mark.parametrize("name", ["start.safetensors", "checkpoints/step-00000012/model.safetensors"])
def test_another_file_in_a_run_is_a_file(name, first, tmp_path):
    second = train(of(), "mlp", from_run=first, runs_dir=tmp_path, name="second", **SHORT)
    origin = read_origin(second.folder / name)
    assert (origin.source["weights"], origin.about) == (None, None)
    assert settings_of(second.folder / name, None) == {}


def test_settings_that_lie_beside_a_file_of_weights_are_not_those_of_a_run(first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(first.folder / "model.safetensors", "weights.safetensors")
    (tmp_path / "config.toml").write_text("seed = 7\n")
    result = train(of(), "mlp", from_run="weights.safetensors", **SHORT)
    assert result.config.seed == 0


def test_the_data_of_a_run_is_found_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    (tmp_path / "there" / "a.csv").write_text(TABLE)
    train("a.csv", target="classes", epochs=1, name="first")
    monkeypatch.chdir(tmp_path / "here")
    result = train(from_run="../there/runs/first", epochs=1)
    assert result.summary["started_from"]["data_fingerprint"] is not None
    assert not any("other parts" in note for note in result.notes)


def test_a_run_of_an_older_version_says_how_its_inputs_were_normalised(first, tmp_path):
    path = first.folder / "model.json"
    about = store.read_sealed(path)
    older = {name: each for name, each in about.items() if name not in ("preprocessing", "weights", "step", "beside")}
    store.write_sealed(path, older)
    origin = read_origin(first.folder)
    assert torch.equal(origin.about.mean.flatten().float(), surefoot.load(of()).mean)


def test_another_split_of_the_same_data_is_a_leak_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("digits", "linear", epochs=1, name="first")
    for given, leaks in (({}, False), ({"seed": 1}, True), ({"validation": 0.2}, True), ({"lr": 0.3}, False)):
        result = train(from_run="first", epochs=1, **given)
        assert any("may be in the validation part" in note for note in result.notes) == leaks, given


def test_data_model_and_settings_are_those_of_the_run_unless_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("digits", "linear", epochs=4, lr=0.3, warmup_epochs=2, schedule="linear", batch_size=100, name="first")
    config = resolve({"from_run": "first", "recipe": {"lr": 0.01}})
    assert (config.data, config.model, config.recipe.lr, config.recipe.batch_size) == ("digits", "linear", 0.01, 100)
    assert (config.recipe.schedule.kind, config.recipe.schedule.warmup_epochs) == ("linear", 2.0)
    assert config.device == "auto"
    shorter = resolve({"from_run": "first", "recipe": {"epochs": 1}})
    assert shorter.recipe.schedule.warmup_epochs == 0.5, "a schedule shrinks with the run"
    assert settings_of(found_place("first", "runs"), "other.csv")["model"] == "linear"
    rule = resolve({"from_run": "first", "recipe": {"rule": "adamw"}})
    assert rule.recipe.lr == Recipe(rule="adamw").lr, "the rate of another rule means nothing"


def test_a_preset_leaves_to_the_run_what_is_no_part_of_an_update(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    beside = {"groups": {"hidden": "frozen"}, "micro_batch_size": 7, "ema_decay": 0.9, "label_smoothing": 0.1}
    train(of(), "mlp", steps=4, clip_norm=0.5, name="first", **beside)
    recipe = resolve({"from_run": "first", "data": "in-memory", "recipe": {"schedule": {"preset": "bert"}}}).recipe
    assert (recipe.rule, recipe.clip_norm, recipe.steps, recipe.epochs) == ("adamw", 1.0, 4, None)
    assert recipe.groups == Recipe(groups=beside.pop("groups")).groups
    assert {name: getattr(recipe, name) for name in beside} == beside
    other = {"schedule": {"preset": "bert"}, "groups": {"head": {"lr": 2}}, "epochs": 2}
    recipe = resolve({"from_run": "first", "data": "in-memory", "recipe": other}).recipe
    assert (recipe.groups, recipe.epochs) == (Recipe(groups=other["groups"]).groups, 2)


@pytest.mark.parametrize(
    "given", [{"loss": "torch.nn.functional:cross_entropy"}, {"loss_fn": "small:loss_of"}, {"loss": "cross-entropy"}]
)
def test_another_loss_comes_without_what_belonged_to_the_replaced_one(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(of(), "mlp", epochs=1, label_smoothing=0.1, class_weights="balanced", name="first")
    config = resolve({"from_run": "first", "data": "in-memory", **given})
    same = given["loss"] == "cross-entropy" if "loss" in given else False
    assert (config.recipe.label_smoothing, config.class_weights) == ((0.1, "balanced") if same else (0.0, None))
    assert {name: getattr(config, name) for name in ("loss", "loss_fn")} == {"loss": None, "loss_fn": None} | given


def test_a_batch_that_was_fitted_to_the_data_is_fitted_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(of(), "mlp", epochs=1, name="first")
    assert resolve({"from_run": "first", "data": "in-memory"}, of()).recipe.batch_size == "auto"


def test_seeds_of_a_probe_keep_the_weights(first, tmp_path):
    with opened(tmp_path) as run:
        other = surefoot.reseeded(run.task, 7)
    assert other.seed == 7
    for name, value in net_of(first).items():
        assert bits(other.template.state_dict()[name]) == bits(value)


def test_rates_and_noise_are_measured_in_the_middle_of_a_training(first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = surefoot.find_lr("mlp", of(), from_run=first, steps=10, seeds=2, range_test=False)
    fresh = surefoot.find_lr("mlp", of(), steps=10, seeds=2, range_test=False)
    assert max(found.evidence["initial_losses"]) < min(fresh.evidence["initial_losses"]) / 2
    noise = surefoot.gradient_noise("mlp", of(), from_run=first, batch_size=10, micro_batches=8, micro_batch_size=8)
    assert (
        noise.loss < surefoot.gradient_noise("mlp", of(), batch_size=10, micro_batches=8, micro_batch_size=8).loss / 2
    )


def five_classes():
    x, _ = image_arrays(60)
    return {"train": (x, np.arange(60) % 5), "validation": (x[:20], np.arange(20) % 5)}


@pytest.mark.parametrize(
    ("data", "given", "message"),
    [
        (five_classes, {}, r"tell 3 classes apart, for data of 5: .* as many outputs\. Give such data; or in Python"),
        (
            lambda: (image_arrays(60)[0], np.linspace(0, 1, 60)),
            {"target": "numbers"},
            "predict 3 classes, for targets that are numbers",
        ),
        (
            lambda: (image_arrays(60)[0], np.eye(60, 2, dtype="int64")),
            {"target": "multilabel"},
            "predict 3 classes, for targets that are multilabel",
        ),
        (of, {"model": "cnn"}, "does not fit the model: .* and the data that they were trained with"),
        (of, {"model": "linear"}, "does not fit the model"),
        (lambda: (number_arrays()[0], np.arange(64) % 3), {}, "does not fit the model"),
        (of, {"normalise": False}, "normalise = false with"),
        (of, {"from_run": "frist"}, "Did you mean 'first'"),
        (of, {"from_run": __file__}, "pickles are never loaded"),
        (of, {"from_run": 5}, "from_run = 5"),
    ],
)
def test_what_does_not_fit_is_refused_in_words_and_leaves_no_run(data, given, message, first, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train(data(), **{"model": "mlp", "from_run": "first", "name": "second", "runs_dir": tmp_path, **SHORT, **given})
    assert not (tmp_path / "second").exists()


def test_weights_that_are_not_finite_are_refused(first, tmp_path):
    path = tmp_path / "w.safetensors"
    weights = {name: value.clone().contiguous() for name, value in net_of(first).items()}
    next(iter(weights.values()))[0] = np.nan
    safetensors.torch.save_file(weights, path)
    with pytest.raises(ConfigError, match="holds values that are not finite"):
        train(of(), "mlp", from_run=path, runs_dir=tmp_path, **SHORT)


@pytest.mark.parametrize(("given", "message"), [({}, "without a data"), ({"data": "digits"}, "without a model")])
def test_what_was_given_in_python_must_be_given_again(given, message, tmp_path):
    train(
        of(), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3)), name="first", runs_dir=tmp_path, **SHORT
    )
    with pytest.raises(ConfigError, match=message):
        train(from_run="first", runs_dir=tmp_path, **given)


def test_a_module_built_anew_starts_from_the_weights_too(tmp_path):
    def net():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))

    first = train(of(), net(), name="first", runs_dir=tmp_path, **SHORT)
    result = train(of(), net(), from_run=first, name="b", runs_dir=tmp_path, **SHORT)
    again = train(of(), net(), from_run=first, name="c", runs_dir=tmp_path, **SHORT)
    assert bare(result.record.rows) == bare(again.record.rows), "whatever the module's own weights"
    assert result.summary["started_from"]["sha256"] == again.summary["started_from"]["sha256"]


TABLE = "size,hue,price\n" + "".join(f"{i % 7},{'red' if i % 3 else 'blue'},{i % 2}\n" for i in range(60))


def test_a_table_with_other_levels_is_refused_and_one_with_the_same_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "b.csv").write_text(TABLE.replace("0,", "8,", 1))
    (tmp_path / "c.csv").write_text(TABLE.replace("blue", "green"))
    train("a.csv", target="classes", epochs=1, name="first")
    assert train("b.csv", from_run="first", epochs=1).record.outcome.kind == "finished"
    with pytest.raises(ConfigError, match="read in another way: 'hue'"):
        train("c.csv", from_run="first", epochs=1)


def test_what_is_written_is_read_back(first, tmp_path):
    origin = read_origin(first.folder)
    (tmp_path / "x").mkdir()
    origin.write(tmp_path / "x")
    again = Origin.of_run(tmp_path / "x")
    assert again.source == origin.source
    assert again.classes == origin.classes == ("0", "1", "2")
    assert torch.equal(again.about.mean, origin.about.mean)


def test_tune_starts_every_trial_and_the_final_training_from_the_weights(first, tmp_path):
    tuned = surefoot.tune(of(), "mlp", from_run=first, budget="1x", epochs=6, batch_size=10, runs_dir=tmp_path,
                          force=True, name="tuned", early_stopping_epochs=5)  # fmt: skip
    assert tuned.result is not None
    assert tuned.result.summary["started_from"]["from"] == str(first.folder)


class TwoInputs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = torch.nn.Linear(4, 8), torch.nn.Embedding(5, 8), torch.nn.Linear(8, 3)

    def forward(self, a, b):
        return self.head(self.a(a).relu() + self.b(b).mean(1))


class Tokens(torch.nn.Module):
    """A language model that has memory for so many sequences alone."""

    most = 100

    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(7, 8), torch.nn.Linear(8, 7)

    def forward(self, input_ids):
        if self.training and torch.is_grad_enabled() and len(input_ids) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.head(self.embed(input_ids))


def two_inputs(seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(shift, 1, (60, 4)).astype(np.float32), rng.integers(0, 5, (60, 3))
    return (a, b), (a[:, 0] > shift).astype(int) + (b[:, 0] > 2)


def tokens(seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 7, (60, 6))
    y = np.roll(ids, -1, 1)
    y[rng.random(y.shape) < 0.4] = -100
    return {"input_ids": ids}, y


@pytest.mark.parametrize(
    ("model", "data", "other"),
    [(TwoInputs, two_inputs(), two_inputs(1, shift=2.0)), (Tokens, tokens(), tokens(1))],
)
def test_weights_of_a_model_with_several_inputs_go_on_and_are_resumed(model, data, other, tmp_path):
    how = {"epochs": 3, "batch_size": 10, "precision": "fp32", "early_stopping_epochs": 2, "choose_by": "accuracy"}
    first = train(data, model, name="first", runs_dir=tmp_path, **how)
    plain = train(other, model, name="plain", from_run="first", runs_dir=tmp_path, **how)
    about, then = load_trained(plain.folder, model()).preprocessing, load_trained(first.folder, model()).preprocessing
    assert about.to_dict() == then.to_dict(), "inputs mean the same"
    assert plain.summary["best"]["metric"] == "accuracy"
    config = plain.config
    with open_run(config, name="cut", runs_dir=tmp_path, objects=Objects(data=other, model=model)) as run:
        run.advance(4)
        run.save()
    shutil.rmtree(first.folder)
    resumed = to_the_end(open_run(config, name="cut", runs_dir=tmp_path, objects=Objects(data=other, model=model)), 1)
    assert bare(plain.record.rows) == bare(resumed.record.rows)
    assert (plain.folder / "model.safetensors").read_bytes() == (resumed.folder / "model.safetensors").read_bytes()


def test_pieces_that_fit_add_up_where_they_count_differently_many_tokens(tmp_path, monkeypatch):
    how = {"epochs": 2, "batch_size": 20, "precision": "fp32", "schedule": "constant", "runs_dir": tmp_path}
    whole = train(tokens(), Tokens, name="whole", **how)
    monkeypatch.setattr(Tokens, "most", 3)
    pieces = train(tokens(), Tokens, name="pieces", **how)
    assert pieces.summary["micro_batch_size"] == 2
    for name, value in net_of(whole).items():
        assert torch.allclose(value, net_of(pieces)[name], atol=1e-6), "the gradient is that of the whole batch"


def test_several_inputs_of_another_kind_are_refused(tmp_path):
    train(two_inputs(), TwoInputs, name="first", runs_dir=tmp_path, **SHORT)
    (a, b), y = two_inputs()
    with pytest.raises(ConfigError, match="weights learned from numbers"):
        train(((a, b.astype(np.float32)), y), TwoInputsOfNumbers, from_run="first", runs_dir=tmp_path, **SHORT)


class TwoInputsOfNumbers(TwoInputs):
    def forward(self, a, b):
        return super().forward(a, b.long().clamp(0, 4))
