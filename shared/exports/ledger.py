"""The ledger of a destination: whom it sent, per member the address, a hash of the payload, and the tags we set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import duckdb

from shared.exports.database import open_database
from shared.exports.model import MEMBERS_PER_BATCH, Plan, RejectedRow
from shared.exports.profiles import address_key
from shared.segments.sql import quote_literal
from shared.storage import names
from shared.storage.documents import Changed, Documents

_SAME_PERSON: Final = f"{address_key('t.email')} = {address_key('e.email')}"


def write_ledger(
    documents: Documents,
    plan: Plan,
    sent: Sequence[int],
    rejected: Sequence[tuple[int, RejectedRow]],
    members: Path,
    work_dir: Path,
) -> None:
    """Write the destination's new ledger: the members that Mailchimp took in this export, and what earlier exports
    sent to anybody else. The tags of a member are all that any export has set: none takes one off.

    It is written over the version that was read, else begun again: a finisher that was asleep while the next export
    came and went must not take that one's people off the ledger.

    ``sent``: the batches that have a result; ``rejected``: the refused rows, each with its batch; ``members``: the
    export's Parquet file of members.
    """
    if not sent:
        return
    while True:
        with suppress(Changed):
            _write(documents, plan, sent, rejected, members, work_dir)
            return


def _write(
    documents: Documents,
    plan: Plan,
    sent: Sequence[int],
    rejected: Sequence[tuple[int, RejectedRow]],
    members: Path,
    work_dir: Path,
) -> None:
    """Raises Changed."""
    name = names.ledger(plan.destination_id, plan.audience_id)
    earlier, target = work_dir / "earlier-ledger.parquet", work_dir / "ledger.parquet"
    found = documents.download(name, earlier)
    refused = [batch * MEMBERS_PER_BATCH + row.position for batch, row in rejected if row.position is not None]
    with open_database(work_dir) as connection:
        connection.execute("CREATE TABLE sent AS SELECT unnest($1::BIGINT[]) AS batch", [list(sent)])
        connection.execute("CREATE TABLE refused AS SELECT unnest($1::BIGINT[]) AS position", [refused])
        connection.execute(f"""
            CREATE VIEW taken AS SELECT email, payload, tags FROM read_parquet({quote_literal(str(members))})
            WHERE position // {MEMBERS_PER_BATCH} IN (SELECT batch FROM sent)
              AND position NOT IN (SELECT position FROM refused)""")
        if found is not None:
            _add_earlier(connection, earlier)
        result = "SELECT * FROM taken" if found is None else "SELECT email, payload, tags FROM all_time"
        connection.execute(f"COPY ({result}) TO {quote_literal(str(target))} (FORMAT parquet, COMPRESSION zstd)")
    documents.upload_over(name, target, found.etag if found is not None else None, {})


def _add_earlier(connection: duckdb.DuckDBPyConnection, earlier: Path) -> None:
    """The view ``all_time``: ``taken`` with the tags of earlier exports added, and everybody else whom those sent."""
    connection.execute(f"CREATE VIEW earlier AS FROM read_parquet({quote_literal(str(earlier))})")
    connection.execute(f"""
        CREATE TABLE known AS
        SELECT t.email, t.payload, t.tags, e.tags AS before
        FROM taken t LEFT JOIN earlier e ON {_SAME_PERSON}""")
    connection.execute("CREATE TABLE added (tags VARCHAR, before VARCHAR, all_tags VARCHAR)")
    pairs = connection.execute("SELECT DISTINCT tags, before FROM known WHERE before <> tags").fetchall()
    rows = [(tags, before, json.dumps(_union(tags, before), ensure_ascii=False)) for tags, before in pairs]
    if rows:  # few: one for each two sets of segments that somebody was in, then and now
        connection.executemany("INSERT INTO added VALUES (?, ?, ?)", rows)
    connection.execute(f"""
        CREATE VIEW all_time AS
        SELECT k.email, k.payload, coalesce(a.all_tags, k.tags) AS tags
        FROM known k LEFT JOIN added a ON a.tags = k.tags AND a.before = k.before
        UNION ALL
        SELECT e.email, e.payload, e.tags FROM earlier e ANTI JOIN taken t ON {_SAME_PERSON}""")


def _union(tags: str, before: str) -> list[str]:
    """Two lists of tags, as JSON, in one."""
    return list(dict.fromkeys([*json.loads(tags), *json.loads(before)]))
