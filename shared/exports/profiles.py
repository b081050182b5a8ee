"""The profiles of the chosen segments, joined and checked in DuckDB: out of core, with a memory limit.

Tables: ``source`` (every row as read), ``judged`` (its addresses, and what is wrong with them), ``invalid`` (the rows
that cannot be sent, with their reason), ``addresses`` (the other rows), ``people`` (one row per address, with a bit for
each segment it is in), ``members`` (the people to send, numbered in the order of the first row of each). ``n`` is the
rowid of ``source``: the order of reading. All but ``source`` are temporary tables: made once, read a few times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from shared.destinations.model import MemberStatus
from shared.exports.database import open_database
from shared.exports.merge_values import MergeValue
from shared.exports.model import MEMBERS_PER_BATCH, Books, SegmentCount
from shared.segments.formats import PinnedSegment
from shared.segments.reader import SegmentReader
from shared.segments.sql import quote_literal, trimmed

_BATCHES_PER_QUERY: Final = 100
_BYTES_PER_QUERY: Final = 8_000_000
"""About what one query for bodies yields. DuckDB holds it several times over; with thirty long merge fields a hundred
batches are more than its memory."""

_SEGMENTS_PER_MASK: Final = 62

_BLANKS: Final = " \t\r\n\u00a0\u200b\ufeff"
"""Blanks around an address are no fault: Mailchimp strips them too."""

_SYNTAX: Final = r"[^\s@,[:cntrl:]]+@[^\s@,.[:cntrl:]][^\s@,[:cntrl:]]*\.[^\s@,.[:cntrl:]]+"
"""What Mailchimp is known to refuse is no address here: no or several @, blanks, commas, a domain without a dot or with
one at its end. Everything else is left to Mailchimp's judgement."""

_FAKE: Final = r"@example\.com$|\.con$"
"""Known to be answered with "looks fake or invalid": foo@example.com, and typing errors such as gmail.con."""

INVALID_ADDRESS: Final = {
    "emailMissing": "The Email field is empty.",
    "emailInvalid": "The Email field does not hold an e-mail address.",
    "emailLooksFake": "The address looks fake or mistyped, and Mailchimp refuses such addresses.",
}
FIELD_INVALID: Final = "fieldInvalid"
ARCHIVED: Final = "archived"


def address_key(address: str) -> str:
    """SQL for what two spellings of one address have in common. The capital dotted I of Turkish is another letter."""
    return f"lower(replace({address}, 'İ', 'i\u0307'))"


