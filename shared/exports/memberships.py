"""Who has which tag from one destination in one audience, less those who have it from another one too: from ledgers.

In DuckDB, out of core with a memory limit, like the profiles of an export. The order is that of the ledger's rows, tag
by tag, so it is the same whoever reads the same ledger: a place in it is a tag and a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.exports.database import open_database
from shared.exports.profiles import address_key
from shared.mailchimp.problems import MAX_ROWS
from shared.segments.sql import quote_literal

_ROWS_PER_QUERY: Final = 50 * MAX_ROWS


@dataclass(frozen=True, slots=True)
class Batch:
    """Up to 500 addresses to take a tag from: those of the ledger's rows from ``first`` to before ``end``."""

    first: int
    end: int
    addresses: Sequence[str]


class Memberships:
    """The memberships that the ledger ``mine`` accounts for. ``others``: ledgers of other destinations for the same
    audience. Tags go by their name in small letters, as Mailchimp compares them."""

    def __init__(self, mine: Path, others: Sequence[Path], work_dir: Path) -> None:
        self._connection = open_database(work_dir, "memberships")
        self._run(f"""
            CREATE TABLE mine AS
            SELECT file_row_number AS row, email, {address_key("email")} AS address, tags
            FROM read_parquet({quote_literal(str(mine))}, file_row_number = true)""")
        self._run("CREATE TABLE others (address VARCHAR, tags VARCHAR)")
        for ledger in others:
            self._run(f"""
                INSERT INTO others
                SELECT {address_key("email")}, tags FROM read_parquet({quote_literal(str(ledger))})""")
        self.tags = self._read_tag_sets("mine")
        self._read_tag_sets("others")

    def close(self) -> None:
        self._connection.close()

    def _read_tag_sets(self, table: str) -> list[str]:
        """Write which tags each list of tags in ``table`` holds: there are few lists, each one's text as JSON."""
        self._run(f"CREATE TABLE {table}_tags (tags VARCHAR, tag VARCHAR)")
        lists = self._connection.execute(f"SELECT DISTINCT tags FROM {table}").fetchall()
        rows = sorted({(text, tag.strip().casefold()) for (text,) in lists for tag in json.loads(text)})
        if rows:
            self._connection.executemany(f"INSERT INTO {table}_tags VALUES (?, ?)", rows)
        return sorted({tag for _, tag in rows})

    def count(self, tag: str, first: int = 0) -> int:
        """How many have the tag from here alone, in the rows from ``first`` on. Chooses ``tag`` for ``batches``."""
        self._run("DROP TABLE IF EXISTS due")
        self._run(f"CREATE TABLE due AS {self._having('ANTI')} ORDER BY row", tag=tag, first=first)
        return int(self._all("SELECT count(*) FROM due")[0][0])

    def batches(self) -> Iterator[Batch]:
        """Those that ``count`` has counted, in order."""
        first = 0
        while rows := self._all(
            f"SELECT row, email FROM due WHERE row >= $first ORDER BY row LIMIT {_ROWS_PER_QUERY}", first=first
        ):
            for start in range(0, len(rows), MAX_ROWS):
                part = rows[start : start + MAX_ROWS]
                first = int(part[-1][0]) + 1
                yield Batch(int(part[0][0]), first, [email for _, email in part])

    def shared(self, tag: str, first: int, end: int) -> list[str]:
        """Addresses in the rows from ``first`` to before ``end`` that have the tag from another destination too."""
        rows = self._all(f"{self._having('SEMI')} AND row < $end ORDER BY row", tag=tag, first=first, end=end)
        return [email for _, email in rows]

    @staticmethod
    def _having(join: str) -> str:
        """SQL for the rows from ``$first`` on that have ``$tag``, and with it others (SEMI), or not (ANTI)."""
        return f"""
            SELECT row, email FROM mine
            SEMI JOIN (SELECT tags FROM mine_tags WHERE tag = $tag) USING (tags)
            {join} JOIN (
                SELECT address FROM others SEMI JOIN (SELECT tags FROM others_tags WHERE tag = $tag) USING (tags)
            ) USING (address)
            WHERE row >= $first"""

    def _run(self, sql: str, **values: Any) -> None:
        self._connection.execute(sql, values or None)

    def _all(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values or None).fetchall()
