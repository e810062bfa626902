import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.config import Config, Recipe, Schedule
from surefoot.errors import ConfigError
from surefoot.settings import (
    check_names,
    default_settings,
    differences,
    flat_settings,
    from_dict,
    merged,
    nested,
    read_toml,
    to_dict,
    to_toml,
)

configs = st.builds(
    Config,
    data=st.text(st.characters(exclude_categories=["Cs"])),
    seed=st.integers(0, 2**62),
    validation=st.one_of(st.none(), st.floats(0, 0.99)),
    augment=st.lists(st.sampled_from(["flip", "crop:2"]), max_size=2).map(tuple),
    recipe=st.builds(
        Recipe,
        lr=st.floats(1e-12, 1e12),
        batch_size=st.one_of(st.just("full"), st.integers(1, 2**40)),
        steps=st.one_of(st.none(), st.integers(1, 2**40)),
        ema_decay=st.one_of(st.none(), st.floats(0.01, 0.99)),
        schedule=st.one_of(
            st.builds(Schedule, kind=st.sampled_from(["cosine", "linear"]), end=st.one_of(st.none(), st.floats(0, 1))),
            st.builds(Schedule, kind=st.just("step"), milestones_epochs=st.just((1.0, 2.5))),
        ),
    ),
)


@given(configs)
def test_a_configuration_goes_through_toml_unchanged(config):
    assert from_dict(Config, tomllib.loads(to_toml(config))) == config
    assert from_dict(Config, to_dict(config)) == config
    assert differences(config, config) == []


def test_names_are_flat_and_each_means_one_thing():
    flat = flat_settings()
    paths = [setting.path for setting in flat.values()]
    assert len(set(paths)) == len(paths)
    assert flat["schedule"].path == ("recipe", "schedule", "kind")
    assert flat["seed"].path == ("seed",)
    assert all(setting.help for setting in flat.values())
    assert {"kind", "recipe"}.isdisjoint(flat)


def test_flat_settings_become_nested_ones_and_off_is_left_out():
    assert nested({"seed": 0, "lr": 0.0, "end": None, "factor": 0.5, "augment": ()}) == {
        "seed": 0,
        "augment": (),
        "recipe": {"lr": 0.0, "schedule": {"factor": 0.5}},
    }


@pytest.mark.parametrize(("name", "near"), [("momentun", "momentum"), ("epoch", "epochs"), ("batchsize", "batch_size")])
def test_an_unknown_name_suggests_the_near_one(name, near, tmp_path):
    with pytest.raises(ConfigError, match=f"did you mean '{near}'|Did you mean '{near}'"):
        nested({name: 1})
    (tmp_path / "c.toml").write_text(f"[recipe]\n{name} = 1\n")
    with pytest.raises(ConfigError, match=rf"c\.toml \[recipe\]: unknown setting '{name}'.*id you mean '{near}'"):
        read_toml(tmp_path / "c.toml")


@pytest.mark.parametrize(
    "content", [b"lr = ", b"[recipe", b"\xff\xfe", b"x = 1\nx = 2\n", b"recipe = 3", b"[recipe]\nschedule = 'cosine'"]
)
def test_a_file_that_is_no_configuration_is_named(content, tmp_path):
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.toml"):
        read_toml(tmp_path / "c.toml")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            read_toml(path)


def test_a_table_in_place_of_a_value_is_a_type_error_of_that_setting():
    with pytest.raises(ConfigError, match="seed = "):
        from_dict(Config, {"seed": {"a": 1}})
    check_names(Config, {"seed": 1}, "here")


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{"a": 1}, {"a": 2}], {"a": 2}),
        ([{"epochs": 5}, {"steps": 7}], {"steps": 7}),
        ([{"steps": 7}, {"epochs": 5}], {"epochs": 5}),
        ([{"epochs": 5, "steps": 7}], {"epochs": 5, "steps": 7}),
        ([{"steps": 1}, {"epochs": 5, "steps": 7}], {"epochs": 5, "steps": 7}),
        (
            [{"schedule": {"kind": "step", "factor": 0.5}}, {"schedule": {"kind": "cosine"}}],
            {"schedule": {"kind": "cosine"}},
        ),
        (
            [{"schedule": {"kind": "step", "factor": 0.5}}, {"schedule": {"factor": 0.1}}],
            {"schedule": {"kind": "step", "factor": 0.1}},
        ),
        (
            [{"schedule": {"kind": "step", "factor": 0.5}}, {"schedule": {"kind": "step"}}],
            {"schedule": {"kind": "step", "factor": 0.5}},
        ),
    ],
)
def test_later_layers_lie_over_earlier_ones(layers, expected):
    assert merged(*layers) == expected


