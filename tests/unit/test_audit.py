"""The audit log: what a change leaves, that nothing takes it away again, and how it is found."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.audit import log
from shared.audit.log import AppendOnly, AuditLog, AuditQuery, blob_name
from shared.audit.model import AuditRecord, TargetType, record_id
from shared.destinations.errors import DestinationChanged, DestinationError
from shared.destinations.requests import ConsentRequest, DestinationPatch
from shared.people import Person
from tests.unit.fake_documents import FakeDocuments
from tests.unit.setup_fakes import ADA, KEY, NOW, Setup

GRACE = Person(id="grace-id", name="Grace@contoso.example")


class CountingDocuments(FakeDocuments):
    """Counts what is read, and remembers which prefixes are listed."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.listed: list[str] = []
        self._count = threading.Lock()

    def read(self, name: str) -> Any:
        with self._count:
            self.reads += 1
        return super().read(name)

    def names(self, prefix: str) -> Any:
        self.listed.append(prefix)
        return super().names(prefix)


def record(
    at: datetime,
    unique: str = "1",
    *,
    action: str = "destination.configured",
    who: Person = ADA,
    target: tuple[TargetType, str] = ("destination", "d1"),
) -> AuditRecord:
    kind, target_id = target
    return AuditRecord(
        id=record_id(at, unique),
        at=at,
        who=who,
        action=action,
        target_type=kind,
        target_id=target_id,
        target_name="Newsletter",
    )


def log_of(*records: AuditRecord) -> tuple[AuditLog, CountingDocuments]:
    documents = CountingDocuments()
    written = AuditLog(documents)
    for each in records:
        written.append(each)
    return written, documents


def every_page(audit: AuditLog, query: AuditQuery, top: int) -> list[list[str]]:
    pages: list[list[str]] = []
    after: str | None = None
    while True:
        page = audit.newest(query, after=after, top=top)
        pages.append([each.id for each in page.records])
        if page.next_after is None:
            return pages
        after = page.next_after


# -- what a change leaves ----------------------------------------------------------------------------------------


def test_a_change_leaves_who_what_when_before_and_after() -> None:
    setup = Setup()
    stored = setup.created()
    setup.clock.pass_(seconds=5)
    setup.service.patch(stored.destination.id, DestinationPatch.model_validate({"displayName": "Weekly"}), GRACE)
    left = setup.audit_records()[-1]
    assert (left.who, left.action, left.at) == (GRACE, "destination.configured", NOW + timedelta(seconds=5))
    assert (left.target_type, left.target_id, left.target_name) == ("destination", stored.destination.id, "Weekly")
    (change,) = left.changes
    assert (change.property, change.before, change.after) == ("displayName", "Newsletter", "Weekly")


@pytest.mark.parametrize(("name", "cleared"), [("audience", "audienceId"), ("dataMatching", "dataMatching")])
def test_what_is_taken_away_is_recorded_too(name: str, cleared: str) -> None:
    setup = Setup()
    stored = setup.ready()
    setup.patch(stored, **{cleared: None})
    (change,) = setup.audit_records()[-1].changes
    assert (change.property, change.after) == (name, None)
    assert change.before


def test_a_change_that_changes_nothing_leaves_nothing() -> None:
    setup = Setup()
    stored = setup.ready()
    before = setup.audit_records()
    setup.patch(stored, segments=["Gold"])
    setup.service.set_export_user(stored.destination.id, ADA)
    assert setup.audit_records() == before


def test_a_refused_or_conflicting_change_leaves_nothing() -> None:
    setup = Setup()
    stored = setup.ready()
    setup.created("Other")
    before = setup.audit_records()
    for refused in ({"segments": ["Nope"]}, {"displayName": "Other"}, {"audienceId": "nope"}):
        with pytest.raises(DestinationError):
            setup.patch(stored, **refused)
    with pytest.raises(DestinationChanged):
        setup.patch(stored, if_match='"0x0"', enabled=False)
    with pytest.raises(DestinationError):
        setup.service.create("Without consent", None, ADA)
    assert setup.audit_records() == before


