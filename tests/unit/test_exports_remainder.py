"""What is left of an export: nobody is in it who has a result, and it leaves out the same people as a full export."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import pytest

from shared.exports.closed_books import ClosedBooks
from shared.exports.merge_values import merge_value
from shared.exports.model import Books, LeftOut, Plan, SegmentCount, Tally
from shared.exports.packs import PackMissing, write_packs
from shared.exports.profiles import Counts, Profiles
from shared.exports.refusal_table import Refusal, RefusalTable
from shared.exports.refusals import Remembered
from shared.exports.remainder import Remainder
from shared.segments.formats import PinnedSegment
from shared.storage import names
from tests.unit.fake_documents import FakeDocuments
from tests.unit.plans import a_plan
from tests.unit.test_exports_profiles import END, NOW, Row, RowsReader

TAGS = ("VIP", "Readers")
PEOPLE = 1203
VALUES = [merge_value("LTV", "number", "s.c1")]
SEGMENTS: list[list[Row]] = [
    [(f"Person{n}@mail.example", None) for n in range(300)],
    [(f"person{n}@mail.example", str(n)) for n in range(PEOPLE)],
]


@dataclass
class Rest:
    """What is read of an export, or of what is left of one. ``left_out`` has segment, row, address, code, words and
    end of each who is left out."""

    counts: Counts
    bodies: list[list[str]]
    tags: list[list[str]]
    left_out: list[tuple[Any, ...]]
    members: list[tuple[Any, ...]]


@contextmanager
def profiles_in(folder: Path) -> Iterator[Profiles]:
    with closing(Profiles(folder, memory_limit="100MB", threads=1)) as profiles:
        reader = RowsReader(SEGMENTS)
        for name in TAGS:
            source = PinnedSegment(name=name, kind="csv", files=())
            profiles.load(reader, source, ["Email", "Points"], lambda: None)
        profiles.match()
        yield profiles


def rows_of(file: Path, columns: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT {columns} FROM read_parquet('{file}')").fetchall()


def remember(folder: Path, codes: dict[str, str], until: datetime = END) -> Path:
    """A memory of an audience in which these addresses were refused, with the code of each."""
    with closing(RefusalTable(folder)) as table:
        table.add(
            Refusal(address, code, f"{address} was refused", NOW, until - timedelta(hours=number), "export", number)
            for number, (address, code) in enumerate(codes.items())
        )
        table.write(folder / "refused.parquet")
    return folder / "refused.parquet"


def read(source: Profiles | Remainder, folder: Path) -> Rest:
    if isinstance(source, Profiles):
        found = list(source.bodies(VALUES, TAGS))
        source.write_members(folder / "members.parquet", VALUES)
    else:
        found = list(source.bodies())
        source.write_members(folder / "members.parquet")
    source.write_left_out(folder / "left-out.parquet")
    assert [batch for batch, _ in found] == list(range(len(found)))
    bodies = [json.loads(body)["members"] for _, body in found]
    return Rest(
        source.counts(TAGS),
        [[member["email_address"] for member in body] for body in bodies],
        [member["tags"] for body in bodies for member in body],
        rows_of(folder / "left-out.parquet", "segment, file, row, email, code, merge_tag, message, refused_at, until"),
        rows_of(folder / "members.parquet", "position, email, segment, file, row, payload, tags"),
    )


def full_export(archived: Sequence[str], refused: dict[str, str], at: datetime = NOW) -> Rest:
    """What an export sends that reads the segments."""
    with tempfile.TemporaryDirectory() as name, profiles_in(Path(name)) as profiles:
        profiles.suppress(archived, remember(Path(name), refused), at)
        return read(profiles, Path(name))


def left_of_export(
    archived: Sequence[str], refused: dict[str, str], at: datetime = NOW, done: Sequence[int] = ()
) -> Rest:
    """What is sent of an export from which nobody had to be left out, and which has these batches in its books."""
    documents = FakeDocuments()
    with tempfile.TemporaryDirectory() as name, profiles_in(Path(name)) as profiles:
        profiles.suppress(())
        plan = a_plan(
            account_id="acc1",
            audience_id="aud1",
            attempt="a1",
            lanes=(0, 1),
            members=PEOPLE,
            batches=3,
            segments=[SegmentCount(name=tag, tag=tag) for tag in TAGS],
        )
        write_packs(documents.as_documents(), plan, profiles.bodies(VALUES, TAGS), lambda: None)
        profiles.write_members(Path(name) / "members.parquet", VALUES)
        documents.write(names.members("e1", "a1"), (Path(name) / "members.parquet").read_bytes())
        return read_rest(documents, plan, done, archived, refused, at)


def read_rest(
    documents: FakeDocuments,
    plan: Plan,
    done: Sequence[int],
    archived: Sequence[str],
    refused: dict[str, str],
    at: datetime,
) -> Rest:
    closed = ClosedBooks(books=Books(), tally=Tally(), rejected_reasons={}, batches=list(done))
    with tempfile.TemporaryDirectory() as name:
        file = remember(Path(name), refused) if refused else None
        with closing(Remainder(documents.as_documents(), plan, closed, Path(name))) as remainder:
            remainder.leave_out(archived, file, at)
            rest = read(remainder, Path(name))
            assert remainder.batches == len(rest.bodies)
            return rest


ARCHIVED = ["PERSON3@mail.example", "person900@mail.example", "stranger@mail.example"]
REFUSED = {
    "person900@mail.example": "forgotten",
    "PERSON4@mail.example": "complianceState",
    "person5@mail.example": "forgotten",
    "person501@mail.example": "forgotten",
    "nobody@mail.example": "invalidAddress",
}


@pytest.mark.parametrize("at", [NOW, END - timedelta(hours=2), END])
def test_the_rest_leaves_out_and_lists_the_same_people_as_a_full_export(at: datetime) -> None:
    """In any letter case; with the words of Mailchimp; who is archived too counts as archived; and who is tried again,
    because their time is over, in neither."""
    full, rest = full_export(ARCHIVED, REFUSED, at), left_of_export(ARCHIVED, REFUSED, at)
    assert rest.left_out == full.left_out
    assert len(rest.left_out) == {NOW: 5, END - timedelta(hours=2): 3, END: 2}[at]
    assert [*chain(*rest.bodies)] == [*chain(*full.bodies)]
    assert rest.tags == full.tags
    assert [row[1:] for row in rest.members] == [row[1:] for row in full.members]
    assert list(rest.counts.suppressed_reasons.items()) == list(full.counts.suppressed_reasons.items())
    assert rest.counts.left_out_until == full.counts.left_out_until
    assert (rest.counts.books.members, rest.counts.books.suppressed) == (PEOPLE, len(rest.left_out))
    assert [count.tagged for count in rest.counts.segments] == [count.tagged for count in full.counts.segments]


def test_nobody_is_in_the_rest_who_has_a_result() -> None:
    rest = left_of_export(["person0@mail.example", "person600@mail.example"], {"person601@mail.example": "x"}, done=[1])
    assert [len(body) for body in rest.bodies] == [499, 203]
    assert rest.bodies[0] == [f"Person{n}@mail.example" for n in range(1, 300)] + [
        f"person{n}@mail.example" for n in range(300, 500)
    ]
    assert rest.bodies[1] == [f"person{n}@mail.example" for n in range(1000, PEOPLE)]
    assert rest.counts.suppressed_reasons == {"archived": 1}, "the others are in the books of the export before"
    assert [row[0] for row in rest.members] == [*range(499), *range(500, 703)], "a batch keeps its number"


def test_a_batch_in_which_nobody_is_left_falls_out() -> None:
    refused = {f"person{n}@mail.example": "forgotten" for n in range(500, 1001)}
    rest = left_of_export([], refused)
    assert [len(body) for body in rest.bodies] == [500, 202]
    assert rest.bodies[1] == [f"person{n}@mail.example" for n in range(1001, PEOPLE)]
    assert [row[0] for row in rest.members] == [*range(500), *range(500, 702)]


def test_of_a_rest_in_which_nobody_is_left_nothing_is_sent() -> None:
    rest = left_of_export([], {f"person{n}@mail.example": "forgotten" for n in range(PEOPLE)})
    assert (rest.bodies, rest.members) == ([], [])
    assert rest.counts.books == Books(rows_read=PEOPLE, members=PEOPLE, suppressed=PEOPLE)


def test_an_export_whose_list_of_members_is_gone_has_no_rest(tmp_path: Path) -> None:
    plan = Plan.model_construct(export_id="e1", attempt="a1")
    closed = ClosedBooks(books=Books(), tally=Tally(), rejected_reasons={})
    with pytest.raises(PackMissing):
        Remainder(FakeDocuments().as_documents(), plan, closed, tmp_path)


# -- what keeps them out ---------------------------------------------------------------------------------------------

SOON, LATER = NOW + timedelta(days=1), NOW + timedelta(days=2)


def kept_out(until: datetime | None, before: LeftOut | None) -> LeftOut | None:
    return Remembered(file=None, at=NOW, version="v2").keeps_out(until, before)


def test_nothing_keeps_out_nobody() -> None:
    assert kept_out(None, None) is None


def test_the_first_whose_time_is_over_decides_whichever_export_left_them_out() -> None:
    assert kept_out(SOON, None) == LeftOut(until=SOON, memory="v2")
    assert kept_out(None, LeftOut(until=SOON, memory="v2")) == LeftOut(until=SOON, memory="v2")
    assert kept_out(SOON, LeftOut(until=LATER, memory="v2")) == LeftOut(until=SOON, memory="v2")
    assert kept_out(LATER, LeftOut(until=SOON, memory="v2")) == LeftOut(until=SOON, memory="v2")


@pytest.mark.parametrize("then", ["v1", ""])
def test_whom_the_export_before_left_out_may_have_been_cleared_since(then: str) -> None:
    assert kept_out(LATER, LeftOut(until=SOON, memory=then)) == LeftOut(until=SOON, memory="")
