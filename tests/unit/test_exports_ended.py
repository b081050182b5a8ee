"""Every export that ends says so in one line, with its books: alerts and the workbook of infra/ live on it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from shared.audit.log import AuditLog
from shared.destinations.store import DestinationStore
from shared.exports.finish import Finisher, FinishTools
from shared.exports.messages import ExportMessage
from shared.exports.model import Export, Problem, Status
from shared.exports.records import ExportRecords
from shared.exports.refusals import Refusals
from shared.exports.resume import RESUMABLE_FOR
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.exports.view import view_of
from shared.storage import names
from shared.storage.leases import Leases
from tests.unit.exports_in_memory import NoSignals
from tests.unit.fake_documents import FakeDocuments
from tests.unit.plans import a_plan

START = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
END = START + timedelta(minutes=2)


class FreeLeases:
    """Everything is free."""

    @contextmanager
    def take(self, _name: str, *, create: bool = True) -> Iterator[object]:
        yield self


@pytest.fixture
def store() -> ExportStore:
    found = ExportStore(FakeDocuments().as_documents(), lambda: END)
    found.create(
        Export(
            id="e1",
            destination_id="d1",
            destination_name="Spring",
            trigger="scheduled",
            requested_by="schedule",
            created_at=START,
            started_at=START,
        )
    )
    found.move("e1", Status.PREPARING)
    return found


@pytest.fixture
def finisher(store: ExportStore) -> Finisher:
    audit = AuditLog(FakeDocuments().as_documents())
    destinations = DestinationStore(store.documents, audit, lambda: END, lambda: "0f")
    tools = FinishTools(
        store=store,
        destinations=destinations,
        leases=cast("Leases", FreeLeases()),
        records=ExportRecords(audit),
        refusals=cast("Refusals", None),
        signals=cast("Signals", NoSignals()),
        now=lambda: END,
    )
    return Finisher(tools, max_connections=8, resumable_for=RESUMABLE_FOR)


def ended(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    (line,) = [json.loads(record.getMessage()) for record in caplog.records if "export.ended" in record.getMessage()]
    return dict(line)


def test_an_export_that_was_stopped_tells_its_destination_its_status_and_the_reason(
    store: ExportStore, finisher: Finisher, caplog: pytest.LogCaptureFixture
) -> None:
    store.fail("e1", Problem(code="audienceNotFound", message="The audience is gone."))
    with caplog.at_level(logging.INFO):
        finisher.finish(ExportMessage(export_id="e1"))
    line = ended(caplog)
    assert (line["export"], line["destination"], line["trigger"]) == ("e1", "d1", "scheduled")
    assert (line["status"], line["problem"], line["seconds"]) == ("Failed", "audienceNotFound", 120.0)
    assert (line["rowsRead"], line["sent"], line["notSent"]) == (0, 0, 0)


def test_an_export_that_was_ended_by_a_host_whose_clock_is_behind_took_no_negative_time(
    store: ExportStore, finisher: Finisher, caplog: pytest.LogCaptureFixture
) -> None:
    def began_later(export: Export) -> None:
        export.created_at = export.started_at = END + timedelta(minutes=1)

    store.change("e1", began_later)
    store.fail("e1", Problem(code="audienceNotFound", message="The audience is gone."))
    with caplog.at_level(logging.INFO):
        finisher.finish(ExportMessage(export_id="e1"))
    assert ended(caplog)["seconds"] == 0
    export = store.find("e1")
    assert export is not None
    assert view_of(export, None, END).seconds == 0


def test_an_export_that_was_given_up_tells_it_too(finisher: Finisher, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        finisher.give_up("e1", Problem(code="internalError", message="Closing the books failed."))
    line = ended(caplog)
    assert (line["status"], line["problem"]) == ("Failed", "internalError")


def test_an_export_whose_clean_up_failed_again_and_again_tells_its_end_once(
    store: ExportStore, finisher: Finisher, caplog: pytest.LogCaptureFixture
) -> None:
    store.fail("e1", Problem(code="audienceNotFound", message="The audience is gone."))
    with caplog.at_level(logging.INFO):
        finisher.finish(ExportMessage(export_id="e1"))
        finisher.give_up("e1", Problem(code="internalError", message="Closing the books failed."))
    assert ended(caplog)["problem"] == "audienceNotFound"


def test_a_message_that_came_twice_may_hold_the_export_while_it_is_taken_off_the_list(finisher: Finisher) -> None:
    """The other one finds that it has ended, and cleans up itself; so does the sweeper's, should that one die."""
    store, documents = finisher._tools.store, cast("FakeDocuments", finisher._tools.store.documents)
    store.fail("e1", Problem(code="audienceNotFound", message="The audience is gone."))
    documents.leased = {names.active("e1")}
    finisher.finish(ExportMessage(export_id="e1"))
    export = store.find("e1")
    assert export is not None
    assert export.status is Status.FAILED
    assert [active.id for active in store.active()] == ["e1"]
    documents.leased = set()
    finisher.finish(ExportMessage(export_id="e1"))
    assert list(store.active()) == []


def test_an_export_that_was_given_up_is_taken_off_the_list_whatever_lanes_had_still_to_send(
    finisher: Finisher,
) -> None:
    """Nobody tells these lanes of it any more, so nobody waits for them. Whoever gave it up was cut off, or somebody
    prepared the export meanwhile."""
    store, documents = finisher._tools.store, cast("FakeDocuments", finisher._tools.store.documents)
    store.publish(a_plan("e1", lanes=(0, 1), members=600, batches=2))
    documents.leased = {names.active("e1")}
    finisher.give_up("e1", Problem(code="internalError", message="Closing the books failed."))
    documents.leased = set()
    documents.write(names.pack("e1", "1", 0, 0), b"profiles")
    finisher.finish(ExportMessage(export_id="e1"))
    assert list(store.active()) == []
    assert list(documents.list(names.all_batches("e1"))) == []


def test_the_line_holds_no_text_that_somebody_wrote(
    store: ExportStore, finisher: Finisher, caplog: pytest.LogCaptureFixture
) -> None:
    store.fail("e1", Problem(code="canceled", message="Canceled by ada@mail.example."))
    with caplog.at_level(logging.INFO):
        finisher.finish(ExportMessage(export_id="e1"))
    assert "Spring" not in json.dumps(ended(caplog))
    assert "@" not in json.dumps(ended(caplog))