def test_layers_are_not_changed_by_merging():
    below, above = {"recipe": {"lr": 1, "epochs": 2}}, {"recipe": {"steps": 3}}
    assert merged(below, above) == {"recipe": {"lr": 1, "steps": 3}}
    assert below == {"recipe": {"lr": 1, "epochs": 2}}
    assert above == {"recipe": {"steps": 3}}


def test_both_lengths_in_one_place_are_refused_and_not_chosen_from():
    with pytest.raises(ConfigError, match="a run has one length"):
        from_dict(Config, merged(nested({"epochs": 5.0, "steps": 7})))


def test_differences_name_every_setting_that_differs_at_every_depth():
    old = Config(seed=1, recipe=Recipe(lr=0.1, schedule=Schedule(kind="linear")))
    new = Config(seed=2, recipe=Recipe(lr=0.2, clip_norm=1.0, schedule=Schedule(kind="cosine")), threads=3)
    found = differences(old, new)
    assert set(found) == {
        "seed (1 there, 2 here)",
        "threads (None there, 3 here)",
        "lr (0.1 there, 0.2 here)",
        "clip_norm (None there, 1.0 here)",
        "schedule (linear there, cosine here)",
    }
    assert differences(old, new, ignore=("seed", "lr", "clip_norm", "threads", "schedule")) == []


def test_shipped_settings_are_complete_and_right():
    assert default_settings("no/such/data", "cnn") == {}
    assert default_settings("digits", "no-such-model") == {}
    for data in ("digits", "cifar10"):
        for model in ("linear", "mlp", "cnn", "resnet20"):
            from_dict(Config, default_settings(data, model))
    assert default_settings("a.csv", "mlp") == {}
    for model in ("linear", "mlp"):
        assert from_dict(Config, default_settings("a.csv", model, table=True)).recipe.clip_norm == 1.0
    assert default_settings("a.csv", "nets:make", table=True) == default_settings("a.csv", "../mlp", table=True) == {}


SOUND = {
    "a byte-order mark": b"\xef\xbb\xbf[recipe]\nlr = 0.3\n",
    "line ends of Windows": b"[recipe]\r\nlr = 0.3\r\n",
    "both": b"\xef\xbb\xbf[recipe]\r\nlr = 0.3\r\n",
    "dots in a comment": b"# " + b"." * 200 + b"\n[recipe]\nlr = 0.3\n",
}
DAMAGED = {
    "UTF-16": ("[recipe]\nlr = 0.3\n".encode("utf-16"), "is UTF-16"),
    "UTF-16 without a mark": ("[recipe]\nlr = 0.3\n".encode("utf-16-le"), "is UTF-16"),
    "UTF-32": ("[recipe]\nlr = 0.3\n".encode("utf-32"), "is UTF-16, or no text"),
    "Latin": (b"[recipe]\nlr = 0.3 # \xe9\n", "in line 2, is not UTF-8"),
    "a carriage return alone": (b"[recipe]\nlr = 0.3\rmomentum = 0.5\n", "without a line feed, in line 2"),
    "line ends of old Macs": (b"[recipe]\rlr = 0.3\r", "without a line feed, in line 1"),
    "one in a comment": (b"# a\rb\n[recipe]\nlr = 0.3\n", "without a line feed, in line 1"),
    "deep lists": (b"augment = " + b"[" * 100_000 + b"]" * 100_000, "line 1 has more than 20 levels"),
    "deep tables": (b"recipe = " + b"{a=" * 5000 + b"1" + b"}" * 5000, "line 1 has more than 20 levels"),
    "deep keys": (b"\n" + b".".join([b"a"] * 100_000) + b" = 1", "line 2 has more than 20 levels"),
    "a long number": (b"seed = " + b"9" * 5000, "digits"),
    "a zero byte": (b"[recipe]\nlr = 0.3\n\0", "no text"),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_a_file_as_editors_write_it_is_read(name, tmp_path):
    (tmp_path / "a.toml").write_bytes(SOUND[name])
    assert read_toml(tmp_path / "a.toml") == {"recipe": {"lr": 0.3}}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_cannot_be_read_is_named_with_its_line(name, tmp_path):
    content, message = DAMAGED[name]
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_toml(tmp_path / "a.toml")
    assert "a.toml" in str(caught.value)
    assert len(str(caught.value)) < 400