def create_suppressed(
    connection: duckdb.DuckDBPyConnection,
    people: str,
    archived: Sequence[str],
    refused: Path | None,
    at: datetime | None,
) -> None:
    """Create the table ``suppressed``, of keys of addresses and why they are not sent: those that are ``archived`` (in
    any letter case), and those of the table ``people`` that have been ``refused`` (a file of
    shared/exports/refusal_table.py) and are left out at this moment. Who is both counts as archived."""
    connection.execute("""
        CREATE TEMP TABLE suppressed (
            address VARCHAR, code VARCHAR, message VARCHAR, refused_at TIMESTAMP, until TIMESTAMP)""")
    if archived:
        connection.execute(
            f"""
            INSERT INTO suppressed (address, code)
            SELECT DISTINCT {address_key("address")}, {quote_literal(ARCHIVED)}
            FROM (SELECT unnest($1) AS address)""",
            [list(archived)],
        )
    if refused is not None and at is not None:
        connection.execute(
            f"""
            INSERT INTO suppressed
            SELECT address, code, message, refused_at, until
            FROM read_parquet({quote_literal(str(refused))})
            SEMI JOIN {people} USING (address) ANTI JOIN suppressed USING (address)
            WHERE until > $1""",
            [at.astimezone(UTC).replace(tzinfo=None)],
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows: per segment, by reason, and in all. ``left_out_until``: when the first of those who are
    left out because Mailchimp has refused them may be sent again."""

    segments: list[SegmentCount]
    invalid_reasons: dict[str, int]
    suppressed_reasons: dict[str, int]
    left_out_until: datetime | None
    books: Books


class Profiles:
    """The tables of one export. Give ``load`` every segment, then ``match``, ``check_values``, ``suppress``; read the
    rest."""

    def __init__(self, work_dir: Path, *, memory_limit: str = "256MB", threads: int = 2) -> None:
        self._work_dir = work_dir
        self._connection = open_database(work_dir, "profiles", memory_limit=memory_limit, threads=threads)
        self._segments: list[str] = []
        self._rows: list[int] = []
        self._files: list[str] = []
        self._valid: dict[int, int] = {}

    def close(self) -> None:
        self._connection.close()

    # -- reading -------------------------------------------------------------------------------------------------

    def load(
        self, reader: SegmentReader, segment: PinnedSegment, columns: Sequence[str], check: Callable[[], None]
    ) -> None:
        """Append the rows of ``segment``. ``check`` is called now and then and may raise to stop."""
        loaded = reader.load(
            self._connection,
            "source",
            segment,
            columns,
            segment_number=len(self._segments),
            first_file_number=len(self._files),
            work_dir=self._work_dir,
            check=check,
        )
        self._segments.append(segment.name)
        self._rows.append(loaded.rows)
        self._files.extend(file.name for file in loaded.files)

    # -- people --------------------------------------------------------------------------------------------------

    def match(self) -> int:
        """Check the addresses (column c0), find duplicates and merge people; returns the number of people."""
        address = trimmed("c0", _BLANKS)
        self._run(f"""
            CREATE TEMP TABLE judged AS
            SELECT rowid AS n, segment,
                   {address_key(address)} AS address,
                   CASE WHEN c0 IS NULL OR {address} = '' THEN 'emailMissing'
                        WHEN NOT regexp_full_match({address}, {quote_literal(_SYNTAX)}) THEN 'emailInvalid'
                        WHEN regexp_matches(lower({address}), {quote_literal(_FAKE)}) THEN 'emailLooksFake'
                   END AS reason
            FROM source""")
        self._run("""
            CREATE TEMP TABLE invalid AS
            SELECT n, reason AS code, CAST(NULL AS VARCHAR) AS merge_tag FROM judged WHERE reason IS NOT NULL""")
        self._run("CREATE TEMP VIEW addresses AS SELECT n, segment, address FROM judged ANTI JOIN invalid USING (n)")
        return self._merge()

    def check_values(self, values: Sequence[MergeValue]) -> None:
        """Take out the rows whose text does not fit the type of its merge field."""
        arms = " ".join(f"WHEN {v.wrong} THEN {quote_literal(v.tag)}" for v in values if v.wrong != "false")
        if not arms:
            return
        self._run(f"""
            INSERT INTO invalid
            SELECT n, {quote_literal(FIELD_INVALID)}, merge_tag
            FROM (SELECT rowid AS n, CASE {arms} END AS merge_tag FROM source s WHERE merge_tag IS NOT NULL)
            ANTI JOIN invalid USING (n)""")
        if self._one(f"SELECT count(*) FROM invalid WHERE code = {quote_literal(FIELD_INVALID)}"):
            self._run("DROP TABLE people")
            self._merge()

    def suppress(self, archived: Sequence[str], refused: Path | None = None, at: datetime | None = None) -> None:
        """Take out the people whose contacts are ``archived`` and those who have been ``refused`` and are left out at
        this moment, as ``create_suppressed`` finds them; number the others for sending."""
        self._valid = self._by_segment("addresses")
        self._run("DROP VIEW addresses")  # nobody is judged any more, and the memory is needed for the bodies
        self._run("DROP TABLE judged")
        create_suppressed(self._connection, "people", archived, refused, at)
        self._run(f"""
            CREATE TEMP TABLE members AS
            SELECT row_number() OVER (ORDER BY n) - 1 AS position, n, {", ".join(self._masks)}
            FROM people ANTI JOIN suppressed USING (address)
            ORDER BY n""")

    def _merge(self) -> int:
        masks = ", ".join(
            f"bit_or(CASE WHEN segment // {_SEGMENTS_PER_MASK} = {word}"
            f" THEN CAST(1 AS BIGINT) << CAST(segment % {_SEGMENTS_PER_MASK} AS BIGINT) ELSE 0 END) AS mask{word}"
            for word in range(self._mask_count)
        )
        self._run(f"CREATE TEMP TABLE people AS SELECT address, min(n) AS n, {masks} FROM addresses GROUP BY address")
        return self._count("people")

    @property
    def _mask_count(self) -> int:
        return max(1, -(-len(self._segments) // _SEGMENTS_PER_MASK))

    @property
    def _masks(self) -> list[str]:
        return [f"mask{word}" for word in range(self._mask_count)]

    @property
    def _same_masks(self) -> str:
        return " AND ".join(f"t.{mask} = m.{mask}" for mask in self._masks)

    # -- accounting ----------------------------------------------------------------------------------------------

    def counts(self, tags: Sequence[str]) -> Counts:
        """Close the first part of the books. ``tags`` are the Mailchimp tags of the segments, in their order."""
        invalid = self._by_segment("invalid JOIN source s ON s.rowid = invalid.n")
        valid = self._valid
        members = self._by_segment("people p JOIN source s ON s.rowid = p.n")
        people = self._in_each_segment("people")
        suppressed = self._in_each_segment("people SEMI JOIN suppressed USING (address)")
        segments = [
            SegmentCount(
                name=name,
                tag=tag,
                rows=rows,
                invalid=invalid.get(number, 0),
                duplicates=valid.get(number, 0) - people[number],
                merged=people[number] - members.get(number, 0),
                members=members.get(number, 0),
                tagged=people[number] - suppressed[number],
            )
            for number, (name, tag, rows) in enumerate(zip(self._segments, tags, self._rows, strict=True))
        ]
        return Counts(
            segments=segments,
            invalid_reasons={
                code if tag is None else f"{code}:{tag}": int(count)
                for code, tag, count in self._all(
                    "SELECT code, merge_tag, count(*) FROM invalid GROUP BY ALL ORDER BY 1, 2"
                )
            },
            suppressed_reasons={
                code: int(count)
                for code, count in self._all(
                    "SELECT code, count(*) FROM people JOIN suppressed USING (address) GROUP BY code ORDER BY 2 DESC, 1"
                )
            },
            left_out_until=self._left_out_until(),
            books=Books(
                rows_read=sum(self._rows),
                invalid=self._count("invalid"),
                duplicates=sum(segment.duplicates for segment in segments),
                merged=sum(segment.merged for segment in segments),
                members=self._count("people"),
                suppressed=self._one("SELECT count(*) FROM people JOIN suppressed USING (address)"),
            ),
        )

    def _by_segment(self, rows: str) -> dict[int, int]:
        """How many of these rows each segment has; segments without any are missing."""
        return dict(self._all(f"SELECT segment, count(*) FROM {rows} GROUP BY segment"))

    def _in_each_segment(self, people: str) -> list[int]:
        """How many of these people are in each segment; whoever is in several counts in each."""
        bits = ", ".join(
            f"count(*) FILTER (WHERE mask{number // _SEGMENTS_PER_MASK} >> {number % _SEGMENTS_PER_MASK} & 1 = 1)"
            for number in range(len(self._segments))
        )
        [counts] = self._all(f"SELECT {bits} FROM {people}")
        return [int(count) for count in counts]

    def _left_out_until(self) -> datetime | None:
        [(first,)] = self._all("SELECT min(until) FROM people JOIN suppressed USING (address)")
        return first.replace(tzinfo=UTC) if first is not None else None

    # -- what is sent --------------------------------------------------------------------------------------------

    def bodies(
        self,
        values: Sequence[MergeValue],
        tags: Sequence[str],
        member_status: MemberStatus = MemberStatus.SUBSCRIBED,
    ) -> Iterator[tuple[int, bytes]]:
        """Finished request bodies of up to 500 members by batch number, in order. ``member_status`` is for those whom
        the audience does not know."""
        self._write_tag_sets(tags)
        member = self._member_json(values, member_status)
        start, step, members = 0, MEMBERS_PER_BATCH, self._count("members")
        while start < members:
            rows = self._all(f"""
                SELECT position // {MEMBERS_PER_BATCH}, string_agg({member}, ',' ORDER BY position)
                FROM members m JOIN source s ON s.rowid = m.n JOIN tag_sets t ON {self._same_masks}
                WHERE position >= {start} AND position < {start + step}
                GROUP BY 1 ORDER BY 1""")
            bodies = [(int(batch), f'{{"members":[{texts}],"update_existing":true}}'.encode()) for batch, texts in rows]
            yield from bodies
            start += step
            fitting = _BYTES_PER_QUERY * len(bodies) // sum(len(body) for _, body in bodies)
            step = MEMBERS_PER_BATCH * max(1, min(fitting, 2 * len(bodies), _BATCHES_PER_QUERY))

    def _member_json(self, values: Sequence[MergeValue], member_status: MemberStatus) -> str:
        """SQL for one member. ``status_if_new`` and never ``status``: nobody who left is subscribed again."""
        pairs = ", ".join(f"{quote_literal(json.dumps(v.tag) + ':')} || ({v.json})" for v in values)
        merge_fields = f"concat_ws(',', {pairs})" if pairs else "''"
        return (
            f"concat('{{\"email_address\":', to_json({trimmed('s.c0', _BLANKS)}), "
            f'\',"status_if_new":"{member_status.value}","merge_fields":{{\', {merge_fields}, '
            "'},\"tags\":', t.tags, '}')"
        )

    def _write_tag_sets(self, tags: Sequence[str]) -> None:
        """One row per combination of segments that occurs, with the JSON list of its tags."""
        columns = ", ".join(f"{mask} BIGINT" for mask in self._masks)
        self._run(f"CREATE OR REPLACE TEMP TABLE tag_sets ({columns}, tags VARCHAR)")
        combinations = self._all(f"SELECT DISTINCT {', '.join(self._masks)} FROM members")
        rows = [
            (
                *masks,
                json.dumps(
                    [
                        tag
                        for number, tag in enumerate(tags)
                        if masks[number // _SEGMENTS_PER_MASK] >> (number % _SEGMENTS_PER_MASK) & 1
                    ],
                    ensure_ascii=False,
                ),
            )
            for masks in combinations
        ]
        if rows:
            self._connection.executemany(
                f"INSERT INTO tag_sets VALUES ({', '.join('?' * (len(self._masks) + 1))})", rows
            )

    def write_members(self, path: Path, values: Sequence[MergeValue]) -> None:
        """A Parquet file of position, address, where the row was read, a hash of its merge fields, and its tags.

        To be called after ``bodies`` has been read to its end.
        """
        texts = ", ".join(f"({v.json})" for v in values) or "''"
        self._run(f"""
            COPY (
                SELECT m.position, {trimmed("s.c0", _BLANKS)} AS email, s.segment, s.file, s.row,
                       md5_number_lower(concat_ws(chr(31), {texts})) AS payload, t.tags
                FROM members m JOIN source s ON s.rowid = m.n JOIN tag_sets t ON {self._same_masks}
                ORDER BY m.position
            ) TO {quote_literal(str(path))} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 50000)""")

    def write_left_out(self, path: Path) -> None:
        """A Parquet file of the rows that are not sent, each with its place and reason, and what Mailchimp said if it
        has refused the member before."""
        self._run(f"""
            COPY (
                SELECT s.segment, s.file, s.row, left(coalesce(s.c0, ''), 320) AS email, o.code, o.merge_tag,
                       o.message, o.refused_at, o.until
                FROM (
                    FROM invalid UNION ALL BY NAME
                    SELECT n, code, message, refused_at, until FROM people JOIN suppressed USING (address)
                ) o JOIN source s ON s.rowid = o.n ORDER BY o.n
            ) TO {quote_literal(str(path))} (FORMAT parquet, COMPRESSION zstd)""")

    @property
    def rows(self) -> Sequence[int]:
        """How many rows each segment has, in the order of loading."""
        return self._rows

    @property
    def files(self) -> Sequence[str]:
        """Names of all files read; ``file`` in the tables counts them from 0."""
        return self._files

    # -- plumbing ------------------------------------------------------------------------------------------------

    def _run(self, sql: str) -> None:
        self._connection.execute(sql)

    def _all(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()

    def _one(self, sql: str) -> int:
        row = self._connection.execute(sql).fetchone()
        return int(row[0]) if row else 0

    def _count(self, table: str) -> int:
        return self._one(f"SELECT count(*) FROM {table}")
