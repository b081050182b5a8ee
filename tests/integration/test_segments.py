"""Segments in a real storage emulator: finding, naming, describing and pinning them."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.storage.blob import ContainerClient

from shared.segments import (
    ContainerMissing,
    LocationRefused,
    ModelInvalid,
    SegmentCatalog,
    SegmentError,
    SegmentNotExportable,
    SegmentNotFound,
    SegmentSummary,
    SourceMissing,
    SuggestedMatching,
)
from tests.integration.segments_support import (
    ATTRIBUTES,
    CI,
    entity,
    names,
    only,
    parquet,
    pin,
    put_export,
    put_model,
)


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
    assert "'empty/a.csv' is empty" in str(only(container).reason)


def test_a_model_that_is_absurdly_large_is_told_without_being_read(
    container: ContainerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.segments.model_json.MAX_MODEL_BYTES", 1024**2)
    container.upload_blob("m/model.json", b" " * (1024**2 + 1))
    assert "larger than 1 MB" in str(only(container).reason)


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
        ({"f/a.csv": b"EMail,Name\n", "f/b.csv": b"EMail\n"}, "'f/b.csv' has other columns than 'f/a.csv'"),
        (
            {"f/a.csv": b"EMail,Name\n", "f/b.csv": b"jane@a.example,Jane\n"},
            "Row 1 of 'f/b.csv' holds an e-mail address",
        ),
        ({"f/a.csv": b'"EMail,Name\n'}, "Row 1 of 'f/a.csv'"),
        ({"f/a.csv": b"\n1,2\n"}, "has no header line"),
        ({"f/a.csv.gz": b"EMail\n"}, "'f/a.csv.gz' is not a gzip file"),
        ({"f/a.csv": "Émail\n".encode("latin-1")}, "not valid in the encoding"),
        ({"f/a.parquet": b"PAR1 and no more"}, "'f/a.parquet' is not a Parquet file"),
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
