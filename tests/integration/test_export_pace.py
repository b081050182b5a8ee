"""The pace of an account: few lanes and a small call at first, less when Mailchimp asks for it, all of it again after.

What several lanes do at a time is driven by messages that this process handles as the host does; calls really overlap.
"""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from dev.sandbox.control import SandboxControl
from shared.exports.model import BatchResult, Status
from shared.exports.pace import FIRST_ROWS, Pace
from shared.storage import names
from shared.storage.names import LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import ACCOUNT, Engine, build_engine, gate, people
from tests.support import StorageAccount, wait_for


@pytest.fixture
def engine(storage_account: StorageAccount, sandbox: SandboxControl) -> Engine:
    """An installation that has never exported to the account."""
    made = build_engine(storage_account.connection_string, sandbox)
    made.product.documents.delete(names.pace(ACCOUNT))
    return made


def pace(engine: Engine) -> Pace:
    found = engine.product.documents.read(names.pace(ACCOUNT))
    assert found is not None
    return Pace.from_bytes(found.data)


def batch_calls(engine: Engine) -> list[dict[str, float]]:
    return [call for call in engine.sandbox.calls("batchSubscribe") if call["status"]]


def at_once(engine: Engine) -> int:
    """The most batch calls that were open at one moment."""
    moments = [(call["start"], 1) for call in batch_calls(engine)] + [(call["end"], -1) for call in batch_calls(engine)]
    most = open_calls = 0
    for _, change in sorted(moments):
        open_calls += change
        most = max(most, open_calls)
    return most


def slowed_down(engine: Engine, *, lanes: int) -> None:
    """Somebody was refused just now, and ``lanes`` were left open."""
    now = datetime.now(UTC)
    slow = Pace(lanes=lanes, changed_at=now, slowed_down_at=now, reason="tooManyConnections", seconds_per_member=0)
    engine.product.documents.write(names.pace(ACCOUNT), slow.to_bytes())


def test_the_first_export_begins_with_two_small_calls_and_opens_all_lanes(engine: Engine) -> None:
    engine.sandbox.change_settings(latencyBaseMs=500)  # long enough to overlap, however slowly calls are prepared
    engine.write_segment("Readers", people(20_000))
    view = engine.run(engine.destination(["Readers"]))
    assert (view.status, view.books.created) == (Status.SUCCESSFUL, 20_000)
    calls = batch_calls(engine)
    assert calls[0]["rows"] == FIRST_ROWS
    assert 41 <= len(calls) <= 42, "each batch once, but the first ones in two parts"
    first_answer = min(call["end"] for call in calls)
    assert sum(call["start"] < first_answer for call in calls) <= 2
    assert at_once(engine) > 2
    assert (pace(engine).lanes, pace(engine).rows) == (8, 500)
    assert view.pace is None, "it has ended"


def test_the_next_export_begins_where_the_last_one_was(engine: Engine) -> None:
    destination = engine.destination(["Readers"])
    engine.write_segment("Readers", people(5_000))
    engine.run(destination)
    seen = len(batch_calls(engine))
    view = engine.run(destination)
    assert view.books.updated == 5_000
    assert [call["rows"] for call in batch_calls(engine)[seen:]] == [500] * 10


@pytest.mark.parametrize(
    "refusal",
    [{"action": "bare", "status": 429}, {"action": "bare", "status": 403}, {"action": "bare", "status": 503}],
    ids=["429", "bare 403", "503"],
)
def test_a_refusal_closes_half_of_the_lanes_for_everybody(engine: Engine, refusal: dict[str, object]) -> None:
    engine.set_pace(lanes=8)
    engine.sandbox.change_settings(latencyBaseMs=100)
    engine.write_segment("Readers", people(12_000))
    export_id = engine.start(engine.destination(["Readers"]))
    engine.sandbox.set_faults({**refusal, "count": 1, "match": {"method": "POST", "pathPattern": "^/3.0/lists/[^/]+$"}})
    view = engine.work_until_ended(export_id, also=lambda: engine.product.sweeper.sweep())
    assert (view.status, view.books.created) == (Status.SUCCESSFUL, 12_000)
    assert pace(engine).slow_downs == 1
    assert pace(engine).slowed_down_at is not None
    assert sum(call["kind"] == "batchSubscribe" for call in engine.sandbox.calls()) == 25, "24, and the refused one"


