"""An export that waited for too long, failed or was canceled, and the one that sends what it has left."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import duckdb
import pytest

from dev.sandbox.control import SandboxControl
from shared.destinations.model import ChosenAudience, Destination, SignInState
from shared.exports.errors import (
    AlreadyResumed,
    DestinationNotReady,
    ExportNotEnded,
    ExportRunning,
    NewerExportSent,
    NothingToResume,
    ResumeExpired,
    ResumeTargetChanged,
)
from shared.exports.model import Export, Problem, Status
from shared.exports.view import ExportView
from shared.people import SCHEDULE
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import AUDIENCE, KEY, TESTER, Engine, MovedClock, build_engine, build_engine_at, people
from tests.integration.removal_support import Killed, Stops, complete, kill, remove
from tests.integration.test_export_crashes import WriteFaults
from tests.support import StorageAccount

SUBSCRIBE = {"method": "POST", "pathPattern": r"/lists/[a-z0-9]+$"}
REFUSED = {"action": "problem", "status": 403, "title": "User Disabled", "match": SUBSCRIBE}
PEOPLE = 2700
"""Six batches, the last one of 200: the first lane sends the even ones, the second the odd ones."""


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def engine(storage_account: StorageAccount, sandbox: SandboxControl, clock: MovedClock) -> Engine:
    """With two lanes, so that it is known who sends what."""
    return build_engine_at(clock, storage_account.connection_string, sandbox, MAILCHIMP_MAX_CONNECTIONS="2")


@pytest.fixture
def destination(engine: Engine) -> Destination:
    engine.write_segment("Readers", people(PEOPLE))
    engine.write_segment("VIP", people(600))
    return engine.destination(["VIP", "Readers"])


def handle(engine: Engine, *queues: str, at_most: int = 99) -> int:
    messages = engine.receive(queues)[:at_most]
    for queue, message in messages:
        engine.handle(queue, message)
    return len(messages)


def failed_half_way(engine: Engine, destination: Destination) -> ExportView:
    """An export of which one lane has sent its three batches, and the other none."""
    export_id = engine.start(destination)
    handle(engine, PREPARE_QUEUE)
    first, second = engine.receive([LANES_QUEUE])
    engine.handle(*first)
    engine.sandbox.set_faults(REFUSED)
    engine.handle(*second)
    engine.sandbox.clear_faults()
    handle(engine, FINISH_QUEUE)
    view = engine.product.exports.get(export_id)
    assert view.status is Status.FAILED
    assert view.books.sent in {1200, 1500}
    return view


def resume(engine: Engine, export_id: str, key: str | None = None) -> ExportView:
    destination = engine.product.destination_store.get("d1").destination
    return engine.product.exports.resume(export_id, destination, requested_by=TESTER, idempotency_key=key)


def resumed(engine: Engine, export_id: str) -> ExportView:
    """The export that resumes it, when it has ended."""
    return engine.work_until_ended(resume(engine, export_id).id)


def subscribed(engine: Engine) -> int:
    """Calls that sent members."""
    return sum(call["kind"] == "batchSubscribe" for call in engine.sandbox.calls())


def ledger(engine: Engine) -> Counter[str]:
    """How often each address is in the ledger."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "ledger.parquet"
        assert engine.product.documents.download(names.ledger("d1", AUDIENCE), path)
        rows = connection.execute(f"SELECT email FROM read_parquet('{path}')").fetchall()
    return Counter(email for (email,) in rows)


def kept_bodies(engine: Engine, export_id: str) -> int:
    return sum(1 for _ in engine.product.documents.list(names.all_batches(export_id)))


def assert_all_arrived_once(engine: Engine, *views: ExportView) -> None:
    """Everybody has one outcome over all these exports, and is in the ledger and in the audience with their tags."""
    assert all(view.books.imbalances() == [] for view in views)
    assert sum(view.books.created for view in views) == PEOPLE
    assert sum(view.books.updated + view.books.rejected for view in views) == 0, "nobody was sent twice"
    assert ledger(engine) == {row["EMail"]: 1 for row in people(PEOPLE)}
    members = engine.members()
    assert set(members) == {f"person{n}@mail.example" for n in range(PEOPLE)}
    for n in range(PEOPLE):
        expected = {"VIP", "Readers"} if n < 600 else {"Readers"}
        assert set(members[f"person{n}@mail.example"]["tags"]) == expected


# -- too long an outage ----------------------------------------------------------------------------------------------


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


# -- what is sent ----------------------------------------------------------------------------------------------------


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


# -- the schedule ----------------------------------------------------------------------------------------------------


def scheduled(engine: Engine) -> ExportView:
    destination = engine.product.destination_store.get("d1").destination
    view = engine.product.exports.start(destination, trigger="scheduled", requested_by=SCHEDULE)
    return engine.work_until_ended(view.id)


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


