"""The people whom Mailchimp refuses for good in one audience, as a table in DuckDB: out of core, with a memory limit.

One row per address: as it was sent, why and when it was refused, until when it is left out, and by the export and the
position among its members which row that was. Times are in UTC, without a zone, for which DuckDB needs no extension.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from shared.exports.database import open_database
from shared.exports.model import MEMBERS_PER_BATCH
from shared.exports.profiles import address_key
from shared.segments.sql import quote_literal

_COLUMNS: Final = {
    "address": "VARCHAR",
    "email": "VARCHAR",
    "code": "VARCHAR",
    "message": "VARCHAR",
    "refused_at": "TIMESTAMP",
    "until": "TIMESTAMP",
    "export_id": "VARCHAR",
    "position": "BIGINT",
}

Place = tuple[str, int]
"""Export and position: what pages are ordered by, the newest export first."""


class Unreadable(Exception):
    """Raised for a file that does not hold what ``RefusalTable.write`` has written."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A member whom Mailchimp has refused for good."""

    email: str
    code: str
    message: str
    refused_at: datetime
    until: datetime
    export_id: str
    position: int

    @property
    def place(self) -> Place:
        return self.export_id, self.position


class RefusalTable:
    """The table, in a database of its own in ``folder``, with what ``file`` holds; empty without one.

    ``to_change``: False where it is only looked at; then the file is read where it lies, and not all of it is held.
    """

    def __init__(self, folder: Path, file: Path | None = None, *, to_change: bool = True) -> None:
        """Raises Unreadable."""
        self._folder = folder
        self._connection = open_database(folder, "refusals")
        if file is None:
            self._run(f"CREATE TABLE refusals ({', '.join(f'{name} {kind}' for name, kind in _COLUMNS.items())})")
            return
        source = f"read_parquet({quote_literal(str(file))})"
        self._look_through(source)
        columns = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in _COLUMNS.items())
        self._run(f"CREATE {'TABLE' if to_change else 'VIEW'} refusals AS SELECT {columns} FROM {source}")

    def _look_through(self, source: str) -> None:
        """Read all of it once. Apart from the copy, which may fail for want of memory or disk: that is no fault of the
        file."""
        try:
            self._run(
                f"SELECT {', '.join(f'CAST(max({name}) AS {kind})' for name, kind in _COLUMNS.items())} FROM {source}"
            )
        except duckdb.Error as error:
            self.close()
            if isinstance(error, duckdb.OutOfMemoryException):
                raise
            raise Unreadable from error

    def close(self) -> None:
        self._connection.close()

    def write(self, file: Path) -> None:
        """Write the table to a Parquet file."""
        self._run(f"COPY refusals TO {quote_literal(str(file))} (FORMAT parquet, COMPRESSION zstd)")

    # -- change --------------------------------------------------------------------------------------------------

    def add(self, refusals: Iterable[Refusal]) -> None:
        """Put them in, each in the place of what the address had before."""
        file = self._folder / "new.ndjson"
        with file.open("w", encoding="utf-8") as lines:
            for refusal in refusals:
                lines.write(json.dumps(_line(refusal)) + "\n")
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in _COLUMNS.items() if name != "address")
        self._run(f"""
            CREATE OR REPLACE TEMP TABLE new AS SELECT {address_key("email")} AS address, *
            FROM read_json({quote_literal(str(file))}, format = 'newline_delimited', columns = {{{columns}}})""")
        self._run("DELETE FROM refusals WHERE address IN (SELECT address FROM new)")
        self._run("INSERT INTO refusals BY NAME FROM new")

    def drop_expired(self, at: datetime) -> None:
        """Take out those who may be sent again at this moment."""
        self._run("DELETE FROM refusals WHERE until <= $at", at=_naive(at))

    def drop_taken(self, members: Path, sent: Sequence[int], refused: Sequence[int], before: datetime) -> int:
        """Take out those refused before this moment whom Mailchimp has now taken: the ``members`` (a Parquet file of an
        export) of the batches ``sent``, but for the positions ``refused``. Returns how many."""
        return self._count(
            f"""
            DELETE FROM refusals WHERE refused_at < $before AND address IN (
                SELECT {address_key("email")} FROM read_parquet({quote_literal(str(members))})
                WHERE position // {MEMBERS_PER_BATCH} IN (SELECT unnest($sent::BIGINT[]))
                  AND position NOT IN (SELECT unnest($refused::BIGINT[])))""",
            before=_naive(before),
            sent=list(sent),
            refused=list(refused),
        )

    def drop(self, emails: Sequence[str]) -> int:
        """Take out these addresses, in any letter case; returns how many of them there were."""
        return self._count(
            f"DELETE FROM refusals WHERE address IN (SELECT {address_key('e')} FROM (SELECT unnest($emails) AS e))",
            emails=list(emails),
        )

    def drop_all(self) -> int:
        return self._count("DELETE FROM refusals")

    # -- look ----------------------------------------------------------------------------------------------------

    def extent(self) -> tuple[int, datetime | None]:
        """How many there are, and when the first of them may be sent again."""
        [(count, first)] = self._all("SELECT count(*), min(until) FROM refusals")
        return int(count), first.replace(tzinfo=UTC) if first is not None else None

    def page(self, at: datetime, code: str | None, behind: Place | None, top: int) -> list[Refusal]:
        """The first ``top`` behind a place whose time is not over at this moment, of one code or of all."""
        conditions, values = ["until > $at"], dict[str, Any](at=_naive(at), top=top)
        if code is not None:
            conditions.append("code = $code")
            values["code"] = code
        if behind is not None:
            conditions.append("(export_id < $export_id OR (export_id = $export_id AND position > $position))")
            values["export_id"], values["position"] = behind
        rows = self._all(
            f"""
            SELECT email, code, message, refused_at, until, export_id, position FROM refusals
            WHERE {" AND ".join(conditions)} ORDER BY export_id DESC, position LIMIT $top""",
            **values,
        )
        return [
            Refusal(email, code_, message, at.replace(tzinfo=UTC), until.replace(tzinfo=UTC), export_id, int(position))
            for email, code_, message, at, until, export_id, position in rows
        ]

    # -- plumbing ------------------------------------------------------------------------------------------------

    def _run(self, sql: str, **values: Any) -> None:
        self._connection.execute(sql, values or None)

    def _all(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values or None).fetchall()

    def _count(self, sql: str, **values: Any) -> int:
        [(count,)] = self._all(sql, **values)
        return int(count)


def _line(refusal: Refusal) -> dict[str, object]:
    return {
        "email": refusal.email,
        "code": refusal.code,
        "message": refusal.message,
        "refused_at": _naive(refusal.refused_at).isoformat(),
        "until": _naive(refusal.until).isoformat(),
        "export_id": refusal.export_id,
        "position": refusal.position,
    }


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
