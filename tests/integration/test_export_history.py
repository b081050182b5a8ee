"""The history as the API answers it, how long it is kept, and what removing a destination takes out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from shared.audit.model import AuditRecord
from shared.exports.errors import ExportNotFound, RejectedExpired
from shared.exports.model import Problem, Status
from shared.people import SCHEDULE
from shared.storage import names
from shared.storage.documents import Documents
from tests.adapter import Adapter, Reply
from tests.integration.engine import TESTER, Engine, people
from tests.integration.write_faults import WriteFaults

NOT_READY = Problem(code="destinationNotReady", message="The destination is not ready.")


class Api:
    """Calls the API as the Functions host does."""

    def __init__(self, engine: Engine) -> None:
        self._runner = asyncio.Runner()
        self._adapter = Adapter(engine.product.api, Reply, self._runner.run)

    def close(self) -> None:
        self._runner.close()

    def get(self, path: str, expect: int = 200, **query: Any) -> Any:
        """The document at a path, or at the address that an answer names."""
        address = path if path.startswith("http") else f"http://127.0.0.1:7071/api{path}"
        if query:
            address += f"?{urlencode(query, doseq=True)}"
        reply = self._adapter.call("GET", address, {"Host": "127.0.0.1:7071"})
        assert reply.status == expect, reply.body
        return reply.json

    def ids(self, **query: Any) -> list[str]:
        """The IDs of all pages."""
        page = self.get("/exports", **query)
        found = [export["id"] for export in page["value"]]
        while page["nextLink"] is not None:
            page = self.get(page["nextLink"])
            found += [export["id"] for export in page["value"]]
        return found


@pytest.fixture
def api(engine: Engine) -> Iterator[Api]:
    caller = Api(engine)
    yield caller
    caller.close()


def skip(engine: Engine, key: str, id_: str = "d1") -> str:
    destination = engine.product.destination_store.get(id_).destination
    return engine.product.exports.record_skipped(
        destination, trigger="scheduled", requested_by=SCHEDULE, idempotency_key=key, problem=NOT_READY
    ).id


def audit_of(engine: Engine, export_id: str) -> list[str]:
    documents = engine.product._audit_documents
    found = [documents.read(entry.name) for entry in documents.list("")]
    records = [AuditRecord.from_bytes(each.data) for each in found if each is not None]
    return [record.action for record in records if record.target_id == export_id]


# -- the list --------------------------------------------------------------------------------------------------------


def test_the_history_tells_who_started_what_was_read_what_became_of_it_and_how_long_it_took(
    engine: Engine, api: Api
) -> None:
    engine.write_segment("Readers", [*people(600), {"EMail": "nobody", "FirstName": "", "LastName": ""}])
    export_id = engine.run(engine.destination(["Readers"])).id
    (told,) = api.get("/exports")["value"]
    assert (told["id"], told["trigger"], told["requestedBy"]) == (export_id, "onDemand", "test")
    assert (told["destinationId"], told["destinationName"]) == ("d1", "Destination d1")
    assert (told["status"], told["ended"], told["problem"]) == ("CompletedWithErrors", True, None)
    (source,) = told["sources"]
    assert (source["name"], source["files"][0]["name"]) == ("Readers", "Readers.csv")
    assert source["files"][0]["etag"]
    (segment,) = told["segments"]
    assert (segment["rows"], segment["members"], segment["invalid"]) == (601, 600, 1)
    assert (told["books"]["rowsRead"], told["books"]["created"]) == (601, 600)
    assert told["calls"] == 2
    assert told["seconds"] > 0
    assert told == api.get(f"/exports/{export_id}"), "the list says no less than the export"


def test_pages_and_filters_of_the_history(engine: Engine, api: Api) -> None:
    engine.write_segment("Readers", people(3))
    first, second = engine.destination(["Readers"]), engine.destination(["Readers"], id_="d2")
    one = engine.run(first).id
    two = engine.run(second).id
    three = skip(engine, "k1")
    four = engine.start(first)
    assert api.ids() == api.ids(top=1) == api.ids(top=3) == [four, three, two, one]
    assert api.ids(top=1, destinationId="d1") == [four, three, one]
    assert api.ids(top=1, status=["Queued", "Skipped"]) == [four, three]
    assert api.ids(trigger="scheduled") == [three]
    assert api.ids(destinationId="d2", status="Failed") == []
    created = api.get(f"/exports/{two}")["createdAt"]
    assert api.ids(**{"from": created}) == [four, three, two]
    assert api.ids(to=created) == [one]
    assert api.ids(**{"from": created, "to": created}) == []
    with_plus = quote(datetime.fromisoformat(created).astimezone(UTC).isoformat(), safe=":+")
    assert "+" in with_plus
    assert [found["id"] for found in api.get(f"/exports?to={with_plus}")["value"]] == [one], "a plus is a blank there"


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ({"from": "2026-11-22T06:00:00"}, "from"),
        ({"from": "2026-11-22"}, "from"),
        ({"to": "1763791200"}, "to"),
        ({"to": "yesterday"}, "to"),
        ({"status": "Running"}, "status[0]"),
        ({"status": ["Failed", ""]}, "status[1]"),
        ({"trigger": "nobody"}, "trigger"),
        ({"top": "0"}, "top"),
        ({"top": "201"}, "top"),
        ({"after": "***"}, "after"),
        ({"destinationId": "../secrets"}, "destinationId"),
    ],
)
def test_a_wrong_filter_is_refused_with_its_name(api: Api, query: dict[str, Any], target: str) -> None:
    error = api.get("/exports", expect=422, **query)["error"]
    assert (error["code"], error["target"]) == ("invalidRequest", target)


# -- retention -------------------------------------------------------------------------------------------------------


def test_an_old_export_goes_with_all_its_data_and_what_is_younger_stays(engine: Engine, api: Api) -> None:
    engine.write_segment("Readers", [*people(5), {"EMail": "nobody", "FirstName": "", "LastName": ""}])
    destination = engine.destination(["Readers"])
    old, young = engine.run(destination, key="old").id, engine.run(destination).id
    skipped = skip(engine, "k1")
    before = audit_of(engine, old)

    later = datetime.now(UTC) + timedelta(days=90)
    object.__setattr__(engine.product.sweeper._tools, "now", lambda: later)
    for export_id in (young, skipped):
        engine.product.store.change(export_id, lambda export: setattr(export, "ended_at", later - timedelta(days=89)))
    assert engine.product.sweeper.expire() == 1

    documents = engine.product.documents
    assert [entry.name for entry in documents.list("") if old in entry.name] == []
    assert api.ids() == api.ids(destinationId="d1") == [skipped, young]
    with pytest.raises(ExportNotFound):
        engine.product.exports.get(old)
    assert len(engine.rejected(young)) == 1
    assert audit_of(engine, old) == before == ["export.started", "export.ended"]
    assert engine.product.sweeper.expire() == 0


def test_an_export_that_has_not_ended_is_kept_however_old_it_is(engine: Engine) -> None:
    engine.write_segment("Readers", people(5))
    export_id = engine.start(engine.destination(["Readers"]))
    later = datetime.now(UTC) + timedelta(days=200)
    object.__setattr__(engine.product.sweeper._tools, "now", lambda: later)
    assert engine.product.sweeper.expire() == 0
    assert engine.work_until_ended(export_id).status is Status.SUCCESSFUL


def test_expiry_that_was_cut_off_goes_on_where_it_was(engine: Engine) -> None:
    engine.write_segment("Readers", people(5))
    export_id = engine.run(engine.destination(["Readers"])).id
    later = datetime.now(UTC) + timedelta(days=91)
    sweeper = engine.product.sweeper
    object.__setattr__(sweeper._tools, "now", lambda: later)
    faults = WriteFaults(engine.product.documents)
    faults.until_done(sweeper.expire)
    assert faults.raised > 1
    assert [entry.name for entry in engine.product.documents.list("") if export_id in entry.name] == []


# -- removal ---------------------------------------------------------------------------------------------------------


def test_erasing_the_data_of_a_destination_keeps_its_history_and_that_of_the_others(engine: Engine, api: Api) -> None:
    rows = [*people(5), {"EMail": "nobody", "FirstName": "", "LastName": ""}]
    engine.write_segment("Readers", rows)
    first, second = engine.destination(["Readers"]), engine.destination(["Readers"], id_="d2")
    ended = [engine.run(first).id, engine.run(first).id, skip(engine, "k1")]
    other = engine.run(second).id
    running = engine.start(first)
    for queue, message in engine.receive([names.PREPARE_QUEUE]):
        engine.handle(queue, message)
    assert engine.product.exports.running_of("d1") == running
    books = engine.product.exports.get(ended[0]).books

    assert engine.product.exports.erase_data("d1") == 3
    documents = engine.product.documents
    for export_id in ended:
        assert list(documents.list(names.run(export_id))) == []
        with pytest.raises(RejectedExpired):
            engine.product.exports.rejected(export_id)
        assert api.get(f"/exports/{export_id}/rejected", expect=410)["error"]["code"] == "rejectedExpired"
    assert engine.product.exports.get(ended[0]).books == books
    assert api.ids(destinationId="d1") == [running, *reversed(ended)]
    assert len(engine.rejected(other)) == 1

    assert engine.work_until_ended(running).books.updated == 5, "a running export is left alone"
    assert engine.product.exports.running_of("d1") is None
    assert engine.product.exports.erase_data("d1") == 1
    assert engine.product.exports.erase_data("d1") == 0
    assert [entry.name for entry in documents.list(names.RUNS_PREFIX) if other not in entry.name] == []


# -- skipped ---------------------------------------------------------------------------------------------------------


def test_a_skipped_run_that_a_fault_interrupts_anywhere_is_recorded_once(engine: Engine) -> None:
    engine.destination(["Readers"])
    faults = WriteFaults(engine.product.documents, engine.product._audit_documents)
    faults.until_done(lambda: skip(engine, "k1"))
    assert faults.raised >= 5
    (export,) = engine.product.exports.list()
    engine.product.sweeper.sweep()
    for queue, message in engine.receive():
        engine.handle(queue, message)
    assert list(engine.product.store.active()) == []
    assert engine.rejected(export.id) == []
    assert audit_of(engine, export.id) == ["export.skipped"]
    assert engine.receive() == []


def test_what_a_crash_leaves_out_of_a_skipped_run_is_made_up_for_by_the_sweeper(engine: Engine) -> None:
    engine.destination(["Readers"])
    audit = engine.product._audit_documents
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(audit, "create", partial(_crash, audit))
        with pytest.raises(KeyboardInterrupt):
            skip(engine, "k1")
    (export,) = engine.product.exports.list()
    assert (export.status, audit_of(engine, export.id)) == (Status.SKIPPED, [])
    engine.product.sweeper.sweep()
    for queue, message in engine.receive():
        engine.handle(queue, message)
    assert audit_of(engine, export.id) == ["export.skipped"]
    assert list(engine.product.store.active()) == []


def _crash(documents: Documents, *_: object) -> str:
    raise KeyboardInterrupt


def test_a_skipped_run_is_told_apart_from_the_export_that_runs(engine: Engine, api: Api) -> None:
    engine.write_segment("Readers", people(5))
    destination = engine.destination(["Readers"])
    running = engine.start(destination)
    skipped = engine.product.exports.record_skipped(
        destination,
        trigger="scheduled",
        requested_by=SCHEDULE,
        idempotency_key="k1",
        problem=Problem(code="exportRunning", message="Another export of this destination was running."),
    )
    assert engine.work_until_ended(running).books.created == 5
    told = api.get(f"/exports/{skipped.id}")
    assert (told["status"], told["problem"]["code"], told["requestedBy"]) == ("Skipped", "exportRunning", "schedule")
    assert engine.start(destination, key="k2") != skipped.id
    assert engine.product.exports.cancel(engine.product.exports.running_of("d1") or "", TESTER)
