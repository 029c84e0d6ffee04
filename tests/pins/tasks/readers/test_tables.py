"""The readers: what they read, and one line for each thing that is wrong with a file."""

import csv
import gzip
import hashlib
import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pins.errors import TaskError
from pins.tasks.readers.tables import (
    Row,
    file_digests,
    read_csv,
    read_json,
    read_lines,
    read_text,
    read_tsv,
    rows_digest,
)

BOM = b"\xef\xbb\xbf"
COLUMNS = ("text", "label")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.tsv"


def one_line(file: Path, rest: str) -> str:
    """A pattern for a whole message of one line about a file."""
    return rf"\A{re.escape(str(file))}{rest}\Z"


def written(file: Path, content: str | bytes) -> Path:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def values(file: Path) -> list[tuple[str, ...]]:
    return [tuple(row.values.values()) for row in read_tsv(file, COLUMNS).rows]


# characters that end no line and separate no field
cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\t\n\r\ufeff"), max_size=8)


@given(st.lists(st.tuples(cells, cells, cells), min_size=1), st.sampled_from(["\n", "\r\n"]))
def test_a_tsv_is_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], end: str
) -> None:
    file = tmp_path_factory.mktemp("tsv") / "file.tsv"
    lines = ["id\tlabel\ttext", *("\t".join(row) for row in rows)]
    written(file, end.join(lines) + end)
    assert values(file) == [(text, label) for _, label, text in rows]
    written(file, BOM + end.join(lines).encode())  # a mark before, no line end after
    assert values(file) == [(text, label) for _, label, text in rows]


def test_a_quotation_mark_in_a_tsv_is_a_character(file: Path) -> None:
    content = 'text\tlabel\n"open\t0\n"a" b\t1\n'
    assert values(written(file, content)) == [('"open', "0"), ('"a" b', "1")]
    # what a reader that knows quotes would make of it
    assert len(list(csv.reader(io.StringIO(content), delimiter="\t"))) == 2


def test_line_breaks_of_other_kinds_are_characters(file: Path) -> None:
    content = "text\tlabel\na\u2028b\x85c\x0bd\re\t0\n"
    assert values(written(file, content)) == [("a\u2028b\x85c\x0bd\re", "0")]
    assert len(content.splitlines()) == 6


def test_a_file_without_a_header_begins_with_a_row(file: Path) -> None:
    table = read_tsv(written(file, "x\t1\ny\t0\n"), ("label",), header=COLUMNS)
    assert [row.values for row in table.rows] == [{"label": "1"}, {"label": "0"}]
    assert table.rows[0].where == f"{file}, line 1"


def test_blank_lines_are_no_rows_but_count_as_lines(file: Path) -> None:
    table = read_tsv(written(file, "text\tlabel\n\nx\t1\n\n\n"), COLUMNS)
    assert [row.where for row in table.rows] == [f"{file}, line 3"]


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        ("", r" is empty: give the original file, whole"),
        ("text\tlabel\n", r" has a header and no rows: give the original file, whole"),
        ("text\nx\n", r", line 1: expected one column 'label', came 'text': give .*whole"),
        ("text\tlabel\tlabel\nx\t1\t1\n", r", line 1: expected one column 'label', came 'text, .*"),
        ("text\tlabel\nx\t1\ny\n", r", line 3: expected 2 fields, came 1: give .*whole"),
        ("text\tlabel\nx\t1\t2\ny\t1\n", r", line 2: expected 2 fields, came 3: give .*whole"),
        (b"text\tlabel\nx\t1\n\xff\t0\n", r", line 3: expected UTF-8, came the byte 0xff: give .*"),
        (
            "text\tlabel\nx\0\t1\n",
            r", line 2: expected text, came a NUL \(a byte 0\): give .*",
        ),
    ],
)
def test_a_defect_of_a_tsv_is_one_line(file: Path, content: str | bytes, rest: str) -> None:
    with pytest.raises(TaskError, match=one_line(file, rest)):
        read_tsv(written(file, content), COLUMNS)


def test_a_character_cut_in_two_at_the_end_is_found(file: Path) -> None:
    with pytest.raises(TaskError, match=one_line(file, r", line 2: expected UTF-8, came .*")):
        list(read_lines(written(file, "a\nbé".encode()[:-1])))


@pytest.mark.parametrize("read", [read_text, read_json])
def test_a_missing_file_and_a_folder_are_no_files(tmp_path: Path, read: type) -> None:
    for path, reason in [
        (tmp_path / "none", r" cannot be read \(No such file or directory\): give the folder .*"),
        (tmp_path, r" is a folder, not a file: give the folder .*"),
    ]:
        with pytest.raises(TaskError, match=one_line(path, reason)):
            read(path)


def torn_file(file: Path, rows: int, torn: list[int]) -> Path:
    lines = ["alone" if number in torn else f"{number}\t1" for number in range(2, rows + 2)]
    return written(file, "\n".join(["text\tlabel", *lines]))


def test_torn_rows_are_left_out_and_listed_where_so_few_are_tolerated(file: Path) -> None:
    table = read_tsv(torn_file(file, 2000, [5, 900]), COLUMNS, torn_per_thousand=1)
    assert table.left_out == (5, 900)
    assert len(table.rows) == 1998
    assert table.rows[3].where == f"{file}, line 6"
    with pytest.raises(TaskError, match=r"line 5: expected 2 fields, came 1"):
        read_tsv(file, COLUMNS)


