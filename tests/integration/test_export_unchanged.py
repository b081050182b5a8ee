"""A scheduled run has nothing to do when the audience has the same data already."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from shared.destinations.model import ChosenAudience, DataMatching, Destination, MemberStatus
from shared.exports.model import Books, Status
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import SUBSCRIBE, TESTER, Engine, people, scheduled


@pytest.fixture
def destination(engine: Engine) -> Destination:
    engine.write_segment("Readers", people(5))
    engine.write_segment("VIP", people(2))
    return engine.destination(["Readers"])


def configure(engine: Engine, change: Callable[[Destination], None]) -> Destination:
    def apply(destination: Destination) -> Destination:
        change(destination)
        return destination

    store = engine.product.destination_store
    return store.change("d1", apply, by=TESTER, action="destination.configured").destination


def test_a_scheduled_run_without_a_change_is_skipped_and_says_since_when(
    engine: Engine, destination: Destination
) -> None:
    done = engine.run(destination)
    calls = len(engine.sandbox.calls())
    view = scheduled(engine)
    assert (view.status, view.books) == (Status.SKIPPED, Books())
    assert view.problem is not None
    assert view.problem.code == "unchanged"
    assert done.ended_at is not None
    assert f"{done.ended_at.astimezone(UTC):%Y-%m-%d at %H:%M} UTC" in view.problem.message
    assert len(engine.sandbox.calls()) == calls, "Mailchimp was not asked for anything"
    assert view.sources == done.sources
    assert engine.rejected(view.id) == []
    assert engine.product.store.running("d1") is None


def test_skipped_runs_in_a_row_all_speak_of_the_export_that_was_made(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    first, second = scheduled(engine), scheduled(engine)
    assert (first.status, first.problem) == (second.status, second.problem)


def test_an_export_on_demand_is_never_skipped(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    assert engine.run(destination).books.updated == 5


def test_the_first_scheduled_run_is_made(engine: Engine, destination: Destination) -> None:
    assert scheduled(engine).books.created == 5
    assert scheduled(engine).status is Status.SKIPPED


def choose_segments(destination: Destination) -> None:
    destination.segments = ("Readers", "VIP")


def match_less(destination: Destination) -> None:
    destination.data_matching = DataMatching(email="EMail")


def choose_status(destination: Destination) -> None:
    destination.member_status = MemberStatus.TRANSACTIONAL


@pytest.mark.parametrize("change", [choose_segments, match_less, choose_status])
def test_a_change_of_the_configuration_is_exported(
    engine: Engine, destination: Destination, change: Callable[[Destination], None]
) -> None:
    engine.run(destination)
    configure(engine, change)
    assert scheduled(engine).status is Status.SUCCESSFUL
    assert scheduled(engine).status is Status.SKIPPED


def test_another_audience_is_exported_to(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    other = engine.sandbox.add_audience("Other")["id"]
    configure(engine, lambda destination: setattr(destination, "audience", ChosenAudience(id=other, name="Other")))
    assert scheduled(engine).books.created == 5


def test_a_refreshed_segment_is_exported_also_with_the_same_contents(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    engine.write_segment("Readers", people(5))
    assert scheduled(engine).books.updated == 5


def test_rows_that_can_never_be_sent_do_not_keep_a_run_from_being_skipped(
    engine: Engine, destination: Destination
) -> None:
    rows = [*people(3), {"EMail": "nobody"}, {"EMail": "only-mailchimp-knows@mailinator.com"}]
    engine.write_segment("Readers", rows)
    done = engine.run(destination)
    assert (done.status, done.books.invalid, done.books.rejected) == (Status.COMPLETED_WITH_ERRORS, 1, 1)
    assert scheduled(engine).status is Status.SKIPPED


def test_members_whom_a_later_export_may_send_do(engine: Engine, destination: Destination) -> None:
    match = {**SUBSCRIBE, "emailContains": "person3@"}
    engine.sandbox.set_faults({"action": "memberError", "match": match, "detail": "has signed up to a lot of lists"})
    assert engine.run(destination).rejected_reasons == {"tooManySignups": 1}
    engine.sandbox.clear_faults()
    assert scheduled(engine).books.created == 1
    assert scheduled(engine).status is Status.SKIPPED


def test_a_contact_at_which_mailchimp_failed_is_sent_again(engine: Engine, destination: Destination) -> None:
    match = {**SUBSCRIBE, "emailContains": "person3@"}
    engine.sandbox.set_faults({"action": "problem", "status": 500, "match": match})
    assert engine.run(destination).rejected_reasons == {"serverError": 1}
    engine.sandbox.clear_faults()
    assert scheduled(engine).books.created == 1
    assert scheduled(engine).status is Status.SKIPPED


def test_tags_that_could_not_be_set_do(engine: Engine, destination: Destination) -> None:
    engine.sandbox.change_settings(tagsReachExisting=False)
    engine.sandbox.add_contacts([{"email_address": "person0@mail.example", "status": "subscribed"}])
    tag_call = {"method": "POST", "pathPattern": r"/segments/\d+$"}
    engine.sandbox.set_faults({"action": "problem", "preset": "invalidResource", "match": tag_call})
    assert engine.run(destination).untagged == 1
    engine.sandbox.clear_faults()
    assert scheduled(engine).repaired_tags == 1


def test_members_whose_bodies_were_lost_do(engine: Engine, destination: Destination) -> None:
    export_id = engine.start(destination)
    for queue, message in engine.receive([PREPARE_QUEUE]):
        engine.handle(queue, message)
    engine.product.documents.delete_all(names.all_batches(export_id))
    view = engine.work_until_ended(export_id)
    assert (view.status, view.books.not_sent) == (Status.COMPLETED_WITH_ERRORS, 5)
    assert scheduled(engine).books.created == 5


def test_an_export_that_failed_is_made_again(engine: Engine, destination: Destination) -> None:
    engine.sandbox.set_faults({"action": "problem", "status": 403, "title": "User Disabled", "match": SUBSCRIBE})
    assert scheduled(engine).status is Status.FAILED
    engine.sandbox.clear_faults()
    assert scheduled(engine).books.created == 5


def test_an_export_that_was_canceled_is_made_again(engine: Engine, destination: Destination) -> None:
    export_id = engine.start(destination)
    for queue, message in engine.receive([PREPARE_QUEUE]):
        engine.handle(queue, message)
    engine.product.exports.cancel(export_id, TESTER)
    assert engine.work_until_ended(export_id).books.not_sent == 5
    assert scheduled(engine).books.created == 5


def test_sending_the_same_data_again_half_way_changes_nothing(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    export_id = engine.start(destination)
    for queue, message in engine.receive([PREPARE_QUEUE]):
        engine.handle(queue, message)
    engine.product.exports.cancel(export_id, TESTER)
    assert engine.work_until_ended(export_id).status is Status.CANCELED
    assert scheduled(engine).status is Status.SKIPPED


def test_a_cancellation_that_came_after_everybody_was_sent_changes_nothing(
    engine: Engine, destination: Destination
) -> None:
    engine.run(destination)
    export_id = engine.start(destination)
    for stage in (PREPARE_QUEUE, LANES_QUEUE):
        for queue, message in engine.receive([stage]):
            engine.handle(queue, message)
    engine.product.exports.cancel(export_id, TESTER)
    view = engine.work_until_ended(export_id)
    assert (view.status, view.books.not_sent) == (Status.CANCELED, 0)
    assert scheduled(engine).status is Status.SKIPPED


def test_other_data_that_were_sent_in_between_are_made_good(engine: Engine, destination: Destination) -> None:
    """Exported, changed, exported half, changed back: the audience does not have what the first export sent."""
    engine.run(destination)
    half = configure(engine, match_less)
    export_id = engine.start(half)
    for queue, message in engine.receive([PREPARE_QUEUE]):
        engine.handle(queue, message)
    engine.product.exports.cancel(export_id, TESTER)
    assert engine.work_until_ended(export_id).status is Status.CANCELED
    configure(engine, lambda back: setattr(back, "data_matching", destination.data_matching))
    assert scheduled(engine).books.updated == 5


def test_an_export_that_failed_before_it_sent_anything_changes_nothing(
    engine: Engine, destination: Destination
) -> None:
    engine.run(destination)
    configure(engine, choose_segments)
    engine.sandbox.set_faults({"action": "problem", "status": 403, "title": "User Disabled"})
    assert scheduled(engine).status is Status.FAILED
    engine.sandbox.clear_faults()
    configure(engine, lambda back: setattr(back, "segments", destination.segments))
    assert scheduled(engine).status is Status.SKIPPED


def test_a_success_that_has_expired_is_none(engine: Engine, destination: Destination) -> None:
    done = engine.run(destination)
    later = datetime.now(UTC) + timedelta(days=91)
    object.__setattr__(engine.product.sweeper._tools, "now", lambda: later)
    assert engine.product.sweeper.expire() == 1
    assert list(engine.product.documents.list(names.SUCCEEDED_PREFIX)) == []
    assert scheduled(engine).books.updated == done.books.created


def test_a_success_is_not_noted_for_a_destination_that_was_removed_meanwhile(
    engine: Engine, destination: Destination
) -> None:
    export_id = engine.start(destination)
    for stage in (PREPARE_QUEUE, LANES_QUEUE):
        for queue, message in engine.receive([stage]):
            engine.handle(queue, message)
    engine.product.documents.delete(names.destination("d1"))
    for queue, message in engine.receive([FINISH_QUEUE]):
        engine.handle(queue, message)
    assert engine.export(export_id).status is Status.SUCCESSFUL
    assert list(engine.product.documents.list(names.SUCCEEDED_PREFIX)) == []
