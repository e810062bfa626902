"""Models of the Transformers library from a config: no weights are fetched. Skipped where it is not installed."""

import numpy as np
import pytest
import torch

import surefoot
from surefoot.errors import ConfigError, DataError
from surefoot.settings import nested
from surefoot.training.configure import resolve, separated
from surefoot.training.make import task

pytestmark = pytest.mark.filterwarnings("ignore")
transformers = pytest.importorskip("transformers", reason="pip install transformers==5.24.0 --no-deps, and its needs")

N = 48
IDS = np.random.default_rng(0).integers(1, 30, (N, 10))
MASK = (np.arange(10) < np.random.default_rng(1).integers(4, 11, N)[:, None]).astype(int)
Y = (IDS[:, 0] > 15).astype(int)
TEXT = np.cumsum(IDS, 1) % 30
BATCH = {"input_ids": IDS, "attention_mask": MASK, "labels": Y}
RECIPE = surefoot.Recipe(rule="adamw", lr=3e-3, epochs=2, batch_size=12)


def bert(**change):
    small = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 32, "max_position_embeddings": 16, "num_labels": 2}  # fmt: skip
    return transformers.BertForSequenceClassification(transformers.BertConfig(**{**small, **change}))


def gpt(**change):
    small = {"vocab_size": 30, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 0,
             "eos_token_id": 0}  # fmt: skip
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**small, **change}))


def checkpointing():
    model = gpt()
    model.gradient_checkpointing_enable()
    return model


def fitted(data, model, **settings):
    work = task(surefoot.load(data), model, threads=1, **settings)
    return surefoot.fit(work, surefoot.plan(RECIPE, work.data.examples))


def losses(data, model, **settings):
    return [row.val_loss for row in fitted(data, model, **settings)[1].rows]


def test_a_batch_is_the_same_in_every_form_in_which_people_have_it():
    wanted = losses(BATCH, bert)
    rows = [{name: each[i].tolist() for name, each in BATCH.items()} for i in range(N)]
    forms = {
        "encoding": transformers.BatchEncoding(BATCH),
        "lists": transformers.BatchEncoding({name: each.tolist() for name, each in BATCH.items()}),
        "tensors": {name: torch.from_numpy(each) for name, each in BATCH.items()},
        "examples": rows,
        "a mask of booleans": {**BATCH, "attention_mask": MASK.astype(bool)},
        "a mask of fractions": {**BATCH, "attention_mask": MASK.astype("float32")},
    }
    assert {name: losses(data, bert) for name, data in forms.items()} == dict.fromkeys(forms, wanted)


def test_the_loss_of_the_model_is_the_one_here():
    inside = losses(BATCH, bert, loss_fn=lambda model, batch: model(**batch).loss)
    assert inside == pytest.approx(losses(BATCH, bert), rel=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_member_is_the_run_that_it_would_be_alone(precision):
    work = task(surefoot.load(BATCH), bert, threads=1, precision=precision)
    plan = surefoot.plan(RECIPE, work.data.examples)
    _, alone = surefoot.fit(work, plan)
    _, records = surefoot.fit_many([surefoot.Member(work, plan), surefoot.Member(work, plan)])
    assert records[1].last.val_loss == pytest.approx(alone.last.val_loss, rel=1e-5)


def test_tied_weights_stay_tied_and_are_trained_once():
    shifted = {"input_ids": TEXT[:, :-1], "labels": TEXT[:, 1:]}
    state, record = fitted(shifted, gpt)
    model = state.model
    assert model.lm_head.weight is model.transformer.wte.weight
    assert record.rows[-1].train_loss < record.rows[0].train_loss
    assert losses(shifted, checkpointing) == pytest.approx([row.val_loss for row in record.rows], rel=1e-5)


def test_a_causal_model_is_not_taught_to_copy():
    for labels in (TEXT, np.where(MASK > 0, TEXT, -100)):
        with pytest.raises(ConfigError, match=r"targets that are input_ids itself, for GPT2LMHeadModel.*loss_fn="):
            task(surefoot.load({"input_ids": TEXT, "labels": labels}), gpt)
    sure = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}  # dropout draws by shape
    inside = losses({"input_ids": TEXT, "labels": TEXT}, lambda: gpt(**sure), loss_fn=lambda m, batch: m(**batch).loss)
    shifted = losses({"input_ids": TEXT[:, :-1], "labels": TEXT[:, 1:]}, lambda: gpt(**sure))
    assert inside == pytest.approx(shifted, rel=1e-5)


def test_a_frozen_body_stays_as_it_is():
    model = bert()
    model.bert.requires_grad_(False)
    state, _ = fitted(BATCH, model)
    assert torch.equal(state.model.bert.embeddings.word_embeddings.weight, model.bert.embeddings.word_embeddings.weight)
    assert not torch.equal(state.model.classifier.weight, model.classifier.weight)


def test_a_run_goes_on_where_it_was_and_another_config_is_told_apart(tmp_path):
    settings = {"rule": "adamw", "lr": 3e-3, "batch_size": 12, "epochs": 3, "threads": 1}
    whole = surefoot.train(BATCH, bert, name="whole", runs_dir=tmp_path, **settings)
    objects, words = separated(BATCH, bert, None)
    config = resolve(nested(words | settings), BATCH)
    with surefoot.open_run(config, name="part", runs_dir=tmp_path, objects=objects) as run:
        run.advance(5)
        run.save()
    surefoot.train(BATCH, bert, name="part", runs_dir=tmp_path, **settings)
    parts = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "part")]
    assert parts[0] == parts[1]
    assert whole.summary["outcome"] == "finished"
    with pytest.raises(ConfigError, match="was started with something else"):
        surefoot.train(BATCH, lambda: bert(hidden_act="relu"), name="whole", runs_dir=tmp_path, **settings)


@pytest.mark.parametrize(
    ("data", "model", "error", "message"),
    [
        ({**BATCH, "input_ids": IDS + 9}, bert, DataError, "embedding takes 0 to 29"),
        ({"input_ids": np.tile(IDS, 2), "labels": Y}, bert, ConfigError, r"cannot take a batch of shape .*\(2, 20\)"),
        ({"input_ids": IDS, "labels": Y}, lambda: bert().bert, ConfigError, r"model\(\*\*x\)\['last_hidden_state'\]"),
    ],
    ids=["vocabulary", "too long", "no logits"],
)  # fmt: skip
def test_what_does_not_fit_is_said(data, model, error, message):
    with pytest.raises(error, match=message):
        task(surefoot.load(data), model)


def test_a_model_that_makes_inputs_of_its_labels_is_told_of_loss_fn():
    config = transformers.T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
                                   decoder_start_token_id=0)  # fmt: skip
    data = {"input_ids": TEXT, "labels": IDS}
    with pytest.raises(ConfigError, match="If it needs labels, give loss_fn"):
        task(surefoot.load(data), lambda: transformers.T5ForConditionalGeneration(config))
    inside = losses(data, lambda: transformers.T5ForConditionalGeneration(config), loss_fn=lambda m, b: m(**b).loss)
    assert inside[-1] < inside[0]
