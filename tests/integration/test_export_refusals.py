"""Whom Mailchimp refuses for good is left out of later exports, for a while: remembered, shared, expired, cleared."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from shared.destinations.model import Destination
from shared.exports.model import BatchResult, Status
from shared.exports.refusals import Outcome
from shared.exports.view import ExportView
from shared.people import SCHEDULE
from shared.storage import names
from shared.storage.documents import Documents
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import ACCOUNT, AUDIENCE, TESTER, Engine, people
from tests.integration.removal_support import Killed, Stops, another_process, kill

MEMORY = names.refusals(ACCOUNT, AUDIENCE)
SUBSCRIBE = {"method": "POST", "pathPattern": r"/lists/[a-z0-9]+$"}
FAKE = "only-mailchimp-knows@mailinator.com"
FORGOTTEN = "forgotten@mail.example"


def refuse(engine: Engine, address: str, detail: str = "is in a compliance state due to unsubscribe") -> None:
    """Have Mailchimp refuse everybody whose address contains this."""
    match = {**SUBSCRIBE, "emailContains": address}
    engine.sandbox.set_faults({"action": "memberError", "match": match, "detail": detail})


def scheduled(engine: Engine, id_: str = "d1") -> ExportView:
    destination = engine.product.destination_store.get(id_).destination
    view = engine.product.exports.start(destination, trigger="scheduled", requested_by=SCHEDULE)
    return engine.work_until_ended(view.id)


def remembered(engine: Engine, destination: Destination, code: str | None = None) -> dict[str, str]:
    """Who is left out, with the reason."""
    found = engine.product.suppressed.members(destination, code, None, 1000)
    return {member.email: member.code for member in found.members}


def clear(engine: Engine, destination: Destination, *emails: str) -> int:
    return engine.product.suppressed.clear(destination, list(emails) or None, TESTER).count


def days_pass(engine: Engine, days: float) -> datetime:
    later = datetime.now(UTC) + timedelta(days=days)
    engine.product.refusals._now = lambda: later
    object.__setattr__(engine.product.sweeper._tools, "now", lambda: later)
    return later


def until_finish(engine: Engine, export_id: str) -> bytes:
    """Prepare and send; returns the message that has the export finished."""
    for stage in (PREPARE_QUEUE, LANES_QUEUE):
        for queue, message in engine.receive([stage]):
            engine.handle(queue, message)
    while True:
        for _, message in engine.receive([FINISH_QUEUE]):
            body = b64decode(message.content)
            if json.loads(body)["exportId"] == export_id:
                return body


@pytest.fixture
def destination(engine: Engine) -> Destination:
    """Five people whom Mailchimp takes, one whom it thinks fake, and one who was deleted there for good."""
    engine.sandbox.add_contacts([{"email_address": FORGOTTEN, "forgotten": True}])
    engine.write_segment("Readers", [*people(5), {"EMail": FAKE}, {"EMail": FORGOTTEN}])
    return engine.destination(["Readers"])


# -- left out --------------------------------------------------------------------------------------------------------


def test_whom_mailchimp_refused_for_good_is_left_out_of_the_next_export(
    engine: Engine, destination: Destination
) -> None:
    first = engine.run(destination)
    assert (first.status, first.books.rejected) == (Status.COMPLETED_WITH_ERRORS, 2)
    second = engine.run(destination)
    assert (second.books.members, second.books.suppressed, second.books.sent) == (7, 2, 5)
    assert (second.books.updated, second.books.rejected) == (5, 0)
    assert second.suppressed_reasons == {"fakeOrInvalid": 1, "forgotten": 1}
    assert second.books.imbalances() == []
    assert [(count.members, count.tagged) for count in second.segments] == [(7, 5)]
    assert second.status is Status.SUCCESSFUL, "those who are left out are known, like archived contacts"
    assert len(engine.sandbox.calls("batchSubscribe")) == 2


def test_they_are_listed_with_what_mailchimp_said_and_until_when(engine: Engine, destination: Destination) -> None:
    refused = {row["email"]: row for row in engine.rejected(engine.run(destination).id)}
    rows = engine.rejected(engine.run(destination).id)
    assert {row["email"]: (row["foundBy"], row["code"], row["row"]) for row in rows} == {
        FAKE: ("memory", "fakeOrInvalid", refused[FAKE]["row"]),
        FORGOTTEN: ("memory", "forgotten", refused[FORGOTTEN]["row"]),
    }
    today = datetime.now(UTC)
    for row in rows:
        said = refused[row["email"]]
        assert row["message"] == f"Refused on {today:%Y-%m-%d} (UTC): {said['message']}"
        until = today + timedelta(days=90)
        assert row["action"].startswith(f"{said['action']} Left out until {until:%Y-%m-%d}")
        assert row["retryable"] == "false"


def test_who_is_archived_as_well_is_left_out_as_archived(engine: Engine, destination: Destination) -> None:
    refuse(engine, "person0@")
    engine.run(destination)
    engine.sandbox.clear_faults()
    engine.sandbox.add_contacts([{"email_address": "Person0@mail.example", "status": "archived"}])
    view = engine.run(destination)
    assert view.suppressed_reasons == {"archived": 1, "fakeOrInvalid": 1, "forgotten": 1}
    assert {row["email"]: row["foundBy"] for row in engine.rejected(view.id)}["person0@mail.example"] == "prepare"


@pytest.mark.parametrize(
    "detail",
    ["has signed up to a lot of lists very recently", "merge fields were invalid", "something that nobody knows"],
)
def test_whom_mailchimp_refused_for_another_reason_is_sent_again(engine: Engine, detail: str) -> None:
    engine.write_segment("Readers", people(5))
    destination = engine.destination(["Readers"])
    refuse(engine, "person3@", detail)
    assert engine.run(destination).books.rejected == 1
    assert remembered(engine, destination) == {}
    engine.sandbox.clear_faults()
    view = engine.run(destination)
    assert (view.books.suppressed, view.books.created) == (0, 1)


def test_members_who_broke_every_call_are_sent_again(engine: Engine) -> None:
    engine.write_segment("Readers", people(5))
    destination = engine.destination(["Readers"])
    match = {**SUBSCRIBE, "emailContains": "person3@"}
    engine.sandbox.set_faults({"action": "problem", "status": 500, "match": match})
    assert engine.run(destination).rejected_reasons == {"serverError": 1}
    engine.sandbox.clear_faults()
    assert engine.run(destination).books.created == 1


def test_an_address_is_left_out_in_any_letter_case(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    engine.write_segment("Readers", [*people(5), {"EMail": f" {FAKE.upper()} "}])
    assert engine.run(destination).suppressed_reasons == {"fakeOrInvalid": 1}


def test_two_destinations_of_one_audience_share_what_is_remembered(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    other = engine.destination(["Readers"], id_="d2")
    assert engine.run(other).suppressed_reasons == {"fakeOrInvalid": 1, "forgotten": 1}
    listed = engine.product.suppressed.members(other, None, None, 10)
    assert [shared.display_name for shared in listed.shared_with] == ["Destination d1"]


# -- sent again ------------------------------------------------------------------------------------------------------


def test_somebody_who_was_cleared_is_sent_again(engine: Engine, destination: Destination) -> None:
    refuse(engine, "person0@")
    engine.run(destination)
    engine.sandbox.clear_faults()
    assert clear(engine, destination, "PERSON0@mail.example", "nobody@mail.example") == 1
    assert remembered(engine, destination) == {FAKE: "fakeOrInvalid", FORGOTTEN: "forgotten"}
    view = engine.run(destination)
    assert (view.books.created, view.books.suppressed) == (1, 2)


def test_when_all_were_cleared_nothing_is_kept(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    assert clear(engine, destination) == 2
    assert not engine.product.documents.exists(MEMORY)
    assert clear(engine, destination) == 0
    assert engine.run(destination).books.rejected == 2


def test_when_the_time_is_over_they_are_tried_again(engine: Engine, destination: Destination) -> None:
    refuse(engine, "person0@")
    engine.run(destination)
    engine.sandbox.clear_faults()
    days_pass(engine, 89)
    assert engine.run(destination).books.suppressed == 3
    days_pass(engine, 91)
    assert remembered(engine, destination) == {}
    view = engine.run(destination)
    assert (view.books.suppressed, view.books.created, view.books.rejected) == (0, 1, 2)
    assert set(remembered(engine, destination)) == {FAKE, FORGOTTEN}, "who was refused again is left out again"


def test_how_long_is_a_setting(engine: Engine, destination: Destination) -> None:
    short = another_process(engine, REFUSAL_MEMORY_DAYS="7")
    short.run(destination)
    [*members] = engine.product.suppressed.members(destination, None, None, 10).members
    assert {member.until - member.refused_at for member in members} == {timedelta(days=7)}


def test_whom_mailchimp_takes_after_all_is_forgotten(engine: Engine, destination: Destination) -> None:
    """Sent by a host whose clock is ahead, say: here their time is not over yet."""
    refuse(engine, "person0@")
    engine.run(destination)
    engine.sandbox.clear_faults()
    export_id = engine.start(destination)
    days_pass(engine, 91)
    body = until_finish(engine, export_id)
    days_pass(engine, 0)
    assert set(remembered(engine, destination)) == {"person0@mail.example", FAKE, FORGOTTEN}
    engine.invoke(FINISH_QUEUE, body)
    assert engine.export(export_id).books.created == 1
    assert set(remembered(engine, destination)) == {FAKE, FORGOTTEN}
    assert scheduled(engine).status is Status.SKIPPED


# -- scheduled runs that have nothing to do ---------------------------------------------------------------------------


def test_runs_without_a_change_are_skipped_while_they_are_left_out(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    assert scheduled(engine).status is Status.SKIPPED
    engine.run(destination)
    assert scheduled(engine).status is Status.SKIPPED


def test_a_run_is_made_after_somebody_was_cleared(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    clear(engine, destination, FAKE)
    assert scheduled(engine).rejected_reasons == {"fakeOrInvalid": 1}
    assert scheduled(engine).status is Status.SKIPPED
    clear(engine, destination)
    assert scheduled(engine).books.rejected == 2
    assert scheduled(engine).status is Status.SKIPPED


def test_a_run_is_made_after_somebodys_time_was_over(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    engine.run(destination)
    days_pass(engine, 91)
    assert scheduled(engine).books.rejected == 2
    assert scheduled(engine).status is Status.SKIPPED


def test_a_run_is_made_when_the_whole_memory_is_gone(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    engine.product.documents.delete(MEMORY)
    assert scheduled(engine).books.rejected == 2


def test_a_run_is_made_after_somebody_was_cleared_while_the_last_export_went_on(
    engine: Engine, destination: Destination
) -> None:
    engine.run(destination)
    export_id = engine.start(destination)
    body = until_finish(engine, export_id)
    clear(engine, destination, FAKE)
    engine.invoke(FINISH_QUEUE, body)
    assert engine.export(export_id).status is Status.SUCCESSFUL
    assert scheduled(engine).rejected_reasons == {"fakeOrInvalid": 1}


# -- crashes, and several at once -------------------------------------------------------------------------------------


def test_a_finish_that_dies_at_any_step_loses_no_refusal(engine: Engine, destination: Destination) -> None:
    dying = another_process(engine)
    stops = Stops(dying.product.documents)
    for step in range(1, 100):
        export_id = engine.start(destination)
        body = until_finish(engine, export_id)
        stops.at(step, kill)
        with suppress(Killed):
            dying.invoke(FINISH_QUEUE, body)
        died = stops.off()
        engine.invoke(FINISH_QUEUE, body)
        assert engine.export(export_id).status is Status.COMPLETED_WITH_ERRORS
        assert remembered(engine, destination) == {FAKE: "fakeOrInvalid", FORGOTTEN: "forgotten"}
        if not died:
            assert step > 8
            assert scheduled(engine).status is Status.SKIPPED
            return
        clear(engine, destination)
    raise AssertionError("it never came through")


def test_nobody_comes_back_who_was_cleared_while_a_finish_lay_dead(engine: Engine, destination: Destination) -> None:
    """It dies after it has remembered them, and before its books are written: at every step between."""
    dying = another_process(engine)
    stops, between = Stops(dying.product.documents), 0
    for step in range(1, 100):
        export_id = engine.start(destination)
        body = until_finish(engine, export_id)
        stops.at(step, kill)
        with suppress(Killed):
            dying.invoke(FINISH_QUEUE, body)
        died, known = stops.off(), remembered(engine, destination)
        assert clear(engine, destination) == len(known)
        if known and not engine.product.documents.exists(names.books(export_id)):
            between += 1
            engine.invoke(FINISH_QUEUE, body)
            assert remembered(engine, destination) == {}
            assert scheduled(engine).status is Status.COMPLETED_WITH_ERRORS, "they are sent again"
        else:
            engine.invoke(FINISH_QUEUE, body)
        clear(engine, destination)
        if not died:
            assert between
            return
    raise AssertionError("it never came through")


@pytest.mark.parametrize("interference", range(1, 4))
def test_two_finishers_of_an_audience_lose_nothing(engine: Engine, destination: Destination, interference: int) -> None:
    """The second one finishes just before each access of the first one to the memory."""
    engine.write_segment("Others", [{"EMail": "second@mailinator.com"}])
    other = engine.destination(["Others"], id_="d2")
    first, second = engine.start(destination), engine.start(other)
    bodies = {}
    for stage in (PREPARE_QUEUE, LANES_QUEUE):
        for queue, message in engine.receive([stage]):
            engine.handle(queue, message)
    for _, message in engine.receive([FINISH_QUEUE]):
        bodies[json.loads(b64decode(message.content))["exportId"]] = b64decode(message.content)
    slow = another_process(engine)
    _before_access(slow.product.documents, interference, lambda: engine.invoke(FINISH_QUEUE, bodies[second]))
    slow.invoke(FINISH_QUEUE, bodies[first])
    if not engine.export(second).ended:
        engine.invoke(FINISH_QUEUE, bodies[second])
    assert set(remembered(engine, destination)) == {FAKE, FORGOTTEN, "second@mailinator.com"}
    assert scheduled(engine).status is Status.SKIPPED
    assert scheduled(engine, "d2").status is Status.SKIPPED


def _before_access(documents: Documents, number: int, action: Callable[[], object]) -> None:
    """Run ``action`` once, before the access ``number`` (1, 2, …) to the memory."""
    left = [number]
    lock = threading.Lock()

    def counting(operation: Callable[..., object]) -> Callable[..., object]:
        def counted(name: str, *arguments: object, **options: object) -> object:
            if name == MEMORY:
                with lock:
                    left[0] -= 1
                    now = left[0] == 0
                if now:
                    action()
            return operation(name, *arguments, **options)

        return counted

    for name in ("download", "upload_over", "delete"):
        setattr(documents, name, counting(getattr(documents, name)))


def test_a_clear_while_a_finish_writes_clears_and_loses_nothing(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    engine.write_segment("Readers", [*people(5), {"EMail": "second@mailinator.com"}])
    body = until_finish(engine, engine.start(destination))
    slow = another_process(engine)
    _before_access(slow.product.documents, 2, lambda: clear(engine, destination, FAKE))
    slow.invoke(FINISH_QUEUE, body)
    assert set(remembered(engine, destination)) == {FORGOTTEN, "second@mailinator.com"}


def test_a_finisher_that_was_overtaken_adds_nothing(engine: Engine, destination: Destination, tmp_path: Path) -> None:
    """Another one has closed the books meanwhile, and its refusals were cleared."""
    export_id = engine.start(destination)
    body = until_finish(engine, export_id)
    engine.invoke(FINISH_QUEUE, body)
    clear(engine, destination)
    late = another_process(engine)
    _fold_again(late, export_id, tmp_path / "members.parquet")
    assert remembered(engine, destination) == {}


def _fold_again(engine: Engine, export_id: str, members: Path) -> None:
    store = engine.product.store
    plan = store.plan(export_id)
    assert plan is not None
    [result] = store.recorded(export_id)
    found = store.documents.read(result.name)
    assert found is not None
    rejected = [(0, row) for row in BatchResult.from_bytes(found.data).rejected]
    store.documents.download(names.members(export_id, plan.attempt), members)
    engine.product.refusals.fold_in(plan, Outcome(members, [0], rejected, datetime.now(UTC)))


# -- what is stored ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["half", "empty", "text"])
def test_a_memory_that_cannot_be_read_counts_as_empty_and_is_replaced(
    engine: Engine, destination: Destination, cut: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine.run(destination)
    stored = engine.product.documents.read(MEMORY)
    assert stored is not None
    broken = {"half": stored.data[: len(stored.data) // 2], "empty": b"", "text": b"this is no Parquet file"}[cut]
    engine.product.documents.write(MEMORY, broken)
    assert remembered(engine, destination) == {}
    view = engine.run(destination)
    assert (view.books.suppressed, view.books.rejected) == (0, 2)
    assert any("refusals.unreadable" in record.getMessage() for record in caplog.records)
    assert not any("@" in record.getMessage() for record in caplog.records if "refusals" in record.getMessage())
    assert set(remembered(engine, destination)) == {FAKE, FORGOTTEN}


def test_an_unreadable_memory_can_be_cleared(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    engine.product.documents.write(MEMORY, b"this is no Parquet file")
    assert clear(engine, destination) == 0
    assert not engine.product.documents.exists(MEMORY)


def test_the_timer_drops_those_whose_time_is_over_and_the_memory_with_the_last_of_them(
    engine: Engine, destination: Destination
) -> None:
    engine.run(destination)
    days_pass(engine, 30)
    engine.write_segment("Readers", [*people(5), {"EMail": "second@mailinator.com"}])
    engine.run(destination)
    days_pass(engine, 91)
    engine.product.sweeper.expire()
    days_pass(engine, 0)
    assert set(remembered(engine, destination)) == {"second@mailinator.com"}
    days_pass(engine, 121)
    engine.product.sweeper.expire()
    assert not engine.product.documents.exists(MEMORY)


def test_the_timer_drops_the_memory_of_an_audience_that_no_destination_uses(
    engine: Engine, destination: Destination
) -> None:
    engine.run(destination)
    engine.product.sweeper.expire()
    assert engine.product.documents.exists(MEMORY)

    def elsewhere(newest: Destination) -> Destination:
        assert newest.audience is not None
        newest.audience.id = "fffff00000"
        return newest

    engine.product.destination_store.change("d1", elsewhere, by=TESTER, action="destination.configured")
    engine.product.sweeper.expire()
    assert not engine.product.documents.exists(MEMORY)


def test_a_page_goes_on_where_the_last_one_ended_and_shows_one_reason_only(
    engine: Engine, destination: Destination
) -> None:
    engine.write_segment("Readers", [{"EMail": f"person{n}@mailinator.com"} for n in range(7)] + [{"EMail": FORGOTTEN}])
    engine.run(destination)
    engine.write_segment("Readers", [{"EMail": f"newer{n}@mailinator.com"} for n in range(3)])
    engine.run(destination)
    listed: list[str] = []
    behind: tuple[str, int] | None = None
    while page := engine.product.suppressed.members(destination, "fakeOrInvalid", behind, 4).members:
        listed += [member.email for member in page]
        behind = (page[-1].export_id, page[-1].number)
    assert listed == _addresses("newer", 3) + _addresses("person", 7)
    assert list(remembered(engine, destination, "forgotten")) == [FORGOTTEN]


def _addresses(word: str, count: int) -> list[str]:
    return [f"{word}{n}@mailinator.com" for n in range(count)]


def test_an_export_that_an_earlier_version_prepared_is_finished(
    engine: Engine, destination: Destination, tmp_path: Path
) -> None:
    """Its list of those who were left out has no word about refusals."""
    engine.write_segment("Readers", [*people(3), {"EMail": "nobody"}])
    export_id = engine.start(destination)
    body = until_finish(engine, export_id)
    plan = engine.product.store.plan(export_id)
    assert plan is not None
    name, file = names.left_out(export_id, plan.attempt), tmp_path / "left-out.parquet"
    engine.product.documents.download(name, file)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS SELECT * EXCLUDE (message, refused_at, until) FROM '{file}'")
        connection.execute(f"COPY t TO '{file}' (FORMAT parquet)")
    engine.product.documents.upload(name, file)
    engine.invoke(FINISH_QUEUE, body)
    assert [row["code"] for row in engine.rejected(export_id)] == ["emailInvalid"]
