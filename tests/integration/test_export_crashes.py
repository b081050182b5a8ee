"""Messages that come twice or never, storage that fails, and what is left of an export later."""

from __future__ import annotations

import threading
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from shared.exports.errors import ExportRunning
from shared.exports.messages import WakeMessage
from shared.exports.model import Status
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import ACCOUNT, Engine, people
from tests.integration.write_faults import WriteFaults


def test_messages_that_arrive_twice_change_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.write_segment("Readers", people(1200))
    export_id = engine.start(engine.destination(["Readers"]))
    bodies: dict[str, list[bytes]] = {}
    handle = engine.invoke

    def twice(queue: str, body: bytes) -> None:
        bodies.setdefault(queue, []).append(body)
        handle(queue, body)
        handle(queue, body)

    monkeypatch.setattr(engine, "invoke", twice)
    view = engine.work_until_ended(export_id)
    for queue, earlier in bodies.items():
        for body in earlier:
            handle(queue, body)
    assert view.status is Status.SUCCESSFUL
    assert view.books.created == 1200
    assert engine.product.exports.get(export_id) == view
    assert sum(call["kind"] == "batchSubscribe" for call in engine.sandbox.calls()) == 3


def test_lost_messages_are_made_up_for_by_the_sweeper(engine: Engine) -> None:
    engine.write_segment("Readers", people(1200))
    export_id = engine.start(engine.destination(["Readers"]))
    later = datetime.now(UTC) + timedelta(minutes=5)
    engine.receive()  # every message is lost as soon as it is sent …
    object.__setattr__(engine.product.sweeper._tools, "now", lambda: later)
    lost = 0
    for _ in range(10):  # … and again at every stage: what the sweeper sends then is handled, what follows is lost
        engine.product.sweeper.sweep()
        for queue, message in engine.receive():
            engine.handle(queue, message)
        lost += len(engine.receive())
        if engine.export(export_id).ended:
            break
    assert lost >= 2
    view = engine.product.exports.get(export_id)
    assert view.status is Status.SUCCESSFUL
    assert engine.everybody_arrived(1200)


@pytest.mark.parametrize("queue", [PREPARE_QUEUE, LANES_QUEUE, FINISH_QUEUE])
def test_a_message_that_failed_too_often_ends_its_export_with_balanced_books(engine: Engine, queue: str) -> None:
    engine.write_segment("Readers", people(1200))
    export_id = engine.start(engine.destination(["Readers"]))
    poison = engine.product.poison
    for stage in (PREPARE_QUEUE, LANES_QUEUE, FINISH_QUEUE):
        for name, message in engine.receive([stage]):
            if stage == queue:
                engine.poison(stage, message)
            else:
                engine.handle(name, message)
    assert poison is engine.product.poison
    view = engine.work_until_ended(export_id)
    assert view.status is Status.FAILED
    assert view.problem is not None
    assert view.problem.code == "internalError"


def test_a_lane_that_is_given_up_ends_the_part_of_those_it_stands_in_for(engine: Engine) -> None:
    """Otherwise the timer would wake it for ever: its own part of the export may have ended long ago."""
    engine.write_segment("Readers", people(1200))
    export_id = engine.start(engine.destination(["Readers"]))
    for name, message in engine.receive([PREPARE_QUEUE]):
        engine.handle(name, message)
    engine.set_pace(lanes=1)
    plan = engine.product.store.plan(export_id)
    assert plan is not None
    for lane in {0} & {*plan.lanes}:
        engine.product.store.end_lane(export_id, lane)
    engine.product.poison.wake(WakeMessage(account_id=ACCOUNT, lane=0))
    assert engine.product.store.ended_lanes(export_id) == {*plan.lanes}
    view = engine.work_until_ended(export_id)
    assert (view.status, view.problem and view.problem.code) == (Status.FAILED, "internalError")


