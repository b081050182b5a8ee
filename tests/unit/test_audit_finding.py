"""Records of the audit log are found again: page by page, by month, by filter, and with how many reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from shared.audit import log
from shared.audit.log import AuditLog, AuditQuery, blob_name
from shared.audit.model import AuditRecord
from tests.unit.audit_records import GRACE, log_of, record
from tests.unit.setup_fakes import ADA, NOW


def every_page(audit: AuditLog, query: AuditQuery, top: int) -> list[list[str]]:
    pages: list[list[str]] = []
    after: str | None = None
    while True:
        page = audit.newest(query, after=after, top=top)
        pages.append([each.id for each in page.records])
        if page.next_after is None:
            return pages
        after = page.next_after


def test_records_lie_in_a_folder_per_month() -> None:
    assert blob_name(record(datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)).id) == (
        "2026-01/20260102T030405000006Z-1.json"
    )


def spread(months: Sequence[tuple[int, int]] = ((2025, 12), (2026, 1), (2026, 3)), days: int = 4) -> list[AuditRecord]:
    """Records of several months, the oldest first."""
    return [
        record(datetime(year, month, day, 12, tzinfo=UTC), f"{number}")
        for year, month in months
        for day in range(1, days + 1)
        for number in range(2)
    ]


@pytest.mark.parametrize("top", [1, 2, 3, 7, 8, 23, 24, 25, 200])
def test_pages_follow_each_other_from_the_newest_to_the_oldest(top: int) -> None:
    records = spread()
    audit, documents = log_of(*records)
    pages = every_page(audit, AuditQuery(), top)
    assert [each for page in pages for each in page] == [each.id for each in reversed(records)]
    assert all(len(page) == top for page in pages[:-1])
    assert documents.reads == len(records), "each record is read once, and none that is not shown"


@pytest.mark.parametrize("top", [1, 2, 3, 7, 23, 24, 25])
def test_pages_of_records_that_have_to_be_read_follow_each_other_too(top: int) -> None:
    records = spread()
    audit, _ = log_of(*records)
    pages = every_page(audit, AuditQuery(who=ADA.id), top)
    assert [each for page in pages for each in page] == [each.id for each in reversed(records)]
    assert all(len(page) == top for page in pages[:-1])


def test_an_empty_log_has_one_empty_page() -> None:
    audit, _ = log_of()
    assert every_page(audit, AuditQuery(), 50) == [[]]


def test_a_page_neither_repeats_nor_misses_anything_when_records_come_in() -> None:
    records = spread()
    audit, _ = log_of(*records)
    first = audit.newest(AuditQuery(), top=5)
    audit.append(record(datetime(2026, 3, 9, tzinfo=UTC), "later"))
    second = audit.newest(AuditQuery(), after=first.next_after, top=200)
    assert [each.id for each in [*first.records, *second.records]] == [each.id for each in reversed(records)]


def test_only_months_within_the_time_are_listed_and_of_a_month_only_what_may_fit() -> None:
    audit, documents = log_of(*spread())
    audit.newest(AuditQuery(since=datetime(2026, 1, 2, tzinfo=UTC), until=datetime(2026, 1, 4, tzinfo=UTC)), top=50)
    assert documents.listed == ["2026-01/2026010"]
    documents.listed.clear()
    audit.newest(AuditQuery(), top=3)
    assert documents.listed == ["2026-03/202603"], "the newest month is enough for the first page"


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (NOW, None, {"a", "b", "c"}),
        (NOW + timedelta(microseconds=1), None, {"b", "c"}),
        (None, NOW + timedelta(hours=1), {"a"}),
        (None, NOW + timedelta(hours=1, microseconds=1), {"a", "b"}),
        (NOW, NOW, set()),
        (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), {"a", "b", "c"}),
        (datetime(300, 1, 1, tzinfo=UTC), None, {"a", "b", "c"}),
        (NOW.astimezone(UTC) + timedelta(days=20), None, {"c"}),
    ],
)
def test_the_time_begins_with_from_and_ends_before_to(
    since: datetime | None, until: datetime | None, expected: set[str]
) -> None:
    audit, _ = log_of(record(NOW, "a"), record(NOW + timedelta(hours=1), "b"), record(NOW + timedelta(days=40), "c"))
    found = audit.newest(AuditQuery(since=since, until=until), top=50).records
    assert {each.id.partition("-")[2] for each in found} == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (AuditQuery(actions=frozenset({"schedule.changed"})), {"b"}),
        (AuditQuery(actions=frozenset({"schedule.changed", "export.started"})), {"b", "c"}),
        (AuditQuery(target_type="destination"), {"a", "d"}),
        (AuditQuery(target_id="d2"), {"d"}),
        (AuditQuery(target_type="export", target_id="d2"), set()),
        (AuditQuery(who="grace-id"), {"c", "d"}),
        (AuditQuery(who="gRACE@contoso.example"), {"c", "d"}),
        (AuditQuery(who="GRACE-ID"), set()),
        (AuditQuery(who="Grace"), set()),
        (AuditQuery(who="grace-id", actions=frozenset({"export.started"})), {"c"}),
        (AuditQuery(who="grace-id", since=NOW + timedelta(hours=3)), {"d"}),
    ],
)
def test_filters_have_to_fit_all_at_once(query: AuditQuery, expected: set[str]) -> None:
    audit, _ = log_of(
        record(NOW, "a"),
        record(NOW + timedelta(hours=1), "b", action="schedule.changed", target=("schedule", "schedule")),
        record(NOW + timedelta(hours=2), "c", action="export.started", target=("export", "e1"), who=GRACE),
        record(NOW + timedelta(hours=3), "d", target=("destination", "d2"), who=GRACE),
    )
    found = audit.newest(query, top=50).records
    assert {each.id.partition("-")[2] for each in found} == expected


def test_a_filter_that_looks_inside_reads_on_until_the_page_is_full() -> None:
    records = [record(NOW + timedelta(seconds=n), f"{n}", who=GRACE if n % 90 == 0 else ADA) for n in range(450)]
    audit, _ = log_of(*records)
    pages = every_page(audit, AuditQuery(who="grace-id"), 2)
    assert [each for page in pages for each in page] == [records[n].id for n in (360, 270, 180, 90, 0)]
    assert [len(page) for page in pages] == [2, 2, 1]


def test_one_call_reads_only_so_many_records_and_says_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "RECORDS_READ_AT_MOST", 100)
    records = [record(NOW + timedelta(seconds=n), f"{n}", who=GRACE if n in {5, 250} else ADA) for n in range(300)]
    audit, documents = log_of(*records)
    page = audit.newest(AuditQuery(who="grace-id"), top=50)
    assert documents.reads == 100
    assert [each.id for each in page.records] == [records[250].id]
    assert page.next_after == records[200].id
    assert every_page(audit, AuditQuery(who="grace-id"), 50) == [[records[250].id], [], [records[5].id]]


def test_strangers_blobs_in_the_container_are_left_alone() -> None:
    audit, documents = log_of(record(NOW))
    for name in ("readme.txt", "2026-11/notes.txt", "2026-11/20261199.json", "backup/20261123T120000000000Z-1.json"):
        documents.create(name, b"not a record")
    assert len(audit.newest(AuditQuery(), top=50).records) == 1
