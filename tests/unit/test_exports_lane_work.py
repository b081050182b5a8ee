"""What a lane sends while it holds its lease, of one export and of several, and what ends that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.exports.backoff import CallOutOfOrder, MustPause
from shared.exports.lane_work import LaneClosed
from shared.exports.model import BatchResult, Problem, Status
from shared.exports.store import ExportStore
from shared.mailchimp import SignInRefused, Unavailable
from shared.storage import names
from shared.storage.leases import LeaseLost
from tests.unit.lanes_in_memory import ROWS, LanesInMemory, to_the_end, until
from tests.unit.test_exports_send import BROKEN

DOWN = Unavailable("Mailchimp is down.", reason="notConnected", outcome_unknown=False)
REVOKED = SignInRefused("The key was revoked.", action="Sign in again.")
CANCELED = Problem(code="canceled", message="Canceled.")


@pytest.fixture
def lane() -> LanesInMemory:
    return LanesInMemory()


@pytest.fixture
def slow_storage() -> Iterator[None]:
    """Writing a result takes longer than anything else."""
    record = ExportStore.record

    def late(store: ExportStore, export_id: str, result: BatchResult) -> None:
        time.sleep(0.03)
        record(store, export_id, result)

    with patch.object(ExportStore, "record", late):
        yield


# -- one export --------------------------------------------------------------------------------------------------------


def test_everybody_is_sent_once_out_of_several_packs(lane: LanesInMemory) -> None:
    plan = lane.open_export(batches=25)
    assert names.pack(plan.export_id, plan.attempt, 0, 2) in lane.documents.blobs
    with lane.work() as work:
        to_the_end(work)
    assert lane.mailchimp.members == lane.addresses(plan)
    assert lane.recorded(plan) == list(range(25))
    assert lane.store.ended_lanes(plan.export_id) == {0}
    assert lane.sent.finished == [plan.export_id]


def test_what_has_a_result_is_counted_and_not_sent_again(lane: LanesInMemory) -> None:
    plan = lane.open_export()
    with lane.work() as work:
        until(lambda: lane.mailchimp.calls == 2, work)
    with lane.work() as work:
        to_the_end(work)
    assert lane.mailchimp.members == lane.addresses(plan)
    assert lane.shown(plan) == 6 * ROWS


def test_the_progress_is_whole_at_the_end_however_fast_that_came(lane: LanesInMemory) -> None:
    plan, lane.step_s = lane.open_export(), 0
    with lane.work() as work:
        to_the_end(work)
    assert lane.shown(plan) == 6 * ROWS


def test_an_export_whose_bodies_are_gone_has_ended(lane: LanesInMemory) -> None:
    plan = lane.open_export()
    lane.documents.delete_all(names.batches(plan.export_id, plan.attempt))
    with lane.work() as work:
        to_the_end(work)
    assert lane.mailchimp.calls == 0
    assert lane.store.ended_lanes(plan.export_id) == {0}


@pytest.mark.usefixtures("slow_storage")
def test_a_lane_is_through_when_storage_knows_of_all_it_has_sent(lane: LanesInMemory) -> None:
    plan = lane.open_export()
    known: list[list[int]] = []
    end_lane = lane.store.end_lane

    def ended(export_id: str, number: int) -> None:
        known.append(lane.recorded(plan))
        end_lane(export_id, number)

    with patch.object(lane.store, "end_lane", ended), lane.work() as work:
        to_the_end(work)
    assert known == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("lost", range(6))
def test_a_batch_that_storage_did_not_take_is_sent_again_by_whoever_is_next(lane: LanesInMemory, lost: int) -> None:
    plan = lane.open_export()
    record = lane.store.record

    def fail_once(export_id: str, result: BatchResult) -> None:
        if result.batch == lost:
            raise ServiceRequestError("storage is down")
        record(export_id, result)

    with patch.object(lane.store, "record", fail_once), pytest.raises(ServiceRequestError), lane.work() as work:
        to_the_end(work)
    assert lost not in lane.recorded(plan)
    assert lane.store.ended_lanes(plan.export_id) == set()
    with lane.work() as work:
        to_the_end(work)
    assert lane.recorded(plan) == [0, 1, 2, 3, 4, 5]
    assert set(lane.mailchimp.members) == set(lane.addresses(plan))


# -- several exports ---------------------------------------------------------------------------------------------------


def test_an_export_that_mailchimp_takes_nobody_of_does_not_hold_up_the_others(lane: LanesInMemory) -> None:
    broken, other = lane.open_export("broken"), lane.open_export("fine")
    lane.mailchimp.faults = {"broken": BROKEN}
    with lane.work() as work, pytest.raises(CallOutOfOrder):
        to_the_end(work)  # the other is through before the lane rests
    assert lane.mailchimp.members == lane.addresses(other)
    assert lane.store.ended_lanes(other.export_id) == {0}
    assert lane.store.ended_lanes(broken.export_id) == set()


def test_it_ends_at_once_when_it_is_canceled_while_the_lane_sends_another(lane: LanesInMemory) -> None:
    broken, other = lane.open_export("broken"), lane.open_export("fine")
    lane.mailchimp.faults = {"broken": BROKEN}
    with lane.work() as work:
        until(lambda: lane.mailchimp.members.total() > 0, work)
        lane.store.fail(broken.export_id, CANCELED)
        until(lambda: lane.store.ended_lanes(broken.export_id) == {0}, work)
        assert lane.mailchimp.members.total() < lane.addresses(other).total()


def test_an_export_that_came_later_gets_its_turns(lane: LanesInMemory) -> None:
    first = lane.open_export("first", batches=9)
    with lane.work() as work:
        until(lambda: lane.mailchimp.calls == 2, work)
        second = lane.open_export("second", batches=3)
        until(lambda: lane.store.ended_lanes(second.export_id) == {0}, work)
        assert lane.store.ended_lanes(first.export_id) == set()


# -- what ends it ------------------------------------------------------------------------------------------------------


def test_no_call_is_made_when_the_lease_may_be_another_process_s_by_its_end(lane: LanesInMemory) -> None:
    plan = lane.open_export()
    with lane.work() as work:
        until(lambda: lane.mailchimp.calls == 2, work)
        lane.leases.ours[0].is_certain = False
        with pytest.raises(LeaseLost):
            to_the_end(work)
    assert lane.mailchimp.calls == 2
    assert lane.store.ended_lanes(plan.export_id) == set()


def test_it_is_looked_at_between_two_calls_for_one_batch_too(lane: LanesInMemory) -> None:
    lane.open_export("broken")
    lane.mailchimp.faults = {"broken": BROKEN}
    with lane.work() as work:

        def lose_it() -> None:
            lane.leases.ours[0].is_certain = False

        lane.mailchimp.before_call = lose_it
        with pytest.raises(LeaseLost):
            to_the_end(work)
    assert lane.mailchimp.calls == 1


def test_a_lane_that_is_closed_sends_nothing_more() -> None:
    lanes = LanesInMemory(most=2)
    plan = lanes.open_export(lanes=(0, 1))
    with lanes.work(1) as work:
        until(lambda: lanes.mailchimp.calls == 1, work)
        lanes.set_pace(1)
        with pytest.raises(LaneClosed):
            to_the_end(work)
    assert lanes.mailchimp.calls <= 2, "the pace is read every two seconds"
    assert lanes.store.ended_lanes(plan.export_id) == set()


def test_an_outage_leaves_the_lane_with_the_failures_that_it_has_seen(lane: LanesInMemory) -> None:
    lane.open_export()
    lane.mailchimp.faults = {"fine": DOWN}
    with lane.work() as work:
        with pytest.raises(MustPause):
            to_the_end(work)
        assert work.failures == lane.mailchimp.calls > 3
    with lane.work(failures=work.failures) as again, pytest.raises(MustPause) as pause:
        to_the_end(again)
    assert again.failures == work.failures + 1
    assert pause.value.delay_s > 30


def test_who_cancels_while_the_lane_waits_for_mailchimp_is_heard(lane: LanesInMemory) -> None:
    plan = lane.open_export()
    lane.mailchimp.faults = {"fine": DOWN}
    lane.slept = lambda _: lane.store.fail(plan.export_id, CANCELED)
    with lane.work() as work:
        to_the_end(work)
    assert lane.mailchimp.calls <= 2
    assert lane.store.ended_lanes(plan.export_id) == {0}


# -- sign-in -----------------------------------------------------------------------------------------------------------


def test_a_sign_in_that_is_refused_stops_the_export_and_is_noted_at_its_destination(lane: LanesInMemory) -> None:
    plan = lane.open_export()
    lane.mailchimp.faults = {plan.secret_name: REVOKED}
    with lane.work() as work:
        to_the_end(work)
    assert lane.sign_ins.refusals == [(plan.destination_id, plan.secret_name)]
    export = lane.store.find(plan.export_id)
    assert export is not None
    assert export.stop is not None
    assert (export.stop.status, export.stop.problem.code) == (Status.FAILED, "signInRefused")
    assert lane.mailchimp.calls == 1
    assert lane.sent.finished == [plan.export_id]


def test_an_export_goes_on_with_the_sign_in_that_has_replaced_its_own(lane: LanesInMemory) -> None:
    plan = lane.open_export()
    with lane.work() as work:
        until(lambda: lane.mailchimp.calls == 2, work)
        lane.mailchimp.faults = {plan.secret_name: REVOKED}
        lane.sign_ins.replaced_by = "mc-d1-2"
        to_the_end(work)
    assert lane.mailchimp.members == lane.addresses(plan)
    assert lane.sign_ins.refusals == []


def test_a_new_sign_in_that_is_refused_too_is_the_one_that_is_noted(lane: LanesInMemory) -> None:
    plan = lane.open_export()
    lane.mailchimp.faults = {plan.secret_name: REVOKED, "mc-d1-2": REVOKED}
    lane.sign_ins.replaced_by = "mc-d1-2"
    with lane.work() as work:
        to_the_end(work)
    assert lane.sign_ins.refusals == [(plan.destination_id, "mc-d1-2")]
