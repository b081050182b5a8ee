"""Writes segments into a container: a Common Data Model folder as Customer Insights does, or a plain folder of CSV.

Sources: Microsoft Learn, Customer Insights, "Export to Azure Blob Storage"
(`CustomerInsights_{instanceID}/{export}/model.json`, `{entity}/yyyy/MM/dd/HHmm/{entity}_{n}.csv`); Common Data Model,
"The metadata file (model.json)".
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from azure.storage.blob import ContainerClient

from dev.sample_data.people import ATTRIBUTES, Attribute

INSTANCE_ID = "7c1f36a4-09d2-4b5e-8f6a-2e90c4d7b813"
EXPORT_NAME = "Mailchimp segments"
ROWS_PER_FILE = 4000

_ATTRIBUTES_BY_NAME = {attribute.name: attribute for attribute in ATTRIBUTES}


@dataclass(frozen=True, slots=True)
class Entity:
    """A segment of a Common Data Model folder. `files` are CSV without a header line, as bytes or where they lie."""

    name: str
    attributes: tuple[Attribute, ...]
    files: tuple[bytes | Path, ...]


def entity_of(
    name: str, columns: Sequence[str], rows: Iterable[Sequence[str]], rows_per_file: int = ROWS_PER_FILE
) -> Entity:
    """An entity of these rows, in several files if there are many. Columns of the sample keep their data types."""
    attributes = tuple(_ATTRIBUTES_BY_NAME.get(column, Attribute(column)) for column in columns)
    remaining = iter(rows)
    files = []
    while part := list(islice(remaining, rows_per_file)):
        files.append(csv_bytes(part))
    return Entity(name, attributes, tuple(files) or (b"",))


def csv_bytes(rows: Iterable[Sequence[str]], delimiter: str = ",") -> bytes:
    """CSV in UTF-8; values are quoted where they have to be."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def upload_model(
    container: ContainerClient,
    entities: Iterable[Entity],
    *,
    refreshed_at: datetime,
    export_name: str = EXPORT_NAME,
    instance_id: str = INSTANCE_ID,
) -> str:
    """Writes the files of all entities into new dated folders, then model.json, which names them; returns its name."""
    folder = f"CustomerInsights_{instance_id}/{export_name}"
    refreshed_at = refreshed_at.astimezone(UTC)
    documents = [_upload_entity(container, folder, entity, refreshed_at) for entity in entities]
    model = {
        "name": export_name,
        "description": "Segments exported by Dynamics 365 Customer Insights",
        "version": "1.0",
        "culture": "en-US",
        "modifiedTime": _iso(refreshed_at),
        "entities": documents,
    }
    name = f"{folder}/model.json"
    container.upload_blob(name, json.dumps(model, ensure_ascii=False, indent=2).encode(), overwrite=True)
    return name


def upload_plain_folder(
    container: ContainerClient, folder: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> str:
    """Writes one CSV file with a header line and semicolons, as spreadsheets in many countries do; returns its name."""
    name = f"{folder}/{folder.lower().replace(' ', '-')}.csv"
    container.upload_blob(name, csv_bytes([columns, *rows], delimiter=";"), overwrite=True)
    return name


def upload_parquet_folder(container: ContainerClient, folder: str, files: Sequence[Path]) -> None:
    """A segment that is a plain folder of Parquet files."""
    for number, file in enumerate(files, 1):
        _upload_file(container, f"{folder}/part-{number:05}.parquet", file)


def _upload_entity(container: ContainerClient, folder: str, entity: Entity, refreshed_at: datetime) -> dict[str, Any]:
    partitions = []
    for number, content in enumerate(entity.files, 1):
        partition = f"{entity.name}_{number}"
        name = f"{folder}/{entity.name}/{refreshed_at:%Y/%m/%d/%H%M}/{partition}.csv"
        _upload_file(container, name, content)
        partitions.append(
            {
                "name": partition,
                "refreshTime": _iso(refreshed_at),
                "location": f"{container.url}/{quote(name)}",
                "fileFormatSettings": {
                    "$type": "CsvFormatSettings",
                    "columnHeaders": False,
                    "delimiter": ",",
                    "quoteStyle": "QuoteStyle.Csv",
                    "csvStyle": "CsvStyle.QuoteAlways",
                    "encoding": "UTF-8",
                },
            }
        )
    return {
        "$type": "LocalEntity",
        "name": entity.name,
        "description": "",
        "attributes": [_attribute_document(attribute) for attribute in entity.attributes],
        "partitions": partitions,
    }


def _upload_file(container: ContainerClient, name: str, content: bytes | Path) -> None:
    if isinstance(content, Path):
        with content.open("rb") as stream:
            container.upload_blob(name, stream, length=content.stat().st_size, overwrite=True, max_concurrency=2)
    else:
        container.upload_blob(name, content, overwrite=True)


def _attribute_document(attribute: Attribute) -> dict[str, Any]:
    document: dict[str, Any] = {"name": attribute.name, "dataType": attribute.data_type}
    if attribute.semantic_type:
        document["annotations"] = [{"name": "semanticType", "value": attribute.semantic_type}]
    return document


def _iso(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
