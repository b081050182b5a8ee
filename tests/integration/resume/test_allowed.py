"""Which exports can be resumed and for how long: once, to the same place, and never over newer data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from shared.destinations.model import ChosenAudience, Destination
from shared.exports.errors import (
    AlreadyResumed,
    ExportNotEnded,
    ExportRunning,
    NewerExportSent,
    NothingToResume,
    ResumeExpired,
    ResumeTargetChanged,
)
from shared.exports.model import Status
from shared.storage import names
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import TESTER, Engine, MovedClock, build_engine, scheduled
from tests.integration.removal_support import complete, remove
from tests.integration.resume.steps import (
    PEOPLE,
    assert_all_arrived_once,
    failed_half_way,
    handle,
    kept_bodies,
    resume,
    resumed,
)

# -- once, and while there is something left -----------------------------------------------------------------------


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


def test_one_export_of_a_destination_runs_at_a_time(engine: Engine, destination: Destination) -> None:
    failed = failed_half_way(engine, destination)
    running = engine.start(destination)
    with pytest.raises(ExportRunning) as refused:
        resume(engine, failed.id)
    assert refused.value.export_id == running


# -- for a week ----------------------------------------------------------------------------------------------------


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
    with pytest.raises(ResumeExpired, match="deleted after 7 days"):
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


# -- never over newer data, nor to somewhere else ------------------------------------------------------------------


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
    engine: Engine, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for before the export takes the destination's place."""
    failed = failed_half_way(engine, destination)
    store, newer = engine.product.store, []
    claim = store.claim

    def claim_late(destination_id: str, export_id: str) -> str:
        monkeypatch.undo()
        other = build_engine(engine.connection_string, engine.sandbox, MAILCHIMP_MAX_CONNECTIONS="2")
        newer.append(other.run(destination).id)
        return claim(destination_id, export_id)

    monkeypatch.setattr(store, "claim", claim_late)
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


# -- not without the destination -----------------------------------------------------------------------------------


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
