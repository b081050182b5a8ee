"""The app's timer over the running exports: one whose consent was withdrawn ends, also when the process died before it
could ask for that; and one that cannot be read does not hold up the others."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import cast
from unittest.mock import patch

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.audit.log import AuditLog
from shared.destinations.store import DestinationStore
from shared.exports.model import Status
from shared.exports.pace import Paces
from shared.exports.refusals import Refusals
from shared.exports.resume import resumable_until
from shared.exports.signals import Signals
from shared.exports.sweep import Sweeper, SweepTools
from shared.storage import names
from tests.unit.exports_in_memory import ADA, NOW, ExportsInMemory, ready_destination
from tests.unit.fake_documents import FakeDocuments


class Sweeping(ExportsInMemory):
    """With the destination ``d1`` and the app's timer."""

    def __init__(self, *, withdrawn: bool) -> None:
        super().__init__()
        documents = self.documents.as_documents()
        audit = AuditLog(FakeDocuments().as_documents())
        destinations = DestinationStore(documents, audit, lambda: self.now, lambda: "0f")
        destination = ready_destination()
        if withdrawn:
            destination.consent.withdrawn_by, destination.consent.withdrawn_at = ADA.name, NOW
        destinations.create(destination, ADA)
        tools = SweepTools(
            store=self.store,
            destinations=destinations,
            signals=cast("Signals", self.signals),
            paces=Paces(documents, lambda: self.now, most_lanes=8),
            refusals=lambda: cast("Refusals", None),
            now=lambda: self.now,
        )
        self.sweeper = Sweeper(tools, max_connections=8, max_wait=timedelta(hours=24), retention=timedelta(days=90))


@pytest.mark.parametrize("status", [Status.QUEUED, Status.PREPARING, Status.SENDING, Status.WAITING])
def test_the_timer_ends_an_export_that_nobody_asked_to_end(status: Status) -> None:
    product = Sweeping(withdrawn=True)
    export_id = product.add(status=status)
    product.sweeper.sweep()
    export = product.store.find(export_id)
    assert export is not None
    assert export.stop is not None
    assert (export.stop.status, export.stop.problem.code) == (Status.CANCELED, "consentWithdrawn")
    assert ("finish", export_id) in product.signals.sent
    until = resumable_until(product.store, export, None, export.books, NOW, timedelta(days=7))
    assert until is None, "nothing of it is kept to be sent later"


def test_exports_of_other_destinations_and_those_that_have_ended_go_on_as_they_were() -> None:
    product = Sweeping(withdrawn=True)
    ended, other = product.add(status=Status.SUCCESSFUL), product.add(destination="d2", status=Status.SENDING)
    product.sweeper.sweep()
    assert [export.stop for each in (ended, other) if (export := product.store.find(each))] == [None, None]


def test_an_export_with_consent_goes_on() -> None:
    product = Sweeping(withdrawn=False)
    export_id = product.add(status=Status.SENDING)
    product.sweeper.sweep()
    export = product.store.find(export_id)
    assert export is not None
    assert export.stop is None


def test_an_export_that_cannot_be_read_does_not_hold_up_the_others() -> None:
    product = Sweeping(withdrawn=False)
    broken, queued = product.add(timedelta(minutes=10)), product.add(timedelta(minutes=5), status=Status.QUEUED)
    product.documents.write(names.export(broken), b'{"status": "FromANewerVersion"}')
    with pytest.raises(ValueError, match="Export"):
        product.sweeper.sweep()
    assert product.signals.sent == [("prepare", queued)]


def test_a_start_that_takes_minutes_because_storage_is_slow_stays_on_the_list() -> None:
    """Off the list nobody would prepare or cancel it, and it would keep the destination's place for ever."""
    product = Sweeping(withdrawn=False)
    create = product.documents.create

    def create_slowly(name: str, data: bytes, metadata: Mapping[str, str] | None = None) -> str:
        if name.startswith(names.EXPORTS_PREFIX):
            for marker in product.documents.names(names.ACTIVE_PREFIX):
                product.documents.changed[marker] = product.now
            product.now += timedelta(minutes=8)
            product.sweeper.sweep()
        return create(name, data, metadata)

    with patch.object(product.documents, "create", create_slowly):
        view = product.service.start(ready_destination(), trigger="onDemand", requested_by=ADA)
    assert [active.id for active in product.store.active()] == [view.id]


def test_a_start_that_was_cut_off_is_taken_off_the_list_in_the_end() -> None:
    product = Sweeping(withdrawn=False)
    product.documents.write(names.active("e1"), b"")
    product.documents.changed[names.active("e1")] = NOW
    product.now += timedelta(minutes=16)
    product.sweeper.sweep()
    assert list(product.store.active()) == []


def test_the_timer_gives_up_at_once_while_storage_does_not_answer() -> None:
    product = Sweeping(withdrawn=False)
    product.add(status=Status.QUEUED)
    product.add(status=Status.QUEUED)
    asked: list[str] = []

    def find(export_id: str) -> None:
        asked.append(export_id)
        raise ServiceRequestError("storage is down")

    with patch.object(product.store, "find", find), pytest.raises(ServiceRequestError):
        product.sweeper.sweep()
    assert len(asked) == 1
