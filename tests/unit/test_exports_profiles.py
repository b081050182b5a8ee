"""The books of generated segments: every row ends in exactly one column, and the bodies hold exactly the members."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.exports.merge_values import MergeValue, merge_value
from shared.exports.profiles import Counts, Profiles
from shared.exports.refusal_table import Refusal, RefusalTable
from shared.segments.formats import PinnedSegment
from shared.segments.reader import LoadedFile, LoadedSegment, SegmentReader

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
END = NOW + timedelta(days=90)

Row = tuple[str | None, str | None]
"""Address and points."""


class RowsReader(SegmentReader):
    """Stands in for SegmentReader: puts given rows into the table, in their order."""

    def __init__(self, segments: Sequence[Sequence[Row]]) -> None:
        self._segments = segments

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        segment: PinnedSegment,
        columns: Sequence[str],
        *,
        segment_number: int,
        first_file_number: int,
        work_dir: Path,
        check: Callable[[], None] = lambda: None,
    ) -> LoadedSegment:
        rows = self._segments[segment_number]
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (segment USMALLINT, file INTEGER, row BIGINT, c0 VARCHAR, c1 VARCHAR)"
        )
        if rows:
            connection.executemany(
                f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)",
                [(segment_number, first_file_number, number, *row) for number, row in enumerate(rows, 1)],
            )
        return LoadedSegment(len(rows), (LoadedFile(first_file_number, f"{segment.name}.csv", len(rows)),))


@dataclass
class Prepared:
    counts: Counts
    members: list[dict[str, Any]]


def refused_before(folder: Path, addresses: Sequence[str], until: datetime = END) -> Path:
    """A memory of an audience in which these addresses were refused."""
    table, file = RefusalTable(folder), folder / "refused.parquet"
    table.add(
        Refusal(address, "forgotten", "was deleted", NOW, until, "export", number)
        for number, address in enumerate(addresses)
    )
    table.write(file)
    table.close()
    return file


def prepare(
    segments: Sequence[Sequence[Row]], archived: Sequence[str] = (), refused: Sequence[str] = (), at: datetime = NOW
) -> Prepared:
    """What prepare makes of the segments: the counts, and the members of all bodies in order."""
    names = [f"S{number}" for number in range(len(segments))]
    values: list[MergeValue] = [merge_value("LTV", "number", "s.c1")]
    with tempfile.TemporaryDirectory() as folder:
        profiles = Profiles(Path(folder), memory_limit="100MB", threads=1)
        try:
            reader = RowsReader(segments)
            for name in names:
                source = PinnedSegment(name=name, kind="csv", files=())
                profiles.load(reader, source, ["Email", "Points"], lambda: None)
            profiles.match()
            profiles.check_values(values)
            profiles.suppress(archived, refused_before(Path(folder), refused), at)
            bodies = list(profiles.bodies(values, names))
        finally:
            counts = profiles.counts(names)
            profiles.close()
    assert [batch for batch, _ in bodies] == list(range(len(bodies)))
    parsed = [json.loads(body) for _, body in bodies]
    assert all(set(body) == {"members", "update_existing"} and body["update_existing"] is True for body in parsed)
    assert all(len(body["members"]) == 500 for body in parsed[:-1])
    return Prepared(counts, [member for body in parsed for member in body["members"]])


def expected(segments: Sequence[Sequence[Row]]) -> tuple[Counter[str], dict[str, tuple[str, set[str]]]]:
    """The books and the members, worked out one row at a time."""
    books: Counter[str] = Counter()
    members: dict[str, tuple[str, set[str]]] = {}
    for number, rows in enumerate(segments):
        seen: set[str] = set()
        for address, points in rows:
            books["rows"] += 1
            text = (address or "").strip(" \t\r\n\u00a0\u200b\ufeff")
            local, at, domain = text.partition("@")
            good = bool(local and at and "." in domain) and not any(c in text for c in " ,\t") and "@" not in domain
            good = good and not domain.startswith(".") and not domain.endswith(".")
            if not good or domain == "example.com" or (points not in {None, ""} and not str(points).isdigit()):
                books["invalid"] += 1
                continue
            key = text.lower()
            if key in seen:
                books["duplicates"] += 1
            elif key in members:
                books["merged"] += 1
            else:
                members[key] = (text, set())
            seen.add(key)
            members[key][1].add(f"S{number}")
    books["members"] = len(members)
    return books, members


locals_ = st.sampled_from(["anna", "ANNA", "Жанар", "жанар", "İpek", "ipek", "o'neil", 'a"b', "a\\b", "x+tag", ""])
domains = st.sampled_from(["mail.example", "MAIL.example", "пошта.example", "mail.example.", "mail", "example.com", ""])
addresses = st.one_of(
    st.none(),
    st.builds(lambda a, b: f"{a}@{b}", locals_, domains),
    st.builds(lambda a, b: f"  {a}@{b}\u00a0", locals_, domains),
    st.sampled_from(["", " ", "nobody", "a b@mail.example", "a,b@mail.example", "a@b@mail.example", "@", "\ufeff"]),
)
points = st.sampled_from([None, "", "1", "42", "many"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(addresses, points), max_size=12), min_size=1, max_size=4))
def test_every_row_ends_in_exactly_one_column(segments: list[list[Row]]) -> None:
    books, members = expected(segments)
    prepared = prepare(segments)

    counted = prepared.counts.books
    assert counted.rows_read == books["rows"]
    assert counted.invalid == books["invalid"] == sum(prepared.counts.invalid_reasons.values())
    assert counted.duplicates == books["duplicates"]
    assert counted.merged == books["merged"]
    assert counted.members == books["members"] == len(prepared.members)
    for count in prepared.counts.segments:
        assert count.rows == count.invalid + count.duplicates + count.merged + count.members
    assert [(m["email_address"], set(m["tags"])) for m in prepared.members] == list(members.values())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.tuples(addresses, points), max_size=12), min_size=1, max_size=4),
    st.lists(addresses.filter(bool), max_size=6, unique=True),
    st.lists(addresses.filter(bool), max_size=6, unique_by=lambda each: str(each).lower()),
)
def test_whoever_is_suppressed_is_a_member_and_is_sent_in_no_body(
    segments: list[list[Row]], archived: list[str], refused: list[str]
) -> None:
    _, members = expected(segments)
    blanks = " \t\r\n\u00a0\u200b\ufeff"
    archived, refused = ([each.strip(blanks) for each in given] for given in (archived, refused))
    as_archived = {each.lower() for each in archived} & members.keys()
    as_refused = {each.lower() for each in refused} & members.keys() - as_archived
    prepared = prepare(segments, archived, refused)
    counts = prepared.counts

    assert counts.books.members == len(members)
    assert counts.books.suppressed == len(as_archived | as_refused)
    assert counts.suppressed_reasons == {
        code: len(people) for code, people in (("archived", as_archived), ("forgotten", as_refused)) if people
    }
    assert counts.left_out_until == (END if as_refused else None)
    left = {key: member for key, member in members.items() if key not in as_archived | as_refused}
    assert [(m["email_address"], set(m["tags"])) for m in prepared.members] == list(left.values())
    tagged = [sum(f"S{number}" in tags for _, tags in left.values()) for number in range(len(segments))]
    assert [count.tagged for count in counts.segments] == tagged


def test_whose_time_is_over_is_sent_again() -> None:
    prepared = prepare([[("anna@mail.example", None)]], refused=["anna@mail.example"], at=END)
    assert prepared.counts.books.suppressed == 0
    assert prepared.counts.left_out_until is None


def test_new_contacts_are_subscribed_and_the_status_of_known_ones_is_never_sent() -> None:
    member = prepare([[("anna@mail.example", "7")]]).members[0]
    assert member == {
        "email_address": "anna@mail.example",
        "status_if_new": "subscribed",
        "merge_fields": {"LTV": 7},
        "tags": ["S0"],
    }


@pytest.mark.parametrize("count", [61, 62, 63, 130])
def test_a_person_may_be_in_any_number_of_segments(count: int) -> None:
    prepared = prepare([[("anna@mail.example", None)]] * count)
    assert prepared.members[0]["tags"] == [f"S{number}" for number in range(count)]
    assert prepared.counts.books.merged == count - 1


def test_suppressed_people_stay_in_the_books_and_out_of_the_bodies() -> None:
    segments: list[list[Row]] = [
        [("ANNA@mail.example", None), ("bert@mail.example", None)],
        [("anna@mail.example", None), ("carl@mail.example", None)],
    ]
    prepared = prepare(segments, archived=["Anna@mail.example", "stranger@mail.example"])
    assert [member["email_address"] for member in prepared.members] == ["bert@mail.example", "carl@mail.example"]
    books = prepared.counts.books
    assert (books.members, books.merged, books.suppressed) == (3, 1, 1)
    assert [count.tagged for count in prepared.counts.segments] == [1, 1]


def test_batches_hold_500_members_in_the_order_of_reading() -> None:
    prepared = prepare([[(f"person{n}@mail.example", None) for n in range(1203)]])
    assert [m["email_address"] for m in prepared.members] == [f"person{n}@mail.example" for n in range(1203)]


def test_a_row_whose_value_does_not_fit_gives_way_to_a_good_one_of_the_same_person() -> None:
    prepared = prepare([[("anna@mail.example", "many"), ("anna@mail.example", "3")]])
    assert prepared.counts.books.duplicates == 0
    assert prepared.counts.books.invalid == 1
    assert prepared.members[0]["merge_fields"] == {"LTV": 3}


class LongTexts(SegmentReader):
    """Stands in for SegmentReader: people of whom much is known."""

    PEOPLE = 12_000
    TEXTS = 12

    def __init__(self) -> None:
        pass

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        segment: PinnedSegment,
        columns: Sequence[str],
        *,
        segment_number: int,
        first_file_number: int,
        work_dir: Path,
        check: Callable[[], None] = lambda: None,
    ) -> LoadedSegment:
        texts = ", ".join(f"repeat(md5(concat(i, '-', {number})), 8) AS c{number}" for number in range(1, self.TEXTS))
        connection.execute(f"""
            CREATE TABLE {table} AS
            SELECT CAST({segment_number} AS USMALLINT) AS segment, {first_file_number} AS file, i AS row,
                   'person' || i || '@mail.test' AS c0, {texts}
            FROM range({self.PEOPLE}) people(i)""")
        return LoadedSegment(self.PEOPLE, (LoadedFile(first_file_number, "long.csv", self.PEOPLE),))


def test_bodies_of_people_of_whom_much_is_known_fit_into_the_memory(tmp_path: Path) -> None:
    values = [merge_value(f"T{number}", "text", f"s.c{number}") for number in range(1, LongTexts.TEXTS)]
    with closing(Profiles(tmp_path, memory_limit="160MB", threads=1)) as profiles:
        profiles.load(LongTexts(), PinnedSegment(name="S0", kind="csv", files=()), [], lambda: None)
        profiles.match()
        profiles.suppress(())
        bodies = list(profiles.bodies(values, ["S0"]))
    assert [batch for batch, _ in bodies] == list(range(LongTexts.PEOPLE // 500))
    assert {len(json.loads(body)["members"]) for _, body in bodies} == {500}
    assert sum(len(body) for _, body in bodies) > 32_000_000
