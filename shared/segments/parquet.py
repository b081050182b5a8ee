"""Parquet through DuckDB: the columns of a file, and their values as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .sql import quote_identifier, quote_literal

if TYPE_CHECKING:  # late: see the package
    import duckdb

TAIL_BYTES = 64 * 1024
MAX_FOOTER_BYTES = 32 * 1024 * 1024
_MAGIC = b"PAR1"


def columns_of(connection: duckdb.DuckDBPyConnection, path: Path) -> list[tuple[str, str]]:
    """Names and DuckDB types of the columns of a Parquet file. Raises duckdb.Error if it is none."""
    rows = connection.execute(
        f"DESCRIBE SELECT * FROM read_parquet({quote_literal(str(path))}, binary_as_string = true, "
        "hive_partitioning = false)"
    ).fetchall()
    return [(str(name), str(data_type)) for name, data_type, *_ in rows]


def as_text(name: str, data_type: str) -> str:
    """SQL for a column's value as text; NULL if it is empty. Times are ISO 8601, numbers have no exponent."""
    column = quote_identifier(name)
    text = f"{column}::VARCHAR"
    if data_type == "VARCHAR":
        return f"nullif({column}, '')"
    if data_type == "TIMESTAMP WITH TIME ZONE":  # by way of UTC, so that the machine's time zone does not matter
        return f"replace(make_timestamp(epoch_us({column}))::VARCHAR, ' ', 'T') || 'Z'"
    if data_type.startswith("TIMESTAMP"):
        return f"replace({text}, ' ', 'T')"
    if data_type in ("DOUBLE", "FLOAT"):
        # Whole numbers come as floating point where a tool needed room for missing values: 42.0 is 42, NaN is nothing.
        small = f"rtrim(TRY_CAST({column} AS DECIMAL(38, 18))::VARCHAR, '0')"
        plain = (
            f"CASE WHEN abs({column}) < 1 THEN nullif({small}, '0.') ELSE TRY_CAST({column} AS HUGEINT)::VARCHAR END"
        )
        return (
            f"CASE WHEN isnan({column}) THEN NULL "
            f"WHEN contains({text}, 'e') THEN coalesce({plain}, {text}) "
            rf"ELSE regexp_replace({text}, '\.0$', '') END"
        )
    return text


def footer_length(tail: bytes) -> int | None:
    """Bytes from the end of a Parquet file that hold its columns, read off its last bytes; None if it is no Parquet."""
    if len(tail) < 12 or tail[-4:] != _MAGIC:
        return None
    length = int.from_bytes(tail[-8:-4], "little") + 8
    return length if length <= MAX_FOOTER_BYTES else None


def write_outline(path: Path, size: int, tail: bytes) -> None:
    """A file of `size` bytes with only the beginning and the footer of a Parquet file: enough to learn its columns.
    The rest is a hole that takes no room on disk."""
    with path.open("wb") as target:
        target.write(_MAGIC)
        target.truncate(size)
        target.seek(size - len(tail))
        target.write(tail)
