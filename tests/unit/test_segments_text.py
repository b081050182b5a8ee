"""Bytes to text: encodings, gzip, blank lines, the careful CSV reader, quoting for SQL."""

from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.segments import CsvFormat, SourceUnreadable
from shared.segments.columns import ColumnCheck, header_names, positions
from shared.segments.csv_rows import MAX_LINE, CsvHead, read_head, rewrite, text_of
from shared.segments.download import _BlankLineWatch, unpack
from shared.segments.encodings import codec_name, to_utf8
from shared.segments.sql import quote_identifier, quote_literal


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "iso8859-15"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_every_encoding_becomes_utf_8_however_the_bytes_arrive(encoding: str, size: int) -> None:
    text = "Zoë,€ 5\r\nMüller,ß\n"
    assert b"".join(to_utf8(pieces(text.encode(encoding), size), encoding)) == text.encode()


@pytest.mark.parametrize("marked", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("declared", ["utf-8", "cp1252"])
def test_a_byte_order_mark_wins_and_is_dropped(marked: str, declared: str) -> None:
    assert b"".join(to_utf8(pieces("é,b".encode(marked), 1), declared)) == "é,b".encode()


def test_a_mark_is_dropped_where_the_encoding_is_declared_without_one() -> None:
    assert b"".join(to_utf8(["\ufeffab".encode("utf-16-le")], "utf-16-le")) == b"ab"


@pytest.mark.parametrize(
    ("data", "encoding"), [(b"a\x81b", "cp1252"), (b"a\0\0\xd8b\0", "utf-16-le"), (b"\xe9", "ascii")]
)
def test_invalid_text_stays_invalid(data: bytes, encoding: str) -> None:
    with pytest.raises(UnicodeDecodeError):
        b"".join(to_utf8([data], encoding)).decode()


def test_unknown_encodings_are_told() -> None:
    assert [codec_name(one) for one in ("zip", "rot13", "unicode_escape", "", "utf-7x", 0, "9" * 5000, "\ud800")] == [
        None
    ] * 8


def test_gzip_is_unpacked_across_members_and_padding() -> None:
    data = gzip.compress(b"a,b\n") + gzip.compress(b"1,2\n") + b"\0\0\0"
    for size in (1, 7, 1000):
        assert b"".join(unpack(pieces(data, size), "x.csv.gz")) == b"a,b\n1,2\n"


@pytest.mark.parametrize("cut", [1, 4, 8, 12, 20])
def test_a_cut_off_gzip_file_is_unreadable(cut: int) -> None:
    data = gzip.compress(b"a,b\n1,2\n" * 10)
    with pytest.raises(SourceUnreadable, match=r"x\.csv\.gz"):
        list(unpack([data[:-cut]], "x.csv.gz"))


def test_a_damaged_gzip_file_is_unreadable() -> None:
    data = bytearray(gzip.compress(b"a,b\n1,2\n" * 10))
    data[-6] ^= 0xFF  # in the checksum
    with pytest.raises(SourceUnreadable, match="damaged"):
        list(unpack([bytes(data)], "x.csv.gz"))
    with pytest.raises(SourceUnreadable, match="not a gzip file"):
        list(unpack([b"a,b\n1,2\n"], "x.csv.gz"))


def test_gzip_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.segments.download.MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(SourceUnreadable, match="unpacks to more"):
        list(unpack([gzip.compress(b"x" * 1_000_000)], "x.csv.gz"))


@pytest.mark.parametrize(
    "text", ["a\n\nb", "a\r\n\r\nb", "a\r\rb", "\na", "a\n\n\n\n\n\nb", "a\n\n\n\n\n\n\n\nb\n", "a\n\r\nb"]
)
def test_blank_lines_are_noticed_however_the_bytes_arrive(text: str) -> None:
    for size in range(1, 12):
        watch = _BlankLineWatch()
        assert b"".join(watch.over(pieces(text.encode(), size))) == text.encode()
        assert watch.found, size


@pytest.mark.parametrize(
    "text", ["a\nb\nc", "a\nb\n\n\n\n\n\n", "a\r\nb\r\n\r\n", "a\rb\r", "", "\n\n\n\n\n\n", "a\nb\rc\r\nd"]
)
def test_blank_lines_at_the_end_do_not_count(text: str) -> None:
    for size in range(1, 12):
        watch = _BlankLineWatch()
        list(watch.over(pieces(text.encode(), size)))
        assert not watch.found, size


def head(text: str, csv_format: CsvFormat | None = None) -> CsvHead:
    return read_head(text_of(text.encode()), "x.csv", csv_format or CsvFormat())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\r\n1,2", CsvHead(("a", "b"), ",", "\r\n")),
        ("a;b;c,d\n", CsvHead(("a", "b", "c,d"), ";", "\n")),
        ("a\tb\r1", CsvHead(("a", "b"), "\t", "\r")),
        ("a|b", CsvHead(("a", "b"), "|", "")),
        ('"a;;;""",b\n', CsvHead(('a;;;"', "b"), ",", "\n")),
        ("email\n", CsvHead(("email",), ",", "\n")),
        ("\na,b\n", CsvHead((), ",", "\n")),
        ("", CsvHead(None, ",", "")),
    ],
)
def test_the_head_tells_columns_delimiter_and_line_end(text: str, expected: CsvHead) -> None:
    assert head(text) == expected


