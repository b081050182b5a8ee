"""Loading pinned segments from a real storage emulator: values, row numbers, versions."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from azure.storage.blob import ContainerClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.segments import PinnedSegment, SegmentCatalog
from shared.segments.reader import SegmentReader
from tests.integration.segments_support import (
    CI,
    entity,
    load,
    parquet,
    pin,
    put_export,
    put_model,
)


def test_a_positional_entity_is_loaded_from_all_partitions(container: ContainerClient, tmp_path: Path) -> None:
    container.upload_blob("m/1.csv", b'1,Ann,A,ann@a.example\n2,"B ""x"",\r\nb", B ,\n')
    container.upload_blob("m/2.csv", b"")
    container.upload_blob("m/3.csv", b'3,,"",c@a.example')
    put_model(container, "m/", entity("Vip", "1.csv", "2.csv", "3.csv"))
    assert load(container, pin(container, "Vip"), tmp_path, ["EMail", "firstname", "LastName"]) == [
        (3, 7, 1, "ann@a.example", "Ann", "A"),
        (3, 7, 2, None, 'B "x",\r\nb', " B "),
        (3, 9, 1, "c@a.example", None, None),
    ]


def test_files_with_header_lines_are_loaded_by_name(container: ContainerClient, tmp_path: Path) -> None:
    container.upload_blob("m/1.csv", b"FirstName;EMail;LastName;CustomerId\r\nAnn;ann@a.example;A;1\r\n")
    container.upload_blob("m/2.csv", b"EMAIL;FirstName\nbob@a.example;Bob\n")
    put_model(container, "m/", entity("Vip", "1.csv", "2.csv", columnHeaders=True, delimiter=";"))
    assert load(container, pin(container, "Vip"), tmp_path) == [
        (3, 7, 2, "ann@a.example", "Ann"),
        (3, 8, 2, "bob@a.example", "Bob"),
    ]


def test_a_column_may_be_asked_for_twice_or_not_at_all(container: ContainerClient, tmp_path: Path) -> None:
    put_export(container)
    assert load(container, pin(container, "Vip"), tmp_path, ["EMail", "EMail"]) == [
        (3, 7, 1, "ann@a.example", "ann@a.example")
    ]
    assert load(container, pin(container, "Vip"), tmp_path, []) == [(3, 7, 1)]


def test_segments_are_appended_to_one_table(container: ContainerClient, tmp_path: Path) -> None:
    container.upload_blob("a.csv", b"EMail\na@a.example\n")
    container.upload_blob("b.csv", b"EMail\nb@a.example\n")
    reader = SegmentReader(container)
    with duckdb.connect() as connection:
        for number, pinned in enumerate(SegmentCatalog(container).pin(["b", "a"])):
            reader.load(
                connection,
                'odd "name"',
                pinned,
                ["EMail"],
                segment_number=number,
                first_file_number=number,
                work_dir=tmp_path,
            )
        rows = connection.execute('SELECT * FROM "odd ""name""" ORDER BY segment').fetchall()
    assert rows == [(0, 0, 2, "b@a.example"), (1, 1, 2, "a@a.example")]


@pytest.mark.parametrize("encoding", [1252, "windows-1252", "utf-16", "UTF-8", 65001, "utf-16-be", 850])
def test_other_encodings_are_read(container: ContainerClient, tmp_path: Path, encoding: str | int) -> None:
    codec = (
        {1252: "cp1252", 65001: "utf-8", 850: "cp850"}.get(encoding, encoding)
        if isinstance(encoding, int)
        else encoding
    )
    container.upload_blob("m/1.csv", "1,Zoë Ümläut,x,z@a.example\r\n".encode(str(codec)))
    put_model(container, "m/", entity("Vip", "1.csv", encoding=encoding))
    assert load(container, pin(container, "Vip"), tmp_path) == [(3, 7, 1, "z@a.example", "Zoë Ümläut")]


def test_gzip_and_byte_order_marks_are_read(container: ContainerClient, tmp_path: Path) -> None:
    container.upload_blob("news/1.csv.gz", gzip.compress("\ufeffEMail,FirstName\na@a.example,Ann\n".encode()))
    container.upload_blob("news/2.csv", "\ufeffFirstName,EMail\nBob,b@a.example\n".encode("utf-16"))
    assert load(container, pin(container, "news"), tmp_path) == [
        (3, 7, 2, "a@a.example", "Ann"),
        (3, 8, 2, "b@a.example", "Bob"),
    ]


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ("EMail,N\r\na,1\r\n\r\nb,2\r\n", [(2, "a"), (4, "b")]),
        ("EMail,N\n\na,1\n\n\nb,2\n\n\n", [(3, "a"), (6, "b")]),
        ("EMail,N\r\na,1\nb,2\r\n", [(2, "a"), (3, "b")]),
        ("EMail,N\na,1\rb,2\r\n", [(2, "a"), (3, "b")]),
        ('"EMail","N\nx"\r\na,"1\n\n"\r\nb,2\r\n', [(2, "a"), (3, "b")]),
        ('EMail,N\na,"1\n\n1"\n\nb,2', [(2, "a"), (4, "b")]),
        ("EMail,N", []),
        ("EMail\na\n\nb\n", [(2, "a"), (3, None), (4, "b")]),
    ],
)
def test_rows_have_the_numbers_that_a_spreadsheet_shows(
    container: ContainerClient, tmp_path: Path, data: str, rows: list[tuple[int, str | None]]
) -> None:
    container.upload_blob("a.csv", data)
    assert [(row, value) for _, _, row, value in load(container, pin(container, "a"), tmp_path, ["EMail"])] == rows