# -- refused ---------------------------------------------------------------------------------------------------------


def test_an_export_is_resumed_once(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    rest = resume(engine, failed.id, key="monday")
    assert resume(engine, failed.id, key="monday").id == rest.id
    with pytest.raises(AlreadyResumed) as refused:
        resume(engine, failed.id, key="tuesday")
    assert refused.value.resumed_by == rest.id
    ended = engine.work_until_ended(rest.id)
    assert resume(engine, failed.id, key="monday") == ended
    with pytest.raises(AlreadyResumed):
        resume(engine, failed.id)
    with pytest.raises(NothingToResume):
        resume(engine, rest.id)
    assert_all_arrived_once(engine, failed, ended)


def test_the_same_key_may_start_and_resume(engine: Engine, destination: Destination) -> None:
    export_id = engine.start(destination, key="monday")
    engine.product.exports.cancel(export_id, TESTER)
    handle(engine, FINISH_QUEUE)
    assert resume(engine, export_id, key="monday").id != export_id


def test_what_runs_or_is_through_cannot_be_resumed(engine: Engine, destination: Destination) -> None:
    export_id = engine.start(destination)
    with pytest.raises(ExportNotEnded):
        resume(engine, export_id)
    engine.work_until_ended(export_id)
    with pytest.raises(NothingToResume):
        resume(engine, export_id)
    skipped = scheduled(engine)
    assert skipped.status is Status.SKIPPED
    with pytest.raises(NothingToResume):
        resume(engine, skipped.id)
    assert engine.product.exports.get(export_id).resumable_until is None


def test_a_cancellation_after_everybody_was_sent_leaves_nothing(engine: Engine, destination: Destination) -> None:
    export_id = engine.start(destination)
    handle(engine, PREPARE_QUEUE)
    handle(engine, LANES_QUEUE)
    engine.product.exports.cancel(export_id, TESTER)
    handle(engine, FINISH_QUEUE)
    view = engine.product.exports.get(export_id)
    assert (view.status, view.books.not_sent, view.resumable_until) == (Status.CANCELED, 0, None)
    with pytest.raises(NothingToResume):
        resume(engine, export_id)
    assert kept_bodies(engine, export_id) == 0


def test_it_can_be_resumed_for_a_week(engine: Engine, destination: Destination, clock: MovedClock) -> None:
    failed = failed_half_way(engine, destination)
    clock.go_on(days=6, hours=23)
    engine.product.sweeper.expire()
    assert kept_bodies(engine, failed.id) > 0
    assert engine.product.exports.get(failed.id).resumable_until is not None
    clock.go_on(hours=2)
    assert engine.product.exports.get(failed.id).resumable_until is None
    engine.product.sweeper.expire()
    assert kept_bodies(engine, failed.id) == 0
    assert engine.export(failed.id).resumable_until is None
    with pytest.raises(ResumeExpired, match="kept for 7 days"):
        resume(engine, failed.id)
    assert engine.rejected(failed.id) == [], "what the export had to say about profiles is kept as long as ever"


def test_what_an_export_reads_at_the_moment_does_not_expire(
    engine: Engine, destination: Destination, clock: MovedClock
) -> None:
    failed = failed_half_way(engine, destination)
    clock.go_on(days=6, hours=23)
    rest = resume(engine, failed.id)
    clock.go_on(hours=2)
    engine.product.sweeper.expire()
    ended = engine.work_until_ended(rest.id)
    assert_all_arrived_once(engine, failed, ended)
    engine.product.sweeper.expire()
    assert kept_bodies(engine, failed.id) == 0


def test_bodies_that_are_gone_end_the_export_with_the_reason(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    rest = resume(engine, failed.id)
    engine.product.documents.delete_all(names.all_batches(failed.id))
    ended = engine.work_until_ended(rest.id)
    assert (ended.status, ended.books.rows_read) == (Status.FAILED, 0)
    assert ended.problem is not None
    assert ended.problem.code == "resumeExpired"


def test_older_data_are_not_sent_over_newer_ones(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    newer = engine.run(destination)
    assert newer.books.sent
    with pytest.raises(NewerExportSent) as refused:
        resume(engine, failed.id)
    assert refused.value.newer == newer.id


def test_a_newer_export_that_sent_nothing_does_no_harm(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    newer = engine.start(destination)
    engine.product.exports.cancel(newer, TESTER)
    handle(engine, FINISH_QUEUE)
    assert_all_arrived_once(engine, failed, resumed(engine, failed.id))


def test_a_newer_export_that_comes_in_between_is_noticed_when_it_is_prepared(
    engine: Engine, destination: Destination
) -> None:
    """It is looked for before the export takes the destination's place."""
    failed = failed_half_way(engine, destination)
    store, newer = engine.product.store, []
    claim = store.claim

    def claim_late(destination_id: str, export_id: str) -> str:
        store.claim = claim  # type: ignore[method-assign]
        other = build_engine(engine.connection_string, engine.sandbox, MAILCHIMP_MAX_CONNECTIONS="2")
        newer.append(other.run(destination).id)
        return claim(destination_id, export_id)

    store.claim = claim_late  # type: ignore[method-assign]
    ended = resumed(engine, failed.id)
    assert ended.problem is not None
    assert (ended.status, ended.problem.code) == (Status.FAILED, "newerExportSent")
    assert newer[0] in ended.problem.message
    with pytest.raises(NewerExportSent):
        resume(engine, ended.id)


def choose_another(destination: Destination) -> Destination:
    destination.audience = ChosenAudience(id="another", name="Another")
    return destination


def sign_in_elsewhere(destination: Destination) -> Destination:
    destination.sign_in.account_id = "another-account"
    return destination


@pytest.mark.parametrize("change", [choose_another, sign_in_elsewhere])
def test_it_is_not_sent_to_somewhere_else(
    engine: Engine, destination: Destination, change: Callable[[Destination], Destination]
) -> None:
    failed = failed_half_way(engine, destination)
    rest = resume(engine, failed.id)
    engine.product.destination_store.change("d1", change, by=TESTER, action="destination.configured")
    ended = engine.work_until_ended(rest.id)
    assert ended.problem is not None
    assert (ended.status, ended.problem.code) == (Status.FAILED, "resumeTargetChanged")
    with pytest.raises(ResumeTargetChanged):
        resume(engine, ended.id)


def test_a_rest_that_failed_before_it_was_prepared_passes_on_what_is_left(
    engine: Engine, destination: Destination
) -> None:
    failed = failed_half_way(engine, destination)
    engine.sandbox.set_faults({"action": "problem", "status": 403, "title": "User Disabled"})
    second = resumed(engine, failed.id)
    assert (second.status, second.books.rows_read) == (Status.FAILED, 0)
    engine.sandbox.clear_faults()
    assert second.resumable_until == failed.resumable_until
    with pytest.raises(AlreadyResumed):
        resume(engine, failed.id)
    third = resumed(engine, second.id)
    assert_all_arrived_once(engine, failed, third)
    assert scheduled(engine).status is Status.SKIPPED


def withdraw_consent(destination: Destination) -> Destination:
    destination.consent.withdrawn_by, destination.consent.withdrawn_at = "ada", datetime.now(UTC)
    return destination


def test_without_consent_nothing_is_resumed(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    rest = resume(engine, failed.id)
    engine.product.destination_store.change("d1", withdraw_consent, by=TESTER, action="destination.consentWithdrawn")
    ended = engine.work_until_ended(rest.id)
    assert (ended.status, ended.resumable_until) == (Status.CANCELED, None)
    with pytest.raises(ResumeExpired):
        resume(engine, ended.id)


def test_nothing_is_kept_of_an_export_that_was_stopped_for_the_destination(
    engine: Engine, destination: Destination
) -> None:
    export_id = engine.start(destination)
    handle(engine, PREPARE_QUEUE)
    engine.product.exports.stop_for_destination("d1", "The consent was withdrawn.", code="consentWithdrawn")
    handle(engine, FINISH_QUEUE)
    view = engine.product.exports.get(export_id)
    assert (view.status, view.books.not_sent, view.resumable_until) == (Status.CANCELED, PEOPLE, None)
    assert kept_bodies(engine, export_id) == 0


def test_a_removed_destination_takes_the_rest_along(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    assert kept_bodies(engine, failed.id) > 0
    remove(engine)
    complete(engine)
    assert list(engine.product.documents.list(names.run(failed.id))) == []
    assert engine.product.exports.get(failed.id).resumable_until is None


def test_one_export_of_a_destination_runs_at_a_time(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    running = engine.start(destination)
    with pytest.raises(ExportRunning) as refused:
        resume(engine, failed.id)
    assert refused.value.export_id == running


# -- crashes ---------------------------------------------------------------------------------------------------------


def drive_to_the_end(engine: Engine, clock: MovedClock, export_id: str) -> ExportView:
    """As the sweeper does it, minute by minute, whatever was left half done."""
    for _ in range(20):
        if engine.export(export_id).ended and not list(engine.product.store.active()):
            return engine.product.exports.get(export_id)
        clock.go_on(minutes=2)
        engine.product.sweeper.sweep()
        handle(engine, PREPARE_QUEUE, LANES_QUEUE, FINISH_QUEUE)
    raise AssertionError(engine.export(export_id))


@pytest.mark.parametrize("key", [None, "monday"])
def test_a_process_may_die_at_any_moment_of_the_start(
    engine: Engine, destination: Destination, clock: MovedClock, key: str | None
) -> None:
    """Before each call of storage in turn. Whoever asks again gets the same export with a key, and without one an
    answer that says how things are; the rest is sent once."""
    failed = failed_half_way(engine, destination)
    before = subscribed(engine)
    pristine = engine.export(failed.id)
    stops = Stops(engine.product.documents)
    for number in count(1):
        stops.at(number, kill)
        started: str | None = None
        with suppress(Killed):
            started = resume(engine, failed.id, key).id
        if not stops.off():
            break
        with suppress(AlreadyResumed, ExportRunning):
            started = resume(engine, failed.id, key).id
        engine.receive()  # every message is lost
        holder = engine.product.store.running("d1") or started
        assert holder is not None
        assert started in {None, holder}
        engine.product.exports.cancel(holder, TESTER)
        engine.receive()
        going = [each.id for each in engine.product.store.active() if engine.product.store.find(each.id) is not None]
        ends = Counter(drive_to_the_end(engine, clock, each).status for each in going)
        assert ends.pop(Status.CANCELED) == 1
        assert set(ends) <= {Status.SKIPPED}, "one that was left behind gives way"
        clear(engine, pristine)
    assert number > 8
    assert started is not None
    rest = drive_to_the_end(engine, clock, started)
    assert subscribed(engine) - before == 3
    assert_all_arrived_once(engine, failed, rest)


def clear(engine: Engine, failed: Export) -> None:
    """Back to where nobody had asked yet."""
    documents = engine.product.documents
    for export_id in [name.rsplit("/", 1)[1] for name in documents.names(names.exports_of("d1"))]:
        if export_id != failed.id:
            engine.product.store.delete(export_id, "d1")
            documents.delete_all(names.run(export_id))
    documents.delete_all(names.ACTIVE_PREFIX)
    documents.delete_all(names.idempotency_keys("d1"))
    engine.product.store.change(failed.id, lambda export: setattr(export, "resumed_by", None))


def test_a_process_may_die_at_any_moment_of_preparing_the_rest(
    engine: Engine, destination: Destination, clock: MovedClock
) -> None:
    failed = failed_half_way(engine, destination)
    before = subscribed(engine)
    rest = resume(engine, failed.id)
    ((queue, message),) = engine.receive([PREPARE_QUEUE])
    stops = Stops(engine.product.documents)
    for number in count(1):
        stops.at(number, kill)
        with suppress(Killed):
            engine.handle(queue, message)
        if not stops.off():
            break
    assert number > 10
    ended = drive_to_the_end(engine, clock, rest.id)
    assert subscribed(engine) - before == 3
    assert_all_arrived_once(engine, failed, ended)


@pytest.mark.parametrize("stage", [PREPARE_QUEUE, LANES_QUEUE, FINISH_QUEUE])
def test_a_storage_fault_at_any_write_loses_nothing_and_counts_nothing_twice(
    engine: Engine, destination: Destination, clock: MovedClock, stage: str
) -> None:
    failed = failed_half_way(engine, destination)
    faults = WriteFaults(engine.product.documents)
    started: list[str] = []
    faults.until_done(lambda: started.append(resume(engine, failed.id, "monday").id))
    for queue in (PREPARE_QUEUE, LANES_QUEUE, FINISH_QUEUE):
        for name, message in engine.receive([queue]):
            if queue == stage:
                faults.until_done(partial(engine.handle, name, message))
            else:
                engine.handle(name, message)
    ended = drive_to_the_end(engine, clock, started[0])
    assert ended.status is Status.SUCCESSFUL
    assert ended.books.imbalances() == []
    assert sum(view.books.created + view.books.updated for view in (failed, ended)) == PEOPLE
    assert ledger(engine) == {row["EMail"]: 1 for row in people(PEOPLE)}


def test_the_end_of_the_earlier_export_may_be_cut_off_anywhere(
    engine: Engine, destination: Destination, clock: MovedClock
) -> None:
    export_id = engine.start(destination)
    handle(engine, PREPARE_QUEUE)
    first, second = engine.receive([LANES_QUEUE])
    engine.handle(*first)
    engine.product.store.fail(export_id, Problem(code="accountRestricted", message="For the test."))
    engine.handle(*second)
    ((queue, message),) = engine.receive([FINISH_QUEUE])
    stops = Stops(engine.product.documents)
    for number in count(1):
        stops.at(number, kill)
        with suppress(Killed):
            engine.handle(queue, message)
        if not stops.off():
            break
    assert number > 8
    failed = engine.product.exports.get(export_id)
    assert failed.resumable_until is not None
    assert_all_arrived_once(engine, failed, resumed(engine, export_id))
