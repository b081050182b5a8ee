"""Writing segments into a container and loading them, for the tests of segments."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from azure.storage.blob import ContainerClient

from shared.segments import PinnedSegment, SegmentCatalog, SegmentSummary
from shared.segments.reader import SegmentReader

CI = "CustomerInsights_abcd1234/BlobExport/"
ATTRIBUTES = ("CustomerId", "FirstName", "LastName", "EMail")
COLUMNS = ("EMail", "FirstName")


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


def parquet(columns: Mapping[str, Any], **options: Any) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), target, **options)
    return target.getvalue()