def test_row_numbers_are_exact_over_many_chunks(container: ContainerClient, tmp_path: Path) -> None:
    count, lines = 60_000, "1,2\n" * 90
    container.upload_blob(
        "big.csv",
        "EMail,Note\n" + "".join(f'p{row}@a.example,"{lines[: row % 90 * 4]}"\n' for row in range(2, count + 2)),
    )
    pinned = pin(container, "big")
    assert pinned.files[0].size > 8 * 1024**2
    rows = load(container, pinned, tmp_path, ["EMail"])
    assert len(rows) == count
    assert all(value == f"p{row}@a.example" for _, _, row, value in rows)


def test_parquet_values_become_text(container: ContainerClient, tmp_path: Path) -> None:
    moment = datetime.fromisoformat("2020-01-02T03:04:05.250")
    container.upload_blob(
        "p/1.parquet",
        parquet(
            {
                "text": ["ä", "", None],
                "bytes": pa.array([b"x", b"", None], pa.binary()),
                "whole": [7, -1, None],
                "real": [42.0, 1e20, float("nan")],
                "small": pa.array([0.5, 1e-7, 1234567.0], pa.float64()),
                "yes": [True, False, None],
                "local": [moment, None, None],
                "moment": pa.array([moment, None, None], pa.timestamp("us", tz="Europe/Paris")),
                "day": [moment.date(), None, None],
            },
            row_group_size=2,
        ),
    )
    columns = ["text", "bytes", "whole", "real", "small", "yes", "local", "moment", "day"]
    assert load(container, pin(container, "p"), tmp_path, columns) == [
        (
            3,
            7,
            1,
            "ä",
            "x",
            "7",
            "42",
            "0.5",
            "true",
            "2020-01-02T03:04:05.25",
            "2020-01-02T03:04:05.25Z",
            "2020-01-02",
        ),
        (3, 7, 2, None, None, "-1", "100000000000000000000", "0.0000001", "false", None, None, None),
        (3, 7, 3, None, None, None, None, "1234567", None, None, None, None),
    ]


def test_a_snapshot_is_read_where_it_exists(container: ContainerClient, tmp_path: Path) -> None:
    container.upload_blob("m/1.csv", b"1,Old,A,a@a.example\n")
    snapshot = container.get_blob_client("m/1.csv").create_snapshot()["snapshot"]
    container.upload_blob("m/1.csv", b"1,New,A,a@a.example\n", overwrite=True)
    put_model(
        container,
        "m/",
        entity("Old", f"{container.url}/m/1.csv?snapshot={snapshot}"),
        entity("New", f"{container.url}/m/1.csv?snapshot=2018-11-14T19:37:51.7526830Z"),
    )
    assert load(container, pin(container, "Old"), tmp_path) == [(3, 7, 1, "a@a.example", "Old")]
    assert load(container, pin(container, "New"), tmp_path) == [(3, 7, 1, "a@a.example", "New")]


def test_a_pin_survives_json(container: ContainerClient, tmp_path: Path) -> None:
    put_export(container)
    pinned = pin(container, "Vip")
    text = pinned.model_dump_json(by_alias=True)
    read_back = PinnedSegment.model_validate_json(text)
    assert read_back == pinned
    document = json.loads(text)
    assert document["files"][0]["etag"].startswith('"')
    assert document["files"][0]["csv"] == {"hasHeader": False, "delimiter": ",", "quoted": True, "encoding": "utf-8"}
    assert document["model"]["name"] == f"{CI}model.json"
    assert load(container, read_back, tmp_path) == [(3, 7, 1, "ann@a.example", "Ann")]


VALUES = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            " a ",
            "\n",
            "\r\n",
            "\r",
            '"',
            '""',
            "a\n\nb",
            ",",
            ";",
            "||",
            "\t",
            "NULL",
            "é",
            "\ufeff",
            "\\",
            "'",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(1, 4))
    return draw(st.lists(st.lists(VALUES, min_size=width, max_size=width), min_size=1, max_size=8))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=tables(),
    delimiter=st.sampled_from([",", ";", "\t", "|", "||", "~;~", "§"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]),
    header=st.booleans(),
    quote_all=st.booleans(),
    final_line_end=st.booleans(),
)
def test_any_table_is_read_back_with_exact_row_numbers(
    container: ContainerClient,
    tmp_path: Path,
    table: list[list[str]],
    delimiter: str,
    line_end: str,
    encoding: str,
    header: bool,
    quote_all: bool,
    final_line_end: bool,
) -> None:
    def written(value: str) -> str:
        needs = delimiter in value or any(character in value for character in '"\r\n') or delimiter[0] in value
        # A value alone on its line, or with a space or a mark at its ends, is quoted by careful writers.
        needs = needs or not value or value != value.strip(" \ufeff")
        return '"' + value.replace('"', '""') + '"' if quote_all or needs else value

    attributes = [f"c{index}" for index in range(len(table[0]))]
    records = ([attributes] if header else []) + table
    text = line_end.join(delimiter.join(written(value) for value in record) for record in records)
    text += line_end if final_line_end else ""
    container.upload_blob("m/1.csv", text.encode(encoding), overwrite=True)
    declared = "utf-8" if encoding == "utf-8-sig" else encoding
    put_model(
        container,
        "m/",
        entity("T", "1.csv", attributes=attributes, columnHeaders=header, delimiter=delimiter, encoding=declared),
    )
    rows = load(container, pin(container, "T"), tmp_path, attributes)
    first = 2 if header else 1
    assert rows == [(3, 7, first + number, *(value or None for value in record)) for number, record in enumerate(table)]