@pytest.mark.parametrize("text", ["", "\n1,2\n", ",,\n", "jane@contoso.example,Jane\nbob@contoso.example,Bob\n"])
def test_what_cannot_be_a_header_line_is_refused_without_its_contents(text: str) -> None:
    with pytest.raises(SourceUnreadable) as unreadable:
        header_names(head(text), "x.csv")
    assert "header line" in unreadable.value.message
    assert "jane" not in unreadable.value.message


def test_a_header_without_end_is_refused() -> None:
    with pytest.raises(SourceUnreadable, match="Row 1"):
        head('a,"b\n' + "x" * 100)
    with pytest.raises(SourceUnreadable, match="longer than"):
        head("a" * (MAX_LINE + 1))


def copy_rows(tmp_path: Path, data: bytes, csv_format: CsvFormat, width: int, wanted: list[int]) -> str:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(data)
    first = CsvHead(("",), csv_format.delimiter or ",", "\n")
    rewrite(source, target, "x.csv", csv_format, first, width, wanted, lambda: None)
    return target.read_text()


HEADERLESS = CsvFormat(has_header=False, delimiter=",")


def test_the_careful_reader_numbers_blank_lines_and_mixed_line_ends(tmp_path: Path) -> None:
    data = b"1,2\r\n\n3,4\n\r\n5,6\r7,8,,"
    assert copy_rows(tmp_path, data, HEADERLESS, 2, [1]) == '"1","2"\n"3","4"\n"5","6"\n"6","8"\n'


def test_the_careful_reader_takes_delimiters_of_several_characters(tmp_path: Path) -> None:
    data = b'1||"2||""x"||3|4\n'
    copied = copy_rows(tmp_path, data, HEADERLESS.model_copy(update={"delimiter": "||"}), 3, [0, 1, 2])
    assert copied == '"1","1","2||""x","3|4"\n'


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (b"4", "1 values"),
        (b"4,5,6", "3 values"),
        (b'4,"5', "not closed"),
        (b'4,"5"x', "other text"),
        (b"4,\xff", "not valid"),
        (b"4," + b"x" * (MAX_LINE + 1), "longer than"),
        (b'4,"' + b"xxxxxxxxx\n" * (MAX_LINE // 9), "too long"),
    ],
)
def test_the_careful_reader_names_the_row_and_not_its_contents(tmp_path: Path, bad: bytes, says: str) -> None:
    with pytest.raises(SourceUnreadable) as unreadable:
        copy_rows(tmp_path, b'1,"2\n2"\n\n3,3\n' + bad + b"\n9,9\n", HEADERLESS, 2, [0, 1])
    assert unreadable.value.row == 4
    assert says in unreadable.value.message
    assert "xxx" not in unreadable.value.message


def test_columns_are_found_by_name_then_without_case() -> None:
    assert positions(["email", "EMAIL", "b"], ("Email", "email", "EMAIL", "B"), "x.csv") == (1, 2, 3)
    with pytest.raises(SourceUnreadable, match=r"'x\.csv' has no column 'city'"):
        positions(["city"], ("Email",), "x.csv")
    with pytest.raises(SourceUnreadable, match="2 times"):
        positions(["EMAIL"], ("Email", "email"), "x.csv")
    with pytest.raises(SourceUnreadable, match="2 times"):
        positions(["a"], ("a", "a"), "x.csv")


def test_files_of_one_folder_must_have_the_same_columns_in_any_order() -> None:
    check = ColumnCheck()
    check.names(("a", "b"), "1.csv")
    check.names(("B", "A"), "2.csv")
    with pytest.raises(SourceUnreadable) as unreadable:
        check.names(("a", "personal"), "3.csv")
    assert "3.csv" in unreadable.value.message
    assert "1.csv" in unreadable.value.message
    assert "personal" not in unreadable.value.message


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_quoted_text_is_only_text_to_sql(text: str) -> None:
    with duckdb.connect() as connection:
        row = connection.execute(f"SELECT {quote_literal(text)} AS {quote_identifier(text)}").fetchone()
        assert row == (text,)
