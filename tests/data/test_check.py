"""The catalogue of bad data: each kind is found before step 1 and named, and nothing of the user's changes."""

import hashlib
import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surefoot.cli.app import run
from surefoot.data.load import inspect, load
from surefoot.errors import ConfigError, DataError, SurefootError

CATALOGUE = {}


def kind(message, error=DataError, **settings):
    """Add a kind of bad data: a function that makes it in a folder and returns its path, and what must be said."""

    def add(make):
        CATALOGUE[make.__name__] = (make, message, error, settings)
        return make

    return add


def tree_hash(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        digest.update(f"{path.relative_to(root)} {status.st_mode} {status.st_mtime_ns} {status.st_size}\n".encode())
        if path.is_file() and os.access(path, os.R_OK):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def save(path: Path, size=(8, 8), mode="RGB", seed=None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(sum(map(ord, str(path))) if seed is None else seed)
    image = Image.fromarray(levels.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    image.save(path, **options)
    return path


def pets(root: Path, parts=("",), classes=("cats", "dogs"), each=3) -> Path:
    for part in parts:
        for name in classes:
            for i in range(each):
                save(root / part / name / f"{i}.png")
    return root


def parted(root: Path) -> Path:
    return pets(root, parts=("train", "test"))


def csv(root: Path, *lines: str) -> Path:
    (root / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "table.csv"


def npz(root: Path, **arrays) -> Path:
    np.savez(root / "arrays.npz", **arrays)
    return root / "arrays.npz"


def numbers(n=12, features=3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, features)).astype(np.float32)


def labels(n=12, classes=3) -> np.ndarray:
    return np.arange(n) % classes


# Images in folders


@kind(r"cats/1\.png: cannot be decoded")
def truncated_png(root):
    path = pets(root) / "cats" / "1.png"
    path.write_bytes(path.read_bytes()[:-60])
    return root


@kind(r"cats/a\.jpg: cannot be decoded \(.*[Tt]runcated")
def truncated_jpeg(root):
    path = save(pets(root) / "cats" / "a.jpg")
    path.write_bytes(path.read_bytes()[:-100])
    return root


@kind(r"dogs/1\.png: is empty")
def empty_file(root):
    (pets(root) / "dogs" / "1.png").write_bytes(b"")
    return root


@kind(r"dogs/1\.jpg: is no image")
def page_called_jpg(root):
    (pets(root) / "dogs" / "1.jpg").write_text("<html>404</html>")
    return root


@kind(r"dogs/notes\.txt: is no image")
def text_among_images(root):
    (pets(root) / "dogs" / "notes.txt").write_text("good boys")
    return root


@kind(r"cats/page\.eps: is no image")
def program_called_image(root):
    (pets(root) / "cats" / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    return root


@kind(r"cats/9\.png: has more than 89,478,485 pixels")
def decompression_bomb(root):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    (pets(root) / "cats" / "9.png").write_bytes(bomb)
    return root


@kind(r"cats/1\.tiff: has signed, 32-bit or floating-point pixels")
def floating_point_image(root):
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(pets(root) / "cats" / "1.tiff")
    return root


@kind(r"cats/loop\.png: is not there, or is a link that leads nowhere")
def dangling_link(root):
    (pets(root) / "cats" / "loop.png").symlink_to(root / "nowhere.png")
    return root


@kind(r"birds/: class has no image")
def empty_class(root):
    (pets(root) / "birds").mkdir()
    return root


@kind(r"test/: lacks the class 'dogs'")
def class_missing_in_a_part(root):
    pets(root, parts=("train",))
    return pets(root, parts=("test",), classes=("cats",))


@kind(r"test/mice/: is no class of the training part")
def class_only_in_a_part(root):
    pets(root, parts=("train",))
    return pets(root, parts=("test",), classes=("cats", "dogs", "mice"))


@kind("one class, 'cats'")
def one_class_folder(root):
    return pets(root, classes=("cats",))


@kind("has no folder of a class")
def empty_folder(root):
    return root


@kind(r"lost\.png: is in no class")
def image_outside_the_classes(root):
    save(pets(root) / "lost.png")
    return root


@kind(r"extra/: is beside the parts")
def folder_beside_the_parts(root):
    (parted(root) / "extra").mkdir()
    return root


@kind(r"has train, training: a part has one folder")
def part_twice(root):
    return pets(root, parts=("train", "training"))


@kind(r"has only test: there must be a train folder")
def no_training_part(root):
    return pets(root, parts=("test",))


@kind("all targets|labels of .* are classes", error=ConfigError, target="numbers")
def regression_on_folders(root):
    return pets(root)


# Tables


@kind(r"row 3: column 'a' holds text, 'x'")
def text_in_a_number_column(root):
    return csv(root, "a,b,label", "1,2,0", "x,2,1", "3,4,0")


@kind(r"row 2: column 'b' holds -inf")
def infinity_in_a_table(root):
    return csv(root, "a,b,label", "1,-inf,0", "2,2,1")


@kind(r"row 3: column 'a' holds 1e39")
def number_too_large_for_float32(root):
    return csv(root, "a,b,label", "1,2,0", "1e39,2,1")


@kind(r"row 3: has 2 fields")
def ragged_row(root):
    return csv(root, "a,b,label", "1,2,0", "2,1", "4,5,1")


@kind(r"column 'a' is there 2 times")
def duplicated_header(root):
    return csv(root, "a,a,label", "1,2,0", "2,1,1")


@kind(r"row 3: label is missing")
def missing_label(root):
    return csv(root, "a,b,label", "1,2,0", "2,1,", "4,5,1")


@kind(r"row 3: label is missing \('-100'\)")
def ignored_label_in_a_table(root):
    return csv(root, "a,b,label", "1,2,0", "2,1,-100", "4,5,1")


@kind(r"row 2: label 0\.5 is no whole number.*target = \"numbers\"", target="classes")
def fractions_as_classes(root):
    return csv(root, "a,b,y", "1,2,0.5", "2,1,0.7")


@kind(r"has no such column.*Did you mean 'label'", error=ConfigError, label="lable")
def unknown_label_column(root):
    return csv(root, "a,b,label", "1,2,0", "2,1,1")


@kind(r"has no header", error=ConfigError, label="y")
def label_column_without_header(root):
    return csv(root, "1,2,0", "2,1,1")


@kind("has one column")
def single_column(root):
    return csv(root, "label", "1", "0")


@kind("is empty")
def empty_table(root):
    return csv(root, "", "")


@kind("has no examples")
def header_alone(root):
    return csv(root, "a,b,label")


@kind(r"byte 8 is not UTF-8")
def table_of_another_encoding(root):
    (root / "table.csv").write_bytes(b"a,label\n\xe9,1\n")
    return root / "table.csv"


@kind(r"row 2: .*unexpected end of data")
def unclosed_quote(root):
    return csv(root, "a,b,label", '1,"2,0', "2,1,1")


@kind(r"row 3: column 'y' holds text, 'high'", target="numbers")
def text_target(root):
    return csv(root, "a,b,y", "1,2,0.5", "2,1,high")


@kind("every target is 2", target="numbers")
def constant_target(root):
    return csv(root, "a,y", "1,2", "2,2", "3,2")


# Arrays


@kind(r"row 5: holds nan at feature 1")
def nan_in_an_array(root):
    x = numbers()
    x[5, 1] = np.nan
    return npz(root, x=x, y=labels())


@kind(r"row 7: holds inf at feature 2")
def float64_beyond_float32(root):
    x = numbers().astype(np.float64)
    x[7, 2] = 1e300
    return npz(root, x=x, y=labels())


@kind(r"row 4: label -1 is out of range")
def negative_label(root):
    y = labels()
    y[4] = -1
    return npz(root, x=numbers(), y=y)


@kind(r"row 4: label -100 is the mark of a missing label")
def ignored_label(root):
    y = labels()
    y[4] = -100
    return npz(root, x=numbers(), y=y)


@kind(r"test row 3: label 3 is out of range")
def label_equal_to_the_number_of_classes(root):
    y = labels(6)
    y[3] = 3
    return npz(root, x_train=numbers(), y_train=labels(), x_test=numbers(6), y_test=y)


@kind(r"class '3', '4', '5' and 2 more|class .*'3', '4'.* has no example \(the largest label is '9', of row 2\)")
def gap_in_the_classes(root):
    y = labels()
    y[2] = 9
    return npz(root, x=numbers(), y=y)


@kind(r"row 6: label is missing \(nan\)")
def nan_label(root):
    y = labels().astype(np.float32)
    y[6] = np.nan
    return npz(root, x=numbers(), y=y)


@kind(r"row 6: label 1\.5 is no whole number")
def fractional_label(root):
    y = labels().astype(np.float32)
    y[6] = 1.5
    return npz(root, x=numbers(), y=y)


@kind(r"labels have shape \(12, 3\).*argmax")
def one_hot_labels(root):
    return npz(root, x=numbers(), y=np.eye(3)[labels()])


@kind(r"test row 2: label 'cow' is no class")
def unknown_text_label(root):
    y = np.array(["cat", "dog"] * 6)
    return npz(root, x_train=numbers(), y_train=y, x_test=numbers(3), y_test=np.array(["cat", "dog", "cow"]))


@kind("one class, '0'")
def one_class(root):
    return npz(root, x=numbers(), y=np.zeros(12, dtype=np.int64))


@kind("every example is the same")
def constant_features(root):
    return npz(root, x=np.ones((12, 3)), y=labels())


@kind(r"x has shape \(12, 3\), y \(11,\)")
def lengths_differ(root):
    return npz(root, x=numbers(), y=labels(11))


@kind(r"test: has examples of shape \(4,\), the training part \(3,\)")
def shapes_differ_between_parts(root):
    return npz(root, x_train=numbers(), y_train=labels(), x_test=numbers(6, 4), y_test=labels(6))


@kind(r"train: has no examples")
def no_examples(root):
    return npz(root, x=numbers(0), y=labels(0))


@kind(r"test: has no examples")
def empty_part(root):
    return npz(root, x_train=numbers(), y_train=labels(), x_test=numbers(0), y_test=labels(0))


@kind(r"train: has 1 example")
def one_example(root):
    return npz(root, x=numbers(1), y=labels(1))


@kind(r"array x: holds Python objects")
def object_array(root):
    return npz(root, x=np.array([[1, "a"], [2, None]] * 6, dtype=object), y=labels())


@kind("every example is the same")
def text_without_a_difference(root):
    return npz(root, x=np.array([["a", "b"]] * 12), y=labels())


@kind(r"array x_train: has no y beside it")
def labels_forgotten(root):
    return npz(root, x_train=numbers())


@kind(r"arrays: are named data, colour")
def arrays_of_other_names(root):
    return npz(root, data=numbers(), colour=labels())


@kind("must be a whole .npz")
def truncated_npz(root):
    path = npz(root, x=numbers(), y=labels())
    path.write_bytes(path.read_bytes()[:300])
    return path


@kind(r"array x: cannot be read \(Bad CRC")
def damaged_npz(root):
    path = npz(root, x=numbers(), y=labels())
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)
    return path


@kind(r"row 3: target nan", target="numbers")
def nan_target(root):
    y = labels().astype(np.float32)
    y[3] = np.nan
    return npz(root, x=numbers(), y=y)


@kind(r"other shapes in other parts", target="numbers")
def targets_differ_between_parts(root):
    return npz(root, x_train=numbers(), y_train=numbers(12, 2), x_test=numbers(6), y_test=numbers(6, 3))


# Anything else


@kind("there is no such file or folder")
def missing_path(root):
    return root / "nowhere.npz"


@kind("a folder of images by class, an .npz, a .csv, .tsv or .parquet")
def another_format(root):
    (root / "data.xlsx").write_bytes(b"PK")
    return root / "data.xlsx"


@kind(r"data\.parquet: .*it must be a whole \.parquet file")
def damaged_parquet(root):
    (root / "data.parquet").write_bytes(b"PAR1")
    return root / "data.parquet"


@kind("a pipe, a socket or a device")
def pipe(root):
    os.mkfifo(root / "pipe.csv")
    return root / "pipe.csv"


@kind("no column is left to learn from")
def nothing_but_names(root):
    return csv(root, "who,label", *(f"person {i} of {i * i},{i % 2}" for i in range(40)))


@kind("only a folder's images, and those of shards, are resized", error=ConfigError, image_size=32)
def setting_of_another_source(root):
    return npz(root, x=numbers(), y=labels())


@kind("less than one example", error=ConfigError, validation=0.01)
def validation_of_nothing(root):
    return npz(root, x=numbers(), y=labels())


@kind(r"validation must be in \[0, 1\)", error=ConfigError, validation=1.0)
def validation_of_everything(root):
    return npz(root, x=numbers(), y=labels())


def test_the_catalogue_is_long_enough():
    assert len(CATALOGUE) >= 60


@pytest.mark.parametrize("name", CATALOGUE)
def test_bad_data_is_named_before_step_1_and_left_as_it_is(name, tmp_path):
    make, message, error, settings = CATALOGUE[name]
    home = tmp_path / "user"
    home.mkdir()
    path = make(home)
    before = tree_hash(home)
    with pytest.raises(SurefootError) as caught:
        load(path, **settings)
    assert isinstance(caught.value, error)
    assert re.search(message, str(caught.value), re.S), str(caught.value)
    assert tree_hash(home) == before
    assert not list((tmp_path / "cache").rglob("*.tmp"))


@pytest.mark.parametrize("name", [n for n, (*_, s) in CATALOGUE.items() if set(s) <= {"target", "label", "image_size"}])
def test_the_check_command_finds_it_too_without_a_traceback(name, tmp_path, capsys):
    make, _, error, settings = CATALOGUE[name]
    (tmp_path / "user").mkdir()
    path = make(tmp_path / "user")
    flags = [word for key, value in settings.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    code = run(["data", "check", str(path), *flags])
    output = capsys.readouterr()
    assert code == (1 if error is DataError else 2), output
    assert "Traceback" not in output.out + output.err


def test_all_problems_are_told_at_once_ten_in_full_and_the_rest_counted():
    x = numbers(40)
    x[:25, 0] = np.nan
    y = labels(40)
    y[39] = -1
    with pytest.raises(DataError) as caught:
        load((x, y))
    text = str(caught.value)
    assert "26 problems" in text
    assert all(f"row {i}: holds nan" in text for i in range(10))
    assert "and 16 more" in text


def test_a_million_faults_of_one_kind_are_named_a_hundred_times():
    x = np.full((1000, 2), np.nan, dtype=np.float32)
    with pytest.raises(DataError, match="101 problems"):
        load((x, labels(1000)))


CLEAN = {
    "grey": lambda root: [save(root / c / f"{i}.png", mode="L") for c in "ab" for i in range(3)],
    "colour": lambda root: pets(root),
    "parts": lambda root: pets(root, parts=("training", "valid", "testing")),
    "names": lambda root: pets(root, classes=("Katze ä", "犬", "50% [b]", "a b")),
    "deep": lambda root: [save(root / c / "x" / "y" / f"{i}.png") for c in "ab" for i in range(2)],
    "litter": lambda root: [pets(root), *((root / "cats" / n).write_bytes(b"x") for n in (".DS_Store", "Thumbs.db"))],
    "readme": lambda root: [pets(root), (root / "README.md").write_text("pets")],
    "formats": lambda root: [
        save(root / c / f"1.{suffix}") for c in "ab" for suffix in ("png", "jpg", "bmp", "webp", "tiff", "ppm", "gif")
    ],
    "one-pixel": lambda root: [save(root / c / f"{i}.png", size=(1, 1), seed=i) for c in "ab" for i in range(3)],
    "imbalanced": lambda root: [save(root / "a" / f"{i}.png") for i in range(30)] + [save(root / "b" / "1.png")],
}


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_folder_raises_no_alarm(name, tmp_path):
    (tmp_path / "user").mkdir()
    CLEAN[name](tmp_path / "user")
    before = tree_hash(tmp_path / "user")
    data = load(tmp_path / "user", validation=None if name == "parts" else 0)
    assert data.classes is not None
    assert len(data.classes) >= 2
    assert tree_hash(tmp_path / "user") == before


@pytest.mark.parametrize(
    "lines",
    [
        ["a,b,label", "1,2,cat", "3,4,dog"],
        ["1,2,0", "3,4,1"],
        ["1;2;0", "3;4;1"],
        ["1\t2\tx", "3\t4\ty"],
        ["a,label", "1e-3,-1", "2,1"],
        ["\ufeffa,label", "1,yes", "", "2,no"],
        ['"a","the label"', '"1","yes, really"', '"2","no"'],
        ["a,b,label", "1,2,1.0", "1,3,2"],
    ],
)
def test_a_clean_table_raises_no_alarm(lines, tmp_path):
    data = load(csv(tmp_path, *lines), validation=0)
    assert data.examples == 2
    assert data.outputs == 2


def test_unreadable_files_are_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("the superuser may read everything")
    path = pets(tmp_path) / "cats" / "1.png"
    path.chmod(0)
    with pytest.raises(DataError, match=r"cats/1\.png: may not be read"):
        load(tmp_path)


def test_the_bytes_of_a_mutated_image_are_decoded_or_named_never_a_crash(tmp_path):
    generator = np.random.default_rng(0)
    for suffix in ("png", "jpg", "gif", "bmp"):
        buffer = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
            buffer, {"jpg": "jpeg"}.get(suffix, suffix)
        )
        for mutant in range(15):
            content = bytearray(buffer.getvalue())
            for place in generator.integers(0, len(content), 3):
                content[place] = generator.integers(0, 256)
            path = tmp_path / "user" / ("a" if mutant % 2 else "b") / f"{mutant}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    with pytest.raises(DataError, match=r"[ab]/\d+\.(png|jpg|gif|bmp): "):  # with this seed some mutants are damaged
        load(tmp_path / "user", image_size=8)


def test_a_class_called_as_missing_values_are_is_pointed_at(tmp_path):
    lines = [f"{i},{name}" for i, name in enumerate(["none", "edge", "NA"] * 3)]
    problems = inspect(csv(tmp_path, "a,kind", *lines)).problems
    assert not problems.count
    assert [text.split()[0] for text in problems.warnings[:2]] == ["'NA'", "'none'"]


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array(["b", "a"] * 8, dtype=object), ("a", "b")),
        (np.array([[b"b"], [b"a"]] * 8), ("a", "b")),
        (np.array(["b", "\u00e9"] * 8, dtype=np.dtypes.StringDType()), ("b", "\u00e9")),
        (np.array([1, "a"] * 8, dtype=object), ("1", "a")),
        (np.array([True, False] * 8, dtype=object), ("0", "1")),
        (np.array([True, False] * 8), ("0", "1")),
        (np.array([1, 2, 3, 1] * 4), ("1", "2", "3")),
        (np.array([1.0, 2.0] * 8), ("1", "2")),
        (np.array([-1, 1] * 8), ("-1", "1")),
        (np.array([[-1.0], [1.0]] * 8), ("-1", "1")),
        (np.array([-1, 0, 1, 1] * 4), ("-1", "0", "1")),
        (np.array([2, 4] * 8, dtype=np.uint8), ("2", "4")),
    ],
    ids=str,
)
def test_labels_of_any_usual_type_are_classes(y, classes):
    data = load((numbers(16), y), validation=0)
    assert data.classes == classes
    assert [classes[i] for i in data.train.y] == [
        v.decode() if isinstance(v, bytes) else str(int(v)) if not isinstance(v, str) else v for v in y.ravel().tolist()
    ]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array(["a", None, "b"] * 4, dtype=object), "row 1: label is missing"),
        (np.array(["a", np.nan, "b"] * 4, dtype=object), "row 1: label is missing"),
        (np.array([0, 2**31 - 1] * 6), "row 1: label 2147483647 numbers one of 2147483648 classes, of 12 examples"),
        (np.array([0, 10**7] * 6, dtype=np.float32), "row 1: label 10000000 numbers"),
        (np.array([0] * 11 + [12]), "row 11: label 12 numbers one of 13 classes"),
        (np.array([b"\xff", b"a"] * 6), "y: holds bytes that are no UTF-8"),
        (np.array([{}, "a"] * 6, dtype=object), "y: has the type object"),
        (np.array([3, 4, 7] + [5] * 9), "class .* has no example"),
    ],
    ids=str,
)
def test_labels_that_cannot_be_classes_are_named_before_memory_fills(y, message):
    with pytest.raises(DataError, match=message):
        load((numbers(12), y))


def test_a_label_that_only_another_part_has_is_named():
    with pytest.raises(DataError, match="test row 0: label '0' is no class of the training part"):
        load({"train": (numbers(), labels() + 1), "test": (numbers(3), labels(3))})
