"""The table of those whom Mailchimp refuses for good: who is in it until when, who is taken off, how it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from shared.exports.refusal_table import Refusal, RefusalTable, Unreadable

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
END = NOW + timedelta(days=90)
TICK = timedelta(microseconds=1)


def refusal(
    address: str, position: int = 0, *, at: datetime = NOW, until: datetime = END, export: str = "e1"
) -> Refusal:
    return Refusal(address, "forgotten", "was deleted", at, until, export, position)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[RefusalTable]:
    with closing(RefusalTable(tmp_path)) as made:
        yield made


def held(table: RefusalTable, at: datetime = NOW) -> list[str]:
    return [each.email for each in table.page(at, None, None, 100)]


def members(folder: Path, addresses: Sequence[str], step: int = 1) -> Path:
    """An export's list of members: each at the position that is ``step`` behind the last one's."""
    rows = ", ".join(f"({number * step}, '{address}')" for number, address in enumerate(addresses))
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM (VALUES {rows}) t(position, email)) TO '{folder}/members.parquet'")
    return folder / "members.parquet"


def test_somebody_is_left_out_until_their_time_is_over_and_not_a_moment_longer(table: RefusalTable) -> None:
    table.add([refusal("ann@mail.example")])
    assert held(table, END - TICK) == ["ann@mail.example"]
    assert held(table, END) == []
    table.drop_expired(END - TICK)
    assert table.extent() == (1, END)
    table.drop_expired(END)
    assert table.extent() == (0, None)


def test_who_is_refused_again_is_held_once_as_of_the_last_time(table: RefusalTable) -> None:
    table.add([refusal("Ann@mail.example"), refusal("bob@mail.example", 1)])
    later = NOW + timedelta(days=1)
    table.add([refusal("ANN@mail.example", at=later, until=END + timedelta(days=1), export="e2")])
    assert held(table) == ["ANN@mail.example", "bob@mail.example"]
    assert table.extent() == (2, END)


def test_pages_show_the_newest_export_first_and_each_member_once(table: RefusalTable) -> None:
    table.add([refusal(f"old{n}@mail.example", n, export="e1") for n in range(3)])
    table.add([refusal(f"new{n}@mail.example", n, export="e2") for n in range(3)])
    found: list[str] = []
    behind = None
    while page := table.page(NOW, None, behind, 2):
        found += [each.email for each in page]
        behind = page[-1].place
    assert found == [f"{word}{n}@mail.example" for word in ("new", "old") for n in range(3)]


def test_whom_mailchimp_has_taken_is_taken_off(table: RefusalTable, tmp_path: Path) -> None:
    """Of an export of three batches the first and the last have a result; in the last one was refused again."""
    names = ("ann", "bob", "carl", "dora", "eve")
    sent = members(tmp_path, ["ANN@mail.example", *(f"{name}@mail.example" for name in ("bob", "eve", "carl"))], 400)
    table.add([refusal(f"{name}@mail.example", n) for n, name in enumerate(names)])
    assert table.drop_taken(sent, [0, 2], [1200], NOW + TICK) == 2
    assert held(table) == ["carl@mail.example", "dora@mail.example", "eve@mail.example"]


def test_who_was_refused_after_they_were_sent_stays(table: RefusalTable, tmp_path: Path) -> None:
    """By another export, which ended first: what Mailchimp said last counts."""
    sent = members(tmp_path, ["ann@mail.example", "bob@mail.example"])
    table.add([refusal("ann@mail.example", at=NOW - TICK), refusal("bob@mail.example", 1, at=NOW)])
    assert table.drop_taken(sent, [0], [], NOW) == 1
    assert held(table) == ["bob@mail.example"]


def test_addresses_are_taken_off_in_any_letter_case(table: RefusalTable) -> None:
    table.add([refusal("ann@mail.example"), refusal("bob@mail.example", 1)])
    assert table.drop(["ANN@mail.example", "nobody@mail.example"]) == 1
    assert held(table) == ["bob@mail.example"]
    assert table.drop_all() == 1


@pytest.mark.parametrize("to_change", [True, False])
def test_what_was_written_is_read_again(table: RefusalTable, tmp_path: Path, to_change: bool) -> None:
    made = refusal("Ann@mail.example", 7)
    table.add([made])
    table.write(tmp_path / "file.parquet")
    (tmp_path / "other").mkdir()
    with closing(RefusalTable(tmp_path / "other", tmp_path / "file.parquet", to_change=to_change)) as read:
        assert read.page(NOW, "forgotten", None, 10) == [made]
        assert read.page(NOW, "invalidAddress", None, 10) == []


def test_a_file_of_something_else_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        RefusalTable(tmp_path, members(tmp_path, ["ann@mail.example"]))
