"""Segments in a real storage emulator: finding, describing, pinning and loading them."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from azure.core.exceptions import ServiceRequestError
from azure.storage.blob import BlobServiceClient, ContainerClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.segments import (
    ContainerMissing,
    LocationRefused,
    ModelInvalid,
    PinnedSegment,
    SegmentCatalog,
    SegmentError,
    SegmentNotExportable,
    SegmentNotFound,
    SegmentReader,
    SegmentSummary,
    SourceChanged,
    SourceMissing,
    SourceUnreadable,
    SuggestedMatching,
)
from tests.support import StorageAccount

CI = "CustomerInsights_abcd1234/BlobExport/"
ATTRIBUTES = ("CustomerId", "FirstName", "LastName", "EMail")
COLUMNS = ("EMail", "FirstName")
Row = tuple[int, int, int, str | None, str | None]


@pytest.fixture
def container(storage_account: StorageAccount) -> Iterator[ContainerClient]:
    with BlobServiceClient.from_connection_string(storage_account.connection_string) as service:
        yield service.create_container("segments")


def entity(
    name: str,
    *locations: str,
    attributes: Sequence[str] = ATTRIBUTES,
    refreshed: str | None = None,
    **csv_settings: Any,
) -> dict[str, Any]:
    return {
        "$type": "LocalEntity",
        "name": name,
        "attributes": [{"name": attribute, "dataType": "string"} for attribute in attributes],
        "partitions": [
            {
                "name": str(number),
                "location": location,
                "refreshTime": refreshed,
                "fileFormatSettings": {"$type": "CsvFormatSettings", **csv_settings},
            }
            for number, location in enumerate(locations)
        ],
    }


def put_model(container: ContainerClient, folder: str, *entities: Mapping[str, Any]) -> None:
    model = {"name": "Model", "version": "1.0", "entities": entities}
    container.upload_blob(f"{folder}model.json", json.dumps(model), overwrite=True)


def put_export(
    container: ContainerClient, name: str = "Vip", folder: str = CI, rows: str = "1,Ann,A,ann@a.example\n"
) -> str:
    """A segment in the layout of Customer Insights; returns the name of its one file."""
    file = f"{folder}{name}/2020/08/24/1433/{name}_1.csv"
    container.upload_blob(file, rows, overwrite=True)
    put_model(container, folder, entity(name, f"{container.url}/{file}"))
    return file


def load(
    container: ContainerClient, pinned: PinnedSegment, work_dir: Path, columns: Sequence[str] = COLUMNS
) -> list[tuple[Any, ...]]:
    """The rows of the loaded table, in its order. The work folder must be empty afterwards."""
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = '256MB'; SET threads = 2")
        try:
            loaded = SegmentReader(container).load(
                connection, "source", pinned, columns, segment_number=3, first_file_number=7, work_dir=work_dir
            )
        finally:
            assert list(work_dir.iterdir()) == []
        rows = connection.execute("SELECT * FROM source ORDER BY file, row").fetchall()
    assert loaded.rows == len(rows) == sum(file.rows for file in loaded.files)
    return rows


def pin(container: ContainerClient, name: str) -> PinnedSegment:
    return SegmentCatalog(container).pin([name])[0]


def names(container: ContainerClient, prefix: str = "") -> list[str]:
    return [summary.name for summary in SegmentCatalog(container, prefix).list()]


def only(container: ContainerClient) -> SegmentSummary:
    (summary,) = SegmentCatalog(container).list()
    return summary


# Finding


def test_an_empty_container_has_no_segments_and_a_missing_one_is_told(container: ContainerClient) -> None:
    assert SegmentCatalog(container).list() == []
    container.delete_container()
    with pytest.raises(ContainerMissing, match="no container 'segments'"):
        SegmentCatalog(container).list()


def test_a_customer_insights_export_is_listed_with_files_size_and_time(container: ContainerClient) -> None:
    files = [f"{CI}Vip/2020/08/24/1433/Vip_{number}.csv" for number in (1, 2)]
    for file in files:
        container.upload_blob(file, b"1,Ann,A,a@a.example\n")
    container.upload_blob(f"{CI}Vip/2020/08/23/1433/Vip_1.csv", b"an older one")
    locations = [f"https://devstoreaccount1.blob.core.windows.net/segments/{file}" for file in files]
    account = container.account_name or ""
    locations = [location.replace("devstoreaccount1", account) for location in locations]
    put_model(container, CI, entity("Vip", *locations, refreshed="2020-08-24T14:33:00.1234567Z"))
    assert SegmentCatalog(container).list() == [
        SegmentSummary(
            name="Vip",
            kind="commonDataModel",
            exportable=True,
            reason=None,
            refreshed_at=datetime(2020, 8, 24, 14, 33, 0, 123456, tzinfo=UTC),
            files=2,
            size_bytes=40,
        )
    ]
    detail = SegmentCatalog(container).describe("Vip")
    assert [field.name for field in detail.fields] == list(ATTRIBUTES)
    assert [file.name for file in detail.files] == files
    assert detail.suggested_matching == SuggestedMatching("EMail", "FirstName", "LastName")


def test_plain_files_and_folders_are_segments_and_the_rest_is_not(container: ContainerClient) -> None:
    put_export(container)
    for name in (
        f"{CI}Other/2020/01/01/0000/Other_1.csv",
        f"{CI}beside.csv",
        "Loose.csv",
        "news/part-1.csv",
        "news/part-2.csv.gz",
        "news/_SUCCESS",
        "news/notes.txt",
        "news/deep/a.parquet",
        "spark.csv/part-0.csv",
        "lake/_delta_log/1.parquet",
        "lake/.hidden.csv",
        "Zipped.CSV.GZ",
    ):
        container.upload_blob(name, b"x")
    container.upload_blob("spark.csv", b"", metadata={"hdi_isfolder": "true"})
    assert names(container) == ["Loose", "Vip", "Zipped", "news", "news/deep", "spark"]


def test_only_what_is_under_the_prefix_is_listed(container: ContainerClient) -> None:
    put_export(container)
    container.upload_blob("team/a/x.csv", b"x")
    container.upload_blob("team2/y.csv", b"x")
    assert names(container, "team") == ["a"]
    assert names(container, "/team/") == ["a"]
    assert names(container, CI) == ["Vip"]


def test_plain_folders_can_stand_beside_a_model_at_the_root(container: ContainerClient) -> None:
    put_export(container, folder="")
    container.upload_blob("Vip/2019/01/01/0000/Vip_1.csv", b"older")
    container.upload_blob("leftover.csv", b"beside the model")
    container.upload_blob("news/a.csv", b"EMail\n")
    assert names(container) == ["Vip", "news"]


def test_the_newest_of_equal_names_has_the_short_name_and_all_have_full_names(container: ContainerClient) -> None:
    for folder, day in (("a/", "01"), ("b/", "03"), ("c/", "02")):
        file = f"{folder}data.csv"
        container.upload_blob(file, f"1,{day},A,x@a.example\n")
        put_model(container, folder, entity("Vip", f"{container.url}/{file}", refreshed=f"2020-08-{day}T00:00:00Z"))
    put_model(container, "d/", {"$type": "ReferenceEntity", "name": "Vip", "source": "Vip", "modelId": "x/y"})
    assert names(container) == ["Vip", "a/Vip", "c/Vip", "d/Vip"]
    assert pin(container, "Vip").files[0].name == "b/data.csv"
    assert pin(container, "b/Vip").files[0].name == "b/data.csv"
    assert pin(container, "a/Vip").files[0].name == "a/data.csv"


def test_one_broken_model_does_not_hide_the_others(container: ContainerClient) -> None:
    put_export(container)
    container.upload_blob("broken/model.json", b"{")
    container.upload_blob("broken/Vip/1.csv", b"x")
    put_model(container, "mixed/", entity("Fine", "fine.csv"), entity("Bad", "bad.csv", delimiter=""))
    container.upload_blob("mixed/fine.csv", b"1,2,3,4\n")
    found = {summary.name: summary for summary in SegmentCatalog(container).list()}
    assert {name: one.exportable for name, one in found.items()} == {
        "Vip": True,
        "broken/model.json": False,
        "Fine": True,
        "Bad": False,
    }
    assert "'broken/model.json': is not valid JSON (line 1" in str(found["broken/model.json"].reason)
    assert "fileFormatSettings.delimiter" in str(found["Bad"].reason)
    with pytest.raises(ModelInvalid):
        pin(container, "broken/model.json")


@pytest.mark.parametrize(
    ("made", "error", "says"),
    [
        ({"$type": "ReferenceEntity", "name": "Vip", "source": "Vip", "modelId": "a"}, ModelInvalid, "another model"),
        (entity("Vip"), ModelInvalid, "no rows"),
        (entity("Vip", "gone.csv"), SourceMissing, "'m/gone.csv' is missing"),
        (entity("Vip", "model.json", "model.json"), ModelInvalid, "named twice"),
        (entity("Vip", "../other.csv"), LocationRefused, "partitions[0].location"),
        (entity("Vip", "https://x.blob.core.windows.net/segments/a.csv"), LocationRefused, "outside"),
    ],
)
def test_what_cannot_be_exported_is_listed_with_the_reason_and_not_pinned(
    container: ContainerClient, made: dict[str, Any], error: type[SegmentError], says: str
) -> None:
    put_model(container, "m/", made)
    summary = only(container)
    assert (summary.name, summary.exportable) == ("Vip", False)
    assert says in str(summary.reason)
    assert SegmentCatalog(container).describe("Vip").summary == summary
    with pytest.raises(error):
        pin(container, "Vip")


def test_an_unknown_name_is_told(container: ContainerClient) -> None:
    with pytest.raises(SegmentNotFound, match="'Nobody'"):
        SegmentCatalog(container).describe("Nobody")
    with pytest.raises(SegmentNotFound, match="'Nobody'"):
        pin(container, "Nobody")


def test_csv_and_parquet_in_one_folder_are_not_exportable(container: ContainerClient) -> None:
    container.upload_blob("mix/a.csv", b"EMail\n")
    container.upload_blob("mix/b.parquet", b"x")
    assert "'mix/a.csv' and 'mix/b.parquet'" in str(only(container).reason)
    with pytest.raises(SegmentNotExportable):
        pin(container, "mix")


def test_an_empty_plain_file_is_not_exportable(container: ContainerClient) -> None:
    container.upload_blob("empty/a.csv", b"")
    assert "'empty/a.csv': is empty" in str(only(container).reason)


def test_a_model_that_is_absurdly_large_is_told_without_being_read(
    container: ContainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.segments.model_json.MAX_MODEL_BYTES", 1024**2)
    container.upload_blob("m/model.json", b" " * (1024**2 + 1))
    assert "more than 1 MB" in str(only(container).reason)


# Describing


def test_plain_csv_is_described_by_its_header_line(container: ContainerClient) -> None:
    container.upload_blob("a.csv", '\ufeffCustomerId; E-Mail ;"Given\nName";Surname\r\n1;a;b;c\r\n'.encode())
    detail = SegmentCatalog(container).describe("a")
    assert [field.name for field in detail.fields] == ["CustomerId", "E-Mail", "Given\nName", "Surname"]
    assert detail.suggested_matching == SuggestedMatching("E-Mail", "Given\nName", "Surname")


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_very_long_header_line_is_read(container: ContainerClient, suffix: str) -> None:
    header = ",".join(["EMail", *(f"column number {number}" for number in range(10_000))])
    text = (header + "\n" + "1," * 10_000 + "1\n").encode()
    container.upload_blob(f"wide{suffix}", gzip.compress(text) if suffix.endswith("gz") else text)
    detail = SegmentCatalog(container).describe("wide")
    assert detail.summary.exportable
    assert len(detail.fields) == 10_001


def test_parquet_is_described_from_its_footer(container: ContainerClient) -> None:
    container.upload_blob(
        "p.parquet", parquet({"EMail": ["a"] * 9, "Age": list(range(9)), **{f"c{n}": [n] * 9 for n in range(900)}})
    )
    detail = SegmentCatalog(container).describe("p")
    assert [(field.name, field.data_type) for field in detail.fields[:2]] == [("EMail", "varchar"), ("Age", "bigint")]
    assert len(detail.fields) == 902


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"f/a.csv": b"EMail,Name\n", "f/b.csv": b"EMail\n"}, "'f/b.csv': has other columns than 'f/a.csv'"),
        (
            {"f/a.csv": b"EMail,Name\n", "f/b.csv": b"jane@a.example,Jane\n"},
            "'f/b.csv', row 1: holds an e-mail address",
        ),
        ({"f/a.csv": b'"EMail,Name\n'}, "'f/a.csv', row 1"),
        ({"f/a.csv": b"\n1,2\n"}, "has no header line"),
        ({"f/a.csv.gz": b"EMail\n"}, "'f/a.csv.gz': is not a gzip file"),
        ({"f/a.csv": "Émail\n".encode("latin-1")}, "not valid in the encoding"),
        ({"f/a.parquet": b"PAR1 and no more"}, "'f/a.parquet': is not a Parquet file"),
        ({"f/a.parquet": b"PAR1" + b"\0" * 20 + b"\xff\xff\xff\0PAR1"}, "is not a Parquet file"),
    ],
)
def test_what_only_the_files_tell_makes_a_segment_not_exportable(
    container: ContainerClient, files: dict[str, bytes], says: str
) -> None:
    for name, data in files.items():
        container.upload_blob(name, data)
    summary = SegmentCatalog(container).describe("f").summary
    assert not summary.exportable
    assert says in str(summary.reason)
    assert "jane" not in str(summary.reason)


# Loading


def parquet(columns: Mapping[str, Any], **options: Any) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), target, **options)
    return target.getvalue()


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
    moment = datetime(2020, 1, 2, 3, 4, 5, 250000)  # noqa: DTZ001 - a local time is what is tested
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
    text = pinned.to_json()
    assert PinnedSegment.from_json(text) == pinned
    document = json.loads(text)
    assert document["files"][0]["etag"].startswith('"')
    assert document["files"][0]["csv"] == {"hasHeader": False, "delimiter": ",", "quoted": True, "encoding": "utf-8"}
    assert document["model"]["name"] == f"{CI}model.json"
    assert load(container, PinnedSegment.from_json(text), tmp_path) == [(3, 7, 1, "ann@a.example", "Ann")]


# What can go wrong while loading


@pytest.mark.parametrize("size", ["same", "longer", "shorter", "empty"])
def test_a_file_that_changed_after_pinning_is_refused(container: ContainerClient, tmp_path: Path, size: str) -> None:
    file = put_export(container)
    pinned = pin(container, "Vip")
    rows = {"same": "1,Ann,A,ann@a.example\n", "longer": "1,Ann,A,ann@a.example\n" * 9, "shorter": "1,2", "empty": ""}[
        size
    ]
    container.upload_blob(file, rows, overwrite=True)
    with pytest.raises(SourceChanged) as changed:
        load(container, pinned, tmp_path)
    assert changed.value.file == file


def test_an_empty_file_that_got_rows_after_pinning_is_refused(container: ContainerClient, tmp_path: Path) -> None:
    file = put_export(container, rows="")
    pinned = pin(container, "Vip")
    assert load(container, pinned, tmp_path) == []
    container.upload_blob(file, b"1,2,3,4\n", overwrite=True)
    with pytest.raises(SourceChanged):
        load(container, pinned, tmp_path)


def test_a_file_that_went_away_is_told(container: ContainerClient, tmp_path: Path) -> None:
    file = put_export(container)
    pinned = pin(container, "Vip")
    container.delete_blob(file)
    with pytest.raises(SourceMissing) as missing:
        load(container, pinned, tmp_path)
    assert missing.value.file == file
    assert "is missing" in str(only(container).reason)
    container.delete_container()
    with pytest.raises(ContainerMissing):
        load(container, pinned, tmp_path)


@pytest.mark.parametrize(
    ("bad", "row"),
    [
        ("3,Secret,C", 4),
        ("3,Secret,C,c@a.example,more", 4),
        ('3,"Secret,C,c@a.example', 4),
        ('3,"Sec"ret,C,c@a.example', 4),
        ("3,Secret \udcff,C,c@a.example", 4),
        ("3,Secret," + "C" * 12_000_000 + ",c@a.example", 4),
        ("   Secret", 4),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_row_that_does_not_parse_is_told_without_its_contents(
    container: ContainerClient, tmp_path: Path, bad: str, row: int, line_end: str
) -> None:
    lines = ["1,Ann,A,ann@a.example", '2,"Bob\nB",B,bob@a.example', "2,Bob,B,bob@a.example", bad, "9,Zoe,Z,z@a.example"]
    file = put_export(container, rows="")
    container.upload_blob(file, line_end.join([*lines, ""]).encode(errors="surrogateescape"), overwrite=True)
    with pytest.raises(SourceUnreadable) as unreadable:
        load(container, pin(container, "Vip"), tmp_path)
    assert (unreadable.value.file, unreadable.value.row) == (file, row)
    assert f"'{file}', row {row}: " in unreadable.value.message
    for text in (str(unreadable.value), repr(unreadable.value)):
        assert "Secret" not in text
        assert "a.example" not in text
    assert unreadable.value.__cause__ is None


def test_rows_are_found_by_number_far_into_a_file(container: ContainerClient, tmp_path: Path) -> None:
    rows = [f'{number},"A\nB",C,p{number}@a.example' for number in range(200_000)]
    rows[150_000] = "1,2"
    put_export(container, rows="\n".join(rows))
    with pytest.raises(SourceUnreadable) as unreadable:
        load(container, pin(container, "Vip"), tmp_path)
    assert unreadable.value.row == 150_001


def test_a_mapped_column_that_a_file_lacks_is_told(container: ContainerClient, tmp_path: Path) -> None:
    container.upload_blob("a.csv", b"EMail,Name\na@a.example,Ann\n")
    with pytest.raises(SourceUnreadable, match=r"'a\.csv': has no column 'FirstName'"):
        load(container, pin(container, "a"), tmp_path)


@pytest.mark.parametrize("others", [b"EMail\nb@a.example\n", b"FirstName,EMail,City\nB,b@a.example,C\n"])
def test_files_of_a_folder_that_do_not_agree_are_told(
    container: ContainerClient, tmp_path: Path, others: bytes
) -> None:
    container.upload_blob("f/1.csv", b"EMail,FirstName\na@a.example,Ann\n")
    container.upload_blob("f/2.csv", others)
    with pytest.raises(SourceUnreadable, match=r"'f/2\.csv': has other columns than 'f/1\.csv'"):
        load(container, pin(container, "f"), tmp_path, ["EMail"])


@pytest.mark.parametrize("keep", [-1, -9, 2000, 5])
def test_files_that_are_cut_off_are_told(container: ContainerClient, tmp_path: Path, keep: int) -> None:
    text = "EMail,FirstName\n" + "".join(f"{number * 7919 % 10007}@a.example,Ann\n" for number in range(3000))
    container.upload_blob("zipped.csv.gz", gzip.compress(text.encode())[:keep])
    container.upload_blob(
        "columns.parquet", parquet({"EMail": ["a"] * 5000, "FirstName": list(map(str, range(5000)))})[:keep]
    )
    for name, file in (("zipped", "zipped.csv.gz"), ("columns", "columns.parquet")):
        with pytest.raises(SourceUnreadable) as unreadable:
            load(container, pin(container, name), tmp_path)
        assert unreadable.value.file == file


def test_invalid_text_in_parquet_is_told(container: ContainerClient, tmp_path: Path) -> None:
    container.upload_blob("p.parquet", parquet({"EMail": pa.array([b"a", b"\xff\xfe"], pa.binary())}))
    with pytest.raises(SourceUnreadable, match=r"p\.parquet"):
        load(container, pin(container, "p"), tmp_path, ["EMail"])


def test_the_check_stops_a_load_and_nothing_is_left(container: ContainerClient, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop() -> None:
        raise StoppedError

    put_export(container)
    with duckdb.connect() as connection, pytest.raises(StoppedError):
        SegmentReader(container).load(
            connection,
            "source",
            pin(container, "Vip"),
            COLUMNS,
            segment_number=0,
            first_file_number=0,
            work_dir=tmp_path,
            check=stop,
        )
    assert list(tmp_path.iterdir()) == []


def test_faults_of_the_service_stay_what_they_are(container: ContainerClient, tmp_path: Path) -> None:
    put_export(container)
    pinned = pin(container, "Vip")
    with ContainerClient(
        "http://127.0.0.1:9", "segments", credential=container.credential, retry_total=0
    ) as unreachable:
        with pytest.raises(ServiceRequestError):
            SegmentCatalog(unreachable).list()
        with pytest.raises(ServiceRequestError):
            load(unreachable, pinned, tmp_path)


def test_ten_thousand_columns_fit_into_the_memory_limit(container: ContainerClient, tmp_path: Path) -> None:
    attributes = [f"column {number}" for number in range(9_999)] + ["EMail"]
    line = ",".join(["x"] * 9_999)
    container.upload_blob("m/1.csv", "".join(f"{line},p{row}@a.example\n" for row in range(50)))
    put_model(container, "m/", entity("Wide", "1.csv", attributes=attributes))
    rows = load(container, pin(container, "Wide"), tmp_path, ["EMail"])
    assert [value for *_, value in rows] == [f"p{row}@a.example" for row in range(50)]


# Any table, written in any way that model.json can describe, is read back

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


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