def test_messages_hold_references_and_never_profiles(engine: Engine) -> None:
    engine.write_segment("Readers", people(600))
    export_id = engine.start(engine.destination(["Readers"]))
    seen: list[dict[str, object]] = []
    for queue in (PREPARE_QUEUE, LANES_QUEUE, FINISH_QUEUE):
        seen += engine.messages(queue)
        for name, message in engine.receive([queue]):
            engine.handle(name, message)
    assert [set(message) - {"v", "again", "failures", "traceparent", "endsWait"} for message in seen] == [
        {"exportId"},
        {"accountId", "lane"},
        {"accountId", "lane"},
        {"exportId"},
    ]
    assert engine.export(export_id).status is Status.SUCCESSFUL


def test_an_export_that_never_began_has_an_empty_list_of_rejected_profiles(engine: Engine) -> None:
    engine.write_segment("Readers", people(5))
    destination = engine.destination(["Readers"])
    engine.sandbox.revoke("sandbox-key-us1")
    view = engine.run(destination)
    assert view.status is Status.FAILED
    assert engine.rejected(view.id) == []


@pytest.mark.parametrize("queue", [PREPARE_QUEUE, LANES_QUEUE, FINISH_QUEUE])
def test_a_storage_fault_at_any_write_loses_nothing_and_counts_nothing_twice(engine: Engine, queue: str) -> None:
    """Each write of a function fails once, before or after it took effect; the message is then delivered again."""
    engine.write_segment("Readers", people(1200))
    export_id = engine.start(engine.destination(["Readers"]))
    documents = engine.product.documents
    faults = WriteFaults(documents)
    for stage in (PREPARE_QUEUE, LANES_QUEUE, FINISH_QUEUE):
        for name, message in engine.receive([stage]):
            if stage == queue:
                faults.until_done(partial(engine.invoke, queue, b64decode(message.content)))
            engine.handle(name, message)
    assert faults.raised > 3
    view = engine.work_until_ended(export_id, also=engine.product.sweeper.sweep)
    assert view.status is Status.SUCCESSFUL
    assert view.books.imbalances() == []
    assert view.books.created + view.books.updated == 1200
    assert engine.everybody_arrived(1200)


def test_an_outage_while_preparing_starts_no_second_preparation_beside_the_one_that_waits(engine: Engine) -> None:
    engine.write_segment("Readers", people(10))
    export_id = engine.start(engine.destination(["Readers"]))
    engine.sandbox.set_faults({"action": "bare", "status": 503})
    [(queue, message)] = engine.receive([PREPARE_QUEUE])
    engine.handle(queue, message)
    waiting = engine.export(export_id)
    assert waiting.status is Status.WAITING
    assert waiting.resume_at is not None
    later = waiting.resume_at + timedelta(minutes=10)
    engine.product.store.change(export_id, lambda export: setattr(export, "resume_at", later))
    engine.invoke(PREPARE_QUEUE, f'{{"v":1,"exportId":"{export_id}"}}'.encode())
    engine.product.sweeper.sweep()
    assert len(engine.sandbox.calls()) == 1, "nobody asked Mailchimp again before it was time"

    engine.sandbox.clear_faults()
    engine.product.store.change(export_id, lambda export: setattr(export, "resume_at", datetime.now(UTC)))
    assert engine.work_until_ended(export_id).status is Status.SUCCESSFUL


def test_of_many_starts_at_the_same_moment_one_runs_and_the_others_leave_nothing_behind(engine: Engine) -> None:
    engine.write_segment("Readers", people(10))
    destination = engine.destination(["Readers"])
    together = threading.Barrier(8)

    def start(_: int) -> str | None:
        together.wait()
        try:
            return engine.start(destination)
        except ExportRunning:
            return None

    with ThreadPoolExecutor(8) as pool:
        started = [export_id for export_id in pool.map(start, range(8)) if export_id is not None]
    assert len(started) == 1
    assert [export.id for export in engine.product.exports.list()] == started
    assert [export.id for export in engine.product.store.active()] == started
    assert engine.work_until_ended(started[0]).books.created == 10
