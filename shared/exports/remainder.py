"""What an export has not sent, for the export that resumes it: the same bodies, numbered anew, and who is in them.

Whoever was archived in Mailchimp since is taken out: the call would subscribe them again. So are those whom Mailchimp
has refused for good since: it would refuse them again. A batch may therefore have less than 500 members anywhere, and
one in which nobody is left falls out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from shared.exports.closed_books import ClosedBooks
from shared.exports.database import open_database
from shared.exports.model import MEMBERS_PER_BATCH, Books, Plan, SegmentCount
from shared.exports.packs import PackMissing, read_bodies
from shared.exports.profiles import Counts, address_key, create_suppressed
from shared.segments.sql import quote_literal
from shared.storage import names
from shared.storage.documents import Documents


class _Body(msgspec.Struct):
    members: list[msgspec.Raw]
    update_existing: bool


_decoder = msgspec.json.Decoder(_Body)


class Remainder:
    """The members of ``plan`` in the batches that are not in its closed books. Tell ``leave_out`` who is not to be
    sent, then read the rest. Raises PackMissing when they have been deleted."""

    def __init__(self, documents: Documents, plan: Plan, closed: ClosedBooks, work_dir: Path) -> None:
        self._documents = documents
        self._plan = plan
        members = work_dir / "earlier-members.parquet"
        if not documents.download(names.members(plan.export_id, plan.attempt), members):
            raise PackMissing(plan.export_id)
        self._connection = open_database(work_dir, "remainder")
        self._connection.execute("CREATE TABLE done AS SELECT unnest($1::BIGINT[]) AS batch", [closed.batches])
        self._connection.execute(f"""
            CREATE TABLE remaining AS
            SELECT position, position // {MEMBERS_PER_BATCH} AS earlier, {address_key("email")} AS address,
                   email, segment, file, row, payload, tags
            FROM read_parquet({quote_literal(str(members))})
            WHERE position // {MEMBERS_PER_BATCH} NOT IN (SELECT batch FROM done)""")

    def close(self) -> None:
        self._connection.close()

    def leave_out(self, archived: Sequence[str], refused: Path | None, at: datetime) -> None:
        """Take out the people whose contacts are ``archived`` and those who have been ``refused`` and are left out at
        this moment, as ``create_suppressed`` finds them; number the others for sending."""
        create_suppressed(self._connection, "remaining", archived, refused, at)
        self._connection.execute("""
            CREATE TABLE left_out AS
            SELECT r.*, s.code, s.message, s.refused_at, s.until
            FROM remaining r JOIN suppressed s USING (address)""")
        self._connection.execute(f"""
            CREATE TABLE members AS
            SELECT (dense_rank() OVER (ORDER BY earlier) - 1) * {MEMBERS_PER_BATCH}
                   + row_number() OVER (PARTITION BY earlier ORDER BY position) - 1 AS position,
                   earlier, email, segment, file, row, payload, tags
            FROM remaining ANTI JOIN left_out USING (position)""")

    @property
    def batches(self) -> int:
        """How many there are to send."""
        return int(self._all("SELECT count(DISTINCT earlier) FROM members")[0][0])

    def counts(self, tags: Sequence[str]) -> Counts:
        """The first part of the books: who is left is what is read. ``tags``: those of the segments, in their order."""
        first = {int(s): int(c) for s, c in self._all("SELECT segment, count(*) FROM remaining GROUP BY segment")}
        sets = [
            (set(json.loads(text)), int(c)) for text, c in self._all("SELECT tags, count(*) FROM members GROUP BY tags")
        ]
        segments = [
            SegmentCount(
                name=segment.name,
                tag=tag,
                rows=first.get(number, 0),
                members=first.get(number, 0),
                tagged=sum(count for carried, count in sets if segment.tag in carried),
            )
            for number, (segment, tag) in enumerate(zip(self._plan.segments, tags, strict=True))
        ]
        people = sum(first.values())
        reasons = {
            code: int(c)
            for code, c in self._all("SELECT code, count(*) FROM left_out GROUP BY code ORDER BY 2 DESC, 1")
        }
        [(until,)] = self._all("SELECT min(until) FROM left_out")
        return Counts(
            segments=segments,
            invalid_reasons={},
            suppressed_reasons=reasons,
            left_out_until=until.replace(tzinfo=UTC) if until is not None else None,
            books=Books(rows_read=people, members=people, suppressed=sum(reasons.values())),
        )

    def bodies(self) -> Iterator[tuple[int, bytes]]:
        """The request bodies by their new batch number, in order. Raises PackMissing."""
        taken_out = dict(
            self._all(f"""
                SELECT earlier, list(l.position % {MEMBERS_PER_BATCH}) FILTER (l.position IS NOT NULL)
                FROM (SELECT DISTINCT earlier FROM members) LEFT JOIN left_out l USING (earlier)
                GROUP BY earlier ORDER BY earlier""")
        )
        for number, (batch, body) in enumerate(read_bodies(self._documents, self._plan, taken_out)):
            places = taken_out[batch]
            yield number, _without(body, set(places)) if places else body

    def write_members(self, path: Path) -> None:
        """The Parquet file of members, as that of ``Profiles``."""
        self._copy("SELECT position, email, segment, file, row, payload, tags FROM members ORDER BY position", path)

    def write_left_out(self, path: Path) -> None:
        """The Parquet file of the rows that are not sent, as that of ``Profiles``."""
        self._copy(
            """SELECT segment, file, row, left(email, 320) AS email, code, CAST(NULL AS VARCHAR) AS merge_tag,
                      message, refused_at, until
               FROM left_out ORDER BY position""",
            path,
        )

    def _copy(self, query: str, path: Path) -> None:
        self._connection.execute(
            f"COPY ({query}) TO {quote_literal(str(path))} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 50000)"
        )

    def _all(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()


def _without(body: bytes, places: set[int]) -> bytes:
    """The body without the members at these places."""
    given = _decoder.decode(body)
    given.members = [member for place, member in enumerate(given.members) if place not in places]
    return msgspec.json.encode(given)
