"""Where the names, rows and lines of a file are, however it was written."""

import gzip

import pytest

from surefoot.data.load import load
from surefoot.errors import DataError


def table(tmp_path, text, name="t.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    return tmp_path / name


def rows(count, *ends):
    return "".join(f"{i},{i / 2},{i % 3},{ends[i % len(ends)]}\n" for i in range(10, 10 + count))


def test_rows_are_named_by_their_line(tmp_path):
    data = load(table(tmp_path, 'a,y\n1,0\n\n2,"1"\n3,0\n'), validation=0)
    assert [data.train.name_of(i) for i in range(3)] == ["row 2", "row 4", "row 5"]


def test_a_mark_at_the_end_of_each_row_and_names_of_rows_without_a_header_are_no_label(tmp_path):
    wanted = load(table(tmp_path, "a,b,y\n1,2,p\n3,5,q\n"), validation=0)
    for text in (
        "a,b,y,\n1,2,p,\n3,5,q,\n", "a,b,y\n1,2,p,\n3,5,q,\n", 'a,b,y\n"1",1,2,p\n"2",3,5,q\n',
        "a;b;y;\r1;2;p;\r3;5;q;\r",
    ):  # fmt: skip
        data = load(table(tmp_path, text), validation=0)
        assert (data.classes, data.train.x.tolist()) == (wanted.classes, wanted.train.x.tolist()), text


def test_a_table_may_be_utf_16_and_its_lines_end_in_any_way(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            (tmp_path / "t.csv").write_bytes(end.join(["ä,y", "1,p", "", "2,q", ""]).encode(encoding))
            data = load(tmp_path / "t.csv", validation=0)
            assert (data.features, [data.train.name_of(i) for i in (0, 1)]) == (("ä",), ["row 2", "row 4"])


def test_rows_with_quoted_line_breaks_are_named_by_the_line_on_which_they_end(tmp_path):
    data = load(table(tmp_path, 'a,note,y\n1,"x\ny",p\n\n2,z,q\n3,"x\ny",p\n'), validation=0)
    assert [data.train.name_of(i) for i in range(3)] == ["row 3", "row 5", "row 7"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('"h, cm";"w, kg";kind\n1.5;2;x\n2;3;y\n', "kind"),
        ('"h; cm","w; kg","a ""kind"", named"\n1.5,2,x\n2,3,y\n', 'a "kind", named'),
        ('"h\ncm"\t"w, kg"\tkind\n1.5\t2\tx\n2\t3\ty\n', "kind"),
        ("h, cm;w, kg;kind\n1.5;2;x\n2;3;y\n", "kind"),
        ("\nh;w;kind\n1.5;2;x\n2;3;y\n", "kind"),
        ('a,b,kind\n1.5,2,"x; y; z"\n2,3,"x; y"\n', "kind"),
    ],
)
def test_the_separator_is_not_one_within_quotes(text, label, tmp_path):
    data = load(table(tmp_path, text), label=label, validation=0)
    assert data.train.x.tolist() == [[1.5, 2], [2, 3]]
    assert data.outputs == 2


@pytest.mark.parametrize("damage", [lambda b: b[:-12], lambda b: b"a,b\n1,2\n", lambda b: b[:20] + bytes(9) + b[29:]])
def test_a_damaged_archive_is_named(damage, tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(damage(gzip.compress(rows(50, 0, 1).encode())))
    with pytest.raises(DataError, match=r"t\.csv\.gz: .*(whole|UTF-8|table)"):
        load(tmp_path / "t.csv.gz")
