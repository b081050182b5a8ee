"""An export that waited for too long, failed or was canceled, and the one that sends what it has left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.destinations.model import Destination, SignInState
from shared.exports.errors import DestinationNotReady
from shared.exports.model import Status
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import KEY, SUBSCRIBE, TESTER, Engine, MovedClock, scheduled
from tests.integration.resume.steps import (
    PEOPLE,
    REFUSED,
    assert_all_arrived_once,
    failed_half_way,
    handle,
    ledger,
    resume,
    resumed,
    subscribed,
)

# -- too long an outage --------------------------------------------------------------------------------------------


def test_an_outage_beyond_the_limit_fails_the_export_which_can_then_be_resumed(
    engine: Engine, destination: Destination, clock: MovedClock
) -> None:
    export_id = engine.start(destination)
    handle(engine, PREPARE_QUEUE)
    first, second = engine.receive([LANES_QUEUE])
    engine.handle(*first)
    engine.sandbox.set_faults({"action": "bare", "status": 503})
    engine.handle(*second)
    view = engine.product.exports.get(export_id)
    assert view.status is Status.WAITING
    assert view.waiting is not None
    assert view.waiting.reason == "Mailchimp reports an error of its own."
    assert view.waiting.next_try_at is not None
    assert clock() < view.waiting.next_try_at < clock() + timedelta(minutes=10)

    clock.go_on(hours=23)
    engine.product.sweeper.sweep()
    assert handle(engine, LANES_QUEUE, FINISH_QUEUE) == 1, "Mailchimp is tried again"
    assert engine.export(export_id).status is Status.WAITING
    clock.go_on(hours=2)
    engine.product.sweeper.sweep()
    handle(engine, FINISH_QUEUE)
    failed = engine.product.exports.get(export_id)
    assert failed.status is Status.FAILED
    assert failed.problem is not None
    assert failed.problem.code == "waitedTooLong"
    assert "more than 24 hours" in failed.problem.message
    assert "an error of its own" in failed.problem.message
    assert failed.waiting is None
    assert failed.books.sent + failed.books.not_sent == PEOPLE
    assert failed.books.sent in {1200, 1500}
    assert failed.resumable_until is not None

    engine.sandbox.clear_faults()
    before = subscribed(engine)
    rest = resumed(engine, export_id)
    assert rest.status is Status.SUCCESSFUL
    assert subscribed(engine) - before == 3
    assert rest.books.rows_read == rest.books.members == rest.books.sent == failed.books.not_sent
    assert_all_arrived_once(engine, failed, rest)
    assert engine.product.exports.get(export_id).books == failed.books


def test_an_outage_while_preparing_ends_the_same_way(
    engine: Engine, destination: Destination, clock: MovedClock
) -> None:
    export_id = engine.start(destination)
    engine.sandbox.set_faults({"action": "bare", "status": 429})
    handle(engine, PREPARE_QUEUE)
    view = engine.product.exports.get(export_id)
    assert view.waiting is not None
    assert "too many open connections" in view.waiting.reason
    assert view.waiting.next_try_at == engine.export(export_id).resume_at
    clock.go_on(hours=25)
    engine.product.sweeper.sweep()
    handle(engine, FINISH_QUEUE)
    failed = engine.product.exports.get(export_id)
    assert (failed.status, failed.books.rows_read) == (Status.FAILED, 0)
    engine.sandbox.clear_faults()
    rest = resumed(engine, export_id)
    assert rest.resumes == export_id
    assert rest.books.rows_read == PEOPLE + 600, "there was nothing prepared: it reads the segments"
    assert rest.status is Status.SUCCESSFUL
    assert_all_arrived_once(engine, rest)


# -- what is sent --------------------------------------------------------------------------------------------------


def test_both_exports_together_are_one(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    assert failed.resumable_until == (failed.ended_at or datetime.now(UTC)) + timedelta(days=7)
    rest = resumed(engine, failed.id)
    assert (rest.resumes, rest.requested_by, rest.trigger) == (failed.id, TESTER.name, "onDemand")
    assert rest.sources == failed.sources
    assert_all_arrived_once(engine, failed, rest)
    earlier = engine.product.exports.get(failed.id)
    assert (earlier.resumed_by, earlier.resumable_until) == (rest.id, None)
    for number in (0, 1):
        name, rows = ("VIP", "Readers")[number], rest.segments[number]
        assert (rows.name, rows.tag, rows.rows) == (name, name, rows.members)
    assert sum(each.rows for each in rest.segments) == rest.books.rows_read
    assert rest.segments[1].tagged == rest.books.members, "everybody is a reader"
    assert rest.segments[0].tagged == rest.segments[0].members


def test_a_row_that_is_refused_in_the_rest_is_found_at_its_place_in_the_source(
    engine: Engine, destination: Destination
) -> None:
    failed = failed_half_way(engine, destination)
    sent = set(engine.members())
    victim = next(n for n in range(700, PEOPLE) if f"person{n}@mail.example" not in sent)
    refusal = {**SUBSCRIBE, "emailContains": f"person{victim}@"}
    engine.sandbox.set_faults({"action": "memberError", "match": refusal, "detail": "has been forgotten"})
    rest = resumed(engine, failed.id)
    (line,) = engine.rejected(rest.id)
    assert (line["email"], line["segment"], line["row"]) == (
        f"person{victim}@mail.example",
        "Readers",
        str(victim + 2),
    )
    assert f"person{victim}@mail.example" not in ledger(engine)
    assert len(ledger(engine)) == PEOPLE - 1


def test_who_was_archived_in_the_meantime_stays_archived(engine: Engine, destination: Destination) -> None:
    """Sending them would subscribe them again. One batch has members left, and one has none."""
    failed = failed_half_way(engine, destination)
    sent = set(engine.members())
    missing = [n for n in range(PEOPLE) if f"person{n}@mail.example" not in sent]
    gone = [*missing[:3], *missing[500:1000]]
    engine.sandbox.add_contacts([{"email_address": f"PERSON{n}@mail.example", "status": "archived"} for n in gone])
    before = subscribed(engine)
    rest = resumed(engine, failed.id)
    assert subscribed(engine) - before == 2
    assert rest.books.imbalances() == []
    assert (rest.books.suppressed, rest.books.created) == (503, failed.books.not_sent - 503)
    held = engine.members()
    assert {held[f"person{n}@mail.example"]["status"] for n in gone} == {"archived"}
    assert {held[f"person{n}@mail.example"]["status"] for n in missing if n not in gone} == {"subscribed"}
    listed = engine.rejected(rest.id)
    assert [line["code"] for line in listed] == ["archived"] * 503
    assert {line["email"] for line in listed} == {f"person{n}@mail.example" for n in gone}
    assert set(ledger(engine)) == {f"person{n}@mail.example" for n in range(PEOPLE) if n not in gone}


def test_the_rest_can_be_canceled_and_resumed_again(engine: Engine, destination: Destination) -> None:
    """Also where the batches of the rest are not all full."""
    failed = failed_half_way(engine, destination)
    sent = set(engine.members())
    missing = [n for n in range(PEOPLE) if f"person{n}@mail.example" not in sent]
    engine.sandbox.add_contacts([{"email_address": f"person{missing[0]}@mail.example", "status": "archived"}])
    second = resume(engine, failed.id)
    handle(engine, PREPARE_QUEUE)
    wakes = engine.receive([LANES_QUEUE])
    engine.handle(*wakes[0])
    engine.product.exports.cancel(second.id, TESTER)
    handle(engine, FINISH_QUEUE)
    second = engine.product.exports.get(second.id)
    assert second.status is Status.CANCELED
    assert second.books.sent
    assert second.books.not_sent
    third = resumed(engine, second.id)
    assert third.status is Status.SUCCESSFUL
    books = [view.books for view in (failed, second, third)]
    assert sum(each.created for each in books) == PEOPLE - 1
    assert sum(each.updated for each in books) == 0
    assert [each.imbalances() for each in books] == [[], [], []]
    assert len(ledger(engine)) == PEOPLE - 1


def test_a_renewed_sign_in_is_the_one_that_is_used(engine: Engine, destination: Destination) -> None:
    export_id = engine.start(destination)
    handle(engine, PREPARE_QUEUE)
    first, second = engine.receive([LANES_QUEUE])
    engine.handle(*first)
    engine.sandbox.revoke(KEY)
    engine.handle(*second)
    handle(engine, FINISH_QUEUE)
    failed = engine.product.exports.get(export_id)
    assert failed.problem is not None
    assert failed.problem.code == "signInRefused"
    with pytest.raises(DestinationNotReady, match="sign in to Mailchimp again"):
        resume(engine, export_id)
    engine.product.secrets.write("mc-d1-0002", engine.sandbox.add_key())

    def sign_in(newest: Destination) -> Destination:
        newest.sign_in.secret_name, newest.sign_in.state = "mc-d1-0002", SignInState.CONNECTED
        return newest

    engine.product.destination_store.change("d1", sign_in, by=TESTER, action="destination.connected")
    engine.product.secrets.delete("mc-d1-0001")
    rest = resumed(engine, export_id)
    assert rest.status is Status.SUCCESSFUL
    assert_all_arrived_once(engine, failed, rest)


def test_a_tag_that_was_deleted_meanwhile_is_made_again(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    plan = engine.product.store.plan(failed.id)
    assert plan is not None
    wrong = plan.model_copy(update={"tag_ids": dict.fromkeys(plan.tag_ids, 1)})
    engine.product.documents.write(names.plan(failed.id), wrong.to_bytes())
    rest = resume(engine, failed.id)
    handle(engine, PREPARE_QUEUE)
    new = engine.product.store.plan(rest.id)
    assert new is not None
    assert new.tag_ids == plan.tag_ids, "they were asked for again"
    assert_all_arrived_once(engine, failed, engine.work_until_ended(rest.id))


# -- the schedule --------------------------------------------------------------------------------------------------


def test_a_scheduled_run_has_nothing_to_do_after_both(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    resumed(engine, failed.id)
    assert scheduled(engine).status is Status.SKIPPED


def test_who_was_refused_for_a_passing_reason_in_the_first_part_is_sent_again_by_the_schedule(
    engine: Engine, destination: Destination
) -> None:
    export_id = engine.start(destination)
    handle(engine, PREPARE_QUEUE)
    first, second = engine.receive([LANES_QUEUE])
    refusals = [
        {
            "action": "memberError",
            "match": {**SUBSCRIBE, "emailContains": f"person{n}@"},
            "detail": "has signed up to a lot of lists",
        }
        for n in (0, 500)  # one of each lane
    ]
    engine.sandbox.set_faults(*refusals)
    engine.handle(*first)
    engine.sandbox.set_faults(REFUSED)
    engine.handle(*second)
    engine.sandbox.clear_faults()
    handle(engine, FINISH_QUEUE)
    assert engine.product.exports.get(export_id).books.rejected == 1
    rest = resumed(engine, export_id)
    assert (rest.status, rest.books.rejected) == (Status.SUCCESSFUL, 0)
    again = scheduled(engine)
    assert (again.status, again.books.created) == (Status.SUCCESSFUL, 1)
    assert scheduled(engine).status is Status.SKIPPED
