"""The rows of the benchmark: up to millions, written once by DuckDB and kept under `.run/bench`, as CSV or as Parquet.

All people lie in ten files of the same size, and a segment is some of these files; segments that share a file overlap.
At 1,000,000 members: three segments of 500,000, 400,000 and 300,000 rows, eight columns, 145 MB as CSV.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import product
from pathlib import Path
from random import Random
from typing import Literal

import duckdb
from azure.storage.blob import ContainerClient

from dev.sample_data.names import DOMAINS, POPULATIONS
from dev.sample_data.people import Attribute
from dev.sample_data.upload import Entity, upload_model, upload_parquet_folder

FileFormat = Literal["csv", "parquet"]

FILES = 10
OVERLAPPING: Mapping[str, range] = {
    "Newsletter readers": range(5),
    "High value customers": range(4, 8),
    "Lapsed in 2026": range(7, 10),
}
"""Segments and the files that they consist of: everybody once, a fifth of the people in two segments."""
SINGLE: Mapping[str, range] = {"All customers": range(10)}

ATTRIBUTES = (
    Attribute("CustomerId"),
    Attribute("FirstName"),
    Attribute("LastName"),
    Attribute("EMail"),
    Attribute("City"),
    Attribute("Country"),
    Attribute("CustomerSince", "dateTime"),
    Attribute("LoyaltyPoints", "int64"),
)

_VERSION = 3
"""Goes up when the rows change, so that no old file is taken for a new one."""


def people_files(members: int, folder: Path, file_format: FileFormat = "csv") -> list[Path]:
    """The ten files of `members` people, made if they are not there: the same rows in either format. `members` must be
    a multiple of ten."""
    if members % FILES:
        raise ValueError(f"{members} members cannot be dealt to {FILES} files of the same size")
    target = folder / f"people-{_VERSION}-{members}-{file_format}"
    if not target.exists():
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(members // FILES, partial, file_format)
        partial.rename(target)
    return [target / f"{number}.{file_format}" for number in range(FILES)]


def upload(
    container: ContainerClient,
    segments: Mapping[str, range],
    files: Sequence[Path],
    file_format: FileFormat,
    refreshed_at: datetime,
) -> None:
    """CSV as Customer Insights writes it; Parquet in plain folders, as a lakehouse does."""
    if file_format == "csv":
        upload_model(container, entities(segments, files), refreshed_at=refreshed_at)
        return
    for name, numbers in segments.items():
        upload_parquet_folder(container, name, [files[number] for number in numbers])


def entities(segments: Mapping[str, range], files: Sequence[Path]) -> list[Entity]:
    """The segments with their files, for `upload_model`."""
    return [Entity(name, ATTRIBUTES, tuple(files[number] for number in numbers)) for name, numbers in segments.items()]


def _write(rows_per_file: int, folder: Path, file_format: FileFormat) -> None:
    options = "FORMAT csv, HEADER false" if file_format == "csv" else "FORMAT parquet, COMPRESSION zstd"
    columns = ", ".join(f'"{attribute.name}"' for attribute in ATTRIBUTES)
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE names (k INTEGER, first VARCHAR, last VARCHAR, latin VARCHAR, city VARCHAR, country VARCHAR,"
            " domain VARCHAR)"
        )
        names = _name_rows()
        connection.executemany("INSERT INTO names VALUES (?, ?, ?, ?, ?, ?, ?)", names)
        for number in range(FILES):
            start = number * rows_per_file
            connection.execute(f"""
                COPY (FROM (
                    SELECT md5('person ' || i), first, last, latin || '.' || i || '@' || domain, city, country,
                           strftime(DATE '2015-01-01' + CAST(hash(i) % 4000 AS INTEGER), '%Y-%m-%dT00:00:00Z'),
                           CAST(hash(i) % 5000 AS BIGINT)
                    FROM range({start}, {start + rows_per_file}) people(i) JOIN names ON k = (i * 7919) % {len(names)}
                    ORDER BY i
                ) people ({columns})) TO '{folder / f"{number}.{file_format}"}' ({options})""")


def _name_rows() -> list[tuple[int, str, str, str, str, str, str]]:
    random = Random(1)
    combined = [
        (given[0], family[0], f"{given[1]}.{family[1]}", *random.choice(population.cities))
        for population in POPULATIONS
        for given, family in product(population.given, population.family)
    ]
    random.shuffle(combined)
    return [(number, *row, random.choice(DOMAINS)) for number, row in enumerate(combined)]
