"""Shards as WebDataset writes them; strange ones end in one sentence, and nothing is unpacked."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

import surefoot
from surefoot.data import mapped
from surefoot.data.load import inspect, load
from surefoot.data.paths import shards_of
from surefoot.errors import ConfigError, DataError

PICTURES = np.random.default_rng(0).integers(0, 256, (24, 6, 5, 3), dtype=np.uint8)


def png(pixels, form="PNG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def tar(path, members):
    with tarfile.open(path, "w") as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                file.addfile(info)
    return path


def sample(i, label=None, x=("png", png)):
    label = ("cls", str(i % 3).encode()) if label is None else label
    return [(f"{i:04d}.{x[0]}", x[1](PICTURES[i])), (f"{i:04d}.{label[0]}", label[1])]


def shards(folder, name="data-{:03d}.tar", of=sample, count=24, each=8):
    folder.mkdir(exist_ok=True)
    for n in range(count // each):
        tar(folder / name.format(n), [pair for i in range(n * each, (n + 1) * each) for pair in of(i)])
    return folder


def test_a_folder_a_pattern_and_numbers_are_the_same_data(tmp_path):
    home = shards(tmp_path / "s")
    first = load(home)
    assert (first.kind, first.input_shape, first.classes) == ("images", (3, 6, 5), ("0", "1", "2"))
    for way in (str(home / "data-*.tar"), str(home / "data-{000..002}.tar"), home / "data-{000..002}.tar"):
        assert load(way).fingerprint == first.fingerprint
    pictures = {first.train.name_of(i): first.train.x[i].numpy() for i in range(len(first.train))}
    name, pixels = next(iter(pictures.items()))
    assert np.array_equal(pixels.transpose(1, 2, 0), PICTURES[int(name.split("/")[1][:4])])
    assert name.startswith("data-00")
    assert load(home / "data-000.tar").examples + 1 == 8
    assert sorted(path.name for path in home.iterdir()) == ["data-000.tar", "data-001.tar", "data-002.tar"]


LABELS = {
    "cls": (("cls", b"1"), ("cls", b"0"), ("0", "1")),
    "names": (("cls", b"dog\n"), ("cls", b"cat"), ("cat", "dog")),
    "txt": (("txt", "café".encode()), ("txt", b"tea"), ("café", "tea")),
    "json number": (("json", b"1"), ("json", b"0"), ("0", "1")),
    "json object": (("json", b'{"label": "dog", "id": 3}'), ("json", b'{"label": "cat"}'), ("cat", "dog")),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_form(kind, tmp_path):
    one, two, classes = LABELS[kind]
    data = load(shards(tmp_path / "s", of=lambda i: sample(i, two if i % 2 else one)))
    assert data.classes == classes


def test_a_label_is_named_by_its_ending_or_its_key(tmp_path):
    def of(i):
        meta = json.dumps({"breed": "ab"[i % 2], "label": 0}).encode()
        return [*sample(i), (f"{i:04d}.json", meta)]

    home = shards(tmp_path / "s", of=of)
    assert load(home).classes == ("0", "1", "2")
    assert load(home, label="breed").classes == ("a", "b")
    assert load(home, label="cls").classes == ("0", "1", "2")
    with pytest.raises(ConfigError, match="label = 'txt'"):
        load(shards(tmp_path / "t"), label="txt")


@pytest.mark.parametrize("in_memory", [2**30, 100])
def test_arrays_and_numbers(in_memory, tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)

    def of(i):
        return [(f"a/{i}.npy", npy(x[i])), (f"a/{i}.cls", str(x[i].sum()).encode()), (f"a/{i}.__id__", b"")]

    monkeypatch.setattr(mapped, "IN_MEMORY", in_memory)
    data = load(shards(tmp_path / "s", of=of), validation=0)
    assert (data.kind, data.classes) == ("numbers", None)
    assert np.array_equal(data.train.x[:].numpy(), x)
    assert data.train.name_of(9) == "data-001.tar/a/9"


def test_masks_beside_images(tmp_path):
    def of(i):
        return [(f"{i}.jpg", png(PICTURES[i], "JPEG")), (f"{i}.npy", npy((PICTURES[i][..., 0] > 128).astype(np.int64)))]

    data = load(shards(tmp_path / "s", of=of))
    assert (data.target, data.train.y.shape[1:], data.outputs) == ("segmentation", (6, 5), 2)


def test_parts_by_name(tmp_path):
    home = shards(tmp_path / "s", "train-{:03d}.tar")
    tar(home / "val.tar", [pair for i in range(6) for pair in sample(i)])
    tar(home / "test-0.tar", [pair for i in range(3) for pair in sample(i)])
    data = load(home)
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 24, "validation": 6, "test": 3}


def test_sizes_are_brought_together_as_those_of_a_folder(tmp_path):
    def of(i):
        return [(f"{i}.png", png(PICTURES[i][: 5 + i % 2])), (f"{i}.cls", b"01"[i % 2 :][:1])]

    data = load(shards(tmp_path / "s", of=of))
    assert data.input_shape == (3, 8, 8)
    assert "resized to 8x8" in data.notes[0]
    assert load(tmp_path / "s", image_size=4).input_shape == (3, 4, 4)


def test_a_run_from_shards_is_resumed(tmp_path):
    home = str(shards(tmp_path / "s") / "data-{000..002}.tar")
    for text in ("finished", "nothing was trained"):
        result = surefoot.train(home, epochs=1, name="a", runs_dir=tmp_path / "runs")
        assert result.summary["outcome"] == "finished"
        assert text == "finished" or text in result.notes[-1]


def broken(tmp_path, members=None, change=None):
    path = tar(tmp_path / "a.tar", members if members is not None else [p for i in range(6) for p in sample(i)])
    if change is not None:
        path.write_bytes(change(path.read_bytes()))
    return path


GOOD = [pair for i in range(6) for pair in sample(i)]
BAD = {
    "cut in a member": (GOOD, lambda raw: raw[:5000], r"a\.tar: (unexpected end of data|ends within)"),
    "cut in a header": (GOOD, lambda raw: raw[: 1024 * 2 + 200], r"a\.tar"),
    "no tar": (GOOD, lambda raw: b"hello" * 1000, r"a\.tar: .*a shard is a whole tar"),
    "empty file": (GOOD, lambda raw: b"", r"a\.tar: (empty file|.*a whole tar)"),
    "empty tar": ([], None, "holds no examples"),
    "gzip": (GOOD, lambda raw: __import__("gzip").compress(raw), r"a\.tar: .*not compressed"),
    "leads out": ([*GOOD, ("../../evil.png", b"x")], None, r"evil\.png: leads out of the shard"),
    "absolute": ([*GOOD, ("/etc/evil.png", b"x")], None, r"evil\.png: leads out of the shard"),
    "link": ([*GOOD, ("0009.png", (tarfile.SYMTYPE, "/etc/passwd"))], None, r"0009\.png: is a link"),
    "pickle": ([*GOOD, ("0000.pyd", b"x")], None, r"0000\.pyd: is a pickle"),
    "missing member": (GOOD[:-1], None, r"a\.tar/0005: has no \.cls"),
    "no labels": ([pair for pair in GOOD if pair[0].endswith("png")], None, r"hold \.png, and no label"),
    "labels alone": ([pair for pair in GOOD if pair[0].endswith("cls")], None, r"hold \.cls"),
    "twice": ([*GOOD, GOOD[0]], None, r"0000\.png: is there twice"),
    "no image": ([("0000.png", b"no image"), GOOD[1], *GOOD[2:]], None, r"a\.tar/0000\.png: "),
    "empty label": ([GOOD[0], ("0000.cls", b""), *GOOD[2:]], None, r"0000\.png: label is missing"),
    "label no text": ([GOOD[0], ("0000.cls", b"\xff"), *GOOD[2:]], None, r"0000\.cls: .*utf-8"),
    "json no label": (
        [p for i in range(6) for p in sample(i, ("json", b'{"id": 3}'))], None, r"0000\.json: holds 'id', and no",
    ),
    "json broken": ([p for i in range(6) for p in sample(i, ("json", b"{"))], None, r"0000\.json: Expecting"),
    "two images": ([*GOOD, *((f"{i:04d}.jpg", b"x") for i in range(6))], None, "one image or one"),
    "arrays of other shapes": (
        [p for i in range(6) for p in sample(i, x=("npy", lambda x, i=i: npy(x[: 2 + i % 2])))], None,
        r"0001\.npy: is \(3, 5, 3\) uint8, the first \(2, 5, 3\)",
    ),
    "objects": (
        [p for i in range(6) for p in sample(i, x=("npy", lambda x: npy(np.array([{}, 1], object))))], None,
        r"0000\.npy: cannot be read .*allow_pickle",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_strange_shards_have_their_message(kind, tmp_path):
    members, change, message = BAD[kind]
    path = broken(tmp_path, members, change)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((DataError, ConfigError), match=f"(?s){message}"):
        load(path)
    assert inspect(path).problems.count
    assert [each for each in sorted(tmp_path.rglob("*")) if "cache" not in each.parts] == before


def test_a_tar_without_its_mark_at_the_end_is_read_with_a_warning(tmp_path):
    path = broken(tmp_path)
    with tarfile.open(path) as file:
        last = file.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset_data + 512])
    assert any("may be cut" in note for note in load(path, validation=0).notes)


def test_patterns_that_name_nothing(tmp_path):
    shards(tmp_path / "s")
    with pytest.raises(DataError, match=r"there is no .*data-003\.tar and 1 more"):
        load(str(tmp_path / "s" / "data-{000..004}.tar"))
    with pytest.raises(DataError, match="no file has such a name"):
        load(str(tmp_path / "s" / "other-*.tar"))
    with pytest.raises(DataError, match="there is no such file"):
        load(str(tmp_path / "none.tar"))
    assert shards_of(tmp_path) is None


def test_settings_that_shards_do_not_read_are_refused(tmp_path):
    home = shards(tmp_path / "s")
    with pytest.raises(ConfigError, match="header"):
        load(home, header="yes")