def test_no_record_holds_the_key_its_end_or_where_it_lies() -> None:
    setup = Setup()
    stored = setup.ready()
    setup.connections.sign_in_with_api_key(stored.destination.id, KEY, GRACE)
    secret = setup.store.get(stored.destination.id).destination.sign_in
    assert secret.secret_name
    assert secret.secret_hint
    for data, _ in setup.audit_documents.blobs.values():
        assert KEY.encode() not in data
        assert KEY[-9:].encode() not in data
        assert secret.secret_name.encode() not in data


# -- a crash between the change and its record ------------------------------------------------------------------------


class DiesBeforeTheRecord:
    """While it is in use, no new record gets into the log; those that are there already do no harm."""

    def __init__(self, setup: Setup) -> None:
        self._documents = setup.audit_documents
        self._create = setup.audit_documents.create

    def __enter__(self) -> None:
        self._documents.create = self._die  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        self._documents.create = self._create  # type: ignore[method-assign]

    def _die(self, name: str, data: bytes, metadata: Any = None) -> str:
        if name in self._documents.blobs:
            return self._create(name, data)
        raise ServiceRequestError("the container does not answer")


def test_a_record_that_a_crash_kept_from_the_log_is_written_by_the_timer_once() -> None:
    setup = Setup()
    stored = setup.created()
    with DiesBeforeTheRecord(setup), pytest.raises(ServiceRequestError):
        setup.service.set_consent(stored.destination.id, ConsentRequest(agreed=False), ADA)
    assert setup.store.get(stored.destination.id).destination.consent.withdrawn_by == ADA.name
    assert len(setup.audit_records()) == 1
    for _ in range(3):
        setup.store.log_recent_changes()
    assert [each.action for each in setup.audit_records()] == ["destination.created", "destination.consentWithdrawn"]


def test_the_timer_looks_after_a_change_however_long_ago_it_was_but_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup()
    stored = setup.created()
    setup.audit_documents.blobs.clear()
    setup.clock.pass_(days=30)
    written: list[str] = []
    create = setup.audit_documents.create

    def counted(name: str, data: bytes) -> str:
        written.append(name)
        return create(name, data)

    monkeypatch.setattr(setup.audit_documents, "create", counted)
    for _ in range(3):
        setup.store.log_recent_changes()
    assert len(written) == 1
    assert len(setup.audit_records()) == 1
    setup.patch(stored, displayName="Weekly")
    written.clear()
    for _ in range(3):
        setup.store.log_recent_changes()
    assert len(written) == 1


def test_the_next_change_makes_sure_of_the_record_of_the_one_before() -> None:
    setup = Setup()
    stored = setup.created()
    with DiesBeforeTheRecord(setup), pytest.raises(ServiceRequestError):
        setup.patch(stored, displayName="Weekly")
    setup.patch(stored, displayName="Monthly")
    names = [each.after for left in setup.audit_records() for each in left.changes if each.property == "displayName"]
    assert names == ["Newsletter", "Weekly", "Monthly"]


def test_nothing_is_changed_while_the_record_before_cannot_be_written() -> None:
    setup = Setup()
    stored = setup.created()
    setup.audit_documents.blobs.clear()
    setup.audit_documents.fault = ServiceRequestError("the container does not answer")
    with pytest.raises(ServiceRequestError):
        setup.patch(stored, displayName="Weekly")
    assert setup.store.get(stored.destination.id) == stored


# -- append only -------------------------------------------------------------------------------------------------


def test_the_log_knows_no_way_to_change_or_delete_a_record() -> None:
    def public(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}

    assert public(AuditLog) == {"append", "newest"}
    assert public(AppendOnly) == {"create", "read", "names", "beginnings"}
    assert set(inspect.signature(AuditLog.__init__).parameters) == {"self", "documents"}


def test_a_record_is_never_written_over() -> None:
    first = record(NOW)
    audit, documents = log_of(first)
    kept = dict(documents.blobs)
    audit.append(first.model_copy(update={"action": "destination.removed", "who": GRACE}))
    assert documents.blobs == kept


# -- finding -----------------------------------------------------------------------------------------------------


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
