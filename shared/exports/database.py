"""DuckDB as all parts of an export use it: with little memory, and what does not fit in files of the work's own folder.

That folder is on local disk and is deleted when the work is done, so nothing of a profile stays behind.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from shared.segments.sql import quote_literal


def open_database(
    work_dir: Path, name: str | None = None, *, memory_limit: str = "256MB", threads: int = 2
) -> duckdb.DuckDBPyConnection:
    """A new database in ``work_dir``: in a file of this name, or in memory for tables that are small.

    The file holds its tables compressed. Temporary tables (``CREATE TEMP TABLE``) are quicker to make, and take more of
    the memory or of the folder.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": memory_limit,
            "threads": threads,
            "temp_directory": str(work_dir / f"{name or 'memory'}.spill"),
            "autoinstall_known_extensions": False,  # nothing is loaded from the internet
        },
    )
    if name is not None:
        # Nobody opens the file again: it needs no journal, which costs a fifth of the time of loading.
        path = quote_literal(str(work_dir / f"{name}.duckdb"))
        connection.execute(f"ATTACH {path} AS {name} (RECOVERY_MODE no_wal_writes)")
        connection.execute(f"USE {name}")
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    return connection
