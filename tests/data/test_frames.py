"""Tables in memory are read as tables in files are: frames by one protocol, structured arrays, arrays with text."""

import numpy as np
import pyarrow as pa
import pytest

from surefoot.data.frames import is_frame
from surefoot.data.load import default_model, load
from surefoot.errors import DataError

N = 40
A = np.random.default_rng(0).normal(size=N)
C = np.array(["x", "y", "z"])[np.arange(N) % 3]
Y = np.arange(N) % 2


def arrow():
    return pa.table({"a": A, "c": C})


class Streamed:
    """A frame of some library that speaks Arrow's protocol, as Polars' does."""

    columns = ("a", "c")

    def __arrow_c_stream__(self, requested_schema=None):
        return arrow().__arrow_c_stream__(requested_schema)

    def to_numpy(self):
        raise AssertionError("its cells would be Python objects")


FORMS = {
    "arrow": arrow(),
    "streamed": Streamed(),
    "structured": np.array(list(zip(A.tolist(), C.tolist(), strict=True)), dtype=[("a", float), ("c", "U1")]),
    "categories": pa.table({"a": A, "c": pa.array(C).dictionary_encode()}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_data(form):
    data = load((FORMS[form], Y), validation=0)
    assert data.columns.names == ("a", "c = x", "c = y", "c = z")
    assert np.array_equal(data.train.x[:, 0].numpy(), A.astype(np.float32))
    assert data.fingerprint == load((arrow(), Y), validation=0).fingerprint
    assert default_model((FORMS[form], Y)) == "mlp"


def test_pandas_and_polars_are_read_where_they_are():
    for name in ("pandas", "polars"):
        library = pytest.importorskip(name)
        frame = library.DataFrame({"a": A, "c": C})
        assert load((frame, Y), validation=0).fingerprint == load((arrow(), Y), validation=0).fingerprint


@pytest.mark.parametrize(
    "rows", [lambda o: o, lambda o: o.tolist(), lambda o: o.astype(str)], ids=["object", "list", "text"]
)
def test_an_array_with_text_is_a_table_without_names(rows):
    objects = np.array([[a, c] for a, c in zip(A.tolist(), C.tolist(), strict=True)], dtype=object)
    data = load((rows(objects), Y), validation=0)
    assert data.features is None
    assert data.columns.names == ("column 1", "column 2 = x", "column 2 = y", "column 2 = z")


def test_an_array_of_numbers_is_no_table():
    for x in (np.zeros((3, 2)), np.zeros((3, 2)).astype(object), [[1.0, 2.0]], np.zeros((3, 8, 8), np.uint8)):
        assert not is_frame(x)


def test_parts_are_typed_together_and_matched_by_name():
    test = pa.table({"c": ["x", "new", None], "a": [1, 2, 3]})
    data = load({"train": (arrow(), Y), "test": (test, [0, 1, 0])}, validation=0)
    assert data.test.x.tolist() == [[1, 1, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0]]
    with pytest.raises(DataError, match="test: has no column 'c'"):
        load({"train": (arrow(), Y), "test": (test.drop(["c"]), [0, 1, 0])})


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pa.table([A, C], names=["a", "a"]), "has twice the column 'a'"),
        (pa.table({"a": [[1], [2]] * 20}), "column 'a' holds list"),
        (arrow().slice(0, 5), r"x has shape \(5, 2\), y \(40,\)"),
        (arrow().slice(0, 0), "0 rows"),
    ],
    ids=["twice", "lists", "short", "empty"],
)
def test_a_frame_that_is_no_table_is_refused(frame, message):
    with pytest.raises(DataError, match=message):
        load((frame, Y))


def test_a_sparse_matrix_is_its_dense_array_within_bounds():
    sparse = pytest.importorskip("scipy.sparse")
    x = sparse.random(N, 6, density=0.5, random_state=np.random.default_rng(0), format="csr")
    assert load((x, Y)).fingerprint == load((x.toarray(), Y)).fingerprint
    with pytest.raises(DataError, match="at most 4 GB"):
        load((sparse.csr_matrix((N, 10**9)), Y))