def test_open_lanes_send_what_closed_ones_had_to_send(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engine.set_pace(lanes=8)
    engine.write_segment("Readers", people(8_000))
    export_id = engine.start(engine.destination(["Readers"]))
    [(queue, message)] = engine.receive([PREPARE_QUEUE])
    engine.handle(queue, message)
    slowed_down(engine, lanes=2)
    view = engine.work_until_ended(export_id)
    assert (view.status, view.books.created) == (Status.SUCCESSFUL, 8_000)
    assert len(batch_calls(engine)) == 16
    events = [json.loads(record.getMessage()) for record in caplog.records if record.message.startswith("{")]
    assert any(event["event"] == "lane.takenOver" and event["by"] < event["lane"] for event in events)


def test_slow_members_make_calls_small(engine: Engine) -> None:
    """Two seconds each would be a thousand for a batch of 500, and Mailchimp ends calls after 120."""
    engine.write_segment("Readers", people(700))
    engine.sandbox.change_settings(latencyPerMemberMs=2)
    hurried = engine.product.lanes._tools
    started = time.monotonic()
    object.__setattr__(hurried, "monotonic", lambda: started + 1000 * (time.monotonic() - started))
    view = engine.run(engine.destination(["Readers"]))
    assert (view.status, view.books.created) == (Status.SUCCESSFUL, 700)
    sizes = [call["rows"] for call in batch_calls(engine)]
    assert sizes[0] == FIRST_ROWS
    large = [size for size in sizes if size > 31]  # sixty seconds' worth at two seconds each, and a little
    assert large in ([FIRST_ROWS], [FIRST_ROWS] * 2), "those of the two lanes that knew nothing yet"
    assert (pace(engine).seconds_per_member or 0) >= 1.5


def test_it_is_shown_while_the_export_runs(engine: Engine) -> None:
    engine.set_pace(lanes=3, seconds_per_member=0.3)
    engine.write_segment("Readers", people(2_000))
    export_id = engine.start(engine.destination(["Readers"]))
    [(queue, message)] = engine.receive([PREPARE_QUEUE])
    engine.handle(queue, message)
    shown = engine.product.exports.get(export_id).pace
    assert shown is not None
    assert (shown.lanes, shown.most_lanes, shown.rows_per_call, shown.reason) == (3, 8, 200, None)


def test_a_pace_that_cannot_be_read_is_begun_anew(engine: Engine) -> None:
    engine.product.documents.write(names.pace(ACCOUNT), b'{"lanes": "many"')
    engine.write_segment("Readers", people(1_200))
    view = engine.run(engine.destination(["Readers"]))
    assert (view.status, view.books.created) == (Status.SUCCESSFUL, 1_200)
    assert pace(engine).lanes == 8


def test_a_lane_that_is_closed_gives_its_connection_back(engine: Engine) -> None:
    engine.set_pace(lanes=8)
    engine.sandbox.change_settings(latencyBaseMs=300)
    engine.write_segment("Readers", people(20_000))
    export_id = engine.start(engine.destination(["Readers"]))
    [(queue, message)] = engine.receive([PREPARE_QUEUE])
    engine.handle(queue, message)
    messages = engine.receive([LANES_QUEUE])
    assert len(messages) == 8
    with ThreadPoolExecutor(8) as pool, gate() as between:
        running = [pool.submit(engine.handle, *message) for message in messages]
        between.wait_until_at_it(8)
        slowed_down(engine, lanes=1)
        time.sleep(2.1)  # what a lane knows is at most two seconds old
        between.let_in()
        wait_for(lambda: sum(lane.done() for lane in running) == 7, "seven lanes to be left")
        between.open()
        for lane in running:
            lane.result()
    since = batch_calls(engine)[8:]
    assert len(since) >= 4, "the rest of the lane that stays open"
    for earlier, later in pairwise(since):
        assert later["start"] >= earlier["end"] - 0.01, "one call at a time"
    assert engine.work_until_ended(export_id).books.created == 20_000


def results_of(engine: Engine, export_id: str) -> list[BatchResult]:
    documents = engine.product.documents
    found = [documents.read(entry.name) for entry in documents.list(names.results(export_id))]
    return [BatchResult.from_bytes(result.data) for result in found if result is not None]


def test_a_small_export_is_not_stuck_behind_a_large_one(
    storage_account: StorageAccount, sandbox: SandboxControl
) -> None:
    """Its two batches wait until the lanes look for new exports, and then for their turn: with 5.4 s a call, the export
    ends within a minute whatever else the account is busy with."""
    engine = build_engine(storage_account.connection_string, sandbox, MAILCHIMP_MAX_CONNECTIONS="2")
    engine.sandbox.change_settings(latencyBaseMs=500)
    engine.write_segment("Everybody", people(40_000))
    engine.write_segment("Few", people(1_000, start=50_000))
    large = engine.start(engine.destination(["Everybody"], id_="large"))
    started: list[str] = []
    with gate() as first_calls:

        def prepare_the_small_one_meanwhile() -> None:
            if not started and first_calls.are_at_it(2):
                started.append(engine.start(engine.destination(["Few"], id_="small")))
            if started and engine.export(started[0]).sending_at is not None:
                first_calls.open()

        assert engine.work_until_ended(large, also=prepare_the_small_one_meanwhile).books.created == 40_000
    [small] = started
    assert engine.work_until_ended(small).books.created == 1_000
    prepared = engine.export(small).sending_at
    assert prepared is not None
    last = max(result.ended_at for result in results_of(engine, small))
    between = sum(prepared <= result.sent_at <= last for result in results_of(engine, large))
    looks = 2.0 / 0.5  # a lane looks for new exports every two seconds, and sends the large one meanwhile
    assert between <= 2 * (looks + 3), "of 80 batches"
