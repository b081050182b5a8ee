"""The ledger: what a destination last sent, per member the address, a hash of the payload, and the tags we set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from shared.exports.model import MEMBERS_PER_BATCH, Plan, RejectedRow
from shared.segments.sql import quote_literal
from shared.storage import names
from shared.storage.documents import Documents


def write_ledger(
    documents: Documents,
    plan: Plan,
    sent: Sequence[int],
    rejected: Sequence[tuple[int, RejectedRow]],
    members: Path,
    work_dir: Path,
) -> None:
    """Write the destination's new ledger: the members that Mailchimp took in this export, and what earlier exports
    sent to anybody else.

    ``sent``: the batches that have a result; ``rejected``: the refused rows, each with its batch; ``members``: the
    export's Parquet file of members.
    """
    if not sent:
        return
    earlier, target = work_dir / "earlier-ledger.parquet", work_dir / "ledger.parquet"
    has_earlier = documents.download(names.ledger(plan.destination_id, plan.audience_id), earlier)
    refused = [batch * MEMBERS_PER_BATCH + row.position for batch, row in rejected if row.position is not None]
    with duckdb.connect(config={"memory_limit": "256MB", "threads": 2, "temp_directory": str(work_dir)}) as connection:
        connection.execute("CREATE TABLE sent AS SELECT unnest($1::BIGINT[]) AS batch", [list(sent)])
        connection.execute("CREATE TABLE refused AS SELECT unnest($1::BIGINT[]) AS position", [refused])
        connection.execute(f"""
            CREATE VIEW taken AS SELECT email, payload, tags FROM read_parquet({quote_literal(str(members))})
            WHERE position // {MEMBERS_PER_BATCH} IN (SELECT batch FROM sent)
              AND position NOT IN (SELECT position FROM refused)""")
        kept = (
            f" UNION ALL SELECT e.* FROM read_parquet({quote_literal(str(earlier))}) e"
            " ANTI JOIN taken t ON lower(t.email) = lower(e.email)"
        )
        connection.execute(
            f"COPY (SELECT * FROM taken{kept if has_earlier else ''})"
            f" TO {quote_literal(str(target))} (FORMAT parquet, COMPRESSION zstd)"
        )
    documents.upload(names.ledger(plan.destination_id, plan.audience_id), target)