@pytest.mark.parametrize(("rows", "torn", "line"), [(1999, [5, 900], 5), (9000, [9, 9001], 9001)])
def test_one_torn_row_too_many_or_at_the_end_is_an_error(
    file: Path, rows: int, torn: list[int], line: int
) -> None:
    with pytest.raises(TaskError, match=rf"line {line}: expected 2 fields, came 1"):
        read_tsv(torn_file(file, rows, torn), COLUMNS, torn_per_thousand=1)


csv_cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00\ufeff"), max_size=8)


@given(st.lists(st.tuples(csv_cells, csv_cells), min_size=1))
def test_a_csv_is_read_as_the_standard_library_writes_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    file = tmp_path_factory.mktemp("csv") / "file.csv"
    assume(all(any(row) for row in rows))
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("label", "text"), *rows])
    table = read_csv(written(file, BOM + text.getvalue().encode()), COLUMNS)
    assert [(row.values["label"], row.values["text"]) for row in table.rows] == rows


def test_a_row_of_a_csv_stands_where_it_begins(file: Path) -> None:
    content = 'text,label\n"two\nlines, ""quoted""",1\n\nx,0\n'
    rows = read_csv(written(file, content), COLUMNS).rows
    assert [row.where for row in rows] == [f"{file}, line 2", f"{file}, line 5"]
    assert rows[0].values == {"text": 'two\nlines, "quoted"', "label": "1"}


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        ("", r" is empty: .*"),
        ("text\n", r", line 1: expected one column 'label', came 'text': .*"),
        ('text,label\n"a\nb",0\n"never\nclosed,1\n', r", line 4: expected a row of a CSV file, .*"),
        ('text,label\n"a"b,0\n', r", line 2: expected a row of a CSV file, .*"),
        ("text,label\na,0\nb", r", line 3: expected 2 fields, came 1: .*"),
    ],
)
def test_a_defect_of_a_csv_is_one_line(file: Path, content: str, rest: str) -> None:
    with pytest.raises(TaskError, match=one_line(file, rest)):
        read_csv(written(file, content), COLUMNS)


@given(
    st.recursive(st.text() | st.booleans(), lambda v: st.lists(v) | st.dictionaries(st.text(), v))
)
def test_json_is_read_as_written(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    file = tmp_path_factory.mktemp("json") / "file.json"
    assert read_json(written(file, BOM + json.dumps(value, indent=1).encode())) == value


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        ('{"a":\n [1,', r", line 3: expected JSON \(.*\), came 'the end of the file': .*"),
        ('{"a": 1,\n b}', r", line 2: expected JSON \(.*\), came 'b}': .*"),
        ("[" * 100_000, r" is no JSON: brackets are nested too deep"),
        ("9" * 5000, r" is no JSON: Exceeds the limit .*"),
    ],
)
def test_a_defect_of_json_is_one_line(file: Path, content: str, rest: str) -> None:
    with pytest.raises(TaskError, match=one_line(file, rest)):
        read_json(written(file, content))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (gzip.compress(b"{}", mtime=0), "compressed by gzip: unpack it"),
        ("{}".encode("utf-16"), "UTF-16: save it as UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer: run git lfs pull"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(
    file: Path, content: bytes, kind: str
) -> None:
    for read in (read_json, read_text):
        with pytest.raises(TaskError, match=one_line(file, f" is {kind}: give the folder .*")):
            read(written(file, content))


def test_half_a_character_is_no_text() -> None:
    with pytest.raises(TaskError, match=r"expected a text as text, came '\\ud800'"):
        Row("f, line 2", {"text": "\ud800"}).text("text")


def test_a_text_has_lines_ended_alike(file: Path) -> None:
    assert read_text(written(file, BOM + b" a\r\n\n b \n c")) == " a\n\n b \n c\n"


def test_a_row_gives_texts_choices_and_numbers() -> None:
    row = Row(
        "f, line 2", {"text": "", "label": "yes", "score": "4.75", "float": 5.0, "none": None}
    )
    assert row.text("text") == ""
    assert row.choice("label", ("no", "yes")) == 1
    assert row.number("score", 0, 5) == 4.75
    assert row.number("float", 0, 5) == 5.0
    for missing in ("none", "elsewhere"):
        with pytest.raises(
            TaskError, match=rf"\Af, line 2: expected a text as {missing}, came None"
        ):
            row.text(missing)
        with pytest.raises(TaskError, match=rf"expected no or yes as {missing}, came None: give"):
            row.choice(missing, ("no", "yes"))
        with pytest.raises(TaskError, match=rf"a number from 0 to 5 as {missing}, came None: give"):
            row.number(missing, 0, 5)


@pytest.mark.parametrize("score", ["5.001", "-0.1", "nan", "inf", "", "four"])
def test_a_number_out_of_its_range_is_none(score: str) -> None:
    with pytest.raises(TaskError, match=rf"a number from 0 to 5 as score, came '{score}': give"):
        Row("f, line 2", {"score": score}).number("score", 0, 5)


def test_a_message_stays_short_and_on_its_line() -> None:
    with pytest.raises(TaskError) as caught:
        Row("f, line 2", {"label": "a\nb" * 10_000}).choice("label", ("no", "yes"))
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_digests_are_those_of_the_bytes_and_of_the_rows(tmp_path: Path) -> None:
    paths = [written(tmp_path / name, name) for name in ("a", "b")]
    assert file_digests(paths) == {n: hashlib.sha256(n.encode()).hexdigest() for n in ("a", "b")}
    assert rows_digest(["a", 1]) == hashlib.sha256(b"'a'\n1\n").hexdigest()
    assert rows_digest(["a", 1]) != rows_digest([1, "a"])
    assert rows_digest(["\ud800"])  # half a character, as JSON may have
