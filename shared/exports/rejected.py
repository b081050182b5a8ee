"""The rejected profiles of an export as CSV: where each row lies at the source, why it was refused, what to do.

Cells that a spreadsheet would run as a formula are made harmless with a leading apostrophe (OWASP, "CSV Injection").
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb

from shared.exports.database import open_database
from shared.exports.model import MEMBERS_PER_BATCH, Export, Plan, RejectedRow
from shared.exports.profiles import ARCHIVED, FIELD_INVALID, INVALID_ADDRESS
from shared.exports.rejected_header import BYTE_ORDER_MARK, COLUMNS, NONE_REJECTED
from shared.mailchimp.row_errors import LASTING
from shared.segments.sql import quote_literal
from shared.storage import names
from shared.storage.documents import Documents

_FORMULA: Final = r"^[=+\-@\t\r\n|%＝＋－＠]"
_REPAIR_AT_SOURCE: Final = "Correct the value at the source, then export again."

_WAS_REFUSED: Final = "'Refused on ' || strftime(i.refused_at, '%Y-%m-%d') || ' (UTC): ' || i.message"
_IS_LEFT_OUT: Final = (
    "r.action || ' Left out until ' || strftime(i.until, '%Y-%m-%d')"
    " || ', unless somebody clears this suppressed member before that.'"
)
_ALL_LEFT_OUT: Final = """
    SELECT * FROM read_parquet({file}) UNION ALL BY NAME
    SELECT NULL::VARCHAR AS message, NULL::TIMESTAMP AS refused_at, NULL::TIMESTAMP AS until WHERE false"""
"""The rows that prepare left out. An export that an earlier version prepared has no word about refusals."""


def write_none_rejected(documents: Documents, export_id: str) -> None:
    """Write a ``rejected.csv`` without lines: nobody was looked at, so nobody was refused."""
    documents.write(names.rejected(export_id), NONE_REJECTED)


def write_rejected(
    documents: Documents,
    export: Export,
    plan: Plan,
    rejected: Sequence[tuple[int, RejectedRow]],
    members: Path,
    work_dir: Path,
) -> None:
    """Write ``rejected.csv`` of the export: first what prepare left out, then what Mailchimp refused.

    ``rejected`` holds the batch of each refused row; ``members`` is the export's Parquet file of members. The CSV is
    UTF-8 with a byte order mark, which spreadsheets need.
    """
    left_out = work_dir / "left-out.parquet"
    documents.download(names.left_out(export.id, plan.attempt), left_out)
    target = work_dir / "rejected.csv"
    with open_database(work_dir) as connection:
        _write_lookups(connection, export, plan, work_dir)
        _write_refused(connection, rejected, work_dir)
        cells = ", ".join(_harmless(column) for column in COLUMNS)
        connection.execute(f"""
            COPY (
                SELECT {cells} FROM (
                    SELECT 1 AS part, i.segment * CAST(1e12 AS BIGINT) + i.row AS place, s.name AS segment,
                           f.name AS file, i.row, i.email, if(i.refused_at IS NULL, 'prepare', 'memory') AS foundBy,
                           i.code, i.merge_tag AS field, coalesce({_WAS_REFUSED}, r.message) AS message,
                           coalesce({_IS_LEFT_OUT}, r.action) AS action, false AS retryable
                    FROM ({_ALL_LEFT_OUT.format(file=quote_literal(str(left_out)))}) i
                    JOIN segments s ON s.number = i.segment JOIN files f ON f.number = i.file
                    LEFT JOIN reasons r ON r.code = i.code
                    UNION ALL BY NAME
                    SELECT 2 AS part, x.place, s.name AS segment, f.name AS file, m.row, x.email,
                           'mailchimp' AS foundBy, x.code, NULL AS field, x.message, x.action, x.retryable
                    FROM refused x LEFT JOIN read_parquet({quote_literal(str(members))}) m ON m.position = x.place
                    LEFT JOIN segments s ON s.number = m.segment LEFT JOIN files f ON f.number = m.file
                ) ORDER BY part, place
            ) TO {quote_literal(str(target))} (FORMAT csv, HEADER)""")
    documents.write(names.rejected(export.id), BYTE_ORDER_MARK + target.read_bytes())


def _write_lookups(connection: duckdb.DuckDBPyConnection, export: Export, plan: Plan, work_dir: Path) -> None:
    """Tables of the names behind the numbers, and of the sentences behind the codes of prepare."""
    files = [file.name for source in export.sources for file in source.files]
    reasons = [{"code": code, "message": text, "action": _REPAIR_AT_SOURCE} for code, text in INVALID_ADDRESS.items()]
    reasons.append(
        {
            "code": FIELD_INVALID,
            "message": "The value does not fit the type of the merge field.",
            "action": _REPAIR_AT_SOURCE,
        }
    )
    reasons.append(
        {
            "code": ARCHIVED,
            "message": "The contact is archived in Mailchimp, and sending it would subscribe it again.",
            "action": "Nothing, if it is to stay archived. Otherwise unarchive it in Mailchimp, then export again.",
        }
    )
    reasons += [{"code": code, "message": "", "action": reason.action} for code, reason in LASTING.items()]
    numbered = "{number: 'INTEGER', name: 'VARCHAR'}"
    segments = [{"number": number, "name": count.name} for number, count in enumerate(plan.segments)]
    _load_json(connection, "segments", numbered, segments, work_dir)
    _load_json(connection, "files", numbered, [{"number": n, "name": name} for n, name in enumerate(files)], work_dir)
    sentences = "{code: 'VARCHAR', message: 'VARCHAR', action: 'VARCHAR'}"
    _load_json(connection, "reasons", sentences, reasons, work_dir)


def _write_refused(
    connection: duckdb.DuckDBPyConnection, rejected: Sequence[tuple[int, RejectedRow]], work_dir: Path
) -> None:
    rows = [
        {
            "place": batch * MEMBERS_PER_BATCH + row.position if row.position is not None else None,
            "email": row.email,
            "code": row.code,
            "message": row.message,
            "action": row.action,
            "retryable": row.retryable,
        }
        for batch, row in rejected
    ]
    columns = (
        "{place: 'BIGINT', email: 'VARCHAR', code: 'VARCHAR', message: 'VARCHAR', action: 'VARCHAR',"
        " retryable: 'BOOLEAN'}"
    )
    _load_json(connection, "refused", columns, rows, work_dir)


def _load_json(
    connection: duckdb.DuckDBPyConnection, table: str, columns: str, rows: Sequence[object], work_dir: Path
) -> None:
    path = work_dir / f"{table}.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    connection.execute(
        f"CREATE TABLE {table} AS SELECT * FROM read_json({quote_literal(str(path))},"
        f" format = 'newline_delimited', columns = {columns})"
    )


def _harmless(column: str) -> str:
    text = f"CAST({column} AS VARCHAR)"
    pattern = quote_literal(_FORMULA)
    return f"CASE WHEN regexp_matches({text}, {pattern}) THEN '''' || {text} ELSE {text} END AS {column}"
