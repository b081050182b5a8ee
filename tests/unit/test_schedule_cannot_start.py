"""Scheduled runs that cannot start: skipped with the reason, tried again, and never in the way of others."""

from __future__ import annotations

import json
import logging

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.api.parameters import request_key
from shared.destinations.model import SignInState
from shared.exports.model import Status
from shared.schedule.errors import ScheduleInvalid
from shared.storage import names
from tests.unit.schedule_fakes import ADA, MINUTE, SIX, Killed, World, own


@pytest.fixture
def world() -> World:
    return World()


def test_a_destination_that_is_not_ready_is_recorded_as_skipped_with_the_missing_steps(world: World) -> None:
    world.put()
    world.ready("d1").sign_in.state = SignInState.NEEDS_AUTHENTICATION
    world.ready("d2")
    world.run(SIX)
    (skipped,) = world.scheduled("d1")
    assert skipped.problem is not None
    assert (skipped.status, skipped.problem.code) == (Status.SKIPPED, "destinationNotReady")
    assert "sign in to Mailchimp again" in skipped.problem.message
    assert "on demand" in (skipped.problem.action or "")
    assert skipped.requested_by == "schedule"
    assert [each.status for each in world.scheduled("d2")] == [Status.QUEUED]


def test_a_destination_that_still_runs_is_recorded_as_skipped_and_names_the_export(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.put()
    destination = world.ready("d1")
    running = world.engine.start(destination, trigger="onDemand", requested_by=ADA)
    with caplog.at_level(logging.INFO):
        world.run(SIX)
    (skipped,) = world.scheduled("d1")
    assert skipped.problem is not None
    assert (skipped.status, skipped.problem.code) == (Status.SKIPPED, "exportRunning")
    assert running.id in skipped.problem.message
    assert any('"skipped": "exportRunning"' in record.getMessage() for record in caplog.records)
    assert world.last_runs()["d1"] == SIX, "a skipped run is not tried again"
    world.end(running.id)
    assert world.run(SIX + MINUTE) == []
    assert [each.status for each in world.exports()] == [Status.SUCCESSFUL, Status.SKIPPED]


def test_runs_of_one_destination_never_overlap(world: World) -> None:
    world.ready("d1", **own("06:00", "06:01"))
    assert [each.status for at in (SIX, SIX + MINUTE) for each in world.run(at)] == [Status.QUEUED, Status.SKIPPED]


def test_an_export_that_was_started_is_not_skipped_by_a_repeated_run(world: World) -> None:
    """The process died before it moved on; meanwhile the export ended and the sign-in was refused."""
    world.put()
    destination = world.ready("d1")

    def die(call: str, name: str) -> None:
        if name == names.SCHEDULE_RUNS and call == "before create":
            raise Killed

    world.steps.watch = die
    with pytest.raises(Killed):
        world.run(SIX)
    world.steps.watch = None
    world.end_all()
    destination.sign_in.state = SignInState.NEEDS_AUTHENTICATION
    world.run(SIX + MINUTE)
    assert [each.status for each in world.scheduled("d1")] == [Status.SUCCESSFUL]
    assert world.last_runs()["d1"] == SIX + MINUTE


def test_a_destination_that_fails_stays_due_and_holds_up_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.put()
    for id_ in ("d1", "d2", "d3"):
        world.ready(id_)

    def fail(call: str, name: str) -> None:
        if name.startswith(names.idempotency("d2", "").removesuffix(".json")):
            raise ServiceRequestError("storage is down")

    world.steps.watch = fail
    with caplog.at_level(logging.ERROR), pytest.raises(ServiceRequestError):
        world.run(SIX)
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    (told,) = [line for line in lines if line["event"] == "schedule.startFailed"]
    assert (told["destination"], told["errorType"]) == ("d2", "ServiceRequestError")
    assert set(world.last_runs()) == {"*", "d1", "d3"}
    world.steps.watch = None
    world.end_all()
    assert [export.destination_id for export in world.run(SIX + MINUTE)] == ["d2"]
    assert [len(world.scheduled(id_)) for id_ in ("d1", "d2", "d3")] == [1, 1, 1]


def test_a_caller_cannot_take_the_key_of_a_run(world: World) -> None:
    world.put()
    destination = world.ready("d1")
    key = request_key(f"schedule-{SIX.isoformat()}")
    taken = world.engine.start(destination, trigger="onDemand", requested_by=ADA, idempotency_key=key)
    world.end(taken.id)
    (started,) = world.run(SIX)
    assert started.id != taken.id


def test_an_unknown_zone_in_storage_holds_up_no_other_destination(world: World) -> None:
    """Should a later version of the time zone data no longer know a zone that was stored."""
    broken = world.ready("d1", **own("06:00"))
    assert broken.schedule.rule is not None
    broken.schedule.rule.time_zone = "Europe/Atlantis"
    world.ready("d2", **own("06:00"))
    with pytest.raises(ScheduleInvalid):
        world.run(SIX)
    assert len(world.scheduled("d2")) == 1
    assert set(world.last_runs()) == {"d2"}
