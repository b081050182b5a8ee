"""The history of exports: order, pages, filters, and what it costs with ten thousand of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from shared.exports.history import ExportFilter
from shared.exports.model import ENDED, Export, Status, Trigger, new_id, time_of
from shared.storage import names
from shared.storage.documents import Document, Entry
from tests.unit.exports_in_memory import ADA, NOW, ExportsInMemory, ready_destination


@pytest.fixture
def exports() -> ExportsInMemory:
    return ExportsInMemory()


def ids(exports: ExportsInMemory, wanted: ExportFilter | None = None, top: int = 50) -> list[str]:
    """What the list answers, turned page by page, ``top`` at a time."""
    found: list[str] = []
    while page := exports.service.list(wanted or ExportFilter(), before=found[-1] if found else None, top=top):
        assert len(page) <= top
        found += [view.id for view in page]
    return found


class Cost:
    """Counts what is asked of the documents, until ``patched`` is undone."""

    def __init__(self, exports: ExportsInMemory, patched: pytest.MonkeyPatch) -> None:
        self.read: Counter[str] = Counter()
        self.listed = 0
        self._read, self._list = exports.documents.read, exports.documents.list
        patched.setattr(exports.documents, "read", self._counted_read)
        patched.setattr(exports.documents, "list", self._counted_list)

    def _counted_read(self, name: str) -> Document | None:
        self.read[name] += 1
        return self._read(name)

    def _counted_list(self, prefix: str, *, metadata: bool = False) -> Iterator[Entry]:
        for entry in self._list(prefix, metadata=metadata):
            self.listed += 1
            yield entry


def test_an_id_tells_the_moment_whatever_the_time_zone(exports: ExportsInMemory) -> None:
    moment = datetime(2026, 11, 22, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=9)))
    assert new_id(moment, "x") == "20261121T180405000678Z-x"
    assert time_of(new_id(moment, "x")) == moment
    with pytest.raises(ValueError, match="time data"):
        time_of("something-else")


def test_the_newest_come_first_over_the_ends_of_days_months_and_years(exports: ExportsInMemory) -> None:
    exports.now = datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC)
    ages = [timedelta(0), timedelta(seconds=2), timedelta(days=1), timedelta(days=31), timedelta(days=80)]
    added = {age: exports.add(age) for age in (ages[n] for n in (3, 0, 4, 2, 1))}
    assert ids(exports) == [added[age] for age in ages]


@pytest.mark.parametrize("top", [1, 2, 7, 100])
def test_pages_neither_repeat_nor_miss_anything(exports: ExportsInMemory, top: int) -> None:
    added = [exports.add(timedelta(hours=5 * n)) for n in range(30)]
    assert ids(exports, top=top) == added


def test_an_export_that_starts_between_two_pages_does_not_move_the_second(exports: ExportsInMemory) -> None:
    added = [exports.add(timedelta(hours=n)) for n in range(6)]
    first = exports.service.list(top=3)
    exports.now += timedelta(minutes=1)
    exports.add()
    second = exports.service.list(before=first[-1].id, top=3)
    assert [view.id for view in [*first, *second]] == added


def test_every_filter_and_every_pair_of_them_finds_what_fits(exports: ExportsInMemory) -> None:
    triggers: tuple[Trigger, ...] = ("onDemand", "scheduled")
    stored: dict[str, Export] = {}
    for n in range(180):
        export_id = exports.add(
            timedelta(minutes=n * 7919 % (60 * 24 * 60)),
            destination=f"d{n % 3}",
            status=list(Status)[n // 3 % len(Status)],
            trigger=triggers[n // 7 % 2],
        )
        export = exports.store.find(export_id)
        assert export is not None
        stored[export_id] = export
    from_, to = NOW - timedelta(days=40), NOW - timedelta(days=9)
    tests: dict[str, tuple[Any, Callable[[Export], bool]]] = {
        "destination_id": ("d2", lambda export: export.destination_id == "d2"),
        "statuses": (
            frozenset({Status.FAILED, Status.WAITING}),
            lambda export: export.status in {Status.FAILED, Status.WAITING},
        ),
        "trigger": ("scheduled", lambda export: export.trigger == "scheduled"),
        "created_from": (from_, lambda export: export.created_at >= from_),
        "created_to": (to, lambda export: export.created_at < to),
    }
    for one, (value, fits) in tests.items():
        for other, (other_value, other_fits) in tests.items():
            wanted = ExportFilter(**{one: value, other: other_value})
            expected = sorted((e.id for e in stored.values() if fits(e) and other_fits(e)), reverse=True)
            assert expected, "the example is too small"
            assert ids(exports, wanted, top=9) == expected, (one, other)


def test_from_is_the_first_moment_of_a_time_and_to_the_first_after_it(exports: ExportsInMemory) -> None:
    hours = [exports.add(timedelta(hours=n)) for n in range(4)]
    wanted = ExportFilter(created_from=NOW - timedelta(hours=2), created_to=NOW)
    assert ids(exports, wanted) == hours[1:3]


@pytest.mark.parametrize("offset", [14, -14, 0])
@pytest.mark.parametrize("year", [1, 9999])
def test_the_ends_of_the_calendar_are_times_too(exports: ExportsInMemory, year: int, offset: int) -> None:
    added = exports.add()
    zone = timezone(timedelta(hours=offset))
    moment = datetime(1, 1, 1, tzinfo=zone) if year == 1 else datetime(9999, 12, 31, 23, 59, tzinfo=zone)
    later, earlier = ExportFilter(created_from=moment), ExportFilter(created_to=moment)
    assert (ids(exports, later), ids(exports, earlier)) == (([added], []) if year == 1 else ([], [added]))


def test_a_status_is_found_as_it_is_now(exports: ExportsInMemory) -> None:
    export_id = exports.add(status=Status.QUEUED)
    assert ids(exports, ExportFilter(statuses=frozenset({Status.QUEUED}))) == [export_id]
    exports.store.move(export_id, Status.PREPARING)
    assert ids(exports, ExportFilter(statuses=frozenset({Status.QUEUED}))) == []
    assert ids(exports, ExportFilter(statuses=frozenset({Status.PREPARING}))) == [export_id]


def test_an_export_that_goes_while_a_page_is_made_leaves_no_gap(exports: ExportsInMemory) -> None:
    added = [exports.add(timedelta(hours=n)) for n in range(6)]
    exports.documents.delete(names.export(added[1]))
    assert [view.id for view in exports.service.list(ExportFilter(destination_id="d1"), top=3)] == [
        added[0],
        added[2],
        added[3],
    ]


def test_a_refused_start_leaves_nothing_in_the_history(
    exports: ExportsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = ready_destination()
    running = exports.service.start(destination, trigger="onDemand", requested_by=ADA)
    monkeypatch.setattr(exports.store, "claim", lambda *_: running.id)
    monkeypatch.setattr(exports.store, "running", lambda *_: None)
    with pytest.raises(Exception, match="still running"):
        exports.service.start(destination, trigger="onDemand", requested_by=ADA)
    assert ids(exports) == ids(exports, ExportFilter(destination_id="d1")) == [running.id]


@pytest.fixture(scope="module")
def ten_thousand() -> ExportsInMemory:
    exports = ExportsInMemory()
    for n in range(10_000):
        failed = n == 9_000
        exports.add(
            timedelta(minutes=12 * n),
            destination="rare" if n % 999 == 0 else f"d{n % 20}",
            status=Status.FAILED if failed else Status.SUCCESSFUL,
        )
    return exports


@pytest.mark.parametrize(
    ("wanted", "found", "listed"),
    [
        (ExportFilter(), 50, 120),
        (ExportFilter(), 150, 360),
        (ExportFilter(created_to=NOW - timedelta(days=30)), 50, 240),
        (ExportFilter(created_from=NOW - timedelta(days=41), created_to=NOW - timedelta(days=40)), 50, 240),
        (ExportFilter(destination_id="rare"), 11, 11),
        (ExportFilter(destination_id="rare", statuses=frozenset({Status.SUCCESSFUL})), 11, 11),
        (ExportFilter(destination_id="nobody"), 0, 0),
        (ExportFilter(statuses=frozenset({Status.FAILED})), 1, 10_000),
        (ExportFilter(statuses=frozenset({Status.SUCCESSFUL})), 50, 120),
    ],
)
def test_of_ten_thousand_only_those_of_the_page_are_opened_and_few_are_listed(
    ten_thousand: ExportsInMemory, wanted: ExportFilter, found: int, listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = Cost(ten_thousand, monkeypatch)
    assert len(ten_thousand.service.list(wanted, top=max(found, 50))) == found
    assert cost.read.total() == found
    assert cost.listed <= listed


def test_all_statuses_that_end_an_export_are_told_when_it_ended(exports: ExportsInMemory) -> None:
    for status in Status:
        export_id = exports.add(status=status)
        entry = next(exports.documents.list(names.export(export_id), metadata=True))
        assert ("ended" in entry.metadata) == (status in ENDED)
