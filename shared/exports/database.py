"""DuckDB as all parts of an export use it: with little memory, and what does not fit in files of the work's own folder.

That folder is on local disk and is deleted when the work is done, so nothing of a profile stays behind.
"""

from __future__ import annotations

from pathlib import Path

import duckdb


def open_database(
    work_dir: Path, name: str | None = None, *, memory_limit: str = "256MB", threads: int = 2
) -> duckdb.DuckDBPyConnection:
    """A new database in ``work_dir``: in a file of this name, or in memory for tables that are small."""
    return duckdb.connect(
        ":memory:" if name is None else str(work_dir / f"{name}.duckdb"),
        config={
            "memory_limit": memory_limit,
            "threads": threads,
            "temp_directory": str(work_dir / f"{name or 'memory'}.spill"),
            "autoinstall_known_extensions": False,  # nothing is loaded from the internet
        },
    )
