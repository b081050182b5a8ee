"""Loading pinned segments that changed, went away, are cut off or do not parse."""

from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from azure.core.exceptions import ServiceRequestError
from azure.storage.blob import ContainerClient

from shared.segments import ContainerMissing, SegmentCatalog, SourceChanged, SourceMissing, SourceUnreadable
from shared.segments.reader import SegmentReader
from tests.integration.segments_support import (
    COLUMNS,
    entity,
    load,
    only,
    parquet,
    pin,
    put_export,
    put_model,
)


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
    assert f"Row {row} of '{file}' " in unreadable.value.message
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
    with pytest.raises(SourceUnreadable, match=r"'a\.csv' has no column 'FirstName'"):
        load(container, pin(container, "a"), tmp_path)


@pytest.mark.parametrize("others", [b"EMail\nb@a.example\n", b"FirstName,EMail,City\nB,b@a.example,C\n"])
def test_files_of_a_folder_that_do_not_agree_are_told(
    container: ContainerClient, tmp_path: Path, others: bytes
) -> None:
    container.upload_blob("f/1.csv", b"EMail,FirstName\na@a.example,Ann\n")
    container.upload_blob("f/2.csv", others)
    with pytest.raises(SourceUnreadable, match=r"'f/2\.csv' has other columns than 'f/1\.csv'"):
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
